"""All measures of one model at once."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from vaekit.errors import UserError
from vaekit.evaluation.disentanglement.beta_score import beta_vae_score
from vaekit.evaluation.disentanglement.dci import dci
from vaekit.evaluation.disentanglement.factor_score import factor_vae_score
from vaekit.evaluation.disentanglement.factors import Factors
from vaekit.evaluation.disentanglement.irs import irs
from vaekit.evaluation.disentanglement.mig import mig
from vaekit.evaluation.disentanglement.modularity import explicitness, modularity
from vaekit.evaluation.disentanglement.sap import sap
from vaekit.evaluation.disentanglement.table import Array
from vaekit.evaluation.latent import ACTIVE
from vaekit.evaluation.passes import Batches, Progress, passes
from vaekit.latents.support import supports
from vaekit.model import VAE
from vaekit.output import Batch


def scores(codes: Array, factors: Array, *, unordered: Sequence[int] = (), seed: int = 0) -> dict[str, float]:
    """Every measure of codes [N, D] beside factors [N, F], by name; see each for its formula.

    Raises `UserError`: see `table` and `Fixed`.
    """
    parts = dci(codes, factors, seed=seed)
    return {
        "mig": mig(codes, factors),
        "dci_disentanglement": parts.disentanglement,
        "dci_completeness": parts.completeness,
        "dci_informativeness": parts.informativeness,
        "factor_vae_score": factor_vae_score(codes, factors, seed=seed),
        "beta_vae_score": beta_vae_score(codes, factors, seed=seed),
        "sap": sap(codes, factors, unordered=unordered),
        "modularity": modularity(codes, factors),
        "explicitness": explicitness(codes, factors, seed=seed),
        "irs": irs(codes, factors),
    }


def measure(
    model: VAE,
    batches: Batches,
    factors: Factors,
    *,
    active: float = ACTIVE,
    seed: int = 0,
    precision: str = "fp32",
    progress: Progress | None = None,
    total: int | None = None,
) -> dict[str, float]:
    """Every measure of a model's codes (the posterior's means) for images whose factors are known; see `scores`.

    A dimension whose mean has a variance of at most `active` is held at 0: the measures look at its faintest trace as if the model used it, and a
    score would depend on how many dimensions lie idle.

    Args:
        batches: the images, in the order of the factors.
        active: in squared units of the code (1/D of it on a sphere of D dimensions); 0 keeps every dimension as it is.
        seed: of the measures' own draws.
        precision, progress, total: see `passes`.

    Raises:
        UserError: if there are not as many images as rows of factors, and for codes that are not real vectors.
    """
    codes = means(model, batches, precision=precision, progress=progress, total=total)
    if len(codes) != len(factors):
        raise UserError(f"There are {len(codes)} images and the factors of {len(factors)}: give those of the same images, in the same order.")
    unit = 1 / codes.shape[1] if supports(model.latent) == ("sphere",) else 1.0
    codes = torch.where(codes.var(0, correction=0) > active * unit, codes, 0.0)
    return scores(codes, factors.values, unordered=factors.unordered, seed=seed)


def means(
    model: VAE, batches: Batches, *, precision: str = "fp32", progress: Progress | None = None, total: int | None = None
) -> Float[Tensor, "N D"]:
    """The posterior's mean of each image, all layers after one another (float64, on the CPU).

    Raises `UserError` for codes that are not real numbers.
    """

    def compute(batch: Batch) -> Tensor:
        code = model.encode(batch)
        if not all(z.is_floating_point() for z in code):
            raise UserError("Disentanglement is measured on real codes, and this model's are entries of a codebook.")
        return torch.cat([z.flatten(1) for z in code], dim=1).cpu().double()

    return torch.cat(list(passes(model, batches, compute, precision=precision, progress=progress, total=total)))
