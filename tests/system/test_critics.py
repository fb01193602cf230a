"""A penalty that asks a critic: neither learns from the other's loss, and both are part of the run."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from sklearn.datasets import load_digits
from torch import Tensor, nn

import vaekit
from tests.contracts.examples import batch, scrambled, vae
from vaekit.objectives import ELBO
from vaekit.output import VAEOutput
from vaekit.part import Part
from vaekit.penalties import Critic, Penalty
from vaekit.recipes import Recipe
from vaekit.testing import check_penalty
from vaekit.training import Silent, Training
from vaekit.training.critics import Critics
from vaekit.training.task import Task


class CodeCritic(Critic):
    """Tells codes from prior samples, as in adversarial autoencoders."""

    def __init__(self, latent: int = 3) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(latent, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, **feeds: Tensor) -> Tensor:
        real, fake = self.net(feeds["prior"]), self.net(feeds["codes"])
        return nn.functional.softplus(-real).mean() + nn.functional.softplus(fake).mean()


class FoolTheCritic(Penalty):
    critic = "codes"

    def forward(self, out: VAEOutput, critic: Part | None = None) -> Tensor:
        z = out.terms[0].z
        return z.square().mean() if critic is None else nn.functional.softplus(-critic.net(z)).mean()

    def feeds(self, out: VAEOutput) -> Mapping[str, Tensor]:
        z = out.terms[0].z.detach()
        return {"codes": z, "prior": torch.randn_like(z)}


def test_the_penalty_keeps_its_contract() -> None:
    check_penalty(FoolTheCritic(2.0), scrambled(vae("mlp")), batch())


def test_gradients_are_isolated() -> None:
    model, critic = scrambled(vae("mlp")), CodeCritic()
    critics = Critics({"codes": critic}, Training(), torch.device("cpu"))
    task = Task(model, ELBO(), (FoolTheCritic(),), {"codes": critic})
    step = task(batch())
    step.loss.backward()
    assert all(p.grad is None for p in critic.parameters()), "the critic learns from the model's loss"
    assert all(p.grad is not None for p in model.parameters())
    assert not any(p is q for p in task.parameters() for q in critic.parameters())
    task.zero_grad(set_to_none=True)
    before = [p.clone() for p in critic.parameters()]
    critics.step(step.feeds)
    assert all(p.grad is None for p in model.parameters()), "the model learns from the critic's loss"
    assert any(not torch.equal(a, b) for a, b in zip(before, critic.parameters(), strict=True))


def recipe() -> Recipe:
    torch.manual_seed(1)
    base = vaekit.recipe("mlp", shape=(1, 8, 8), latent=3, scale=0.1)
    return dataclasses.replace(base, penalties=(FoolTheCritic(5.0),), critics={"codes": CodeCritic()}, name="custom")


def test_a_stopped_run_with_a_critic_is_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = (load_digits().images[:300] * 15).astype("uint8")
    options = {"epochs": 3, "precision": "fp32", "watcher": Silent(), "save_seconds": 0.0}
    whole = vaekit.fit(recipe(), x, out=tmp_path / "whole", **options)

    class Killed(Exception):
        pass

    forward, calls = Task.forward, [0]

    def dying(self: Task, b: vaekit.Batch) -> object:
        calls[0] += 1
        if calls[0] == 5:
            raise Killed
        return forward(self, b)

    monkeypatch.setattr(Task, "forward", dying)
    with pytest.raises(Killed):
        vaekit.fit(recipe(), x, out=tmp_path / "stopped", **options)
    resumed = vaekit.fit(recipe(), x, out=tmp_path / "stopped", **options)
    one, two = whole.model.state_dict(), resumed.model.state_dict()
    assert all(torch.equal(one[k], two[k]) for k in one)
    with (
        safe_open(tmp_path / "whole" / "checkpoints" / "last.safetensors", "pt") as a,
        safe_open(resumed.checkpoints / "last.safetensors", "pt") as b,
    ):
        names = [k for k in a.keys() if "critic" in k]  # noqa: SIM118 (not a dictionary)
        assert names and all(torch.equal(a.get_tensor(k), b.get_tensor(k)) for k in names)
