"""A tokenizer that diffusers loads does what ours does, from raw pixels to raw pixels; the rest is refused in a sentence."""

import errno
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from typer.testing import CliRunner

import vaekit
from tests.contracts.examples import raw, scrambled, spec_of
from vaekit.cli import app
from vaekit.data import DataSpec
from vaekit.errors import UserError
from vaekit.export import CodeScale, code_scale, to_diffusers
from vaekit.export.diffusers import refusal
from vaekit.export.target import target
from vaekit.model import VAE
from vaekit.recipes import build_recipe
from vaekit.training import Silent

diffusers = pytest.importorskip("diffusers", reason="what is exported here is loaded by diffusers, which is not installed")
SHAPE = [3, 24, 16]


def made(name: str, spec: DataSpec | None = None, **options: object) -> VAE:
    """A tokenizer that is not as it starts: all weights moved, and a codebook that stands among the features."""
    model = build_recipe(name, spec or spec_of(SHAPE), scale=0.25, **options).model
    x = raw(16, SHAPE)
    with torch.no_grad():
        scrambled(model.encoder)
        scrambled(model.decoder)
        if name == "tokenizer-kl":
            scrambled(model.latent)
    model.initialize(x)
    return model.eval()


@pytest.mark.parametrize("likelihood", ["laplace", "gaussian"])
def test_autoencoder_kl_is_the_same_model(likelihood: str, tmp_path: Path) -> None:
    """Raw bytes -> [-1,1] -> theirs; the mean, the standard deviation, and the decoded pixels."""
    model, x = made("tokenizer-kl", likelihood=likelihood), raw(5, SHAPE)
    assert to_diffusers(model, spec_of(SHAPE), CodeScale(0.25, 2.0, 16), tmp_path / "out") == "AutoencoderKL"
    theirs = diffusers.AutoencoderKL.from_pretrained(tmp_path / "out").eval()
    with torch.no_grad():
        posterior = theirs.encode(x.float() / 127.5 - 1).latent_dist
        ours = model.latent.posterior(model._encode(vaekit.Batch(x), None))
        assert torch.allclose(posterior.mean, model.encode(x)[0], atol=1e-5)
        assert torch.allclose(posterior.std, ours.stddev, rtol=1e-4)
        z = torch.randn(5, *model.latent.posterior.event_shape)
        assert torch.allclose(theirs.decode(z).sample, model.decode(z).mean / 127.5 - 1, atol=1e-5)
        whole = (theirs.decode(posterior.mean).sample + 1) * 127.5
    assert torch.allclose(whole, model.reconstruct(x), atol=2e-3), "127.5 grey levels to the unit"
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["_class_name"], config["scaling_factor"], config["shift_factor"]) == ("AutoencoderKL", 0.5, 0.25)
    assert config["latent_channels"] == 4 and config["in_channels"] == 3
    with safe_open(tmp_path / "out" / "diffusion_pytorch_model.safetensors", "pt") as file:
        assert {"quant_conv.weight", "post_quant_conv.bias", "encoder.conv_in.weight", "decoder.conv_out.bias"} <= set(file.keys())


def test_vq_model_is_the_same_model(tmp_path: Path) -> None:
    """The standardization of the features is inside its quant_conv, and it finds the same codes."""
    model, x = made("tokenizer-vq", knobs={"codebook": 32}), raw(5, SHAPE)
    assert not torch.allclose(model.latent.std, torch.ones(4)), "the standardization does nothing, and so shows nothing"
    assert to_diffusers(model, spec_of(SHAPE), CodeScale(0.0, 0.5, 16), tmp_path) == "VQModel"
    theirs = diffusers.VQModel.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        h = theirs.encode(x.float() / 127.5 - 1).latents
        assert torch.allclose(h, model.latent._standardized(model._encode(vaekit.Batch(x), None)), atol=1e-4)
        indices = theirs.quantize(h)[2][2].view(5, 1, 6, 4)
        assert torch.equal(indices, model.encode(x)[0]) and len(indices.unique()) > 3
        assert torch.allclose((theirs.decode(h).sample + 1) * 127.5, model.reconstruct(x), atol=2e-3)
        z = torch.randint(0, 32, (5, 1, 6, 4))
        flat = theirs.quantize.get_codebook_entry(z.flatten(), (5, 6, 4, 4))
        decoded = theirs.decode(flat, force_not_quantize=True).sample
        assert torch.allclose(decoded, model.decode(z).mean / 127.5 - 1, atol=1e-5)


