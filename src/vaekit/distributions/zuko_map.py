"""zuko's conditional transforms as maps of codes."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from zuko.lazy import LazyTransform

from vaekit.distributions.flowed import Map


class _Within(nn.Module):
    """Does something with a transform while its parameters are those of a `functional_call`: zuko's networks run late, when the transform is used."""

    def __init__(self, transform: LazyTransform) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, context: Tensor, use: Callable[[Any], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        return use(self.transform(context))


class ZukoMap(Map):
    """The inverse of a zuko transform, which goes from codes to noise as zuko has it; this map goes from noise to codes.

    Args:
        transform: from codes to noise, given a context.
        context: [N,G].
        parameters: what stands in for the transform's own parameters, by name; None for its own.
    """

    def __init__(self, transform: LazyTransform, context: Float[Tensor, "N G"], parameters: Mapping[str, Tensor] | None = None) -> None:
        self.transform, self.context, self.parameters = transform, context, parameters

    def forth(self, e: Float[Tensor, "... D"]) -> tuple[Float[Tensor, "... D"], Float[Tensor, "..."]]:
        return self._use(lambda transform: transform.inv.call_and_ladj(self._beside(e)))

    def back(self, z: Float[Tensor, "... D"]) -> tuple[Float[Tensor, "... D"], Float[Tensor, "..."]]:
        e, volume = self._use(lambda transform: transform.call_and_ladj(self._beside(z)))
        return e, -volume

    def _beside(self, x: Tensor) -> Tensor:
        # zuko shapes a determinant like its argument, and not like its argument and the context together.
        return x.expand(torch.broadcast_shapes(x.shape[:-1], self.context.shape[:-1]) + x.shape[-1:])

    def _use(self, use: Callable[[Any], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        if self.parameters is None:
            return use(self.transform(self.context))
        return functional_call(_Within(self.transform), dict(self.parameters), (self.context, use))

    def stopped(self) -> "ZukoMap":
        held = {f"transform.{name}": parameter.detach() for name, parameter in self.transform.named_parameters()}
        return ZukoMap(self.transform, self.context.detach(), held)
