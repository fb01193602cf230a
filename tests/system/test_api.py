"""The Python door, as a Keras user and as a researcher would use it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch.utils.data import TensorDataset

import vaekit
from tests.contracts.examples import vae
from vaekit.data import Dataset
from vaekit.errors import UserError
from vaekit.latents import DiagonalGaussian, Flat, StandardNormal
from vaekit.likelihoods import Bernoulli, Gaussian
from vaekit.networks import MLPDecoder, MLPEncoder
from vaekit.output import Batch
from vaekit.report.about import repeat
from vaekit.training import Silent
from vaekit.training.optimizer import all_finite, global_norm

OPTIONS = {"precision": "fp32", "watcher": Silent()}


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    return (load_digits().images[:400] * 15.9375).astype(np.uint8)


def test_as_in_keras(digits: np.ndarray) -> None:
    recipe = vaekit.recipe("tutorial", shape=(1, 8, 8), latent=4, scale=0.25)
    run = vaekit.fit(recipe, digits[:300], epochs=4, batch_size=32, validation_data=digits[300:], **OPTIONS)
    elbo = run.history["val_elbo_nats"]
    assert len(elbo) == 4 and elbo[-1] > elbo[0]
    assert run.model.sample(10).shape == (10, 1, 8, 8)
    again = vaekit.load(run.path)
    assert again.history == run.history
    assert torch.equal(again.model.encode(torch.tensor(digits[:3, None]))[0], run.model.encode(torch.tensor(digits[:3, None]))[0])


def test_floats_that_are_bytes_are_taken_as_bytes(digits: np.ndarray) -> None:
    """The same run from k/255 as from k, and it is said."""
    watcher = Silent()
    one = vaekit.fit("mlp", digits, epochs=1, scale=0.1, precision="fp32", watcher=watcher)
    two = vaekit.fit("mlp", (digits / 255).astype(np.float32), epochs=1, scale=0.1, precision="fp32", watcher=watcher)
    assert one.history["val_elbo_nats"] == two.history["val_elbo_nats"]
    assert any("8-bit" in message for message in watcher.messages)


def test_other_floats_are_continuous(digits: np.ndarray) -> None:
    """A recipe for pixels is built again for floats, and says so."""
    watcher = Silent()
    recipe = vaekit.recipe("mlp", shape=(1, 8, 8), scale=0.1)
    run = vaekit.fit(recipe, np.random.default_rng(0).normal(3, 2, (200, 8, 8)).astype(np.float32), epochs=1, precision="fp32", watcher=watcher)
    assert run.spec.levels is None and run.spec.mean[0] == pytest.approx(3, abs=0.2)
    assert any("built again" in message for message in watcher.messages)
    assert abs(run.model.sample(500).mean().item() - 3) < 0.5


def test_torch_data_sets_and_labels(digits: np.ndarray) -> None:
    data = TensorDataset(torch.tensor(digits[:, None]), torch.tensor(load_digits().target[:400]))
    run = vaekit.fit("tutorial", data, condition="class", epochs=1, scale=0.25, **OPTIONS)
    assert run.model.sample(5, condition=3).shape == (5, 1, 8, 8)
    with pytest.raises(vaekit.UserError, match="condition"):
        vaekit.fit("tutorial", digits, epochs=1, scale=0.25, **OPTIONS).model.sample(5, condition=3)


def test_a_vae_made_by_hand_is_fitted_by_the_plain_elbo(digits: np.ndarray) -> None:
    run = vaekit.fit(vae("mlp", [1, 8, 8], Gaussian(sigma="optimal")), digits, epochs=3, **OPTIONS)
    row = run.metrics()[-1]
    assert row["train_loss_nats"] == pytest.approx(-row["train_elbo_nats"], rel=1e-5)


def test_the_model_file_holds_everything(digits: np.ndarray, tmp_path: Path) -> None:
    """Weights and spec in one file without pickle: it is enough to build the model again."""
    run = vaekit.fit("tutorial", digits, out=tmp_path / "run", epochs=1, scale=0.25, condition=None, **OPTIONS)
    model = vaekit.load_vae(tmp_path / "run" / "model.safetensors")
    x = torch.tensor(digits[:4, None])
    assert torch.equal(model.reconstruct(x), run.model.reconstruct(x))
    assert b"pickle" not in (tmp_path / "run" / "model.safetensors").read_bytes()[:4096]


def test_unknown_options_are_named(digits: np.ndarray) -> None:
    with pytest.raises(vaekit.UserError, match="epoch"):
        vaekit.fit("tutorial", digits, epoch=3)
    with pytest.raises(vaekit.UserError, match="latent"):
        vaekit.fit(vaekit.recipe("tutorial", shape=(1, 8, 8)), digits, latent=3)
    with pytest.raises(vaekit.UserError, match="shape"):
        vaekit.fit(vaekit.recipe("tutorial", shape=(1, 9, 9)), digits, epochs=1, watcher=Silent())


def test_a_budget_in_minutes_becomes_images(digits: np.ndarray, tmp_path: Path) -> None:
    run = vaekit.fit("mlp", digits, out=tmp_path / "run", minutes=0.02, scale=0.1, **OPTIONS)
    images = run.description["plan"]["images"]
    assert run.metrics()[-1]["images"] == images > 0


def test_augmentation_ends_before_the_run_does(digits: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str | None] = []
    batch = Dataset.batch

    def told(self: Dataset, split: str, rows: Any, **options: Any) -> Batch:
        if split == "train" and options.get("seed") == 3 and "augment" in options:  # a step of the loop
            said.append(options["augment"])
        return batch(self, split, rows, **options)

    monkeypatch.setattr(Dataset, "batch", told)
    run = vaekit.fit("mlp", digits, epochs=4, scale=0.1, augment="flip", augment_until=0.5, seed=3, **OPTIONS)
    steps = len(said) // 2
    assert said == ["flip"] * steps + [None] * steps and steps > 5
    assert run.description["options"]["augment_until"] == 0.5
    with pytest.raises(UserError, match="augment-until is a fraction"):
        vaekit.fit("mlp", digits, augment="flip", augment_until=1.5, **OPTIONS)


def test_an_option_that_a_run_is_older_than_had_its_default(tmp_path: Path) -> None:
    run = vaekit.fit("mlp", "digits", out=tmp_path / "run", epochs=1, scale=0.1, **OPTIONS)
    there = dict(run.description["options"])
    del there["augment_until"]
    run.describe(options=there)
    assert repeat(run) is not None
    vaekit.fit("mlp", "digits", out=tmp_path / "run", epochs=1, scale=0.1, **OPTIONS)
    with pytest.raises(UserError, match=r"--augment \(it was None, now flip\)"):
        vaekit.fit("mlp", "digits", out=tmp_path / "run", epochs=1, scale=0.1, augment="flip", augment_until=0.5, **OPTIONS)
    with pytest.raises(UserError, match="name some with --augment"):
        vaekit.fit("mlp", "digits", augment_until=0.5, **OPTIONS)


def test_trackers(digits: np.ndarray, tmp_path: Path) -> None:
    vaekit.fit("mlp", digits, out=tmp_path / "run", epochs=1, scale=0.1, trackers=("tensorboard",), **OPTIONS)
    assert list((tmp_path / "run").rglob("events.out.*"))


@pytest.mark.parametrize("likelihood", ["gaussian", "laplace", "continuous-bernoulli", "logistic", "mixture", "categorical"])
def test_every_likelihood_trains(likelihood: str, digits: np.ndarray) -> None:
    run = vaekit.fit("mlp", digits[:, ::2, ::2], likelihood=likelihood, epochs=3, lr=3e-3, batch_size=32, scale=0.2, warmup=0.0, **OPTIONS)
    elbo = run.history["val_elbo_nats"]
    assert elbo[-1] > elbo[0]


def test_sigma_is_learned_towards_the_error(digits: np.ndarray) -> None:
    """The tutorial's sigma ends near the root mean squared error of the reconstructions; --sigma 1 stays 1."""
    run = vaekit.fit("tutorial", digits, epochs=60, batch_size=32, scale=0.25, sigma="optimal", **OPTIONS)
    x = torch.tensor(digits[:, None])
    rmse = ((run.model.reconstruct(x) - x.float()) ** 2).mean().sqrt().item()
    assert run.model.decode(run.model.encode(x)).stddev.mean().item() == pytest.approx(rmse, rel=0.3)
    fixed = vaekit.fit("tutorial", digits, epochs=1, scale=0.25, sigma=1, **OPTIONS)
    assert fixed.model.decode(fixed.model.encode(x)).stddev.mean().item() == pytest.approx(255)


