"""A GAN by the loop and the commands of the VAEs: each works, or says in one sentence that there is no encoder."""

import json
import math
import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

import vaekit
from tests.system.killing import killed_at
from vaekit.cli import main
from vaekit.data import DataSpec
from vaekit.errors import UserError
from vaekit.evaluation.samples import measure_samples, roughness
from vaekit.evaluation.samples.compare import compare
from vaekit.latents import Flat, PriorOnly, StandardNormal
from vaekit.latents.posteriors import DiagonalGaussian
from vaekit.latents.priors import MixturePrior
from vaekit.likelihoods import Gaussian
from vaekit.model import VAE
from vaekit.networks import ClassCondition, Decoder, MLPEncoder
from vaekit.training import Silent

OPTIONS = {"scale": 0.1, "latent": 4, "epochs": 1, "precision": "fp32", "watcher": Silent()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gan")


@pytest.fixture(scope="module")
def plain(folder: Path) -> vaekit.Run:
    return vaekit.fit("gan", "digits", out=folder / "plain", **OPTIONS)


@pytest.fixture(scope="module")
def told(folder: Path) -> vaekit.Run:
    return vaekit.fit("gan", "digits", out=folder / "told", condition="class", knobs={"loss": "wasserstein"}, **OPTIONS)


@pytest.fixture(scope="module")
def picture(folder: Path) -> Path:
    Image.new("L", (8, 8), 128).save(folder / "picture.png")
    return folder / "picture.png"


def said(capsys: pytest.CaptureFixture[str], *command: object) -> tuple[int, str]:
    """The exit code of a command, and what it printed."""
    capsys.readouterr()
    try:
        code = main([str(word) for word in command]) or 0
    except SystemExit as exit_:
        code = int(exit_.code or 0)
    found = capsys.readouterr()
    return code, found.out + found.err


NEED_AN_ENCODER = [
    "reconstruct {run} {picture}",
    "traverse {run}",
    "impute {run} {picture} --box 1,1,3,3",
    "fit-prior {run}",
    "edit interpolate {run} test:0 test:0",
    "edit traverse {run} test:0 --dim 0",
    "edit traverse {run} test:0 --principal 1",
    "edit attribute {run} test:0 --to 3",
    "edit arithmetic {run} test:0 test:0 test:0",
    "edit mix {run} test:0 test:0 --layers 1",
    "edit inpaint {run} test:0 --hide 1,1,3,3",
]


@pytest.mark.parametrize("command", NEED_AN_ENCODER)
@pytest.mark.parametrize("which", ["plain", "told"])
def test_what_needs_an_encoder_says_so(
    command: str,
    which: str,
    request: pytest.FixtureRequest,
    picture: Path,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = request.getfixturevalue(which)
    monkeypatch.chdir(tmp_path)
    klass = ["--class", "3"] if which == "told" and "picture" in command else []
    code, text = said(capsys, *command.format(run=run.path, picture=picture).split(), *klass)
    text = re.sub(r"\s+", " ", text)
    assert code != 0 and "This model has no encoder" in text and "Traceback" not in text and "fault of vaekit" not in text, text


@pytest.mark.parametrize("which", ["plain", "told"])
def test_what_needs_none_works(which: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run = request.getfixturevalue(which)
    assert (run.path / "samples.png").exists() and (run.path / "curves.png").exists() and not (run.path / "reconstructions.png").exists()
    code, text = said(capsys, "sample", run.path, "-n", 9, "-o", tmp_path / "s.png", *(["--class", "3"] if which == "told" else []))
    assert code == 0 and (tmp_path / "s.png").exists(), text
    code, text = said(capsys, "evaluate", run.path, "--samples", 3, "--limit", 50, "--json")
    figures = json.loads(text)
    assert code == 0 and figures["rate_nats"] == 0 and figures["elbo_nats"] < 0 and figures["psnr_db"] is None and figures["active_units"] == 0
    assert "drawn from the prior" in figures["units"] and figures["warning"] is None
    assert figures["iw_bound_nats"] > figures["elbo_nats"]
    code, text = said(capsys, "quality", run.path, "-n", 60, "--json", "-o", tmp_path / "q.png")
    measures = json.loads(text)["measures"]
    assert code == 0 and "prior_test" not in measures and measures["roughness"]["value"] >= 0.9 and (tmp_path / "q.png").exists()
    assert ("synthetic_accuracy" in measures) == (which == "told")
    assert said(capsys, "report", run.path)[0] == 0
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert "This model has no encoder and only generates" in page and "roughness" in page


def test_a_gan_beside_a_vae(plain: vaekit.Run, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = vaekit.fit("mlp", "digits", out=folder / "vae", **OPTIONS | {"batch_size": 512})
    found = compare([plain, other], [vaekit.reopen(run) for run in (plain, other)], n=60, out=folder / "both.png")
    gan, vae = found["runs"]
    assert gan["elbo_nats"] is None and gan["latent_dim"] == vae["latent_dim"] == 4 and vae["elbo_nats"] is not None
    assert "roughness" in gan["measures"] and "prior_test" in vae["measures"]
    code, text = said(capsys, "compare", plain.path, other.path, "-n", 60)
    assert code == 0 and "roughness" in text


def test_training_says_nothing_of_a_collapse(folder: Path) -> None:
    lines: list[str] = []

    class Heard(Silent):
        def say(self, text: str) -> None:
            lines.append(text)

    run = vaekit.fit("gan", "digits", out=folder / "heard", **{**OPTIONS, "epochs": 3, "limit": 300, "watcher": Heard()})
    assert not [line for line in lines if "collaps" in line]
    rows = run.metrics()
    assert all(row["val_rate_nats"] == 0 and math.isfinite(row["critic_image"]) for row in rows)
    assert run.description["select"] == "last"


def test_a_stopped_gan_is_the_same_gan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five steps of the critic on five parts of each batch: the state of both networks is in the checkpoint."""
    options = {**OPTIONS, "knobs": {"loss": "wasserstein"}, "epochs": 3, "limit": 200, "batch_size": 40, "save_seconds": 0.0}
    whole = vaekit.fit("gan", "digits", out=tmp_path / "whole", **options)
    killed_at(5, monkeypatch, lambda: vaekit.fit("gan", "digits", out=tmp_path / "stopped", **options))
    resumed = vaekit.fit("gan", "digits", out=tmp_path / "stopped", **options)
    one, two = whole.model.state_dict(), resumed.model.state_dict()
    assert all(torch.equal(one[k], two[k]) for k in one)


@pytest.mark.parametrize("data", [{"binarize": True}, {"missing": 0.5}], ids=str)
def test_bits_and_holes(data: dict, folder: Path) -> None:
    run = vaekit.fit("gan", "digits", limit=300, **OPTIONS, **data)
    assert torch.isfinite(run.model.sample(4)).all()


# -- roughness


class Linear(Decoder):
    """G(z) = A z, or sin(frequency z) where one is given; a condition stretches it."""

    def __init__(self, latent: int, output: list[int], frequency: float = 0.0) -> None:
        super().__init__()
        self.output, self.frequency = output, frequency
        self.map = torch.nn.Linear(latent, math.prod(output), bias=False)

    def forward(self, d: Tensor, c: Tensor | None = None, target: Tensor | None = None) -> Tensor:
        d = torch.sin(self.frequency * d) if self.frequency else d
        return (self.map(d) * (1.0 if c is None else c.exp().mean(1, keepdim=True))).view(-1, *self.output)


class Values:
    """The values themselves as features."""

    name = "values"

    def __call__(self, images: Tensor, spec: DataSpec) -> Tensor:
        return images.flatten(1).float()


SPEC = DataSpec("values", (1, 2, 3), None, mean=(0.0,), std=(1.0,))


def generator(frequency: float = 0.0, condition: ClassCondition | None = None) -> VAE:
    torch.manual_seed(0)
    return VAE(None, PriorOnly(StandardNormal([4])), Linear(4, [1, 2, 3], frequency), Gaussian(sigma=1.0, levels=None), condition)


def test_a_linear_generator_is_as_smooth_as_can_be() -> None:
    """E|A z'|^2 = tr(A A^T) = Var[A z]: the ratio is 1."""
    found = roughness(generator(), Values(), SPEC, 2000)
    assert found is not None and found.value == pytest.approx(1.0, abs=4 * found.error) and found.error < 0.03


@pytest.mark.parametrize("frequency", [0.5, 1.0, 2.0])
def test_a_wave_by_hand(frequency: float) -> None:
    """x_j = sum_i A_ji sin(w z_i): E[cos^2] w^2 / Var[sin] = w^2 (1 + exp(-2 w^2)) / (1 - exp(-2 w^2)), whatever A."""
    expected = frequency**2 * (1 + math.exp(-2 * frequency**2)) / (1 - math.exp(-2 * frequency**2))
    found = roughness(generator(frequency), Values(), SPEC, 2000)
    assert found is not None and found.value == pytest.approx(expected, abs=4 * found.error) and found.error < 0.05 * expected


def test_roughness_is_taken_within_a_class() -> None:
    """Classes that differ in scale alone would be variance without any roughness: both are taken within the class, and the ratio stays 1."""
    model = generator(condition=ClassCondition(2, 3))
    model.condition.embedding.weight.data = torch.tensor([[2.0] * 3, [0.0] * 3])
    found = roughness(model, Values(), SPEC, 2000, torch.arange(2000) % 2)
    assert found is not None and found.value == pytest.approx(1.0, abs=4 * found.error)


def test_roughness_has_no_meaning_for_other_codes() -> None:
    encoder = MLPEncoder([1, 2, 3], 8, 1)
    parts = Linear(4, [1, 2, 3]), Gaussian(sigma=1.0, levels=None)
    other = VAE(encoder, Flat(DiagonalGaussian(encoder.features, 4), MixturePrior(4, components=2)), *parts)
    assert roughness(other, Values(), SPEC, 100) is None
    same = VAE(encoder, Flat(DiagonalGaussian(encoder.features, 4), StandardNormal([4])), *parts)
    assert roughness(same, Values(), SPEC, 100) is not None


def test_roughness_depends_on_the_seed_alone(plain: vaekit.Run) -> None:
    data = vaekit.reopen(plain)
    one, two = (measure_samples(plain, data, n=60)["measures"]["roughness"] for _ in range(2))
    assert one == two


@pytest.mark.parametrize("name", ["gan", "vae-gan", "perceptual"])
def test_pixels_that_know_of_each_other_have_no_mean_to_learn_from(name: str) -> None:
    with pytest.raises(UserError, match="no mean that a gradient reaches"):
        vaekit.fit(name, torch.randint(0, 256, (40, 1, 8, 8), dtype=torch.uint8), epochs=1, likelihood="causal", scale=0.25, watcher=Silent())
