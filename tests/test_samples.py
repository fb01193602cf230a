"""Measures of samples by way of runs and commands: spaces, floors, what stands beside what, and comparisons."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import vaekit
from tests.contracts.examples import vae
from vaekit.cli import main
from vaekit.data import Dataset, open_data
from vaekit.errors import UserError
from vaekit.evaluation.samples import MEASURES, compare, frechet_distance, measure_samples, nearest
from vaekit.evaluation.samples.aggregate import aggregate_test, astray, conditions, held_out
from vaekit.evaluation.samples.pyramid import PyramidSpace
from vaekit.evaluation.samples.quality import _of_classes, draw
from vaekit.evaluation.samples.real import distinct, real_images
from vaekit.evaluation.samples.ruler import Ruler
from vaekit.evaluation.samples.two_sample import TwoSampleTest
from vaekit.latents.discrete import Discrete
from vaekit.latents.fitted import Fitted
from vaekit.latents.priors.codes import UniformCodes
from vaekit.latents.priors.mixture import MixturePrior
from vaekit.latents.quantizers.vector import VectorQuantizer
from vaekit.model import VAE


@pytest.fixture(scope="module")
def grey() -> vaekit.Run:
    return vaekit.fit("mlp", "digits", scale=0.05, latent=4, epochs=2, precision="fp32", lr=1e-3, seed=1)


@pytest.fixture(scope="module")
def bits() -> vaekit.Run:
    return vaekit.fit("mlp", "digits", binarize=True, scale=0.05, latent=4, epochs=2, precision="fp32", lr=1e-3)


@pytest.fixture(scope="module")
def classes() -> vaekit.Run:
    return vaekit.fit("mlp", "digits", condition="class", scale=0.05, latent=4, epochs=2, precision="fp32", lr=1e-3)


# -- the real images


def test_real_sets_are_disjoint() -> None:
    data = open_data("digits")
    real = real_images(data, 60)
    assert set(real.test.tolist()) <= set(data.index("test").tolist()) and set(real.other.tolist()) <= set(data.index("validation").tolist())
    assert len(real.test) == len(real.other) == 60 and set(real.train.tolist()) == set(data.index("train").tolist()) and real.notes == []
    assert torch.equal(real_images(data, 60).test, real.test) and not torch.equal(real_images(data, 60, seed=1).test, real.test)
    most = real_images(data, 10_000)
    assert len(most.test) == min(data.size("test"), data.size("validation")) and f"{len(most.test)} images instead of 10000" in most.notes[0]


def test_one_held_out_split_is_halved() -> None:
    x = np.random.default_rng(0).integers(0, 256, (260, 6, 6), dtype=np.uint8)
    real = real_images(open_data(x[:100], validation_data=x[100:]), 1000)
    assert len(real.test) == len(real.other) == 80 and not set(real.test.tolist()) & set(real.other.tolist())
    assert real.names == ("images of one half of the validation split", "images of the other half of the validation split")
    with pytest.raises(UserError, match="has only 45 held-out images"):
        real_images(open_data(x[:100], validation_data=x[170:]), 1000)


def test_copies_are_left_out_where_neighbours_would_be_copies() -> None:
    """A few copies are as the data are; an image that is there eight times has neighbours at no distance."""
    torch.manual_seed(0)
    images = torch.randint(0, 256, (150, 1, 4, 4), dtype=torch.uint8)
    few, many = images[:20].repeat_interleave(3, dim=0), torch.cat([images, images[:5].repeat(20, 1, 1, 1)])
    data = open_data(few, validation_data=many)
    rows, train = data.index("validation"), data.index("train")
    kept = distinct(data, rows)
    assert len(rows) == 250 and torch.equal(data.pixels(kept), images)
    assert torch.equal(distinct(data, train), train)
    real = real_images(data, 50)
    assert len(real.test) == len(real.other) == 50 and "exact copies" in real.notes[0]
    assert len(data.pixels(real.test).flatten(1).unique(dim=0)) == 50


def test_what_stands_beside_what() -> None:
    """Binarized data: grey values beside means, bits beside draws; the same images for models of either kind beside means."""
    plain, drawn = open_data("digits"), open_data("digits", binarize=True)
    grey, means, draws = real_images(plain, 50), real_images(drawn, 50), real_images(drawn, 50, "draw")
    scale = plain.spec.levels - 1
    assert torch.allclose(means.images(means.test), grey.images(grey.test).float() / scale)
    assert torch.allclose(means.unit(means.images(means.test)), grey.unit(grey.images(grey.test)), atol=1e-6)
    assert set(draws.images(draws.test).unique().tolist()) == {0, 1}
    assert torch.equal(draws.images(draws.test), drawn.batch("test", torch.arange(drawn.size("test"))).x[_places(drawn, draws.test)])
    assert grey.digest() == means.digest() != draws.digest()
    assert means.compared == "means of p(x|z) beside grey images" and draws.compared == "draws from p(x|z) beside drawn binary images"
    with pytest.raises(UserError, match="at least 50"):
        real_images(plain, 49)


def _places(data: Dataset, rows: Tensor) -> Tensor:
    return (rows.unsqueeze(1) == data.index("test")).nonzero()[:, 1]


def test_held_out_rows_keep_their_order() -> None:
    data = open_data("digits", condition="class")
    rows = torch.cat([data.index("test")[[5, 2]], data.index("validation")[[7]], data.index("test")[[1]]])
    for chosen in (rows, rows[:2], rows[[2]]):
        batch = held_out(data, chosen)
        assert torch.equal(batch.index, chosen) and torch.equal(batch.x, data.pixels(chosen)) and torch.equal(batch.condition, data.labels[chosen])


# -- runs


def test_measures_of_a_run(grey: vaekit.Run, tmp_path: Path) -> None:
    data, picture = vaekit.reopen(grey), tmp_path / "nearest.png"
    state = torch.get_rng_state()
    found = measure_samples(grey, data, n=100, picture=picture)
    assert torch.equal(torch.get_rng_state(), state)
    assert (
        found["features"] == "laplacian"
        and found["images"] == 100
        and found["pixels"] == "mean"
        and found["compared"] == "means of p(x|z) beside the images"
    )
    assert set(found["measures"]) == set(MEASURES) - {"frechet_distance", "kernel_distance", "synthetic_accuracy", "class_accuracy"}
    for name, row in found["measures"].items():
        assert row["space"] and row["floor"] is not None and row["better"] == MEASURES[name].better
    measures = found["measures"]
    swd = measures["sliced_wasserstein"]
    assert swd["value"] > swd["floor"] + 3 * swd["floor_error"] > 0
    # Real images in the place of samples are as sharp, as many and as new as the others.
    assert measures["sharpness"]["floor"] == pytest.approx(1, abs=0.15) and measures["diversity"]["floor"] == pytest.approx(1, abs=0.05)
    assert measures["memorization"]["floor"] < 0.1 and measures["coverage"]["floor"] > 0.85 > measures["coverage"]["value"]
    # A model that has learnt little gives blurred images, which lie in the middle of the data.
    assert measures["density"]["value"] > 2 * measures["density"]["floor"] and "blurred images" in found["notes"][0]
    assert Image.open(picture).size[0] > 100
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert measure_samples(grey, data, n=100)["measures"] == measures
    assert measure_samples(grey, data, n=100, seed=1)["measures"] != measures


def test_samples_are_measured_as_they_are_written(grey: vaekit.Run) -> None:
    """Draws of a Gaussian leave the range of the pixels, and a picture's file does not."""
    outside = grey.model.sample(200, pixels="draw")
    assert outside.min() < 0 and outside.max() > grey.spec.levels - 1
    measured = draw(grey, 200, None, "draw", 0)
    assert measured.min() == 0 and measured.max() == grey.spec.levels - 1


