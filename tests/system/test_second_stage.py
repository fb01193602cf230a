"""A prior fitted to the codes of a run, by the command and in Python."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import vaekit
from tests.system.killing import killed_at
from vaekit import api
from vaekit.cli import main
from vaekit.errors import UserError
from vaekit.evaluation.samples import measure_samples
from vaekit.evaluation.samples.aggregate import conditions
from vaekit.latents import Flat, StandardNormal
from vaekit.latents.posteriors.gaussian_map import GaussianMap
from vaekit.likelihoods import Gaussian
from vaekit.model import VAE
from vaekit.networks.maps import MapDecoder, MapEncoder
from vaekit.saving import load_model
from vaekit.training import Silent, plan, second_stage


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for name, recipe in (("flat", "mlp"), ("codes", "vq"), ("ladder", "ladder")):
        vaekit.fit(recipe, "digits", out=folder / name, epochs=1, scale=0.25, precision="fp32", watcher=Silent())
    likelihood = Gaussian(levels=17)
    latent = Flat(GaussianMap(8, [2, 4, 4]), StandardNormal([2, 4, 4]))
    maps = VAE(MapEncoder([1, 8, 8], 8, [8]), latent, MapDecoder(2, [likelihood.channels(1), 8, 8], [8]), likelihood)
    vaekit.fit(maps, "digits", out=folder / "maps", epochs=1, precision="fp32", watcher=Silent())
    return folder


@pytest.mark.parametrize("name", ["flat", "codes", "ladder", "maps"])
def test_sampling_uses_the_fitted_prior(runs: Path, name: str) -> None:
    run = vaekit.load(runs / name)
    assert run.model.sampler is None
    before = {k: v.clone() for k, v in run.model.state_dict().items()}
    inner = api.fit_prior(run, epochs=1, watcher=Silent())
    again = vaekit.load(runs / name).model
    assert all(torch.equal(again.state_dict()[k], v) for k, v in before.items()), "The model itself has changed."
    torch.manual_seed(0)
    code = again.sampler.sample(3)
    assert again.sample(3).shape == (3, 1, 8, 8) and code.shape[0] == 3
    assert inner.path.parent == runs / name / "priors" and len(inner.metrics()) == 1
    assert (runs / name / "samples-fitted.png").stat().st_size > 1000
    silent = Silent()
    api.fit_prior(vaekit.load(runs / name), epochs=1, watcher=silent)
    assert "is finished" in " ".join(silent.messages)


def test_a_prior_that_is_told_the_class(runs: Path) -> None:
    run = vaekit.load(runs / "flat")
    api.fit_prior(run, "flow-matching", condition="class", epochs=1, watcher=Silent())
    model = vaekit.load(runs / "flat").model
    torch.manual_seed(0)
    a = model.sample(4, condition=3, guidance=2.0)
    torch.manual_seed(0)
    assert not torch.equal(a, model.sample(4, condition=5, guidance=2.0))
    assert model.sample(4).shape == a.shape
    assert vaekit.load(runs / "flat").description["prior"]["condition"] == "class"


@pytest.mark.parametrize("told", [None, "attributes"], ids=["the prior alone", "the model too"])
def test_a_prior_that_is_told_attributes(tmp_path: Path, told: str | None) -> None:
    run = vaekit.fit("mlp", "shapes:1000", out=tmp_path / "run", epochs=1, scale=0.1, latent=2, condition=told, watcher=Silent())
    inner = api.fit_prior(run, condition=None if told else "attributes", epochs=1, watcher=Silent())
    assert inner.path.name == "flow-attributes" and vaekit.load(run.path).description["prior"]["condition"] == "attributes"
    run, pictures = vaekit.load(run.path), []
    values = [f"{name}={0.5 if i else 1}" for i, name in enumerate(run.spec.attributes)]
    for first in (values[0], values[0].replace("=1", "=0")):
        torch.manual_seed(0)
        pictures.append(run.model.sampler.sample(3, condition=api.told(run, ",".join([first, *values[1:]]), 3)))
    assert not torch.equal(*pictures)
    assert api.sample(run, 3, condition=",".join(values)).shape == (3, 1, 64, 64)
    with pytest.raises(UserError, match="say each of them"):
        api.sample(run, 3, condition="Sandal")
    if told:
        with pytest.raises(UserError, match="told the attributes of an image"):
            api.sample(run, 3)
    else:
        assert api.sample(run, 3).shape == (3, 1, 64, 64)
    data = vaekit.reopen(run)
    rows = data.index("test")
    assert torch.equal(conditions(run.model, data, rows), data.attributes[rows])
    notes = measure_samples(run, data, n=50)["notes"]
    assert not any("attributes that these data do not have" in note for note in notes)


def test_a_prior_that_is_told_the_attributes_of_a_table(runs: Path, tmp_path: Path) -> None:
    data = vaekit.reopen(vaekit.load(runs / "flat"))
    table = tmp_path / "ink.csv"
    ink = data.pixels(torch.arange(1797)).float().mean((1, 2, 3))
    table.write_text("row,ink\n" + "\n".join(f"{i},{value:.3f}" for i, value in enumerate(ink)))
    shutil.copytree(runs / "flat", tmp_path / "run", ignore=shutil.ignore_patterns("priors"))
    api.fit_prior(tmp_path / "run", condition=table, epochs=1, watcher=Silent())
    run = vaekit.load(tmp_path / "run")
    condition = run.model.sampler.condition
    assert condition.names == ("ink",) and condition.mean.item() == pytest.approx(ink.mean().item(), rel=0.05)
    codes = []
    for value in (3, 7):
        torch.manual_seed(0)
        codes.append(run.model.sampler.sample(4, condition=api.told(run, f"ink={value}", 4)))
    assert not torch.equal(*codes) and api.sample(run, 4, condition="ink=3").shape == api.sample(run, 4).shape
    with pytest.raises(UserError, match=r"say each of them, a number, with --attributes ink=\.\.\."):
        api.sample(run, 2, condition="brightness=3")
    data = vaekit.reopen(run)
    assert data.spec.attributes == ("ink",) and data.fingerprint == vaekit.reopen(vaekit.load(runs / "flat")).fingerprint
    assert torch.equal(conditions(run.model, data, torch.tensor([5]))[0, 0], torch.tensor(float(f"{ink[5]:.3f}")))
    table.unlink()  # the figures are then of draws that are told nothing
    found = measure_samples(run, vaekit.reopen(run), n=60)
    assert any("told attributes that these data do not have" in note for note in found["notes"])
    api.fit_prior(run, "gmm", epochs=0.1, watcher=Silent())
    with pytest.raises(UserError, match="nor was the prior that its samples are drawn from"):
        api.sample(run, 2, condition="ink=3")
    assert api.sample(api.with_prior(run, "flow-attributes"), 2, condition="ink=3").shape == (2, 1, 8, 8)


def test_a_model_that_is_told_attributes_takes_no_others(tmp_path: Path) -> None:
    table = tmp_path / "some.csv"
    table.write_text("row,one\n" + "\n".join(f"{i},{i}" for i in range(300)))
    run = vaekit.fit("mlp", "shapes:300", out=tmp_path / "run", epochs=0.1, scale=0.1, latent=2, condition="attributes", watcher=Silent())
    with pytest.raises(UserError, match=r"told the attributes shape, .*, and these data have one\."):
        api.fit_prior(run, condition=table, watcher=Silent())


def test_indices_that_are_told_the_class_by_the_command(runs: Path, tmp_path: Path) -> None:
    def call(*arguments: str) -> None:
        with pytest.raises(SystemExit) as stop:
            main(list(arguments))
        assert not stop.value.code

    run = str(runs / "codes")
    call("fit-prior", run, "--prior", "transformer", "--condition", "class", "--epochs", "3", "--lr", "0.01", "-q")
    pictures = []
    for more in (["--class", "3", "--guidance", "2", "--top", "5"], ["--class", "4", "--guidance", "2", "--top", "5"], ["--class", "3"]):
        path = tmp_path / f"{len(pictures)}.png"
        call("sample", run, "-n", "4", "--out", str(path), *more)
        pictures.append(path.read_bytes())
    assert len(set(pictures)) == 3


def test_classes_that_come_one_after_the_other(tmp_path: Path) -> None:
    """As the sub-folders of a folder do: the first thousand codes are of some classes alone."""
    data = vaekit.open_data("digits")
    rows = data.labels.argsort(stable=True)
    images = data.pixels(rows)
    sorted_ = vaekit.open_data((images, data.labels[rows]))
    run = vaekit.fit("mlp", sorted_, out=tmp_path / "run", epochs=0.2, scale=0.1, latent=2, watcher=Silent())
    inner = api._fit_prior(run, sorted_, "gmm", condition="class", watcher=Silent(), epochs=0.1)
    assert inner.description["plan"]["images"] > 0 and vaekit.load(run.path).minutes > run.description["seconds"] / 60


def test_what_is_refused(runs: Path, tmp_path: Path) -> None:
    run = vaekit.load(runs / "ladder")
    with pytest.raises(UserError, match="The table colour cannot be read"):
        api.fit_prior(run, condition="colour", watcher=Silent())
    with pytest.raises(UserError, match="two ways to say how long"):
        api.fit_prior(run, epochs=1, minutes=1, watcher=Silent())
    sphere = vaekit.fit("svae", "digits", out=tmp_path / "sphere", epochs=0.05, scale=0.1, watcher=Silent())
    with pytest.raises(UserError, match="points of a sphere"):
        api.fit_prior(sphere, watcher=Silent())
    categories = vaekit.fit("gumbel", "digits", out=tmp_path / "gumbel", epochs=0.05, scale=0.1, watcher=Silent())
    with pytest.raises(UserError, match="points of a simplex"):
        api.fit_prior(categories, watcher=Silent())
    inner = api.fit_prior(runs / "flat", "gmm", epochs=1, watcher=Silent())
    with pytest.raises(UserError, match=r"run of a prior .* name the run of the model, .*flat"):
        inner.model  # noqa: B018
    with pytest.raises(UserError, match=r"no guidance: leave it out, or fit .* --prior flow-matching"):
        vaekit.load(runs / "flat").model.sample(2, guidance=2.0)
    fresh = vaekit.recipe("mlp", shape=(1, 8, 8)).model
    with pytest.raises(UserError, match="fit one with"):
        fresh.sample(2, guidance=2.0)
    with pytest.raises(UserError, match="condition"):
        fresh.sample(2, condition=1)


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_stopped_fit_is_the_same_fit(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, channels_last: bool) -> None:
    """With the same seed, whatever was drawn before, and in either memory layout: the optimizer's averages have that of the weights."""
    monkeypatch.setattr(plan, "choose", lambda *_: plan.Chosen(plan.Plan(channels_last=channels_last)))
    options = {"epochs": 0.05, "batch_size": 64, "save_seconds": 0.0, "precision": "fp32", "seed": 3, "watcher": Silent()}
    fitted = []
    for name in ("whole", "stopped"):
        shutil.copytree(runs / "maps", tmp_path / name, ignore=shutil.ignore_patterns("priors"))
        torch.rand(7)
        if name == "stopped":
            killed_at(5, monkeypatch, lambda: api.fit_prior(tmp_path / "stopped", "flow-matching", **options))
        fitted.append(api.fit_prior(tmp_path / name, "flow-matching", **options))
    assert all(run.description["plan"]["channels_last"] == channels_last for run in fitted)
    whole, stopped = (load_model(run.final)[0].state_dict() for run in fitted)
    assert all(torch.equal(whole[k], stopped[k]) for k in whole)


