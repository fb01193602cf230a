"""Countable codes: a quantizer and a prior over its indices."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from vaekit.errors import UserError
from vaekit.latents.base import Anchors, Features, Latent
from vaekit.latents.priors.codes import CodesPrior
from vaekit.latents.quantizers.base import Quantizer, stats_of
from vaekit.output import LatentTerm


class Discrete(Latent):
    r"""log p(x) >= log p(x|z) + log p(z) with z the nearest code: a deterministic q(z|x) over countable codes has no entropy.

    It is a true bound, and its rate -log p(z) is what the codes cost to write down, in nats. The indices carry no gradient: the
    rate teaches the prior alone, the distortion (straight through the quantizer) and the quantizer's penalty the encoder. The
    decoder takes the vectors of the codes [N, F, *S], a map if the features are one.

    The features are standardized by each channel's mean and standard deviation in the first batch (up to 1,024 images): so rounding and
    signs start with all of their values in use, and a squared distance is in units of that variance.

    References: Neural Discrete Representation Learning (van den Oord et al., 2017), section 3.2, https://arxiv.org/abs/1711.00937

    Raises `UserError` for a quantizer and a prior with other numbers of levels or values.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, quantizer: Quantizer, prior: CodesPrior) -> None:
        super().__init__()
        if (quantizer.levels, quantizer.size) != (prior.shape[0], prior.size):
            raise UserError(
                f"{type(prior).__name__} is over {prior.shape[0]} indices of {prior.size} values at each position, "
                f"and {type(quantizer).__name__} gives {quantizer.levels} of {quantizer.size}."
            )
        self.quantizer = quantizer
        self.prior = prior
        self.register_buffer("mean", torch.zeros(quantizer.channels))
        self.register_buffer("std", torch.ones(quantizer.channels))

    @property
    def gives(self) -> frozenset[str]:
        return frozenset({"divergence", "single"})

    def infer(
        self,
        h: Features,
        *,
        anchors: Anchors | None = None,
        c: Tensor | None = None,
        label: Tensor | None = None,
        mean: bool = False,
    ) -> tuple[Tensor, tuple[LatentTerm, ...]]:
        made = self.quantizer(self._standardized(h))
        term = LatentTerm(made.indices, None, self.prior(c), made.penalty, made.stats, self.quantizer.size)
        return made.z_q, (term,)

    def _standardized(self, h: Features) -> Float[Tensor, "N F *S"]:
        if isinstance(h, dict):
            raise UserError("A quantizer takes one map of features, and this encoder gives a pyramid of them.")
        shape = (-1, *[1] * (h.dim() - 2))
        return (h.float() - self.mean.view(shape)) / self.std.view(shape)

    def generate(
        self, n: int, *, code: tuple[Tensor, ...] = (), anchors: Anchors | None = None, temperature: float = 1.0, c: Tensor | None = None
    ) -> Tensor:
        if len(code) > 1:
            raise UserError(f"This model has one layer of codes, and {len(code)} were given.")
        if code and code[0].is_floating_point():
            raise UserError("The codes of this model are whole numbers, the indices that `encode` gives.")
        return self.quantizer.lookup(code[0] if code else self.prior.sample(n, c=c, temperature=temperature))

    def prior_codes(self, n: int, *, anchors: Anchors | None = None, c: Tensor | None = None) -> Tensor:
        return self.prior.sample(n, c=c)

    @torch.no_grad()
    def initialize(self, h: Features) -> None:
        channels = self._standardized(h).movedim(1, -1).flatten(0, -2)
        # Upon what is there, so that a second start comes to the same.
        self.mean += self.std * channels.mean(0)
        std = channels.std(0, correction=0)
        self.std *= torch.where(std > 1e-6, std, 1.0)
        self.quantizer.initialize(self._standardized(h))

    def post_step(self, stats: Mapping[str, Tensor]) -> None:
        self.quantizer.post_step(stats_of(0, stats))
