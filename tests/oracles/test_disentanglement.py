"""Measures of disentanglement against tables that can be worked out by hand, and against scikit-learn's mutual information."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from tests.contracts.examples import scrambled, vae
from vaekit.data import open_data
from vaekit.errors import UserError
from vaekit.evaluation.disentanglement import (
    Factors,
    beta_vae_score,
    dci,
    explicitness,
    factor_vae_score,
    factors_of,
    irs,
    means,
    measure,
    mig,
    modularity,
    robustness,
    sap,
    scores,
    udr,
)
from vaekit.evaluation.disentanglement.information import binned, entropy, mutual_information
from vaekit.evaluation.disentanglement.sap import balanced_accuracy

SIZES = (3, 4, 5)


def grid(sizes: tuple[int, ...] = SIZES, copies: int = 1) -> np.ndarray:
    """Every combination of the factors' values, [N, F]."""
    return np.tile(np.array(list(itertools.product(*map(range, sizes)))), (copies, 1))


FACTORS = grid(copies=10)
PERFECT = FACTORS.astype(float)
"""One code for each factor."""
MEASURES: dict[str, Callable[..., float]] = {
    "mig": mig,
    "disentanglement": lambda z, v: dci(z, v, count=6).disentanglement,
    "completeness": lambda z, v: dci(z, v, count=6).completeness,
    "informativeness": lambda z, v: dci(z, v, count=6).informativeness,
    "factor_vae_score": factor_vae_score,
    "beta_vae_score": beta_vae_score,
    "sap": sap,
    "modularity": modularity,
    "irs": irs,
}
NOTHING = dict.fromkeys(["mig", "disentanglement", "completeness", "factor_vae_score", "sap", "modularity", "irs"], 0.0)


@pytest.mark.parametrize("name", MEASURES)
def test_one_code_for_each_factor_is_perfect(name: str) -> None:
    assert MEASURES[name](PERFECT, FACTORS) == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("name", MEASURES)
def test_order_sign_and_unit_of_the_codes_do_not_matter(name: str) -> None:
    generator = np.random.default_rng(0)
    codes = PERFECT @ generator.normal(size=(3, 4)) + generator.normal(size=(len(FACTORS), 4))
    other = codes[:, [2, 0, 3, 1]] * [-1, 1, 1, -1]
    # Ties between equally good splits of a tree go by the order of the codes.
    tolerance = 0.03 if name in ("disentanglement", "completeness", "informativeness") else 1e-9
    assert MEASURES[name](other, FACTORS) == pytest.approx(MEASURES[name](codes, FACTORS), abs=tolerance)
    if name not in ("factor_vae_score", "irs"):
        assert MEASURES[name](codes * [0.5, 8, 2, 4], FACTORS) == pytest.approx(MEASURES[name](codes, FACTORS), abs=1e-6)


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("extra", [1, 7])
def test_dead_codes_change_nothing(name: str, extra: int) -> None:
    """Scores of codes of any size can be compared, also where there are more or fewer codes than factors."""
    generator = np.random.default_rng(1)
    codes = PERFECT @ generator.normal(size=(3, 2)) + 0.3 * generator.normal(size=(len(FACTORS), 2))
    padded = np.concatenate([np.full((len(codes), extra), 0.7), codes], 1)
    # A tree of the forest looks at the codes in an order that depends on their number.
    tolerance = 0.02 if name in ("disentanglement", "completeness", "informativeness") else 1e-6
    assert MEASURES[name](padded, FACTORS) == pytest.approx(MEASURES[name](codes, FACTORS), abs=tolerance)


@pytest.mark.parametrize("name", MEASURES)
def test_a_constant_code_says_nothing(name: str) -> None:
    value = MEASURES[name](np.full((len(FACTORS), 2), 1.3), FACTORS)
    if name in NOTHING:
        assert value == 0.0
    else:
        assert value <= 0.4, "chance: one third of three factors, or of three values at most"


def test_a_rotated_code_tells_every_factor_by_halves() -> None:
    """At 45 degrees both codes say as much of both factors: the gaps close, though a line still reads the factors off the code."""
    factors = grid((8, 8), copies=16)
    straight = factors.astype(float)
    rotated = straight @ np.array([[1, -1], [1, 1]]) / math.sqrt(2)
    assert mig(straight, factors) == pytest.approx(1.0) and mig(rotated, factors) < 0.02
    assert sap(rotated, factors) < 1e-9
    assert modularity(rotated, factors) < 0.02
    assert irs(rotated, factors, quantile=1.0) == pytest.approx(0.5)
    apart = dci(straight, factors), dci(rotated, factors)
    assert apart[0].disentanglement == pytest.approx(1.0) and apart[1].disentanglement < 0.1 and apart[1].completeness < 0.1
    assert explicitness(rotated, factors) == pytest.approx(explicitness(straight, factors), abs=0.02)


