"""What a model is worth: bounds on log p(x), the use of its latent dimensions, and the fidelity of its reconstructions."""

from vaekit.evaluation.annealed import ais
from vaekit.evaluation.evaluate import Evaluation, evaluate_batches
from vaekit.evaluation.latent import LatentStatistics, LayerStatistics, collapse_warning
from vaekit.evaluation.likelihood import Bound, elbo, iw_bound, mean_and_se
from vaekit.evaluation.reconstruction import Reconstructions, mse, psnr, reconstruction_scores, ssim
from vaekit.evaluation.report import report

__all__ = [
    "Bound",
    "Evaluation",
    "LatentStatistics",
    "LayerStatistics",
    "Reconstructions",
    "ais",
    "collapse_warning",
    "elbo",
    "evaluate_batches",
    "iw_bound",
    "mean_and_se",
    "mse",
    "psnr",
    "reconstruction_scores",
    "report",
    "ssim",
]
