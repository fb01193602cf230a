"""Several flat latents side by side."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vaekit.errors import UserError
from vaekit.latents.base import Anchors, Features, Latent
from vaekit.output import LatentTerm


class Product(Latent):
    """q(z|x) = prod_i q_i(z_i|x), p(z) = prod_i p_i(z_i): each part reads the same features, and the decoder gets their codes side by side.

    The parts are independent given x, so that the rate is the sum of theirs; there is one term, and one code, for each part.

    Raises `UserError` for parts that have several layers, or whose prior needs the encoder (it would have to be asked for each part).

    References: Learning Disentangled Joint Continuous and Discrete Representations (Dupont, 2018), Eq. 4-5, https://arxiv.org/abs/1804.00104

    Args:
        parts: flat latents whose codes are vectors, or become vectors when they are laid flat.
    """

    def __init__(self, parts: list[Latent]) -> None:
        super().__init__()
        if not parts:
            raise UserError("A product of latents needs at least one part.")
        for part in parts:
            if part.anchored is not None:
                raise UserError(f"{type(part.anchored).__name__} is made of posteriors of images, and a part of a product cannot have it: use Flat.")
            if "single" not in part.gives:
                raise UserError(f"The parts of a product are flat, and {type(part).__name__} has several layers: use it alone.")
        self.parts = nn.ModuleList(parts)

    @property
    def gives(self) -> frozenset[str]:
        each = [part.gives for part in self._parts()]
        return (frozenset.intersection(*each) - {"single"}) | (frozenset.union(*each) & {"classes"})

    def _parts(self) -> list[Latent]:
        return list(self.parts)  # type: ignore[arg-type]

    def infer(
        self,
        h: Features,
        *,
        anchors: Anchors | None = None,
        c: Tensor | None = None,
        label: Tensor | None = None,
        mean: bool = False,
    ) -> tuple[Float[Tensor, "N D"], tuple[LatentTerm, ...]]:
        vectors: list[Tensor] = []
        terms: list[LatentTerm] = []
        for part in self._parts():
            d, own = part.infer(h, c=c, label=label, mean=mean)
            vectors.append(d.flatten(1))
            terms += own
        return torch.cat(vectors, dim=1), tuple(terms)

    def generate(
        self, n: int, *, code: tuple[Tensor, ...] = (), anchors: Anchors | None = None, temperature: float = 1.0, c: Tensor | None = None
    ) -> Float[Tensor, "n D"]:
        if len(code) > len(self.parts):
            raise UserError(f"This model has {len(self.parts)} latents side by side, and {len(code)} codes were given.")
        vectors = [part.generate(n, code=code[i : i + 1], temperature=temperature, c=c).flatten(1) for i, part in enumerate(self._parts())]
        return torch.cat(vectors, dim=1)

    def prior_codes(self, n: int, *, anchors: Anchors | None = None, c: Tensor | None = None) -> Tensor:
        """n codes of the prior of the first part."""
        return self._parts()[0].prior_codes(n, c=c)

    def initialize(self, h: Features) -> None:
        for part in self._parts():
            part.initialize(h)

    def post_step(self, stats: Mapping[str, Tensor]) -> None:
        """Each part gets the statistics of its own term, as its layer 0."""
        for i, part in enumerate(self._parts()):
            part.post_step({"0." + name.partition(".")[2]: value for name, value in stats.items() if name.partition(".")[0] == str(i)})
