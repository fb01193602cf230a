"""A penalty that asks a critic: neither learns from the other's loss, and both are part of the run."""

import dataclasses
import math
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from sklearn.datasets import load_digits
from torch import Tensor, nn

import vaekit
import vaekit.recipes.adversarial
import vaekit.recipes.disentangle
from tests.contracts.examples import batch, scrambled, vae
from tests.system.killing import killed_at
from vaekit.errors import UserError
from vaekit.model import VAE
from vaekit.objectives import ELBO
from vaekit.output import VAEOutput
from vaekit.part import Part
from vaekit.penalties import Adversarial, CodeAdversary, CodeCritic, CodeDiscriminator, Critic, FactorTC, ImageCritic, Penalty
from vaekit.recipes import Recipe
from vaekit.testing import check_penalty
from vaekit.training import Silent, Training
from vaekit.training.critics import Critics, options_of
from vaekit.training.task import ANSWERS, Task


class OwnCritic(Critic):
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
    model, critic = scrambled(vae("mlp")), OwnCritic()
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
    return dataclasses.replace(base, penalties=(FoolTheCritic(5.0),), critics={"codes": OwnCritic()}, name="custom")


def built(name: str) -> Recipe:
    torch.manual_seed(1)
    return vaekit.recipe(name, shape=(1, 8, 8), levels=256, latent=3, scale=0.1)


RUNS: dict[str, Callable[[], Recipe]] = {"own": recipe, "factor": lambda: built("factor"), "vae-gan": lambda: built("vae-gan")}


@pytest.mark.parametrize("name", RUNS)
def test_a_stopped_run_with_a_critic_is_the_same_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = RUNS[name]
    x = (load_digits().images[:300] * 15).astype("uint8")
    options = {"epochs": 3, "batch_size": 64, "precision": "fp32", "watcher": Silent(), "save_seconds": 0.0}
    whole = vaekit.fit(recipe(), x, out=tmp_path / "whole", **options)
    killed_at(5, monkeypatch, lambda: vaekit.fit(recipe(), x, out=tmp_path / "stopped", **options))
    resumed = vaekit.fit(recipe(), x, out=tmp_path / "stopped", **options)
    one, two = whole.model.state_dict(), resumed.model.state_dict()
    assert all(torch.equal(one[k], two[k]) for k in one)
    with (
        safe_open(tmp_path / "whole" / "checkpoints" / "last.safetensors", "pt") as a,
        safe_open(resumed.checkpoints / "last.safetensors", "pt") as b,
    ):
        names = [k for k in a.keys() if "critic" in k]  # noqa: SIM118 (not a dictionary)
        assert names and all(torch.equal(a.get_tensor(k), b.get_tensor(k)) for k in names)


PAIRS: dict[str, Callable[[], tuple[Penalty, Critic]]] = {
    "factor": lambda: (FactorTC(), CodeDiscriminator(3, 16, 2, lr=3e-3)),
    "aae": lambda: (CodeAdversary(), CodeCritic(3, 16, lr=3e-3)),
    "aae-hinge": lambda: (CodeAdversary(), CodeCritic(3, 16, loss="hinge", lr=3e-3)),
    "gan": lambda: (Adversarial(256, matching=1.0), ImageCritic(2, [4, 8], lr=3e-3)),
    "gan-non-saturating": lambda: (Adversarial(256), ImageCritic(2, [4, 8], loss="non-saturating", lr=3e-3)),
}


def against(name: str) -> tuple[VAE, Task, Critics, Penalty, Critic]:
    """A model whose codes depend on each other and differ from the prior, with one of our penalties and its critic."""
    torch.manual_seed(2)
    model = scrambled(vae("mlp"))
    head = model.latent.posterior.head
    with torch.no_grad():
        head.weight[:3] = 3 * torch.randn(1, head.in_features) + 0.3 * torch.randn(3, head.in_features)
        head.bias[3:] = -4.0
    penalty, critic = PAIRS[name]()
    critics = Critics({penalty.critic: critic}, Training(), torch.device("cpu"))
    return model, Task(model, ELBO(), (penalty,), {penalty.critic: critic}), critics, penalty, critic


