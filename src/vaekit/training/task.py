"""`Task`: from a raw batch to a loss. It is the only thing that is compiled or wrapped for several processes."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from vaekit.model import VAE
from vaekit.objectives import Objective
from vaekit.output import Batch
from vaekit.penalties import Critic, Penalty


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


class Task(nn.Module):
    """objective(model(batch)) + the weighted penalties."""

    weights: Tensor

    def __init__(
        self,
        model: VAE,
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
        self.register_buffer("weights", torch.tensor([p.schedule.at(0.0) for p in penalties]), persistent=False)

    def forward(self, batch: Batch) -> Step:
        if self.precision == "bf16":
            with torch.autocast(batch.x.device.type, dtype=torch.bfloat16):
                return self._step(batch)
        return self._step(batch)

    def _step(self, batch: Batch) -> Step:
        out = self.model(batch, k=self.objective.samples)
        loss = self.objective(out).mean()
        feeds = {}
        for penalty, weight in zip(self._penalties, self.weights, strict=True):
            critic = self._critics[0].get(penalty.critic) if penalty.critic else None
            loss = loss + weight * penalty(out, critic).mean()
            if penalty.critic:
                feeds[penalty.critic] = penalty.feeds(out)
        with torch.no_grad():
            logs = torch.stack((loss.detach(), out.distortion.mean(), out.rate().mean()))
        return Step(loss, logs, out.stats, feeds)

    def progress(self, fraction: float) -> dict[str, float]:
        """Moves every schedule to this fraction of the run."""
        values = self.objective.progress(fraction)
        for i, penalty in enumerate(self._penalties):
            values[f"weight_{i}"] = penalty.schedule.at(fraction)
            self.weights[i] = values[f"weight_{i}"]
        return values
