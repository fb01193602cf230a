"""Flow matching and its diffusion twin: noise is carried to codes along a learned velocity field."""

import math
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from vaekit.errors import UserError
from vaekit.latents.base import Prior
from vaekit.networks.velocity import Velocity

PATHS = ("straight", "cosine")


class FlowMatching(Prior):
    r"""dx/dt = v(x, t, c) carries N(0, I) at t = 0 to codes at t = 1.

        x_t = a(t) e + b(t) z,   loss = |v(x_t, t, c) - (a'(t) e + b'(t) z)|^2,   e ~ N(0, I), t ~ U(0, 1), z a code

    The path is "straight" (a = 1 - t, b = t: flow matching) or "cosine" (a = cos(pi t / 2), b = sin(pi t / 2): the diffusion that preserves variance,
    in its v-parametrization up to a factor of pi / 2). The loss is a sum over the code's dimensions; it is no log-likelihood.

    The network is told x / s with s^2 = a^2 + b^2, and what it says is added to the best field for codes of N(0, I):

        v = (a a' + b b') / s^2 x + (a b' - a' b) / s f(x / s, t, c)

    so that at its start, where f = 0, the prior is N(0, I), in and out of the network have a variance of about 1, and only what is not Gaussian is
    left to learn. Codes should therefore be about standardized (see `Fitted`).

    A draw takes `steps` steps of Heun's method. Guidance g replaces v by v(none) + g (v(c) - v(none)): above 1, codes are more typical of their
    condition and less varied. The condition "none" is the zero vector, which training must show it now and then.

    References:
        Flow Matching for Generative Modeling (Lipman et al., 2022), Eq. 22 and 23, https://arxiv.org/abs/2210.02747
        Progressive Distillation for Fast Sampling of Diffusion Models (Salimans, Ho, 2022), appendix D, https://arxiv.org/abs/2202.00512
        Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022), section 5 (preconditioning),
            https://arxiv.org/abs/2206.00364
        Classifier-Free Diffusion Guidance (Ho, Salimans, 2022), Eq. 6, https://arxiv.org/abs/2207.12598

    Args:
        velocity: f; it says what codes there are, vectors or maps.
        path: as above.
        steps: of a draw.

    Raises:
        UserError: for an unknown path.
    """

    takes = frozenset({"guidance"})

    def __init__(self, velocity: Velocity, path: str = "straight", steps: int = 40) -> None:
        super().__init__()
        if path not in PATHS:
            raise UserError(f"A path is {' or '.join(PATHS)}, and not '{path}'.")
        self.velocity, self.path, self.steps = velocity, path, steps

    def loss(self, code: Float[Tensor, "N *E"], c: Float[Tensor, "N G"] | None = None) -> Float[Tensor, "N"]:
        """[N], the squared error of the velocity at one random time, summed over dimensions."""
        noise, t = torch.randn_like(code), torch.rand(len(code), device=code.device)
        (a, slope_a), (b, slope_b) = self._path(t.view(-1, *[1] * (code.dim() - 1)))
        wanted = slope_a * noise + slope_b * code
        return (self.field(a * noise + b * code, t, c) - wanted).square().flatten(1).sum(1)

    def field(self, x: Float[Tensor, "N *E"], t: Float[Tensor, "#N"], c: Float[Tensor, "N G"] | None = None) -> Float[Tensor, "N *E"]:
        """v(x, t, c)."""
        (a, slope_a), (b, slope_b) = self._path(t.view(-1, *[1] * (x.dim() - 1)))
        square = a * a + b * b
        scale = square.rsqrt()
        return (a * slope_a + b * slope_b) / square * x + (a * slope_b - slope_a * b) * scale * self.velocity(x * scale, t, c)

    def _path(self, t: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """(a, a') and (b, b') at t."""
        if self.path == "straight":
            one = torch.ones_like(t)
            return (1 - t, -one), (t, one)
        half = math.pi / 2
        sine, cosine = torch.sin(half * t), torch.cos(half * t)
        return (cosine, -half * sine), (sine, half * cosine)

    @torch.no_grad()
    def sample(self, n: int, *, c: Tensor | None = None, temperature: float = 1.0, guidance: float = 1.0) -> Float[Tensor, "n *E"]:
        """n codes; `temperature` multiplies the noise that they start from."""
        device = next(self.velocity.parameters()).device
        x = temperature * torch.randn(n, *self.velocity.shape, device=device)
        for now, then in pairwise(torch.linspace(0, 1, self.steps + 1, device=device)):
            v = self._guided(x, now, c, guidance)
            ahead = self._guided(x + (then - now) * v, then, c, guidance)
            x = x + 0.5 * (then - now) * (v + ahead)
        return x

    def _guided(self, x: Tensor, t: Tensor, c: Tensor | None, guidance: float) -> Tensor:
        t = t.view(1)
        if c is None or not self.velocity.condition or guidance == 1.0:
            return self.field(x, t, c)
        free = self.field(x, t, torch.zeros_like(c))
        return free + guidance * (self.field(x, t, c) - free)
