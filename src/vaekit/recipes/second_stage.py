"""Priors that are fitted to the codes of a trained model: what `vaekit fit-prior` offers."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vaekit.errors import UserError
from vaekit.latents import DiagonalGaussian, Flat, Prior, StandardNormal
from vaekit.latents.fitted import Fitted
from vaekit.latents.priors import AutoregressivePrior, FlowPrior, MixturePrior
from vaekit.latents.priors.codes import CodePrior
from vaekit.latents.priors.flow_matching import FlowMatching
from vaekit.likelihoods import Gaussian
from vaekit.model import VAE
from vaekit.networks import Condition, MLPDecoder, MLPEncoder
from vaekit.output import Batch
from vaekit.recipes.recipe import Recipe
from vaekit.training.options import Training


class TwoStage(Prior):
    """A second VAE, of the codes: its prior is N(0, I), and its aggregate posterior comes much nearer to that than the first's did.

    The loss is its -ELBO in nats; a draw is one of p(code|u), noise and all.

    References: Diagnosing and Enhancing VAE Models (Dai, Wipf, 2019), section 4, https://arxiv.org/abs/1903.05789

    Args:
        vae: of codes as images [D, 1, 1] of floats.
    """

    def __init__(self, vae: VAE) -> None:
        super().__init__()
        self.vae = vae

    def loss(self, code: Float[Tensor, "N D"], c: Tensor | None = None) -> Float[Tensor, "N"]:
        out = self.vae(Batch(code[:, :, None, None]))
        return (out.distortion + out.rate())[0]

    def sample(self, n: int, *, c: Tensor | None = None, temperature: float = 1.0) -> Float[Tensor, "n D"]:
        return self.vae.sample(n, temperature=temperature, pixels="draw").flatten(1)


@dataclass(frozen=True)
class Kind:
    """A way to fit a prior."""

    build: Callable[[int, int], Prior]
    """(D, G) -> the prior of vectors of D numbers given G of an embedded condition, 0 for none."""
    about: str
    conditional: bool = True


def _two_stage(latent: int) -> TwoStage:
    width = 512
    flat = Flat(DiagonalGaussian(width, latent), StandardNormal([latent]))
    return TwoStage(
        VAE(MLPEncoder([latent, 1, 1], width, 2), flat, MLPDecoder(latent, [latent, 1, 1], width, 2), Gaussian(channels=latent, levels=None))
    )


KINDS: dict[str, Kind] = {
    "flow-matching": Kind(lambda d, g: FlowMatching(d, "straight", condition=g), "a velocity field that carries noise to codes"),
    "diffusion": Kind(lambda d, g: FlowMatching(d, "cosine", condition=g), "the same along the path of a diffusion"),
    "gmm": Kind(lambda d, g: MixturePrior(d, 100), "a mixture of 100 Gaussians", conditional=False),
    "flow": Kind(lambda d, g: FlowPrior(d, "nsf" if d > 1 else "maf", 4, 256, condition=g), "a neural spline flow, with a density"),
    "autoregressive": Kind(lambda d, g: AutoregressivePrior(d, 512, 16), "one dimension after the other, with a density", conditional=False),
    "two-stage": Kind(lambda d, g: _two_stage(d), "a second VAE, of the codes", conditional=False),
}
DEFAULT_KIND = "flow-matching"


def second_stage(kind: str, shape: list[int], size: int | None = None, condition: Condition | None = None) -> Recipe:
    """The recipe of a prior for codes [*shape]: of indices below `size`, or of real numbers where that is None.

    Raises:
        UserError: for an unknown kind, or one that does not go with these codes or with a condition.
    """
    if kind not in KINDS:
        raise UserError(f"There is no prior '{kind}' to fit; there are {', '.join(KINDS)}.")
    told = 0 if condition is None else condition.features
    if size is not None:
        if kind != "autoregressive" or len(shape) != 3:
            raise UserError(f"Indices of a codebook take the autoregressive prior, over maps of them, and not {kind}: choose --prior autoregressive.")
        prior: Prior = CodePrior(shape, size, hidden=64, layers=6, condition=told)
    else:
        if len(shape) != 1:
            raise UserError(f"Priors are fitted to vectors and to maps of indices, and these codes have the shape {shape}.")
        if told and not KINDS[kind].conditional:
            able = ", ".join(name for name, k in KINDS.items() if k.conditional)
            raise UserError(f"The prior {kind} knows no condition: choose one of {able}.")
        prior = KINDS[kind].build(shape[0], told)
    model = Fitted(prior, shape, discrete=size is not None, condition=condition)
    return Recipe(model, defaults=TRAINING, name=f"prior-{kind}")


TRAINING = Training(
    epochs=60, batch_size=256, optimizer="adamw", lr=1e-3, betas=(0.9, 0.99), weight_decay=0.01, schedule="linear", lr_warmup=0.02, ema=0.999
)


def codes_like(z: Tensor) -> Tensor:
    """Codes [N, *E] as images: vectors as [N, 1, 1, D], maps of indices as they are, in 16 bits."""
    if z.is_floating_point():
        return z.float().flatten(1)[:, None, None, :]
    return z.to(torch.int32) if z.dim() == 4 else z.flatten(1).to(torch.int32)[:, None, None, :]