@pytest.mark.parametrize("name", PAIRS)
def test_neither_learns_from_the_others_loss(name: str) -> None:
    """The encoder receives the discriminator's gradient (FactorVAE), gradients of generator and discriminator leak: not here."""
    model, task, critics, penalty, critic = against(name)
    step = task(batch(8))
    step.loss.backward()
    assert all(p.grad is None for p in critic.parameters()), "the critic learns from the model's loss"
    task.zero_grad(set_to_none=True)
    feeds = step.feeds[penalty.critic]
    assert feeds and not any(t.requires_grad for t in feeds.values())
    before, weights = [p.clone() for p in critic.parameters()], [p.clone() for p in model.parameters()]
    critics.step(step.feeds)
    assert all(p.grad is None for p in model.parameters()), "the model learns from the critic's loss"
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(before, critic.parameters(), strict=True))
    assert all(p.grad is None and not p.requires_grad for p in critic.parameters()), "gradients are left over for the next step"
    # Were the feeds attached by mistake, the critic's step would cut them.
    critics.step({penalty.critic: {k: v.clone().requires_grad_() for k, v in feeds.items()}})
    again = task(batch(8))
    again.loss.backward()
    assert all(p.grad is None for p in critic.parameters())


@pytest.mark.parametrize("name", PAIRS)
def test_a_step_against_the_critic_makes_it_worse(name: str) -> None:
    """Steps of the critic lower its loss; steps of the model along the penalty alone raise it: the sign that VAEGANs of peers invert."""
    model, _, critics, penalty, critic = against(name)
    x = batch(64)

    def look(seed: int) -> VAEOutput:
        torch.manual_seed(seed)
        out = model(x)
        for question in penalty.asks:
            out.asked[question] = ANSWERS[question](model, out)
        return out

    def ability() -> float:
        with torch.no_grad():
            return sum(critic(**penalty.feeds(look(100 + i))).item() for i in range(4)) / 4

    first = ability()
    for i in range(60):
        critics.step({penalty.critic: penalty.feeds(look(i))})
    learned = ability()
    assert learned < first - 0.01, "the critic's own steps do not lower its loss"
    if isinstance(penalty, Adversarial):
        penalty.matching = 0.0
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for i in range(30):
        penalty(look(i), critic).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert ability() > learned + 0.01, "the model's steps help the critic"


def test_the_decoder_is_not_trained_to_help_the_discriminator() -> None:
    """The decoder's gradient from the whole task is that of the bound and of -(the critic's verdict on fakes), with nothing of the critic's loss."""
    model, task, _, _, critic = against("gan")
    task.penalties[0].matching = 0.0
    model.eval()
    x = batch(8)
    torch.manual_seed(0)
    task(x).loss.backward()
    taken = [p.grad.clone() for p in model.decoder.parameters()]
    model.zero_grad()
    torch.manual_seed(0)
    out = model(x)
    drawn = ANSWERS["prior_images"](model, out)
    verdicts = [critic.net.logits(critic.net.features(px.mean / 255)).mean() for px in (out.px, drawn)]
    (ELBO()(out).mean() - 0.5 * verdicts[0] - 0.5 * verdicts[1]).backward()
    assert all(torch.allclose(a, p.grad, rtol=1e-3, atol=1e-4) for a, p in zip(taken, model.decoder.parameters(), strict=True))


def test_the_optimal_discriminator_gives_the_total_correlation() -> None:
    """A discriminator trained on codes of a known Gaussian: E[logit] is near TC = -1/2 log(1 - rho^2)."""
    torch.manual_seed(0)
    rho = 0.8
    critic = CodeDiscriminator(2, 32, 2, lr=2e-3)
    critics = Critics({"code": critic}, Training(), torch.device("cpu"))
    normal = torch.distributions.MultivariateNormal(torch.zeros(2), torch.tensor([[1.0, rho], [rho, 1.0]]))
    for _ in range(600):
        critics.step({"code": {"codes": normal.sample((256,))}})
    assert abs(critic.logit(normal.sample((20000,))).mean().item() + 0.5 * math.log(1 - rho**2)) < 0.08


