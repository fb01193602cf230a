"""Do the dimensions of a code stand for the factors that made the images? One measure a file."""

from vaekit.evaluation.disentanglement.beta_score import beta_vae_score
from vaekit.evaluation.disentanglement.dci import DCI, dci
from vaekit.evaluation.disentanglement.factor_score import factor_vae_score
from vaekit.evaluation.disentanglement.factors import Factors, factors_of
from vaekit.evaluation.disentanglement.irs import irs, robustness
from vaekit.evaluation.disentanglement.measure import means, measure, scores
from vaekit.evaluation.disentanglement.mig import mig
from vaekit.evaluation.disentanglement.modularity import explicitness, modularity
from vaekit.evaluation.disentanglement.sap import sap
from vaekit.evaluation.disentanglement.udr import udr

__all__ = [
    "DCI",
    "Factors",
    "beta_vae_score",
    "dci",
    "explicitness",
    "factor_vae_score",
    "factors_of",
    "irs",
    "means",
    "measure",
    "mig",
    "modularity",
    "robustness",
    "sap",
    "scores",
    "udr",
]
