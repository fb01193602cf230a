"""Several stochastic layers, from a vector at the top to maps of finer and finer resolution."""

import abc
from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal
from torch.nn import functional as F

from vaekit.errors import UserError
from vaekit.latents.base import AnchoredPrior, Anchors, Features, Latent
from vaekit.latents.flat import Flat
from vaekit.networks.blocks import GatedDense, ResidualBlock, conditioned
from vaekit.output import LatentTerm
from vaekit.part import Part

PRIOR_BOUND = 8.0
"""Bound of a layer's prior log-variance: its standard deviation stays within exp(-4) and exp(4)."""
RESIDUAL_BOUND = 8.0
"""Bound of the posterior's log-variance relative to the prior's: together they keep sigma above exp(-8)."""


class Step(Part):
    """One step of the descent: a group with a latent of its own, or the way to the next resolution."""

    @abc.abstractmethod
    def forward(self, h: Float[Tensor, "N W h w"], z: Float[Tensor, "N Z h w"] | None = None) -> Float[Tensor, "N W2 h2 w2"]:
        """The map below this step."""


class Upsampling(Step):
    """To twice the resolution: a 1x1 convolution, pixel-shuffle, residual blocks."""

    def __init__(self, width: int, out: int, blocks: int = 1) -> None:
        super().__init__()
        self.up = nn.Sequential(nn.Conv2d(width, out * 4, 1), nn.PixelShuffle(2), *[ResidualBlock(out) for _ in range(blocks)])

    def forward(self, h: Float[Tensor, "N W h w"], z: Tensor | None = None) -> Float[Tensor, "N W2 h2 w2"]:
        return self.up(h)


class TopDownBlock(Step):
    r"""A group of latents [Z, h, w] given the map h from above, with the posterior told relative to the prior.

    p(z|h) = N(mu, sigma^2),  q(z|h, x) = N(mu + dmu, sigma^2 dsigma^2),  then h + W z and a residual block. The prior is a 3x3 convolution of h;
    dmu and log dsigma^2 come from h and the encoder's map. Both heads start at zero, so that every group starts as N(0, I) with rate 0.
    Log-variances are bounded smoothly, b tanh(x / b) with b = 8 each; the means are not, since the divergence holds them.

    References:
        NVAE: A Deep Hierarchical Variational Autoencoder (Vahdat, Kautz, 2020), section 3.2 (residual normal distributions),
            https://arxiv.org/abs/2007.03898
        Ladder Variational Autoencoders (Sonderby et al., 2016), https://arxiv.org/abs/1602.02282

    Args:
        width: channels of h.
        features: channels of the encoder's map that it reads.
        channels: Z, the channels of its latent.
        level: which of the encoder's maps it reads, 1 for the coarsest; it has the size of h.
    """

    def __init__(self, width: int, features: int, channels: int, level: int = 1) -> None:
        super().__init__()
        self.channels, self.level = channels, level
        self.prior_head = nn.Conv2d(width, 2 * channels, 3, padding=1)
        self.mix = nn.Conv2d(width + features, width, 1)
        self.residual_head = nn.Conv2d(width, 2 * channels, 3, padding=1)
        self.merge = nn.Conv2d(channels, width, 1)
        self.block = ResidualBlock(width)
        for head in (self.prior_head, self.residual_head):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)  # type: ignore[arg-type]

    def prior(self, h: Float[Tensor, "N W h w"]) -> Distribution:
        """p(z|h)."""
        mean, log_scale = _head(self.prior_head(F.silu(h)), PRIOR_BOUND)
        return _normal(mean, log_scale.exp())

    def posterior(self, h: Float[Tensor, "N W h w"], features: Float[Tensor, "N F h w"], p: Distribution) -> Distribution:
        """q(z|h, x), given the prior at the same h."""
        mixed = self.mix(F.silu(torch.cat([h, features.to(h.dtype)], dim=1)))
        shift, log_scale = _head(self.residual_head(F.silu(mixed)), RESIDUAL_BOUND)
        base = p.base_dist  # type: ignore[attr-defined]
        return _normal(base.loc + shift, base.scale * log_scale.exp())

    def forward(self, h: Float[Tensor, "N W h w"], z: Float[Tensor, "N Z h w"] | None = None) -> Float[Tensor, "N W h w"]:
        return self.block(h if z is None else h + self.merge(z))


def _head(values: Tensor, bound: float) -> tuple[Tensor, Tensor]:
    """A mean and the logarithm of a scale, in float32: half of a log-variance that is bounded."""
    mean, log_variance = values.float().chunk(2, dim=1)
    return mean, (0.5 * bound) * torch.tanh(log_variance / bound)


def _normal(mean: Tensor, scale: Tensor) -> Distribution:
    return Independent(Normal(mean, scale, validate_args=False), 3, validate_args=False)