def test_mutual_information_by_hand() -> None:
    a, b = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    assert mutual_information(a, b) == 0.0 and mutual_information(a, a) == pytest.approx(math.log(2))
    # p(a, b) = [[1/2, 0], [1/4, 1/4]]: I = 1/2 log(4/3) + 1/4 log(2/3) + 1/4 log 2.
    assert mutual_information(np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1])) == pytest.approx(
        0.5 * math.log(4 / 3) + 0.25 * math.log(2 / 3) + 0.25 * math.log(2)
    )
    assert entropy(np.array([1, 1, 2, 0])) == pytest.approx(1.5 * math.log(2))


def test_mutual_information_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import mutual_info_score

    generator = np.random.default_rng(2)
    for _ in range(20):
        a, b = generator.integers(0, 7, 200), generator.integers(0, 12, 200)
        assert mutual_information(a, b) == pytest.approx(mutual_info_score(a, b), abs=1e-12)


def test_bins_are_of_equal_width() -> None:
    codes = np.array([[0.0, 5.0], [0.049, 5.0], [0.051, 5.0], [0.951, 5.0], [1.0, 5.0]])
    assert binned(codes).tolist() == [[0, 0], [0, 0], [1, 0], [19, 0], [19, 0]]
    edges = np.histogram_bin_edges(codes[:, 0], 20)
    assert binned(codes)[:, 0].tolist() == (np.clip(np.digitize(codes[:, 0], edges), 1, 20) - 1).tolist()


def test_mig_by_hand() -> None:
    """z_0 = v_0 and z_1 = v_0 and v_1: I(z_0; v_0) = log 2; I(z_1; v) = H(1/4) - log(2) / 2 for both factors."""
    factors = grid((2, 2))
    codes = np.stack([factors[:, 0], factors[:, 0] & factors[:, 1]], 1).astype(float)
    log2 = math.log(2)
    shared = -0.25 * math.log(0.25) - 0.75 * math.log(0.75) - 0.5 * log2
    assert mig(codes, factors) == pytest.approx(((log2 - shared) / log2 + shared / log2) / 2)
    assert mig(codes[:, :1], factors) == pytest.approx(0.5), "a single code: the second best says nothing"


def test_modularity_by_hand() -> None:
    factors = grid((2, 2))
    codes = np.stack([factors[:, 0], factors[:, 0] & factors[:, 1]], 1).astype(float)
    assert modularity(codes, factors) == pytest.approx(0.5), "the first tells one factor, the second both alike"


def test_irs_by_hand() -> None:
    """z_0 = v_0; z_1 = v_0 + v_1, which moves by 1/2 where one of the two is held, and by 1 in all."""
    factors = grid((2, 2))
    codes = np.stack([factors[:, 0], factors.sum(1)], 1).astype(float)
    matrix, weights = robustness(codes, factors, quantile=1.0)
    assert matrix.tolist() == [[1.0, 0.0], [0.5, 0.5]] and weights.tolist() == [0.5, 1.0]
    assert irs(codes, factors, quantile=1.0) == pytest.approx(2 / 3)
    # Values that come up more often weigh more: z = 0, 0, 0, 2 moves by 1 at v = 1 (half of the images), and by 3/2 in all.
    single = np.array([[0.0], [0.0], [0.0], [2.0]])
    assert robustness(single, np.array([[0], [0], [1], [1]]), quantile=1.0)[0].item() == pytest.approx(1 - 0.5 / 1.5)


def test_sap_by_hand() -> None:
    """S[0, 0] = 1, S[1, 0] = 1/2, S[0, 1] = 0, S[1, 1] = 1/2 for z = (v_0, v_0 + v_1)."""
    factors = grid((2, 2))
    codes = np.stack([factors[:, 0], factors.sum(1)], 1).astype(float)
    assert sap(codes, factors) == pytest.approx(0.5)
    # Thresholds tell 1 and 1/2; 3/4 of (0, 1, 1, 2) are told rightly.
    assert sap(codes, factors, unordered=(0, 1)) == pytest.approx(0.25)


