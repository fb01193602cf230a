"""The code of an image as one vector, whatever the model's layers are, and the images of such vectors."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vaekit.errors import UserError
from vaekit.latents.support import supports
from vaekit.model import VAE, Code
from vaekit.output import Batch

CHUNK = 256
"""Images that are encoded or decoded at once."""


@dataclass(frozen=True)
class Layout:
    """The shapes of the codes of each stochastic layer: how one vector of all of them is taken apart."""

    shapes: tuple[tuple[int, ...], ...]

    def join(self, code: Code) -> Float[Tensor, "N D"]:
        """The codes of all layers side by side, from the top down."""
        return torch.cat([z.flatten(1) for z in code], dim=1)

    def split(self, z: Float[Tensor, "N D"]) -> Code:
        """One code for each layer, in its own shape."""
        parts = z.split([math.prod(shape) for shape in self.shapes], dim=1)
        return tuple(part.reshape(len(z), *shape) for part, shape in zip(parts, self.shapes, strict=True))


def need(model: VAE, what: str, allowed: tuple[str, ...] = ("reals",)) -> None:
    """Raises `UserError` unless all codes of the model are of these supports; `what` begins the sentence ("An attribute")."""
    names = {"reals": "real numbers", "sphere": "points of a sphere", "ball": "points of a hyperbolic ball"}
    others = {**names, "categories": "categories", "indices": "entries of a codebook"}
    wrong = [support for support in supports(model.latent) if support not in allowed]
    if wrong:
        raise UserError(f"{what} needs codes that are {' or '.join(names[a] for a in allowed)}, and some of this model's are {others[wrong[0]]}.")


@torch.no_grad()
def vectors(model: VAE, x: Batch | Tensor) -> tuple[Float[Tensor, "B D"], Layout]:
    """The code of each image, the posterior's means of all layers side by side, and how they are taken apart again."""
    batch = Batch.of(x)
    parts = [model.encode(batch[start : start + CHUNK]) for start in range(0, len(batch), CHUNK)]
    code = tuple(torch.cat(layer) for layer in zip(*parts, strict=True))
    layout = Layout(tuple(tuple(z.shape[1:]) for z in code))
    return layout.join(tuple(z.float() for z in code)), layout


@torch.no_grad()
def decoded(model: VAE, z: Float[Tensor, "B S D"], layout: Layout, condition: Tensor | None = None) -> Float[Tensor, "B S C H W"]:
    """The mean of p(x|z) of S codes for each of B images, in raw values on the CPU.

    Args:
        condition: of the B images, or None.
    """
    told = None if condition is None else condition.repeat_interleave(z.shape[1], 0)
    images = means(model, layout.split(z.flatten(0, 1)), told)
    return images.view(len(z), -1, *images.shape[1:])


@torch.no_grad()
def means(model: VAE, code: Code, condition: Tensor | None = None) -> Float[Tensor, "N C H W"]:
    """The mean of p(x|z) of N codes, a tensor [N, *E] for each layer, in raw values on the CPU; a part of them at a time."""
    images = []
    for start in range(0, len(code[0]), CHUNK):
        part = slice(start, start + CHUNK)
        told = None if condition is None else condition[part]
        images.append(model.decode(tuple(z[part].to(model.device) for z in code), condition=told).mean.float().cpu())
    return torch.cat(images)


def same_condition(*batches: Batch) -> Tensor | None:
    """The condition that images have in common. Raises `UserError` where they are told different things."""
    first = batches[0].condition
    for other in batches[1:]:
        if (first is None) != (other.condition is None) or (first is not None and not torch.equal(first, other.condition.to(first))):  # type: ignore[union-attr]
            raise UserError("These images are told different classes or attributes, and a decoder takes one: give them the same condition.")
    return first
