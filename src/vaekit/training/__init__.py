"""From a recipe and data to a trained run. (The loop is imported when it is used: Accelerate takes a while to load.)"""

from vaekit.training.options import Training
from vaekit.training.progress import Bar, Silent, Watcher
from vaekit.training.stopping import Interrupted

__all__ = ["Bar", "Interrupted", "Silent", "Training", "Watcher"]
