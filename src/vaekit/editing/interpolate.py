"""Paths between the codes of two images: straight, along the sphere, or where the prior is dense."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from vaekit.editing.codes import Layout, decoded, need, same_condition, vectors
from vaekit.editing.relax import relaxed
from vaekit.errors import UserError
from vaekit.latents import Flat
from vaekit.model import VAE, evaluating
from vaekit.output import Batch

WAYS = ("linear", "spherical", "density")
ALLOWED: dict[str, tuple[str, ...]] = {"linear": ("reals", "ball"), "spherical": ("reals", "ball", "sphere"), "density": ("reals",)}
"""On which supports each way stays: a straight line and a free path leave a sphere."""


@dataclass(frozen=True)
class Path:
    """Images and codes from one image to another, the reconstructions of both at the ends."""

    images: Float[Tensor, "B S C H W"]
    """The mean of p(x|z) in raw values."""
    codes: Float[Tensor, "B S D"]
    log_p: Float[Tensor, "B S"] | None
    """log p(z) of each code in nats, of the prior that new images come from; None where it has no density, and for a model of several layers."""


def interpolate(model: VAE, a: Batch | Tensor, b: Batch | Tensor, steps: int = 9, how: str = "linear", weight: float = 1.0) -> Path:
    """S = `steps` images on the way from each image of a to that of b, the first and the last being their reconstructions.

    linear: (1 - t) z_a + t z_b. spherical: see `spherical`, layer by layer. density: see `relaxed`, a path that is bent to where p(z) is higher;
    where a prior has been fitted to the model's codes, p(z) is that one's.

    Args:
        weight: of the log prior in `density`; at 0 it is the straight line.

    Raises:
        UserError: for codes on which the way is not defined, images of different conditions, fewer than 2 steps, and a path along the density of a
            prior that has none.
    """
    if how not in WAYS:
        raise UserError(f"An interpolation is {', '.join(WAYS)}, and not '{how}'.")
    need(model, f"A {how} interpolation", ALLOWED[how])
    if steps < 2:
        raise UserError(f"An interpolation has at least 2 steps, and not {steps}.")
    first, second = Batch.of(a).to(model.device), Batch.of(b).to(model.device)
    if len(first) != len(second):
        raise UserError(f"An interpolation goes from image to image: there are {len(first)} to start from and {len(second)} to end at.")
    condition = same_condition(first, second)
    (z_a, layout), (z_b, _) = vectors(model, first), vectors(model, second)
    t = torch.linspace(0, 1, steps, device=z_a.device)
    density = PriorDensity(model, first, layout) if isinstance(model.latent, Flat) else None
    if how == "spherical":
        # On the processor: it is in float64, which not every GPU has.
        ends = zip(layout.split(z_a.cpu()), layout.split(z_b.cpu()), strict=True)
        arcs = [spherical(u.flatten(1), v.flatten(1), t.cpu()).to(z_a.device) for u, v in ends]
        z = torch.cat(arcs, dim=2)
    else:
        z = linear(z_a, z_b, t)
        if how == "density":
            if density is None:
                raise UserError("A path along the prior's density needs a model with one layer and its p(z): choose linear or spherical.")
            z = relaxed(z, density, weight)
    told = condition if model.condition is not None else None  # else it is the fitted prior's alone
    return Path(decoded(model, z, layout, told), z, None if density is None else density.known(z))


def linear(a: Float[Tensor, "B D"], b: Float[Tensor, "B D"], t: Float[Tensor, "S"]) -> Float[Tensor, "B S D"]:
    """(1 - t) a + t b."""
    s = t.view(1, -1, 1)
    return (1 - s) * a.unsqueeze(1) + s * b.unsqueeze(1)


def spherical(a: Float[Tensor, "B D"], b: Float[Tensor, "B D"], t: Float[Tensor, "S"]) -> Float[Tensor, "B S D"]:
    r"""The arc of a great circle between the directions of a and b, its length going evenly from |a| to |b|.

        r(t) [ sin((1 - t) w) a/|a| + sin(t w) b/|b| ] / sin w,   w the angle between a and b,   r(t) = (1 - t)|a| + t|b|

    For |a| = |b| this is Shoemake's formula, and the norm stays. Codes of one direction, or of which one is 0, have the straight line.

    Raises `UserError` for opposite codes, between which every great circle is an arc.

    References: Animating Rotation with Quaternion Curves (Shoemake, 1985), great arcs, https://doi.org/10.1145/325165.325242
    """
    norm_a, norm_b = a.norm(dim=1, keepdim=True), b.norm(dim=1, keepdim=True)
    u, v = (x.double() / n.double().clamp_min(1e-30) for x, n in ((a, norm_a), (b, norm_b)))
    # The angle by its half: the arc cosine loses half of the digits near 0 and pi.
    angle = 2 * torch.atan2((u - v).norm(dim=1), (u + v).norm(dim=1)).view(-1, 1, 1)
    zero = ((norm_a == 0) | (norm_b == 0)).view(-1, 1, 1)
    if ((torch.pi - angle < 1e-6) & ~zero).any():
        raise UserError("Two codes are opposite to each other, so that there is no one arc between them: choose linear.")
    s = t.double().view(1, -1, 1)
    arc = (torch.sin((1 - s) * angle) * u.unsqueeze(1) + torch.sin(s * angle) * v.unsqueeze(1)) / torch.sin(angle).clamp_min(1e-30)
    length = (1 - s) * norm_a.view(-1, 1, 1) + s * norm_b.view(-1, 1, 1)
    straight = linear(a, b, t)
    return torch.where(zero | (angle < 1e-6), straight, (length * arc).to(straight.dtype))


class PriorDensity:
    """log p(z), or log p(z|c) for the condition of each image, in nats, of the prior that new images of a model with one layer come from: the one
    that was fitted to its codes, or else its own."""

    def __init__(self, model: VAE, batch: Batch, layout: Layout) -> None:
        self.model, self.layout, self.fitted, self.condition = model, layout, model.sampler, batch.condition
        self.p: Distribution | None = None
        if self.fitted is None:
            with torch.no_grad(), evaluating(model):
                c, anchors = model.embed(batch.condition), model.anchors()
                self.p = model.latent.infer(model._encode(batch, c), anchors=anchors, c=c, mean=True)[1][0].p

    def missing(self) -> str | None:
        """Why there is no density, and what to do; None where there is one."""
        if self.fitted is None:
            return "This model has no density of codes, p(z): choose a linear or spherical interpolation." if self.p is None else None
        if self.fitted.prior.exact:
            return None
        fit = "fit one that has (vaekit fit-prior RUN --prior gmm), " if len(self.fitted.shape) == 1 else ""
        what = f"The prior that was fitted to this model, {type(self.fitted.prior).__name__}, draws codes and has no density of them"
        return f"{what}: {fit}take the model's own (--prior own), or choose a linear interpolation."

    def __call__(self, z: Float[Tensor, "B S D"]) -> Float[Tensor, "B S"]:
        """Step by step, since the density of a conditional prior has one member for each image."""
        if (missing := self.missing()) is not None:
            raise UserError(missing)
        with evaluating(self.model):
            return torch.stack([self._of(self.layout.split(step)[0]) for step in z.unbind(1)], dim=1)

    def _of(self, code: Float[Tensor, "B *E"]) -> Float[Tensor, "B"]:
        if self.fitted is not None:
            return self.fitted.log_prob(code, self.condition)
        assert self.p is not None
        return self.p.log_prob(code)

    @torch.no_grad()
    def known(self, z: Float[Tensor, "B S D"]) -> Float[Tensor, "B S"] | None:
        """The same on the CPU, or None without a density."""
        return None if self.missing() is not None else self(z).float().cpu()