def test_a_prior_that_codes_do_not_follow_wants_a_fit() -> None:
    apart = TwoSampleTest(0.9, 1e-9, 100)
    model = vae("mlp")
    assert "90% of the codes are told from the prior's" in str(astray(model, apart))
    assert astray(model, None) is astray(model, TwoSampleTest(0.58, 1e-9, 100)) is astray(model, TwoSampleTest(0.9, 0.2, 10)) is None
    indices = VAE(model.encoder, Discrete(VectorQuantizer(8, 5), UniformCodes([1, 2, 2], 5)), model.decoder, model.likelihood)
    assert "Every index is drawn alike" in str(astray(indices, None))
    for better in (model, indices):
        better.sampler = Fitted(MixturePrior(3, 2), [3])
        assert astray(better, apart) is None


def test_the_notes_name_the_cure(grey: vaekit.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    data = vaekit.reopen(grey)
    assert any("vaekit fit-prior --condition class" in note for note in measure_samples(grey, data, n=60)["notes"])
    told = TwoSampleTest(0.9, 1e-9, 100), TwoSampleTest(0.5, 0.5, 100)
    monkeypatch.setattr("vaekit.evaluation.samples.quality.aggregate_test", lambda *_, **__: told)
    assert any("90% of the codes are told from the prior's" in note for note in measure_samples(grey, data, n=60)["notes"])


def test_the_floor_is_the_measure_of_real_images(bits: vaekit.Run) -> None:
    class Mean:
        name = "mean"

        def __call__(self, images: Tensor, spec: vaekit.DataSpec) -> Tensor:
            return torch.stack([images.float().mean((1, 2, 3)), images.float().std((1, 2, 3))], 1)

    data = vaekit.reopen(bits)
    found = measure_samples(bits, data, n=80, features=Mean())["measures"]
    x, y = (data.pixels(rows).float() / 16 for rows in (real_images(data, 80).test, real_images(data, 80).other))
    features = [Mean()(part, data.spec) for part in (x, y)]
    assert found["frechet_distance"]["floor"] == pytest.approx(frechet_distance(*features), rel=1e-4)
    assert found["frechet_distance"]["space"] == "mean" and {"kernel_distance", "frechet_distance"} <= set(found)


def test_copies_of_training_images_are_found(grey: vaekit.Run) -> None:
    """A model that hands out training images: perfect by every distance, and seen through."""
    data = vaekit.reopen(grey)
    ruler = Ruler(PyramidSpace(), real_images(data, 100))
    figures, copies = ruler.measure(data.pixels(ruler.real.train[10:110]))
    assert figures["memorization"].value == 1.0 and torch.equal(copies.place, torch.arange(10, 110)) and float(copies.distance.max()) == 0.0
    assert figures["coverage"].value > 0.85
    held_out_features = PyramidSpace()(data.pixels(ruler.real.other), data.spec)
    assert float(nearest(held_out_features, ruler._training()).distance.min()) > 0


def test_a_told_model_is_measured_with_its_labels(classes: vaekit.Run) -> None:
    data = vaekit.reopen(classes)
    rows = real_images(data, 100).test
    assert torch.equal(conditions(classes.model, data, rows), data.labels[rows])
    found = measure_samples(classes, data, n=100)
    row, told = found["measures"]["synthetic_accuracy"], found["measures"]["class_accuracy"]
    assert row["floor"] > 0.4 and 0 <= row["value"] <= row["floor"] and row["space"] == "pixels"
    assert told["floor"] == row["floor"] and 0 <= told["value"] <= 1


def test_classes_are_judged_both_ways(classes: vaekit.Run) -> None:
    """Samples of two classes alone, each as it was told: right themselves, and no teacher of the other eight."""
    data = vaekit.reopen(classes)
    real = real_images(data, 100)
    rows = real.train[data.labels[real.train] < 2][:100]
    found = _of_classes(data.pixels(rows), data.labels[rows], real, 0)
    assert found["class_accuracy"]["value"] > 0.8 and found["synthetic_accuracy"]["value"] < 0.35


def test_prior_is_told_from_other_codes(grey: vaekit.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    data = vaekit.reopen(grey)
    rows = real_images(data, 150).test
    tests = aggregate_test(grey.model, data, rows)
    assert tests is not None and isinstance(tests[0], TwoSampleTest) and tests[0].tested == 150 and tests[1].p_value > 0.001
    wide = lambda n, **_: 5 * torch.randn(n, 4)  # noqa: E731
    monkeypatch.setattr(grey.model.latent, "prior_codes", wide)
    moved = aggregate_test(grey.model, data, rows)
    assert moved is not None and moved[0].accuracy > 0.8 and moved[0].p_value < 1e-6 < moved[1].p_value
    monkeypatch.setattr(grey.model.latent, "prior_codes", lambda n, **_: torch.zeros(n, 3, dtype=torch.long))
    assert aggregate_test(grey.model, data, rows) is None


# -- commands


def command(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    return int(stop.value.code or 0)


def test_quality_command(bits: vaekit.Run, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert command("quality", str(bits.path), "-n", "60", "--pixels", "draw", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["pixels"] == "draw" and found["images"] == 60
    assert json.loads((bits.path / "quality.json").read_text()) == found, "The report finds the figures in the run."
    assert command("quality", str(bits.path), "-n", "60", "--out", str(tmp_path / "near.png")) == 0
    text = capsys.readouterr().out
    assert "laplacian" in text and "validation images in the samples' place" in text and (tmp_path / "near.png").exists()
    kept = (bits.path / "quality.json").read_bytes()
    assert command("quality", str(bits.path), "-n", "60", "--temperature", "0", "--json") == 0
    alike = json.loads(capsys.readouterr().out)
    assert (bits.path / "quality.json").read_bytes() == kept, "what the report shows is of samples as they come"
    assert alike["measures"]["diversity"]["value"] < 0.01 and "Samples were drawn with temperature 0." in alike["notes"]
    assert command("quality", str(bits.path), "-n", "60", "--guidance", "2") == 2 and "fitted prior" in capsys.readouterr().err
    assert command("quality", str(bits.path), "--features", "fashion") == 2 and "28 x 28" in capsys.readouterr().err


def test_compare_command(grey: vaekit.Run, bits: vaekit.Run, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    picture = tmp_path / "compare.png"
    assert command("compare", str(grey.path), str(bits.path), "-n", "60", "--out", str(picture), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["run"] for row in found["runs"]] == [str(grey.path), str(bits.path)]
    for row in found["runs"]:
        assert row["latent_dim"] == 4 and row["minutes"] > 0 and row["parameters"] > 1000 and row["elbo_nats"] < 0
    first, second = found["runs"]
    assert second["bits_per_dim"] == pytest.approx(-second["elbo_nats"] / (64 * np.log(2)))
    for name in ("sliced_wasserstein", "coverage", "memorization"):  # the same real images, whatever units they are told in
        assert first["measures"][name]["floor"] == pytest.approx(second["measures"][name]["floor"], rel=1e-4)
    alone = measure_samples(bits, vaekit.reopen(bits), n=60)["measures"]
    assert alone == second["measures"]
    with Image.open(picture) as shown:
        assert shown.size[0] > 3 * 6 * 56
    assert command("compare", str(grey.path), str(bits.path), "-n", "60") == 0
    text = capsys.readouterr().out
    assert "do not compare them" in text and "parameters" in text and "kind of" in text and "Likelihoods are of 60 of" in text


def test_a_generator_alone_has_no_likelihood(grey: vaekit.Run, bits: vaekit.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bits.model, "encoder", None)
    found = compare([grey, bits], [vaekit.reopen(grey), vaekit.reopen(bits)], n=60)["runs"]
    assert found[1]["elbo_nats"] is None and found[1]["latent_dim"] is None and "prior_test" not in found[1]["measures"]
    assert found[0]["elbo_nats"] is not None and "No two-sample test" in found[1]["notes"][-1]


def test_other_images_are_not_compared(grey: vaekit.Run, bits: vaekit.Run) -> None:
    data = [vaekit.reopen(grey), vaekit.reopen(bits)]
    with pytest.raises(UserError, match=r"differ, so that no figures of theirs can be compared. One is a model of binarized pixels"):
        compare([grey, bits], data, n=60, pixels="draw")
    with pytest.raises(UserError, match="at least two runs"):
        compare([grey], data[:1], n=60)


def test_one_class_is_measured_without_a_classifier(tmp_path: Path) -> None:
    data = vaekit.open_data("digits")
    some = data.pixels(torch.nonzero(data.labels == 1).flatten())
    ones = torch.cat([(some + k).clamp(max=16) for k in range(6)])
    two = vaekit.open_data((ones, torch.tensor([0] * (len(ones) - 1) + [1])), condition="class")
    run = vaekit.fit("mlp", two, scale=0.05, latent=2, epochs=0.1, precision="fp32")
    found = measure_samples(run, two, n=50, seed=1)["measures"]
    assert "synthetic_accuracy" not in found and "coverage" in found


def test_other_classes_are_refused(tmp_path: Path) -> None:
    for name, kinds in (("all", "abc"), ("some", "bc")):
        for kind in kinds:
            (tmp_path / name / kind).mkdir(parents=True)
            for i in range(8):
                Image.new("L", (8, 8), 20 * i).save(tmp_path / name / kind / f"{i}.png")
    run = vaekit.fit("mlp", str(tmp_path / "all"), condition="class", scale=0.05, latent=2, epochs=0.1, precision="fp32")
    with pytest.raises(UserError, match="knows the classes a, b, c, and these data have b, c"):
        vaekit.reopen(run, str(tmp_path / "some"))
