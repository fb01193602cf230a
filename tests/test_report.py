"""The report of a run: what it computes against what is known, what it says, and that its page is well-formed and alone."""

import base64
import io
import json
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vaekit
from tests.contracts.examples import spec_of, vae
from vaekit import api
from vaekit.cli import main
from vaekit.data import Dataset, open_data
from vaekit.errors import UserError
from vaekit.evaluation import Bound, LatentStatistics, evaluate_batches, iw_bound, psnr
from vaekit.evaluation.latent import LayerStatistics
from vaekit.report import write_report
from vaekit.report.about import repeat
from vaekit.report.advice import Course, advise
from vaekit.report.charts import bars, lines, scatter
from vaekit.report.content import Chart, Charts, Facts, Notice, Notices, Prose, Section
from vaekit.report.measure import Measured, measure
from vaekit.report.page import page, prose
from vaekit.report.plane import principal
from vaekit.report.quality import quality
from vaekit.report.sheets import LARGEST, errors, heat, room, sheet, tiles
from vaekit.report.svg import Axis, ticks
from vaekit.run import Run
from vaekit.training import Silent

VOID = {"meta", "img"}
OUTSIDE = ("src", "href", "data", "action", "poster", "srcset", "xlink:href")


class Page(HTMLParser):
    """Checks that tags are closed in order, and collects what a browser would load, where links lead, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list) -> None:
        assert tag != "script"
        for name, value in attrs:
            if name == "id":
                assert value not in self.anchors
                self.anchors.add(value)
            elif name in OUTSIDE:
                (self.links if tag == "a" else self.loaded).append(value)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        # As in SVG; HTML has no such tags.
        assert "svg" in self.open
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.words.append(data)


def read(path: Path) -> Page:
    """The page of a report, which is well-formed, loads nothing and is small."""
    text = path.read_text(encoding="utf-8")
    parsed = Page(text)
    assert len(text) < 3_000_000
    assert all(source.startswith("data:image/png;base64,") for source in parsed.loaded)
    assert not re.search(r"url\(|@import|\bnan\b|\binf\b", re.sub(r"base64,[^\"]*", "", text)), "a figure that is no number, or something loaded"
    assert {link[1:] for link in parsed.links if link.startswith("#")} <= parsed.anchors
    return parsed


def digits(folder: Path | None, recipe: str, **options: object) -> tuple[Run, Dataset]:
    """A tiny run; without a folder, in one that is deleted at the end, and without pictures beside it."""
    data = open_data("digits", limit=300, **{k: options.pop(k) for k in ("binarize", "condition", "labels", "missing") if k in options})
    run = api.fit(recipe, data, out=folder, watcher=Silent(), epochs=1, batch_size=64, precision="fp32", **options)
    return run, data


def command(*words: str) -> None:
    """Runs a command that ends well."""
    with pytest.raises(SystemExit) as end:
        main(list(words))
    assert end.value.code == 0


# ---- whole reports


KINDS = {
    "tutorial": ({"binarize": True, "latent": 4}, ["Rate of each dimension", "Traversals", "bits per dimension", "dimension "]),
    "ladder": ({"scale": 0.25, "condition": "class"}, ["Rate of each layer", "layers kept", "the columns are its classes"]),
    "vq-ema": ({"scale": 0.25}, ["Use of the codebook", "one of countably many", "A traversal needs one real code"]),
    "rae-l2": ({"scale": 0.25, "binarize": True}, ["a point has no rate", "no ELBO and no rate"]),
    "semi-supervised": ({"scale": 0.25, "labels": 40}, ["names the class of", "layer 2"]),
}


@pytest.mark.parametrize("recipe", KINDS)
def test_every_kind_of_model_has_a_report(recipe: str) -> None:
    options, says = KINDS[recipe]
    run, data = digits(None, recipe, **options)
    path = write_report(run, data, quick=True)
    assert path == run.path / "report.html"
    parsed = read(path)
    expected = [
        "What was trained",
        "Curves",
        "Samples",
        "Reconstructions",
        "Use of the latent",
        "Map of the codes",
        "Likelihood",
        "Quality of samples",
    ]
    for words in [*expected, *says, recipe, "Principal components", "t-SNE", "Not measured yet", "fewer than three validations"]:
        assert words in parsed.text, words
    assert vaekit.recipes.RECIPES[recipe].url in parsed.links
    assert ("bits per dimension, ELBO" in parsed.text) == (run.model.likelihood.kind == "pmf" and recipe != "rae-l2")
    if recipe == "tutorial":
        content = path.read_bytes()
        write_report(run, data, quick=True)
        assert path.read_bytes() == content, "the same run and data give the same file"


def test_colour_floats_with_holes_from_an_array() -> None:
    x = np.random.default_rng(0).normal(size=(80, 6, 5, 3)).astype(np.float32)
    x[:, :2, :2] = np.nan
    data = open_data(x, missing="nan")
    run = api.fit("tutorial", data, watcher=Silent(), epochs=1, latent=2, precision="fp32")
    parsed = read(write_report(run, data, quick=True))
    for words in ("no command repeats it", "Missing pixels have no error", "floating-point values", "not coloured", "no bits per dimension"):
        assert words in parsed.text, words
    assert "--likelihood logistic" not in parsed.text, "floats have no likelihood of whole numbers"


def test_a_model_without_an_encoder_and_one_with_two_dimensions() -> None:
    run, data = digits(None, "tutorial", latent=2, binarize=True)
    assert "No latent dimension is used" in read(write_report(run, data, quick=True, images=9)).text, "after one epoch"
    run.model.latent.posterior.head.weight.data *= 30
    text = read(write_report(run, data, quick=True, images=9)).text
    assert "The plane of the two dimensions" in text and re.search(r"dimension [01], [\d.]+ nats", text)
    run.model.encoder = None
    parsed = read(write_report(run, data, quick=True))
    assert "no encoder and only generates" in parsed.text and "Likelihood" not in parsed.text.split("Samples")[0]


def test_the_command_repeats_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(tmp_path / "run")
    options = shlex.split("--recipe beta --limit 120 --scale 0.25 --binarize --beta 2.5 --epochs 2 --lr 0.004 --seed 3 --clip 150 --precision fp32")
    command("train", "digits", *options, "--out", folder)
    told = repeat(Run(folder))
    assert told is not None and told.startswith("vaekit train digits --recipe beta")
    before = (tmp_path / "run" / "run.json").read_text()
    capsys.readouterr()
    command(*shlex.split(told)[1:], "--out", folder)
    assert "is finished: nothing to do" in capsys.readouterr().err
    assert (tmp_path / "run" / "run.json").read_text() == before
    for wanted in ("--clip 150", "--beta 2.5", "--lr 0.004", "--seed 3", "--binarize", "--limit 120"):
        assert wanted in told
    assert "--optimizer" not in told, "what is the recipe's own is left out"
    # A model made by hand has no command.
    description = json.loads(before)
    description["options"]["recipe"] = "custom"
    (tmp_path / "run" / "run.json").write_text(json.dumps(description))
    assert repeat(Run(folder)) is None


def test_the_command_line_writes_it_and_says_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, _ = digits(tmp_path / "run", "tutorial", binarize=True, latent=3)
    command("report", str(run.path), "--quick", "--images", "12", "--json")
    told = json.loads(capsys.readouterr().out)
    assert Path(told["report"]).stat().st_size == told["bytes"]
    assert "12 validation images" in read(Path(told["report"])).text
    with pytest.raises(SystemExit):
        main(["report", str(run.path), "--images", "1"])
    assert "2 or more validation images" in capsys.readouterr().err
    with pytest.raises(UserError, match="is not a run"):
        write_report(Run(tmp_path), open_data("digits"))


# ---- what is computed


def test_figures_are_those_of_the_evaluation() -> None:
    model = vae(latent=3).eval()
    spec = spec_of([2, 9, 11])
    batches = [vaekit.Batch(torch.randint(0, 256, (6, 2, 9, 11), dtype=torch.uint8), label=torch.arange(6)) for _ in range(3)]
    measured = measure(model, spec, lambda: batches, samples=5, weighed=9)
    expected = evaluate_batches(model, batches)
    assert torch.equal(measured.bound.elbo, expected.bound.elbo)
    assert torch.equal(measured.latent.rate_per_dim, expected.latent.rate_per_dim)
    nine = [batches[0], batches[1][:3]]
    assert torch.equal(measured.importance, iw_bound(model, nine, 5))
    x = torch.cat([b.x for b in nine])
    assert torch.allclose(measured.psnr_db, psnr(x, model.reconstruct(x), spec))
    assert np.allclose(measured.codes, torch.cat([model.encode(b)[0] for b in batches]).numpy(), atol=1e-6)
    assert measured.labels is not None and measured.labels.tolist() == [*range(6)] * 3 and measured.accuracy is None


def test_principal_components_are_those_of_the_covariance() -> None:
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(60, 5)) * [3, 1, 0.5, 0.1, 2]
    points, shares = principal(codes, 2)
    values, vectors = np.linalg.eigh(np.cov(codes.T))
    assert np.allclose(shares, values[::-1][:2] / values.sum())
    assert np.allclose(np.abs(points), np.abs((codes - codes.mean(0)) @ vectors[:, ::-1][:, :2]))
    same, none = principal(np.ones((9, 3)), 2)
    assert np.allclose(same, 0) and none.tolist() == [0, 0]


def test_errors_are_shares_of_the_range_and_empty_where_nothing_is_seen() -> None:
    spec = spec_of([2, 1, 2], levels=11)
    x = torch.tensor([[[[0, 10]], [[5, 5]]]], dtype=torch.uint8)
    y = torch.tensor([[[[1.0, 10.0]], [[2.0, 9.0]]]])
    assert np.allclose(errors(x, y, spec), [[[0.2, 0.2]]])
    mask = torch.tensor([[[[True, False]], [[False, False]]]])
    seen = errors(x, y, spec, mask)
    assert np.allclose(seen[0, 0, 0], 0.1) and np.isnan(seen[0, 0, 1])
    colours = heat(seen, 0.1)
    assert colours[0, 0, 1].tolist() == [0, 0, 0, 0] and colours[0, 0, 0, 3] == 255
    assert heat(np.zeros((1, 1, 1)), 0.1)[0, 0, 0].tolist()[:3] == [0, 0, 3], "no error is (nearly) black"


# ---- how it is drawn


def pixels(picture: object) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture.png)))  # type: ignore[attr-defined]


def test_sheets_hold_the_tiles_and_transparent_gaps() -> None:
    a, b = (np.full((3, 2, 4, 3), value, np.uint8) for value in (10, 200))
    made = sheet([a, b[:2], a, b], "x", band=2)
    image = pixels(made)
    assert image.shape == (4 * 2 + 1 + 4 + 1, 3 * 4 + 2, 4) and (made.height, made.width) == image.shape[:2]
    assert image[0, 0].tolist() == [10, 10, 10, 255] and image[3, 5].tolist() == [200, 200, 200, 255]
    assert image[2, 0, 3] == 0 and image[0, 4, 3] == 0 and image[3, 10, 3] == 0, "gaps, and the place of the third tile"
    assert image[5:9, :, 3].max() == 0, "the wider gap between bands"
    noise = sheet([np.random.default_rng(0).integers(0, 256, (4, 256, 256, 3), np.uint8)], "noise")
    assert len(noise.png) <= LARGEST and "of its size" in noise.note
    assert room(spec_of([1, 8, 8]), 40, 8) == 40 and room(spec_of([3, 64, 64]), 64, 8) == 16 and room(spec_of([3, 512, 512]), 64, 8) == 4


def test_transparent_pixels_lie_on_white() -> None:
    x = torch.tensor([[[[255, 255]], [[0, 255]]]], dtype=torch.uint8) * torch.tensor([0, 1], dtype=torch.uint8).view(2, 1, 1)
    assert tiles(x, spec_of([2, 1, 2]))[0, 0, :, 0].tolist() == [255, 0]


def test_axes_and_ticks() -> None:
    assert Axis(-1, 3, 100, 20)(1) == 60
    assert ticks(0, 10) == [0, 2, 4, 6, 8, 10]
    assert np.allclose(ticks(0.0012, 0.0049), np.arange(0.0015, 0.0049, 0.0005))
    assert ticks(-251.3, -229.9) == [-250, -245, -240, -235, -230]


def test_bars_are_as_high_as_their_values() -> None:
    svg = bars("t", [4.0, 2.0, 0.0], ["a", "b", "<c>"], "x", "nats", full=[True, True, False]).svg
    heights = [float(h) for h in re.findall(r'height="([\d.]+)"', svg)]
    assert heights[0] == pytest.approx(2 * heights[1], abs=0.11) and heights[2] == 0
    assert svg.count("weak") == 1 and "&lt;c&gt;: 0 nats" in svg


def test_a_steep_start_lies_outside_of_a_curve() -> None:
    y = [-1000.0, *np.linspace(-50, -40, 19).tolist()]
    chart = lines("t", {"validation": (list(range(20)), y)}, "epochs", "nats", settled=True)
    assert chart.note and chart.svg.count("L") == 17, "18 of 20 points are in the line"
    whole = lines("t", {"validation": (list(range(20)), y)}, "epochs", "nats")
    assert not whole.note and whole.svg.count("L") == 19
    few = lines("t", {"": ([1, 2], [0.0, 2.0])}, "epochs", "dimensions", from_zero=True).svg
    assert [f for f in re.findall(r'text-anchor="end">([^<]*)<', few)] == ["0", "1", "2"], "counts have no halves"
    one = lines("lr", {"": ([1.0], [0.5])}, "epochs", "step", from_zero=True)
    assert "dots" in one.svg and one.legend == ()


def test_a_map_has_a_colour_for_the_ten_largest_classes() -> None:
    points = np.stack([np.arange(30.0), np.zeros(30)], 1)
    groups = np.concatenate([np.repeat(np.arange(10), 2), np.arange(10, 18), [-1, -1]])
    chart = scatter("map", points, groups, [f"class {i}" for i in range(18)])
    assert [name for name, _ in chart.legend] == [*(f"class {i}" for i in range(10)), "others"]
    assert chart.svg.count("h0") == 30
    xs = [float(v) for v in re.findall(r"M([\d.]+) [\d.]+h0", chart.svg)]
    assert min(xs) == 10 and max(xs) == 330, "equal units, from edge to edge"


def test_a_page_escapes_what_it_is_told() -> None:
    evil = "</section><script>alert(1)</script>&"
    chart = Chart(evil, "<svg></svg>", ((evil, "--c0"),), evil)
    text = page(evil, [Section("A", (Prose(evil), Facts(((evil, evil),)), Charts((chart,)), Notices((Notice("hint", evil),))))], evil)
    assert "<script>" not in text and Page(text).text.count("alert(1)") == 10
    assert prose("try --free-bits 0.25, `x < y` or --lr.") == "try <code>--free-bits 0.25</code>, <code>x &lt; y</code> or <code>--lr</code>."


# ---- what it advises


def measured_with(rates: list[float] | None = None, n: int = 1000, bounded: bool = True) -> Measured:
    latent, layer = LatentStatistics(), LayerStatistics()
    rates = [2.0, 1.0, 3.0] if rates is None else rates
    layer.images, layer.dimensions, layer.stochastic, layer.rate = n, len(rates), bounded, sum(rates)
    layer.rate_per_dim = torch.tensor(rates, dtype=torch.float64)
    layer.variance_of_means = (layer.rate_per_dim > 0.05).double()
    latent.layers.append(layer)
    bound = Bound(torch.ones(n).double(), torch.linspace(0, 1, n).double(), torch.zeros(n).double(), bounded)
    return Measured(bound, latent, torch.ones(n), np.zeros((n, 3), np.float32), None, None, 1, None, None)


def history(validation: list[float], training: list[float] | None = None) -> list[dict]:
    training = validation if training is None else training
    return [
        {"epoch": i + 1.0, "images": 640 * (i + 1), "val_elbo_nats": v, "train_elbo_nats": t, "skipped_steps": 0}
        for i, (v, t) in enumerate(zip(validation, training, strict=True))
    ]


GOOD = [-100 - 50 / (i + 1) for i in range(10)]
DONE = {"finished": True, "skipped_steps": 0, "rollbacks": 0, "plan": {"batch_size": 64}}


def advice(rows: list[dict], measured: Measured | None = None, notes: tuple = (), same: bool = True, levels: int | None = 256, **said: object) -> str:
    found = advise({**DONE, **said}, rows, notes, same, vae().likelihood.kind, levels, measured or measured_with())
    assert [n.level for n in found] == sorted((n.level for n in found), key=["fine", "warning", "hint"].index)
    assert (found[0].level == "fine") == all(n.level != "warning" for n in found)
    return "\n".join(f"{n.level}: {n.text}" for n in found)


def test_a_good_run_has_no_warning() -> None:
    assert "fine: Nothing went wrong" in advice(history(GOOD)) and "warning" not in advice(history(GOOD))


def test_overfitting_needs_training_to_rise_while_validation_falls() -> None:
    falling = [-100.0, -80, -70, -72, -75, -80]
    said = advice(history(falling, [-100.0, -80, -70, -65, -60, -55]))
    assert "warning: Overfitting: since epoch 3 of 6 the validation fell by 10 nats while training rose by 15 (the best weights are kept)" in said
    assert "--augment" in said
    assert "the last weights are kept" in advice(history(falling, [-100.0, -80, -70, -65, -60, -55]), select="last")
    other = advice(history(falling, falling))
    assert "Overfitting" not in other and "training did not rise" in other
    assert "fell" not in advice(history([-100.0, -80, -70, -69.9, -70, -70.1])), "a fall of less than 5 % of the gain is noise"


def test_too_long_too_short_and_nothing_learned() -> None:
    assert "At epoch 3 of 10 it was as good as at the end: --epochs 4 would do" in advice(history([-100.0, -80, *[-70.0] * 8]))
    assert "still improving at the end (by 10 nats since epoch 9)" in advice(history([-200.0 + 10 * i for i in range(10)]))
    assert "still improving" not in advice(history([-100 - 50 * 0.4**i for i in range(10)]))
    assert "warning: The validation never got better" in advice(history([-50.0, -60, -70]))
    assert "fewer than three validations" in advice(history([-50.0, -40]))
    course = Course.of([{"epoch": 1.0, "val_elbo_nats": None, "val_distortion_nats": 7.0}])
    assert course.validation == (-7.0,) and course.training == (None,), "without a bound, less distortion is better"


def test_steps_that_were_skipped_and_runs_that_diverged() -> None:
    assert "hint: 1 steps (1 %) were skipped" in advice(history(GOOD), skipped_steps=1)
    assert "warning: 10 steps (10 %)" in advice(history(GOOD), skipped_steps=10)
    assert "warning: Training diverged 2 times" in advice(history(GOOD), rollbacks=2)
    assert "warning: The run is not finished" in advice(history(GOOD), finished=False)


def test_the_use_of_the_latent() -> None:
    assert "warning: 0 of 4 latent dimensions are used" in advice(history(GOOD), measured_with([0.01] * 4))
    assert "hint: 1 of 4 latent dimensions are in use" in advice(history(GOOD), measured_with([9.0, 0.01, 0.01, 0.01]))
    assert "All 3 latent dimensions are full (at least 1.00 nats each): try a larger --latent" in advice(history(GOOD))
    assert "full" not in advice(history(GOOD), measured_with([2.0, 1.0, 0.2]))
    discrete = measured_with()
    discrete.latent.layers[0].codes = torch.tensor([5.0] + [0.0] * 31)
    assert "3.1 % of the codebook is in use" in advice(history(GOOD), discrete)


def test_data_and_likelihoods_that_limit_what_can_be_said() -> None:
    assert "known to ± 0.057 nats" in advice(history(GOOD), measured_with(n=100)), (
        "1.96 times the deviation 0.293 of 100 even steps from 0 to 1, over 10"
    )
    notes = ("3 images are exact copies of others; copies are kept in one split.", "2 of 9 files cannot be read and are left out (a.png).")
    said = advice(history(GOOD), notes=notes, same=False)
    assert "hint: 3 images are exact copies" in said and "warning: 2 of 9 files cannot be read" in said and "another fingerprint" in said
    assert "--likelihood logistic" in advice(history(GOOD)), "a Gaussian over 8-bit pixels"
    floats = advice(history(GOOD), levels=None)
    assert "no bits per dimension" in floats and "--likelihood" not in floats
    assert "no ELBO and no rate" in advice(history(GOOD), measured_with(bounded=False))


# ---- sample measures


def test_the_quality_of_samples(tmp_path: Path) -> None:
    run = Run(tmp_path / "a run")
    run.path.mkdir()
    section = quality(run)
    text = page("t", [section], "")
    assert "Not measured yet" in text and "vaekit quality &#x27;" in text
    row = {"value": 12.345678, "error": 0.5, "floor": 1.5, "floor_error": None, "space": "laplacian", "better": "lower"}
    figures = {
        "measures": {"frechet_distance": row},
        "images": 1000,
        "compared": "means beside test images",
        "data": "digits",
        "floor": "other images",
    }
    (run.path / "quality.json").write_text(json.dumps(figures | {"notes": ["A note."]}))
    words = Page(page("t", [quality(run)], "")).text
    assert "frechet distance 12.35 ± 0.5 1.5 lower laplacian" in words.replace("  ", " ") and "A note." in words
    for broken in ("{", "[]", "{}"):
        (run.path / "quality.json").write_text(broken)
        assert "is damaged" in Page(page("t", [quality(run)], "")).text


def test_pictures_are_whole_files(tmp_path: Path) -> None:
    made = sheet([np.zeros((2, 3, 3, 3), np.uint8)], "t", "n")
    source = Page(page("t", [Section("s", (made,))], "")).loaded[0]
    assert Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))).size == (7, 3)
