"""What is minimized: bounds on log p(x), and the schedules of their weights."""

from vaekit.objectives.base import Objective
from vaekit.objectives.bounds import IWAE
from vaekit.objectives.elbo import ELBO
from vaekit.objectives.schedules import Constant, Cyclical, Schedule, Warmup

__all__ = ["ELBO", "IWAE", "Constant", "Cyclical", "Objective", "Schedule", "Warmup"]
