"""Priors that are fitted to the codes of a trained model: what `vaekit fit-prior` offers."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from vaekit.errors import UserError
from vaekit.latents import DiagonalGaussian, Flat, Prior, StandardNormal
from vaekit.latents.fitted import Fitted
from vaekit.latents.priors import AutoregressivePrior, FlowPrior
from vaekit.latents.priors.code_transformer import CodeTransformer
from vaekit.latents.priors.codes import CodePrior
from vaekit.latents.priors.flow_matching import FlowMatching
from vaekit.latents.priors.full_mixture import FullMixturePrior, components_for, enough
from vaekit.likelihoods import Gaussian
from vaekit.model import VAE
from vaekit.networks import AttributeCondition, ClassCondition, Condition, MLPDecoder, MLPEncoder, OneHotCondition
from vaekit.networks.velocity import VelocityMLP
from vaekit.networks.velocity_unet import VelocityUNet
from vaekit.output import Batch
from vaekit.recipes.knobs import Knobs
from vaekit.recipes.recipe import ALL, Recipe
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
    """A way to fit a prior; for each form of code a function to the prior, or None. G is the width of an embedded condition, 0 for none; the sizes of
    networks, and other numbers of the kind, are knobs."""

    about: str
    vector: Callable[[Knobs, int, int, int], Prior] | None = None
    """(knobs, D, G, number of images) -> a prior of vectors of D numbers."""
    map: Callable[[Knobs, list[int], int], Prior] | None = None
    """(knobs, [D, h, w], G) -> a prior of maps."""
    indices: Callable[[Knobs, list[int], int, int], Prior] | None = None
    """(knobs, [Q, h, w], K, G) -> a prior of maps of indices below K."""
    conditional: frozenset[str] = frozenset({"vector", "map", "indices"})
    """The forms whose prior knows a condition."""
    closed: bool = False
    """Whether its start is the fit, by an algorithm of its own that looks at all codes; gradient steps only refine it. It is told classes alone."""

    def has(self, form: str, condition: Condition | None = None) -> bool:
        able = condition is None or (form in self.conditional and not (self.closed and isinstance(condition, AttributeCondition)))
        return getattr(self, form) is not None and able


def _two_stage(knob: Knobs, latent: int) -> TwoStage:
    width, layers = knob("width", 512), knob("layers", 2)
    flat = Flat(DiagonalGaussian(width, latent), StandardNormal([latent]))
    return TwoStage(
        VAE(
            MLPEncoder([latent, 1, 1], width, layers), flat, MLPDecoder(latent, [latent, 1, 1], width, layers), Gaussian(channels=latent, levels=None)
        )
    )


def _full_mixture(knob: Knobs, latent: int, told: int, count: int) -> FullMixturePrior:
    components = knob("components", components_for(latent, count))
    if "components" in knob.values and components > count:
        of = "The rarest class has" if told else "There are"
        raise UserError(f"{of} {count:,} images, and components says {components:,} Gaussians: take fewer.")
    return FullMixturePrior(latent, components, classes=told)


def _velocity(path: str, about: str) -> Kind:
    return Kind(
        about,
        vector=lambda knob, d, g, _: FlowMatching(VelocityMLP(d, knob("width", 512), knob("blocks", 4), g), path, knob("steps", 40)),
        map=lambda knob, shape, g: FlowMatching(_unet(knob, shape, g), path, knob("steps", 40)),
    )


def _unet(knob: Knobs, shape: list[int], told: int) -> VelocityUNet:
    width = knob("width", 64, multiple=8)
    return VelocityUNet(shape, [width, 2 * width], knob("blocks", 2), told)


KINDS: dict[str, Kind] = {
    "flow-matching": _velocity("straight", "a velocity field that carries noise to codes"),
    "diffusion": _velocity("cosine", "the same along the path of a diffusion"),
    "gmm": Kind(
        "a mixture of Gaussians with full covariances (for each class, if it is told the class), with a density",
        _full_mixture,
        closed=True,
    ),
    "flow": Kind(
        "a neural spline flow, with a density",
        lambda knob, d, g, _: FlowPrior(d, "nsf" if d > 1 else "maf", knob("transforms", 4), knob("hidden", 256), condition=g),
    ),
    "autoregressive": Kind(
        "one dimension after the other, with a density; on indices a PixelCNN",
        lambda knob, d, g, _: AutoregressivePrior(d, knob("hidden", 512), knob("components", 16)),
        indices=lambda knob, shape, size, g: CodePrior(shape, size, knob("hidden", 64), knob("layers", 6), g),
        conditional=frozenset({"indices"}),
    ),
    "transformer": Kind(
        "attention over the indices before",
        indices=lambda knob, shape, size, g: CodeTransformer(shape, size, knob("width", 128), knob("blocks", 4), knob("heads", 4), g),
    ),
    "two-stage": Kind("a second VAE, of the codes", lambda knob, d, g, _: _two_stage(knob, d), conditional=frozenset()),
}
FORMS = {"vector": "vectors", "map": "maps of numbers", "indices": "maps of indices"}
DEFAULT_KINDS = {"vector": "gmm", "map": "flow-matching", "indices": "autoregressive"}


def form_of(shape: list[int], size: int | None) -> str:
    """Which of `FORMS` codes [*shape] have: of indices below `size`, or of real numbers where that is None.

    Raises `UserError` for a form that no prior takes.
    """
    if size is None and len(shape) in (1, 3):
        return "vector" if len(shape) == 1 else "map"
    if size is not None and len(shape) == 3:
        return "indices"
    raise UserError(f"Priors are fitted to vectors, to maps [D, h, w] and to maps of indices, and these codes have the shape {shape}.")


def second_stage(
    kind: str | None,
    shape: list[int],
    size: int | None = None,
    condition: Condition | None = None,
    count: int = 50_000,
    knobs: Mapping[str, float | str] | None = None,
) -> Recipe:
    """The recipe of a prior for codes [*shape]: of indices below `size`, or of real numbers where that is None; `kind` None for the default.

    Args:
        count: how many images the codes are of, of the rarest class if the prior is told the class; it limits the parameters of a kind.
        knobs: what this kind alone has, by name.

    Raises:
        UserError: for an unknown kind or knob, or one that does not go with these codes or with a condition.
    """
    form = form_of(shape, size)
    kind = kind or _default(form, shape, condition, count)
    if kind not in KINDS:
        raise UserError(f"There is no prior '{kind}' to fit; there are {', '.join(KINDS)}.")
    chosen = KINDS[kind]
    if not chosen.has(form, condition):
        able = ", ".join(name for name, k in KINDS.items() if k.has(form, condition))
        what = "attributes" if chosen.closed else "condition"
        why = f"is not for {FORMS[form]}" if not chosen.has(form) else f"knows no {what} on {FORMS[form]}"
        raise UserError(f"The prior {kind} {why}: choose one of {able}.")
    if chosen.closed and isinstance(condition, ClassCondition):  # a learned vector says nothing yet at the start
        condition = OneHotCondition(condition.classes)
    told = 0 if condition is None else condition.features
    knob = Knobs(knobs)
    if chosen.indices is not None and size is not None:
        prior = chosen.indices(knob, shape, size, told)
    elif form == "map" and chosen.map is not None:
        prior = chosen.map(knob, shape, told)
    else:
        assert chosen.vector is not None
        prior = chosen.vector(knob, shape[0], told, count)
    knob.refuse_others(f"The prior {kind}, of {FORMS[form]},")
    model = Fitted(prior, shape, discrete=size is not None, condition=condition)
    training = replace(TRAINING, epochs=2, lr=1e-4) if chosen.closed else TRAINING
    if form != "vector":  # what a step keeps grows with the map
        training = replace(training, batch_size=max(8, min(training.batch_size, 2**18 // math.prod(shape))))
        # And what it costs, while each position teaches the same network: many small steps learn sooner.
        training = replace(training, batch_size=max(8, min(training.batch_size, 2**13 // math.prod(shape if size else shape[1:]))))
    return Recipe(
        model, defaults=training, start=ALL if chosen.closed else 1024, name=f"prior-{kind}", options={"knobs": knob.turned} if knob.turned else {}
    )


def _default(form: str, shape: list[int], condition: Condition | None, count: int) -> str:
    """What suits these codes."""
    if form == "vector" and isinstance(condition, AttributeCondition):
        return "flow" if shape[0] <= SEQUENTIAL else "flow-matching"
    return "flow-matching" if form == "vector" and not enough(shape[0], count) else DEFAULT_KINDS[form]


SEQUENTIAL = 128
"""Dimensions up to which a flow is the default, whose draws take a pass for each."""


TRAINING = Training(
    epochs=60, batch_size=256, optimizer="adamw", lr=1e-3, betas=(0.9, 0.99), weight_decay=0.01, schedule="linear", lr_warmup=0.02, ema=0.999
)


def codes_like(z: Tensor) -> Tensor:
    """Codes [N, *E] as images: maps as they are, vectors as [N, 1, 1, D]."""
    z = z.float() if z.is_floating_point() else z.to(torch.int32)
    return z if z.dim() == 4 else z.flatten(1)[:, None, None, :]
