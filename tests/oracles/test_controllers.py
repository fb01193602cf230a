"""Objectives that control themselves: GECO and the target rate, by hand and in a short run."""

import math

import pytest
import torch

from tests.contracts.examples import batch, scrambled, vae
from vaekit.errors import UserError
from vaekit.likelihoods import Bernoulli, Gaussian, Laplace
from vaekit.objectives import GECO, Objective, TargetRate
from vaekit.output import Batch
from vaekit.training.task import Task


def test_geco_sets_its_target_between_the_floor_and_the_start() -> None:
    model = vae("mlp", likelihood=Gaussian(sigma=0.1, channels=2))
    data = batch(200)
    task = Task(model, GECO(fraction=0.25))
    task.initialize(data)
    target = model.likelihood.target(data.x)
    wide = 0.1 * 255
    floor = 198 * (math.log(wide) + 0.5 * math.log(2 * math.pi))
    error = (target - target.mean(0)).square().flatten(1).sum(1).mean() / (2 * wide**2)
    geco = task.objective
    assert geco.floor.item() == pytest.approx(floor, rel=1e-5)
    # The untrained decoder is close to the mean of each pixel, and a quarter of the variance about it may stay.
    assert geco.target.item() == pytest.approx(floor + 0.25 * error.item(), rel=0.03)
    again = GECO(fraction=0.25)
    again.load_state_dict(geco.state_dict())
    assert again.target == geco.target and {"log_weight", "average", "started", "target", "floor"} == set(geco.state_dict())


def test_the_floor_of_other_likelihoods() -> None:
    bits = Task(vae("mlp", likelihood=Bernoulli()), GECO(fraction=0.4))
    data = batch(50, levels=2)
    bits.initialize(data)
    assert bits.objective.floor == 0
    assert bits.objective.target.item() == pytest.approx(0.4 * bits.model(data).distortion.mean().item(), rel=0.05)
    laplace = Task(vae("mlp", likelihood=Laplace(scale=0.1, channels=2)), GECO())
    mask = torch.zeros(20, 2, 9, 11, dtype=torch.bool)
    mask[..., :5] = True
    laplace.initialize(Batch(batch(20).x, mask=mask))
    assert laplace.objective.floor.item() == pytest.approx(90 * math.log(2 * 25.5), rel=1e-4), "only what is seen counts"
    with pytest.raises(UserError, match="cannot be reached"):
        Task(vae("mlp", likelihood=Gaussian(sigma=0.1, channels=2)), GECO(target=10.0)).initialize(batch(20))


def test_geco_is_rate_plus_lambda_times_the_constraint() -> None:
    out = scrambled(vae("mlp"))(batch())
    geco = GECO(target=500.0)
    assert torch.allclose(geco(out), (out.rate() + out.distortion - 500)[0]), "it starts as the ELBO"
    before = geco.state_dict()["log_weight"].clone()
    geco(out)
    assert torch.equal(before, geco.log_weight), "forward changes nothing"
    geco.log_weight.fill_(math.log(3))
    assert torch.allclose(geco(out), (out.rate() + 3 * (out.distortion - 500))[0])
    assert geco.progress(0.5) == {"lambda": pytest.approx(3.0)}
    assert torch.allclose(TargetRate(3.0)(out), (out.rate() + out.distortion)[0])


def test_the_multiplier_rises_above_the_target_and_falls_below_and_is_never_negative() -> None:
    geco = GECO(target=100.0, gain=0.1)
    geco.post_step({"distortion": torch.tensor(150.0)})
    assert geco.log_weight.item() == pytest.approx(0.05) and geco.average == 150, "the first batch is the average"
    geco.post_step({"distortion": torch.tensor(50.0)})
    assert geco.average.item() == pytest.approx(145.0) and geco.log_weight.item() == pytest.approx(0.05 + 0.045)
    for _ in range(2000):
        geco.post_step({"distortion": torch.tensor(-1e6)})
    assert geco.weight.item() == pytest.approx(1e-3, rel=1e-3)
    rate = TargetRate(10.0, gain=0.1)
    rate.post_step({"rate": torch.tensor(500.0)})
    assert rate.log_weight.item() == pytest.approx(0.1), "no step is larger than the gain"
    rate.post_step({"rate": torch.tensor(0.0)})
    assert rate.log_weight.item() == pytest.approx(0.2), "it is the average that counts"


def trained(objective: Objective, steps: int) -> tuple[float, float, Task]:
    """The last distortion and rate of a small model of three dots, each at one of eight places."""
    torch.manual_seed(0)
    model = vae("mlp", shape=[1, 8, 8], likelihood=Gaussian(sigma=0.1, channels=1))
    x = torch.zeros(512, 1, 8, 8)
    places = torch.randint(0, 8, (512, 3))
    for i in range(3):
        x[torch.arange(512), 0, 2 * i, places[:, i]] = 200.0
    data = Batch(x.byte())
    task = Task(model, objective)
    task.initialize(data)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    logs = []
    for step in range(steps):
        task.progress(step / steps)
        result = task(data[torch.randint(0, 512, (64,))])
        optimizer.zero_grad()
        result.loss.backward()
        optimizer.step()
        task.post_step(result.stats)
        logs.append(result.logs)
    _, distortion, rate = torch.stack(logs[-60:]).mean(0).tolist()
    return distortion, rate, task


def test_geco_reaches_its_distortion() -> None:
    distortion, rate, task = trained(GECO(fraction=0.5, gain=0.02), 700)
    geco = task.objective
    span = (geco.target - geco.floor).item()
    assert abs(distortion - geco.target.item()) < 0.1 * span
    assert rate > 0.3 and geco.weight > 0


def test_target_rate_reaches_its_rate() -> None:
    _, rate, task = trained(TargetRate(4.0, gain=0.03), 500)
    assert rate == pytest.approx(4.0, rel=0.1)
    assert task.progress(1.0)["beta"] != 1