def test_the_best_thresholds_are_found() -> None:
    """Against all placements of two thresholds and all answers, on small tables with ties."""
    generator = np.random.default_rng(3)
    for _ in range(10):
        code, classes = generator.integers(0, 7, 15).astype(float), np.concatenate([[0, 1, 2], generator.integers(0, 3, 12)])
        share = 1 / (3 * np.bincount(classes))
        best = 0.0
        for low, high in itertools.product(np.arange(-0.5, 8), repeat=2):
            interval = (code > low).astype(int) + (code > high)
            for answers in itertools.product(range(3), repeat=3):
                best = max(best, float((share[classes] * (np.array(answers)[interval] == classes)).sum()))
        assert balanced_accuracy(code, classes) == pytest.approx(best)


def test_dci_by_hand() -> None:
    """Each of two codes tells one bit of a factor of four values: disentangled, and not complete; the other way round for a code of two factors."""
    values = grid((4, 4), copies=20)
    bits = np.stack([values[:, 0] // 2, values[:, 0] % 2, values[:, 1]], 1).astype(float)
    parts = dci(bits, values)
    assert parts.disentanglement == pytest.approx(1.0) and parts.informativeness == 1.0
    share = parts.importance[:2, 0]
    assert share.sum() == pytest.approx(1.0) and abs(share[0] - 0.5) < 0.25
    first = 1 + float((share * np.log(share)).sum()) / math.log(3)
    assert parts.completeness == pytest.approx((first + 1) / 2)
    joint = dci((4.0 * values[:, :1] + values[:, 1:]), values)
    assert joint.disentanglement == pytest.approx(0.0) and joint.completeness == 1.0


def test_boosting_finds_the_same_perfection() -> None:
    parts = dci(PERFECT[:120], FACTORS[:120], trees="boosting")
    assert min(parts.disentanglement, parts.completeness, parts.informativeness) > 0.999


def test_the_factor_score_counts_votes() -> None:
    """Two factors in one code, and a second code of noise: with either factor held, the code varies less than the noise, and one name fits both."""
    factors = grid((8, 8), copies=10)
    noise = np.random.default_rng(4).normal(size=len(factors))
    codes = np.stack([factors.sum(1), noise], 1).astype(float)
    assert factor_vae_score(codes, factors) == pytest.approx(0.5, abs=0.06)
    faint = PERFECT * [1, 1, 0.01]
    assert factor_vae_score(faint, FACTORS, dead=0.0) == 1.0
    assert 0.55 < factor_vae_score(faint, FACTORS) < 0.75, "the third code is taken for dead, and one factor in three goes by the name of another"


def test_the_beta_score_of_noise_is_chance() -> None:
    noise = np.random.default_rng(5).normal(size=(2000, 4))
    factors = np.random.default_rng(6).integers(0, 4, (2000, 4))
    assert beta_vae_score(noise, factors) == pytest.approx(0.25, abs=0.06)


def test_explicitness() -> None:
    noise = np.random.default_rng(7).normal(size=(1200, 3))
    factors = np.random.default_rng(8).integers(0, 2, (1200, 2))
    assert explicitness(noise, factors) == pytest.approx(0.5, abs=0.05)
    assert explicitness(factors + 0.01 * noise[:, :2], factors) == pytest.approx(1.0)
    # A line finds the ends of a row of three values, and nothing of the middle.
    middle = grid((3,), copies=200)
    assert 2 / 3 - 0.01 < explicitness(middle.astype(float), middle) < 1.0


def test_models_that_agree() -> None:
    generator = np.random.default_rng(9)
    codes = generator.normal(size=(400, 5))
    copies = [codes, codes[:, [3, 0, 4, 1, 2]] * [1, -1, 1, -1, 1], np.exp(codes[:, ::-1])]
    exact = np.linalg.qr(codes - codes.mean(0))[0]
    assert (udr(copies) > 0.8).all(), "ranks do not see the exponential; finite samples correlate a little"
    clean = grid((3, 3, 3)).astype(float)
    assert udr([clean, -clean[:, [2, 0, 1]], clean[:, ::-1] ** 3]) == pytest.approx(np.ones(3))
    assert udr([exact, -exact[:, ::-1]], method="lasso") == pytest.approx(np.full(2, 0.9))
    strangers = udr([clean, np.random.default_rng(10).permutation(clean), clean[:, ::-1]])
    assert strangers[1] < 0.3 and strangers[0] == pytest.approx((1 + strangers[1]) / 2, abs=0.05), "the median of two is their mean"


def test_ranking_by_hand() -> None:
    """The second model has both of the first one's codes, one twice over: columns 1, 1, 1 and rows 1, 1/2."""
    clean = grid((3, 3)).astype(float)
    double = np.concatenate([clean, clean[:, 1:]], 1)
    assert udr([clean, double]) == pytest.approx(np.full(2, (3 + 1.5) / 5))
    masks = [np.array([True, True]), np.array([True, True, False])]
    assert udr([clean, double], informative=masks) == pytest.approx(np.ones(2))
    assert udr([clean, np.zeros((9, 4))]).tolist() == [0.0, 0.0]


def test_the_seed_decides() -> None:
    generator = np.random.default_rng(11)
    codes = PERFECT + 2 * generator.normal(size=PERFECT.shape)
    one, again, other = (scores(codes, torch.from_numpy(FACTORS), seed=seed) for seed in (0, 0, 1))
    assert one == again and one != other
    assert one["mig"] == other["mig"] and one["irs"] == other["irs"]


def test_errors() -> None:
    for codes, factors, message in (
        (PERFECT[:5], FACTORS, "a row for each image"),
        (PERFECT[:1], FACTORS[:1], "at least two"),
        (PERFECT, PERFECT, "integers"),
        (PERFECT * np.nan, FACTORS, "diverged"),
        (PERFECT, FACTORS * 0, "No factor varies"),
    ):
        with pytest.raises(UserError, match=message):
            mig(codes, factors)
    with pytest.raises(UserError, match="never has the same value twice"):
        factor_vae_score(PERFECT[:9], np.arange(9)[:, None])
    with pytest.raises(UserError, match="two models"):
        udr([PERFECT])


def test_a_factor_that_does_not_vary_is_left_out() -> None:
    wide = np.concatenate([FACTORS[:, :1], np.full((len(FACTORS), 1), 7), FACTORS[:, 1:]], 1)
    for compute in (mig, factor_vae_score, beta_vae_score, sap, modularity, irs):
        assert compute(PERFECT, wide) == pytest.approx(1.0), compute
    assert sap(PERFECT, wide, unordered=(1, 2)) == pytest.approx((1 + 3 / 4 + 1) / 3)


def test_the_factors_of_shapes() -> None:
    data = open_data("shapes:400", size=16)
    factors = factors_of(data, "test")
    batch = next(data.batches("test", 400))
    assert factors.names == ("shape", "scale", "orientation", "x", "y") and factors.unordered == (0,)
    assert len(factors) == data.size("test") == len(batch) and torch.equal(factors.values[:, 0], batch.label)
    assert torch.allclose(factors.values[:, 3] / 31, data.attributes[batch.index, 3])
    # The image moves as its factors say.
    across = (batch.x[:, 0].double().sum(1) * torch.arange(16)).sum(1) / batch.x[:, 0].double().sum((1, 2))
    assert np.corrcoef(across, factors.values[:, 3])[0, 1] > 0.95
    both, parts = factors_of(data, ("validation", "test"), limit=30), list(data.batches(("validation", "test"), 8, 30))
    assert len(both) == 30 and torch.equal(both.values[:, 0], torch.cat([part.label for part in parts])), "a part of two splits, in the same order"
    with pytest.raises(UserError, match="no known factors"):
        factors_of(open_data("digits"))


def test_a_model_is_measured_by_its_means() -> None:
    data = open_data("shapes:400", size=(9, 11))
    model = scrambled(vae("mlp", shape=[1, 9, 11]))
    known = factors_of(data, "train", limit=100)
    factors = Factors(known.values[:, :2], known.names[:2], known.unordered)
    codes = means(model, data.batches("train", 64, 100))
    rows = data.positions("train", 100)[0][1]
    assert torch.allclose(codes[64:], model.encode(data.batch("train", rows[64:]))[0].double(), atol=1e-6)
    figures = measure(model, data.batches("train", 64, 100), factors, active=0.0)
    assert figures == scores(codes, factors.values, unordered=(0,)) and all(0 <= value <= 1 for value in figures.values())
    idle = measure(model, data.batches("train", 64, 100), factors, active=1e9)
    assert idle["mig"] == idle["factor_vae_score"] == idle["irs"] == 0.0
    with pytest.raises(UserError, match="the same images"):
        measure(model, data.batches("train", 64, 50), factors)
    with pytest.raises(UserError, match="no known factors"):
        factors_of(open_data(np.zeros((20, 8, 8), np.uint8) + np.arange(20, dtype=np.uint8)[:, None, None]))


def test_codes_of_a_codebook_are_refused() -> None:
    model = vae("mlp")
    model.encode = lambda batch: (torch.zeros(len(batch), 3, dtype=torch.long),)
    with pytest.raises(UserError, match="codebook"):
        means(model, [torch.zeros(4, 2, 9, 11)])