def test_the_norm_of_the_gradients() -> None:
    """Against torch's own, for large and small tensors, in either memory format; one bad value anywhere is seen."""
    shapes = [(300, 400), (7,), (), (8, 4, 3, 3), (16, 8, 30, 30)]
    parameters = [torch.nn.Parameter(torch.zeros(s)) for s in shapes]
    for p in parameters:
        p.grad = torch.randn_like(p)
    parameters[3].grad = parameters[3].grad.to(memory_format=torch.channels_last)
    parameters[4].grad = parameters[4].grad.to(memory_format=torch.channels_last)
    assert all_finite(parameters)
    assert torch.allclose(global_norm(parameters), torch.nn.utils.get_total_norm([p.grad for p in parameters]), rtol=1e-5)
    for p in parameters:
        good = p.grad
        p.grad = torch.where(torch.arange(good.numel()).view(good.shape) == 0, torch.nan, good)
        assert not torch.isfinite(global_norm(parameters)) and not all_finite(parameters)
        p.grad = good


def test_a_vae_made_by_hand_refuses_what_it_cannot_take(digits: np.ndarray) -> None:
    def made(side: int) -> vaekit.VAE:
        latent = Flat(DiagonalGaussian(32, 4), StandardNormal([4]))
        return vaekit.VAE(MLPEncoder([1, side, side], width=32), latent, MLPDecoder(4, [1, side, side], width=32), Bernoulli())

    with pytest.raises(vaekit.UserError, match="binar"):
        vaekit.fit(made(8), digits, epochs=1, **OPTIONS)
    with pytest.raises(vaekit.UserError, match="images of 1 x 8 x 8"):
        vaekit.fit(made(9), digits, binarize=True, epochs=1, **OPTIONS)
    run = vaekit.fit(made(8), digits, binarize=True, epochs=0.1, **OPTIONS)
    bits = (digits[:3, None] > 127).astype(np.uint8)
    assert torch.equal(run.model.reconstruct(bits), run.model.reconstruct(torch.from_numpy(bits)))