@pytest.mark.parametrize("shape", [[1, 28, 28], [3, 17, 30], [5, 1, 3], [2, 64, 7]], ids=str)
def test_an_image_critic_takes_any_size(shape: list[int]) -> None:
    critic = ImageCritic(shape[0], [4, 8, 8])
    loss = critic(real=torch.rand(3, *shape), fake=torch.rand(6, *shape))
    assert loss.shape == () and torch.isfinite(loss)


def test_a_critic_has_options_of_its_own() -> None:
    run = Training(lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1)
    own = options_of(ImageCritic(1, [4], lr=2e-4), run)
    assert (own.lr, own.betas, own.weight_decay) == (2e-4, (0.5, 0.9), 0.0)
    plain = options_of(OwnCritic(), run)
    assert (plain.lr, plain.betas) == (1e-3, (0.9, 0.99))
    critics = Critics({"a": ImageCritic(1, [4], lr=2e-4)}, run, torch.device("cpu"))
    assert critics.optimizers["a"].param_groups[0]["lr"] == 2e-4 and critics.optimizers["a"].param_groups[0]["betas"] == (0.5, 0.9)
    for optimizer in ("adamw", "muon"):
        made = Critics({"a": OwnCritic()}, dataclasses.replace(run, optimizer=optimizer), torch.device("cpu")).optimizers["a"]
        assert type(made) is torch.optim.AdamW and all(group["weight_decay"] == 0.0 for group in made.param_groups)
    critic = CodeCritic(3, 8, steps=3)
    critics = Critics({"code": critic}, run, torch.device("cpu"))
    critics.step({"code": {"codes": torch.randn(4, 3), "prior": torch.randn(4, 3)}})
    assert critics.optimizers["code"].state_dict()["state"][0]["step"] == 3


def test_a_step_of_a_critic_that_is_not_finite_is_left_out() -> None:
    critic = CodeCritic(3, 8)
    critics = Critics({"code": critic}, Training(), torch.device("cpu"))
    before = [p.clone() for p in critic.parameters()]
    critics.step({"code": {"codes": torch.full((4, 3), torch.nan), "prior": torch.randn(4, 3)}})
    assert all(torch.equal(a, b) for a, b in zip(before, critic.parameters(), strict=True))


def test_a_critic_that_is_not_there_is_named() -> None:
    with pytest.raises(UserError, match="asks the critic 'image'"):
        Task(scrambled(vae("mlp")), ELBO(), (Adversarial(256),))(batch())
    with pytest.raises(UserError, match="hinge or non-saturating"):
        ImageCritic(1, loss="none")


RANK = """
import sys, torch, torch.distributed as dist
from vaekit.penalties import CodeCritic
from vaekit.training.critics import Critics
from vaekit.training.options import Training
rank, world, port, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
torch.manual_seed(rank)
critic = CodeCritic(3, 8)
if world > 1:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
critics = Critics({"code": critic}, Training(), torch.device("cpu"))
data = torch.randn(2, 3, 8, 3, generator=torch.Generator().manual_seed(5))
for codes, prior in data.transpose(0, 1):
    critics.step({"code": {"codes": codes[rank::world], "prior": prior[rank::world]}})
torch.save(critic.state_dict(), f"{out}/{world}.{rank}.pt")
"""


def test_two_processes_train_one_critic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All start from the first's weights and step with the mean gradient: two processes on halves are one on the whole."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    processes = [subprocess.Popen([sys.executable, "-c", RANK, rank, "2", port, str(tmp_path)], env=environment) for rank in "01"]
    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", ["", "0", "1", port, str(tmp_path)])
        exec(RANK, {})
    assert all(process.wait(timeout=120) == 0 for process in processes)
    one, *two = (torch.load(tmp_path / f"{name}.pt") for name in ("1.0", "2.0", "2.1"))
    for name in one:
        assert torch.equal(two[0][name], two[1][name]), name
        assert torch.allclose(one[name], two[0][name], atol=1e-6), name