class Ladder(Latent):
    r"""A vector z_0 at the top and maps z_1, ..., z_L below it, from the top down in both the prior and the posterior.

        p(z) = p(z_0) prod_l p(z_l | z_<l),    q(z|x) = q(z_0|x) prod_l q(z_l | z_<l, x)
        rate = KL(q(z_0|x) || p(z_0)) + sum_l E_{q(z_<l|x)}[ KL(q(z_l|z_<l, x) || p(z_l|z_<l)) ]

    The top is any flat latent on the encoder's dense features; a gated dense layer makes of z_0 the coarsest map, and the steps take it from there.
    The decoder gets {0: z_0, 1: the last map}. The posterior's mean, where it is asked for, is that of each layer given the means above.

    Raises `UserError` for a top whose code is not a vector of numbers, and for steps of which none has a latent.

    References: Ladder Variational Autoencoders (Sonderby et al., 2016), Eq. 1-3, https://arxiv.org/abs/1602.02282;
        Very Deep VAEs (Child, 2020), section 3, https://arxiv.org/abs/2011.10650

    Args:
        top: the pair of q(z_0|x) and p(z_0); it reads level 0 of the features.
        latent: D, the size of z_0.
        map: (W, h, w) of the coarsest map.
        steps: what comes below it.
        dense: width of the gated dense layer between z_0 and the map.
        condition: G, the width of the embedded condition, 0 for none.
    """

    def __init__(self, top: Flat, latent: int, map: list[int], steps: list[Step], dense: int = 256, condition: int = 0) -> None:
        super().__init__()
        if "vector" not in top.gives or tuple(top.posterior.event_shape) != (latent,):
            raise UserError(f"The top of a ladder is a vector of {latent} numbers, and {type(top.posterior).__name__} does not give one.")
        if not any(isinstance(step, TopDownBlock) for step in steps):
            raise UserError("A ladder needs a group of latents below its top: add a TopDownBlock to the steps, or use Flat.")
        self.map = tuple(map)
        self.top = top
        self.expand = nn.Sequential(GatedDense(latent + condition, dense), nn.Linear(dense, map[0] * map[1] * map[2]))
        self.first = ResidualBlock(map[0])
        self.steps = nn.ModuleList(steps)

    @property
    def gives(self) -> frozenset[str]:
        return self.top.gives & {"density", "stopped", "divergence"}

    @property
    def anchored(self) -> AnchoredPrior | None:
        return self.top.anchored

    @property
    def layers(self) -> int:
        """The number of stochastic layers, the top among them."""
        return 1 + sum(isinstance(step, TopDownBlock) for step in self.steps)

    def infer(
        self,
        h: Features,
        *,
        anchors: Anchors | None = None,
        c: Tensor | None = None,
        label: Tensor | None = None,
        mean: bool = False,
    ) -> tuple[dict[int, Tensor], tuple[LatentTerm, ...]]:
        features = _levels(h)
        z, top = self.top.infer(features[0], anchors=_at_top(anchors), c=c, label=label, mean=mean)
        terms = [*top]

        def choose(block: TopDownBlock, above: Tensor) -> Tensor:
            p = block.prior(above)
            q = block.posterior(above, features[block.level], p)
            terms.append(LatentTerm(q.mean if mean else q.rsample(), q, p))
            return terms[-1].z

        return self._descend(z, c, choose), tuple(terms)

    def generate(
        self, n: int, *, code: tuple[Tensor, ...] = (), anchors: Anchors | None = None, temperature: float = 1.0, c: Tensor | None = None
    ) -> dict[int, Tensor]:
        if len(code) > self.layers:
            raise UserError(f"This model has {self.layers} stochastic layers, and {len(code)} codes were given.")
        z = self.top.generate(n, code=code[:1], anchors=_at_top(anchors), temperature=temperature, c=c)
        given = iter(code[1:])

        def choose(block: TopDownBlock, above: Tensor) -> Tensor:
            kept = next(given, None)
            if kept is not None:
                return kept
            p = block.prior(above)
            return p.mean + temperature * p.stddev * torch.randn_like(p.mean)

        return self._descend(z, c, choose)

    def _descend(self, z: Tensor, c: Tensor | None, choose: Callable[[TopDownBlock, Tensor], Tensor]) -> dict[int, Tensor]:
        """The one way down: `choose` says what the code of a group is, given the map above it."""
        h = self.first(self.expand(conditioned(z, c)).view(-1, *self.map))
        for step in self.steps:
            h = step(h, choose(step, h) if isinstance(step, TopDownBlock) else None)
        return {0: z, 1: h}

    def prior_codes(self, n: int, *, anchors: Anchors | None = None, c: Tensor | None = None) -> Tensor:
        """n codes [n, D] of the prior of the top."""
        return self.top.prior_codes(n, anchors=_at_top(anchors), c=c)

    def initialize(self, h: Features) -> None:
        self.top.initialize(_levels(h)[0])

    def post_step(self, stats: Mapping[str, Tensor]) -> None:
        """Hands the top its own; the groups have no state."""
        self.top.post_step({name: value for name, value in stats.items() if name.startswith("0.")})


def _levels(h: Features) -> dict[int, Tensor]:
    if not isinstance(h, dict):
        raise UserError("A ladder reads features at several resolutions: give the model a PyramidEncoder.")
    return h


def _at_top(anchors: Anchors | None) -> Anchors | None:
    """Anchors for the top, which reads the dense features alone."""
    return anchors if anchors is None or not isinstance(anchors.h, dict) else Anchors(anchors.h[0], anchors.same)