@pytest.mark.parametrize("name", ["tokenizer-kl", "tokenizer-vq"])
def test_the_scale_is_that_of_the_codes(name: str) -> None:
    model, x = made(name), raw(64, SHAPE)
    scale = code_scale(model, [x[:40], x[40:]])
    with torch.no_grad():
        h = model._encode(vaekit.Batch(x), None)
        if name == "tokenizer-kl":
            q = model.latent.posterior(h)
            mean, std = q.mean.mean(), (q.variance.mean() + q.mean.var(correction=0)).sqrt()
        else:
            z = model.latent._standardized(h)
            mean, std = z.mean(), z.std(correction=0)
    assert scale.images == 64
    assert scale.mean == pytest.approx(mean.item(), abs=0.02) and scale.std == pytest.approx(std.item(), rel=0.02)


def test_what_is_none_of_diffusers_is_refused(tmp_path: Path) -> None:
    scale = CodeScale(0.0, 1.0, 1)
    plain = spec_of(SHAPE)
    with pytest.raises(UserError, match="its networks are others \\(ResNetDecoder\\), and the recipes tokenizer-kl and tokenizer-vq"):
        to_diffusers(build_recipe("conv", plain, scale=0.25).model, plain, scale, tmp_path)
    told = build_recipe("tokenizer-kl", spec_of(SHAPE, classes=("a", "b")), scale=0.25, condition="class").model
    floats = spec_of(SHAPE, None)
    for model, spec, sentence in (
        (told, plain, "it is told a condition"),
        (build_recipe("tokenizer-kl", floats, scale=0.25).model, floats, "its images are floats"),
    ):
        assert sentence in str(refusal(model, spec))
    other = build_recipe("tokenizer-kl", plain, scale=0.25).model
    other.likelihood = vaekit.likelihoods.Laplace(channels=3)
    assert "does not take the network's output" in str(refusal(other, plain)), "its sigmoid is no layer of theirs"
    assert not list(tmp_path.iterdir())


def test_where_it_can_go(tmp_path: Path) -> None:
    """A new folder, however deep, an empty one, and links to either; nothing is left of the trial."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    (tmp_path / "loose").symlink_to(tmp_path / "not-yet")
    before = sorted(tmp_path.rglob("*"))
    for name, place in {"new": "new", "a/b/c": "a/b/c", "empty": "empty", "link": "empty", "loose": "not-yet"}.items():
        assert target(tmp_path / name) == tmp_path.resolve() / place
    assert sorted(tmp_path.rglob("*")) == before


def nowhere(folder: Path) -> dict[Path, str]:
    """Folders that cannot be written, and what is said of each."""
    (folder / "full").mkdir()
    (folder / "full" / "something").touch()
    (folder / "closed").mkdir(mode=0o500)
    places = {"full": "name a new or an empty folder", "full/something": "name a new or an empty folder"}
    places |= {"full/something/out": "cannot be written (Not a directory)"}
    if not os.access(folder / "closed", os.W_OK):  # root may write there
        places["closed/out"] = "cannot be written (Permission denied)"
    return {folder / name: said for name, said in places.items()}


def test_where_it_cannot_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, scale = made("tokenizer-kl"), CodeScale(0.0, 1.0, 1)
    for place, said in nowhere(tmp_path).items():
        with pytest.raises(UserError, match=re.escape(said)):
            to_diffusers(model, spec_of(SHAPE), scale, place)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.mkdtemp", full)
    with pytest.raises(UserError, match=re.escape("new cannot be written (No space left on device): name a folder elsewhere.")):
        target(tmp_path / "new")


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"epochs": 1, "batch_size": 32, "precision": "fp32", "scale": 0.25, "watcher": Silent()}
    np.save(tmp_path / "x.npy", raw(80, [1, 8, 8]).numpy())
    run, mlp = (str(vaekit.fit(name, tmp_path / "x.npy", **options).path) for name in ("tokenizer-kl", "mlp"))
    runner = CliRunner()
    result = runner.invoke(app, ["export", run, str(tmp_path / "out"), "--to", "diffusers", "--json"])
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["class"] == "AutoencoderKL" and said["scaling_factor"] == pytest.approx(1 / said["codes"]["std"])
    assert diffusers.AutoencoderKL.from_pretrained(tmp_path / "out").config.sample_size == 8
    again = runner.invoke(app, ["export", run, str(tmp_path / "out")])
    assert isinstance(again.exception, UserError) and "name a new or an empty folder" in str(again.exception)
    refused = runner.invoke(app, ["export", mlp, str(tmp_path / "other")])
    assert isinstance(refused.exception, UserError) and "its networks are others" in str(refused.exception)
    assert not (tmp_path / "other").exists()

    def measured(*_: object, **__: object) -> CodeScale:
        raise AssertionError("it works before it knows where to write")

    monkeypatch.setattr("vaekit.export.diffusers.code_scale", measured)
    (tmp_path / "places").mkdir()
    for place, sentence in nowhere(tmp_path / "places").items():
        late = runner.invoke(app, ["export", run, str(place)])
        assert isinstance(late.exception, UserError) and sentence in str(late.exception)
