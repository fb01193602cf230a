"""The figures of a report: what is computed against what is known, and how it is drawn."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vaekit
from tests.contracts.examples import spec_of, vae
from tests.report_page import Page
from vaekit.evaluation import evaluate_batches, iw_bound, psnr
from vaekit.report.charts import bars, lines, scatter
from vaekit.report.content import Chart, Charts, Facts, Notice, Notices, Prose, Section
from vaekit.report.measure import drawn_astray, measure
from vaekit.report.page import page, prose
from vaekit.report.plane import principal
from vaekit.report.sheets import LARGEST, errors, heat, room, sheet, tiles
from vaekit.report.svg import Axis, apart, number, ticks, widened

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


def test_codes_that_the_prior_does_not_draw_are_noticed() -> None:
    torch.manual_seed(0)
    data, model = vaekit.open_data("digits"), vae("mlp", [1, 8, 8]).eval()
    with torch.no_grad():
        model.latent.posterior.head.weight.zero_()
        assert drawn_astray(model, data) is None, "all codes are draws of N(0, I)"
        model.latent.posterior.head.bias[:3] += 5
    assert "of the codes are told from the prior's: samples come" in str(drawn_astray(model, data))
    assert drawn_astray(model, vaekit.open_data("digits", limit=300)) is None, "too few to say so"


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
    assert (
        room(spec_of([1, 8, 8]), 40, 8) == 40
        and room(spec_of([3, 64, 64]), 64, 8) == 16
        and room(spec_of([3, 512, 512]), 64, 8) == 16
        and room(spec_of([3, 64, 64]), 5, 8) == 8
    )


def test_large_images_are_reduced() -> None:
    """Squares of two pixels a side for 100 x 65; the last row of a side that is odd stands alone. What is missing does not blank its neighbours."""
    spec = spec_of([1, 100, 65], levels=256)
    x = torch.arange(100 * 65).view(1, 1, 100, 65).float() % 251
    small = tiles(x, spec)
    assert small.shape == (1, 50, 33, 3)
    assert small[0, 3, 4, 0] == round(float(x[0, 0, 6:8, 8:10].mean())) and small[0, 3, 32, 0] == round(float(x[0, 0, 6:8, 64:].mean()))
    mask = torch.ones(1, 1, 100, 65, dtype=torch.bool)
    mask[:, :, 0, 0] = mask[:, :, 2:4, :2] = False
    error = errors(x, x + 51, spec, mask)
    assert np.isnan(error[0, 1, 0]) and np.isnan(error).sum() == 1 and np.allclose(error[~np.isnan(error)], 0.2)


def test_transparent_pixels_lie_on_white() -> None:
    x = torch.tensor([[[[255, 255]], [[0, 255]]]], dtype=torch.uint8) * torch.tensor([0, 1], dtype=torch.uint8).view(2, 1, 1)
    assert tiles(x, spec_of([2, 1, 2]))[0, 0, :, 0].tolist() == [255, 0]


def test_axes_and_ticks() -> None:
    assert Axis(-1, 3, 100, 20)(1) == 60
    assert ticks(0, 10) == [0, 2, 4, 6, 8, 10]
    assert np.allclose(ticks(0.0012, 0.0049), np.arange(0.0015, 0.0049, 0.0005))
    assert ticks(-251.3, -229.9) == [-250, -245, -240, -235, -230]


def test_numbers_are_written_as_people_write_them() -> None:
    assert [number(v) for v in (0, 0.05, 1774.46, 43220.99, -12345.6, 2e12)] == ["0", "0.05", "1774", "43,221", "-12,346", "2e+12"]
    assert [number(v, 3) for v in (999.4, 999.7)] == ["999", "1,000"] and number(9999.7) == "10,000"
    assert number(1647.2, 3) == "1,647" and number(12345.67, 6) == "12,345.7"
    assert apart([1774.2, 1774.4, 1774.6]) == ["1774.2", "1774.4", "1774.6"] and apart([0.0, 0.5]) == ["0", "0.5"]
    low, high = widened(1774.4569, 1774.4571)  # one value, but for rounding
    assert low < 1000 and high > 2500 and widened(1.0, 3.0) == (0.9, 3.1)


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


def test_pictures_are_whole_files(tmp_path: Path) -> None:
    made = sheet([np.zeros((2, 3, 3, 3), np.uint8)], "t", "n")
    source = Page(page("t", [Section("s", (made,))], "")).loaded[0]
    assert Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))).size == (7, 3)
