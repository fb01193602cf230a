"""What is minimized: bounds on log p(x), and the schedules and controllers of their weights."""

from vaekit.objectives.base import Objective
from vaekit.objectives.bounds import CIWAE, IWAE, MIWAE, Renyi
from vaekit.objectives.controlled import GECO, Controlled, TargetRate
from vaekit.objectives.elbo import ELBO
from vaekit.objectives.no_bound import NoBound
from vaekit.objectives.routed import PIWAE, STL, DReG
from vaekit.objectives.schedules import Annealing, Constant, Cyclical, Schedule, Warmup

__all__ = [
    "CIWAE",
    "ELBO",
    "GECO",
    "IWAE",
    "MIWAE",
    "PIWAE",
    "STL",
    "Annealing",
    "Constant",
    "Controlled",
    "Cyclical",
    "DReG",
    "NoBound",
    "Objective",
    "Renyi",
    "Schedule",
    "TargetRate",
    "Warmup",
]