def test_samples_of_another_prior(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    shutil.copytree(runs / "flat", tmp_path / "flat", ignore=shutil.ignore_patterns("priors"))
    run = vaekit.load(tmp_path / "flat")
    own = api.sample(api.with_prior(run, "own"), 3)
    api.fit_prior(run, "gmm", epochs=0.1, watcher=Silent())
    gmm = api.sample(vaekit.load(run.path), 3)
    api.fit_prior(run, "flow-matching", epochs=0.1, watcher=Silent())
    last = api.sample(vaekit.load(run.path), 3)
    assert not torch.equal(gmm, last)
    for name, images in (("own", own), ("gmm", gmm), ("flow-matching", last)):
        assert torch.equal(api.sample(api.with_prior(vaekit.load(run.path), name), 3), images), name
    with pytest.raises(SystemExit) as stop:
        main(["sample", str(run.path), "--prior", "flow"])
    assert stop.value.code == 2 and "there are own, flow-matching, gmm" in capsys.readouterr().err
    # The minutes are those of the training, and of the fit that the samples come from.
    told = [vaekit.load(run.path), *(api.with_prior(vaekit.load(run.path), name) for name in ("own", "gmm"))]
    minutes = [each.minutes or 0 for each in told]
    assert minutes[1] == run.description["seconds"] / 60 < min(minutes[0], minutes[2])
    fits = [vaekit.run.Run(run.path / "priors" / kind).description["seconds"] / 60 for kind in ("flow-matching", "gmm")]
    assert [minutes[0] - minutes[1], minutes[2] - minutes[1]] == pytest.approx(fits)


def test_a_report_that_is_there_is_written_anew(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """With the samples of the prior that was fitted; none is written where there was none."""
    shutil.copytree(runs / "flat", tmp_path / "flat", ignore=shutil.ignore_patterns("priors", "report.html"))
    page = tmp_path / "flat" / "report.html"
    for kind, before in (("gmm", False), ("flow-matching", True)):
        if before:
            page.write_text("of before")
        with pytest.raises(SystemExit) as stop:
            main(["fit-prior", str(tmp_path / "flat"), "--prior", kind, "--epochs", "0.1", "-q"])
        assert not stop.value.code, capsys.readouterr().err
        assert page.exists() == before
    assert "of before" not in page.read_text() and "</html>" in page.read_text()


def test_a_run_is_compared_with_itself_before_the_fit(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    shutil.copytree(runs / "flat", tmp_path / "flat", ignore=shutil.ignore_patterns("priors"))
    api.fit_prior(tmp_path / "flat", "gmm", epochs=0.1, watcher=Silent())
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(["compare", f"{tmp_path / 'flat'}@own", f"{tmp_path / 'flat'}", "-n", "50", "--json"])
    said = capsys.readouterr()
    assert not stop.value.code, said.err
    rows = json.loads(said.out)["runs"]
    assert [Path(row["run"]).name for row in rows] == ["flat@own", "flat"]
    assert rows[0]["elbo_nats"] == rows[1]["elbo_nats"] and rows[0]["measures"]["sliced_wasserstein"] != rows[1]["measures"]["sliced_wasserstein"]


def test_other_last_bits_of_the_codes_go_on_with_the_same_fit(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As another number of threads gives them; figures of the fit before are known to be that, though."""
    shutil.copytree(runs / "flat", tmp_path / "flat", ignore=shutil.ignore_patterns("priors"))
    api.fit_prior(tmp_path / "flat", "gmm", epochs=0.1, watcher=Silent())
    first = vaekit.load(tmp_path / "flat").description["prior"]
    exact = second_stage.codes_of

    def shifted(*args: Any, **kwargs: Any) -> second_stage.Codes:
        found = exact(*args, **kwargs)
        return replace(found, z=found.z * (1 + 1e-6))

    monkeypatch.setattr(second_stage, "codes_of", shifted)
    silent = Silent()
    api.fit_prior(tmp_path / "flat", "gmm", epochs=0.1, watcher=silent)
    assert "is finished" in " ".join(silent.messages) and vaekit.load(tmp_path / "flat").description["prior"] == first
    shutil.rmtree(tmp_path / "flat" / "priors")
    api.fit_prior(tmp_path / "flat", "gmm", epochs=0.2, watcher=Silent())
    assert vaekit.load(tmp_path / "flat").description["prior"] != first


def test_another_fit_into_the_same_folder(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "flat", tmp_path / "flat", ignore=shutil.ignore_patterns("priors"))
    api.fit_prior(tmp_path / "flat", "gmm", epochs=0.1, watcher=Silent())
    with pytest.raises(UserError, match=r"another value of --epochs .*: remove .*gmm, or repeat its options"):
        api.fit_prior(tmp_path / "flat", "gmm", epochs=0.2, watcher=Silent())
    own = len(vaekit.load(tmp_path / "flat").model.sampler.prior.means)
    api.fit_prior(tmp_path / "flat", "gmm", epochs=0.1, knobs={"components": str(own)}, watcher=Silent())  # its own number: the same fit
    with pytest.raises(UserError, match=r"another value of --set \(it was None, now components=2\): remove .*gmm, or repeat its options"):
        api.fit_prior(tmp_path / "flat", "gmm", epochs=0.1, knobs={"components": 2}, watcher=Silent())
