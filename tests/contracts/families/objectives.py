"""Objectives: tighter bounds, routed gradients, controllers."""

from vaekit.objectives import CIWAE, ELBO, GECO, IWAE, MIWAE, PIWAE, STL, DReG, Renyi, TargetRate
from vaekit.recipes import objectives  # noqa: F401 (registers the recipes)

EXAMPLES = {
    "MIWAE": lambda: MIWAE(2, 3),
    "CIWAE": lambda: CIWAE(4, 0.3),
    "PIWAE": lambda: PIWAE(2, 3),
    "Renyi": lambda: Renyi(0.4, 4),
    "STL": lambda: STL(2),
    "DReG": lambda: DReG(4),
    "GECO": lambda: GECO(fraction=0.4),
    "TargetRate": lambda: TargetRate(7.0),
}

OBJECTIVES = {
    **EXAMPLES,
    "IWAE": lambda: IWAE(4),
    "ELBO": lambda: ELBO(beta=0.5),
    "Renyi 1": lambda: Renyi(1.0, 4),
    "Renyi 2": lambda: Renyi(2.0, 4),
    "GECO with a target": lambda: GECO(target=900.0),
}
