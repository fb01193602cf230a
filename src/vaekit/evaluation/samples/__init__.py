"""How good are samples? Distances in a named feature space, and what they do not see: sharpness, dropped modes, copies, the prior's fit."""

from vaekit.evaluation.samples.aggregate import aggregate_test
from vaekit.evaluation.samples.appearance import diversity, sharpness
from vaekit.evaluation.samples.choose import SPACES, choose
from vaekit.evaluation.samples.compare import compare
from vaekit.evaluation.samples.frechet import frechet_distance, frechet_error
from vaekit.evaluation.samples.kernel import kernel_distance
from vaekit.evaluation.samples.memorization import memorized, nearest
from vaekit.evaluation.samples.neighbours import Coverage, neighbours
from vaekit.evaluation.samples.pyramid import sliced_wasserstein
from vaekit.evaluation.samples.quality import MEASURES, Draws, measure_samples
from vaekit.evaluation.samples.roughness import roughness
from vaekit.evaluation.samples.space import Space
from vaekit.evaluation.samples.synthetic import learnt, train_on_synthetic
from vaekit.evaluation.samples.two_sample import TwoSampleTest, classifier_test

__all__ = [
    "MEASURES",
    "SPACES",
    "Coverage",
    "Draws",
    "Space",
    "TwoSampleTest",
    "aggregate_test",
    "choose",
    "classifier_test",
    "compare",
    "diversity",
    "frechet_distance",
    "frechet_error",
    "kernel_distance",
    "learnt",
    "measure_samples",
    "memorized",
    "nearest",
    "neighbours",
    "roughness",
    "sharpness",
    "sliced_wasserstein",
    "train_on_synthetic",
]
