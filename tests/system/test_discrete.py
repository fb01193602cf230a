"""A codebook is part of the run: what is killed and resumed ends with the same bits, and learns."""

from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits

import vaekit
import vaekit.recipes.discrete
from tests.system.killing import killed_at
from vaekit.evaluation.latent import LatentStatistics
from vaekit.training import Silent


def digits() -> torch.Tensor:
    return torch.from_numpy((load_digits().images[:300] * 15).astype("uint8"))[:, None]


def run(out: Path, name: str = "vq-ema", epochs: int = 3) -> vaekit.Run:
    torch.manual_seed(1)
    recipe = vaekit.recipe(name, shape=(1, 8, 8), latent=4, scale=0.25, knobs={"codebook": 16})
    return vaekit.fit(recipe, digits().numpy()[:, 0], out=out, epochs=epochs, precision="fp32", watcher=Silent(), save_seconds=0.0)


def test_a_stopped_run_of_codes_is_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(tmp_path / "whole")
    killed_at(5, monkeypatch, lambda: run(tmp_path / "stopped"))
    resumed = run(tmp_path / "stopped")
    one, two = whole.model.state_dict(), resumed.model.state_dict()
    assert int(one["latent.quantizer.steps"]) > 0 and "latent.quantizer.codebook" in one
    assert all(torch.equal(one[k], two[k]) for k in one)


@pytest.mark.parametrize("name", ["vq-ema", "fsq"])
def test_codes_learn(tmp_path: Path, name: str) -> None:
    done = run(tmp_path / "run", name, epochs=6)
    history = done.history
    assert history["val_elbo_nats"][-1] > history["val_elbo_nats"][0] + 2
    stats = LatentStatistics()
    with torch.no_grad():
        stats.update(done.model(vaekit.Batch(digits())).terms)
    assert stats.codebook_usage > 0.5
