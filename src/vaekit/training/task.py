"""`Task`: from a raw batch to a loss. It is the only thing that is compiled or wrapped for several processes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.latents.fitted import Fitted
from vaekit.model import VAE, evaluating
from vaekit.objectives import Objective
from vaekit.output import Batch, VAEOutput
from vaekit.part import Part
from vaekit.penalties import Critic, Penalty

START = 1024
"""Images that an objective starts from: of more, a mixture's densities would not fit into memory."""


@dataclass
class Step:
    """What one forward pass hands to the loop."""

    loss: Tensor
    """Nats per image, a scalar."""
    logs: Tensor
    """[3], detached: loss, distortion and rate in nats per image."""
    stats: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    feeds: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    """Detached, for the critics."""


def _prior_codes(model: VAE, out: VAEOutput) -> Tensor:
    """[B, *E] codes of the prior, without gradient."""
    with torch.no_grad():
        return model.latent.prior_codes(len(out.batch), anchors=model.anchors(), c=model.embed(out.batch.condition))


def _prior_images(model: VAE, out: VAEOutput) -> Distribution:
    """p(x|z) of B codes of the prior, with gradient for the decoder."""
    c = model.embed(out.batch.condition)
    return model.likelihood(model.decoder(model.latent.generate(len(out.batch), anchors=model.anchors(), c=c), c))


def _moved(model: VAE, out: VAEOutput) -> VAEOutput:
    """The same images shifted by up to an eighth of their side, each by its own step, after a pass of their own."""
    return model(shifted(out.batch), k=out.k)


ANSWERS: dict[str, Callable[[Any, VAEOutput], Any]] = {"prior_codes": _prior_codes, "prior_images": _prior_images, "moved": _moved}
"""What a penalty may ask for (`Penalty.asks`)."""


def shifted(batch: Batch) -> Batch:
    """The batch with each image moved by a random number of whole pixels, its edge repeated."""
    b, _, height, width = batch.x.shape
    rows = _steps(b, height) + torch.arange(height)
    columns = _steps(b, width) + torch.arange(width)
    rows, columns = rows.clamp(0, height - 1).to(batch.x.device), columns.clamp(0, width - 1).to(batch.x.device)

    def move(x: Tensor) -> Tensor:
        return x[torch.arange(b, device=x.device)[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()

    return replace(batch, x=move(batch.x), mask=None if batch.mask is None else move(batch.mask))


def _steps(count: int, side: int) -> Tensor:
    most = max(1, side // 8)
    return torch.randint(-most, most + 1, (count, 1))


class Task(nn.Module):
    """objective(model(batch)) + the weighted penalties."""

    weights: Tensor

    def __init__(
        self,
        model: VAE | Fitted,
        objective: Objective,
        penalties: tuple[Penalty, ...] = (),
        critics: Mapping[str, Critic] | None = None,
        precision: str = "fp32",
    ) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        self.penalties = nn.ModuleList(penalties)
        self._penalties = tuple(penalties)
        self.precision = precision
        # Not registered: a critic's parameters are not the task's.
        self._critics = [dict(critics or {})]
        for critic in self._critics[0].values():
            critic.requires_grad_(False)
        self.register_buffer("weights", torch.tensor([p.schedule.at(0.0) for p in penalties]), persistent=False)
        self._asks = sorted(set().union(*(p.asks for p in penalties)))
        self._moving = [part for part in self.modules() if isinstance(part, Part) and type(part).progress is not Part.progress]

    def forward(self, batch: Batch) -> Step:
        if self.precision == "bf16":
            with torch.autocast(batch.x.device.type, dtype=torch.bfloat16):
                return self._step(batch)
        return self._step(batch)

    def _step(self, batch: Batch) -> Step:
        out = self.model(batch, k=self.objective.samples)
        loss = self.objective(out).mean()
        for name in self._asks:
            out.asked[name] = ANSWERS[name](self.model, out)
        feeds: dict[str, dict[str, Tensor]] = {}
        for penalty, weight in zip(self._penalties, self.weights, strict=True):
            critic = self._critics[0].get(penalty.critic) if penalty.critic else None
            loss = loss + weight * penalty(out, critic).mean()
            if penalty.critic:
                feeds.setdefault(penalty.critic, {}).update(penalty.feeds(out))
        with torch.no_grad():
            logs = torch.stack((loss.detach(), -out.log_px.mean(), out.rate().mean()))
            stats = self.objective.stats(out)
        return Step(loss, logs, {**out.stats, "objective": stats} if stats else out.stats, feeds)

    def initialize(self, batch: Batch) -> None:
        """The data-dependent start of the model, from one large raw batch, and of the objective, from the first `START` of it."""
        self.model.initialize(batch)
        if type(self.objective).initialize is Objective.initialize:
            return
        with torch.no_grad(), evaluating(self.model):
            self.objective.initialize(self.model(batch[:START]))

    def post_step(self, stats: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Updates what has a state of its own after an optimizer step."""
        self.model.post_step(stats)
        if "objective" in stats:
            self.objective.post_step(stats["objective"])

    def progress(self, fraction: float) -> dict[str, float]:
        """Moves every schedule to this fraction of the run."""
        values: dict[str, float] = {}
        for part in self._moving:
            values |= part.progress(fraction)
        for i, penalty in enumerate(self._penalties):
            values[f"weight_{i}"] = penalty.schedule.at(fraction)
            self.weights[i] = values[f"weight_{i}"]
        return values
