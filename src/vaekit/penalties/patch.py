"""An adversarial term that no critic can ruin a model with."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from vaekit.errors import UserError
from vaekit.objectives.schedules import Schedule
from vaekit.output import VAEOutput
from vaekit.part import Part
from vaekit.penalties.adversarial import ImageCritic
from vaekit.penalties.tools import ImagePenalty, per_image


class Onset(Schedule):
    """0 until `start`, then linear to 1 over the next `ramp` of the run: a function of the fraction alone, so that a resumed run needs no state."""

    def __init__(self, start: float = 0.3, ramp: float = 0.1) -> None:
        super().__init__()
        self.start, self.ramp = start, ramp

    def at(self, fraction: float) -> float:
        if self.ramp <= 0:
            return float(fraction >= self.start)
        return min(max((fraction - self.start) / self.ramp, 0.0), 1.0)


class PatchAdversarial(ImagePenalty):
    r"""lambda A(m): m the mean of a reconstruction, A what the critic "image" makes of it (its `fooled`), weaker than the likelihood at any time.

    With r = d(-log p(x|z)) / dm and g = dA / dm, the gradient that reaches m from here is lambda g, where for each image

        lambda = pull |r| / |g|,  and no value of lambda g is beyond pull times the root mean square of r.

    The paper compares the norms at the weights of the last layer; here they are compared at its output, where they bound what a critic can do, since
    pull < 1. A step lowers the distortion to first order, whatever the critic. At rest

    * under Gaussian noise the squared error of a code's images is at most 1 / (1 - pull^2) of their variance (1.25 dB at 0.5);
    * under Laplace noise, whose r is +-1/b, a value lies between the quantiles (1 - pull) / 2 and (1 + pull) / 2 of what its code leaves open.

    lambda g is the gradient of no function, and needs no second pass through the critic. Where there is no gradient (a pass that only measures) the
    value is 0; a compiled step, which hides what lies between its ends, is refused. The critic learns from reconstructions alone, from the first step
    on, so that it knows its task when `weight` sets in (`Onset`).

    References: Taming Transformers for High-Resolution Image Synthesis (Esser et al., 2021), Eq. 6 and 7, https://arxiv.org/abs/2012.09841

    Args:
        levels, mean, std: see `ImagePenalty`.
        pull: above 0 and below 1.
        weight: at most 1.

    Raises:
        UserError: for another pull, where the recipe has no critic "image", and for a likelihood whose density is not a function of its `mean`.
    """

    critic = "image"

    def __init__(
        self,
        levels: int | None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        pull: float = 0.5,
        weight: float | Schedule = 1.0,
    ) -> None:
        super().__init__(levels, mean, std, weight)
        if not 0 < pull < 1:
            raise UserError(f"The pull of a critic is above 0 and below 1, where the likelihood is stronger, and it is {pull}.")
        self.pull = pull

    def forward(self, out: VAEOutput, critic: Part | None = None) -> Float[Tensor, "B"]:
        if not isinstance(critic, ImageCritic):
            raise self.missing_critic()
        m = out.px.mean
        if not (torch.is_grad_enabled() and m.requires_grad):
            return torch.zeros(len(out.batch), device=m.device)
        verdict = critic.fooled(critic.net.features(self.means(out)))
        (r,) = torch.autograd.grad(-out.log_px.sum(), m, retain_graph=True, allow_unused=True)
        if r is None:
            raise UserError(
                f"PatchAdversarial needs a density that is written in its mean, and this {type(out.px).__name__} is not: choose laplace or gaussian "
                "on floats or in a tokenizer, and leave --compile out."
            )
        (g,) = torch.autograd.grad(verdict.sum(), m)
        scale = self.scale(r, g)
        size = self.pull * r.float().square().flatten(1).mean(1).sqrt()
        wanted = (scale.view(-1, 1, 1, 1) * g.float()).clamp(-size.view(-1, 1, 1, 1), size.view(-1, 1, 1, 1))
        value = (scale * verdict).detach() + (wanted * (m.float() - m.detach().float())).flatten(1).sum(1)
        return per_image(value, out)

    def scale(self, r: Float[Tensor, "N C H W"], g: Float[Tensor, "N C H W"]) -> Float[Tensor, "N"]:
        """lambda of each image."""
        norms = [torch.linalg.vector_norm(v.float().flatten(1), dim=1) for v in (r, g)]
        return self.pull * norms[0] / norms[1].clamp_min(1e-12)

    def feeds(self, out: VAEOutput) -> Mapping[str, Tensor]:
        return {"real": self.images(out).detach(), "fake": self.means(out)[: len(out.batch)].detach()}
