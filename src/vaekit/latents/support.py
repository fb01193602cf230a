"""Where codes are, layer by layer, and which of them a prior can be fitted to."""

from vaekit.latents.base import Latent
from vaekit.latents.flat import Flat
from vaekit.latents.labelled import LabelledCategories
from vaekit.latents.ladder import Ladder
from vaekit.latents.product import Product

UNFITTED = ("sphere", "ball", "categories")
"""Supports of codes that no prior is fitted to: it would draw codes off them."""


def supports(latent: Latent) -> tuple[str, ...]:
    """Where the codes of each stochastic layer are: "reals", "sphere", "ball", "categories" or "indices"."""
    if isinstance(latent, Flat | LabelledCategories):
        return (latent.posterior.support,)
    if isinstance(latent, Ladder):
        return (*supports(latent.top), *["reals"] * (latent.layers - 1))
    if isinstance(latent, Product):
        return tuple(support for part in latent.parts for support in supports(part))  # type: ignore[arg-type]
    return ("indices",) if hasattr(latent, "quantizer") else ("reals",)
