"""Evaluation against what is known in closed form: the linear-Gaussian VAE, constructed latents, constructed images."""

import json
import math

import numpy as np
import pytest
import torch
from jaxtyping import Float
from scipy.stats import multivariate_normal
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from vaekit.data.spec import DataSpec
from vaekit.errors import UserError
from vaekit.evaluation import (
    LatentStatistics,
    collapse_warning,
    elbo,
    evaluate_batches,
    iw_bound,
    mean_and_se,
    mse,
    psnr,
    report,
    ssim,
)
from vaekit.evaluation.reconstruction import Reconstructions, detail
from vaekit.latents import DiagonalGaussian, Flat, StandardNormal
from vaekit.likelihoods.bernoulli import Bernoulli
from vaekit.likelihoods.gaussian import Gaussian
from vaekit.model import VAE
from vaekit.networks.base import Decoder, Encoder
from vaekit.output import Batch, LatentTerm

SIGMA, LATENT, SHAPE = 0.7, 2, (1, 2, 3)
FLOATS = DataSpec("values", SHAPE, None, mean=(0.0,), std=(1.0,), count=96)
GREY = DataSpec("pixels", (1, 8, 8), 256)


class Flatten(Encoder):
    def forward(self, x: Float[Tensor, "B C H W"], c: Tensor | None = None) -> Float[Tensor, "B F"]:
        return x.flatten(1)


class Linear(Decoder):
    def __init__(self, latent: int, shape: list[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.map = nn.Linear(latent, math.prod(shape))

    def forward(self, d: Float[Tensor, "N D"], c: Tensor | None = None, target: Tensor | None = None) -> Float[Tensor, "N P H W"]:
        return self.map(d).view(-1, *self.shape)


def linear_gaussian(error: float = 0.0) -> tuple[VAE, np.ndarray, np.ndarray]:
    """x = W z + b + sigma noise with orthogonal columns, for which the exact posterior is diagonal; `error` is that of the encoder.

    Also the mean and the covariance of p(x)."""
    dimensions = math.prod(SHAPE)
    rng = np.random.default_rng(1)
    w = np.linalg.qr(rng.normal(size=(dimensions, LATENT)))[0] * np.array([1.5, 0.8])
    b = rng.normal(size=dimensions)
    model = VAE(
        Flatten(),
        Flat(DiagonalGaussian(dimensions, LATENT), StandardNormal([LATENT])),
        Linear(LATENT, list(SHAPE)),
        Gaussian(sigma=SIGMA, channels=1, levels=None, mean=[0.0], std=[1.0]),
    )
    variance = 1 / (1 + (w**2).sum(0) / SIGMA**2)
    gain = variance[:, None] * w.T / SIGMA**2
    head, decoder = model.latent.posterior.head, model.decoder.map
    with torch.no_grad():
        decoder.weight.copy_(torch.from_numpy(w))
        decoder.bias.copy_(torch.from_numpy(b))
        head.weight.copy_(torch.from_numpy(np.concatenate([gain, np.zeros_like(gain)])))
        head.bias.copy_(torch.from_numpy(np.concatenate([-gain @ b + error, np.log(variance) + error])))
    return model, b, w @ w.T + SIGMA**2 * np.eye(dimensions)


def images(n: int, mean: np.ndarray, covariance: np.ndarray) -> tuple[list[Batch], Float[Tensor, "n"]]:
    """Draws of p(x) in batches of 32, and their exact log p(x)."""
    x = np.random.default_rng(2).multivariate_normal(mean, covariance, size=n)
    raw = torch.from_numpy(x).float().view(n, *SHAPE)
    return [Batch(part) for part in raw.split(32)], torch.from_numpy(multivariate_normal(mean, covariance).logpdf(x))


def test_elbo_is_the_exact_log_likelihood_when_the_posterior_is_exact() -> None:
    model, mean, covariance = linear_gaussian()
    batches, exact = images(64, mean, covariance)
    assert torch.allclose(iw_bound(model, batches, k=7, chunk=3), exact, atol=1e-4)
    # One sample of an exact posterior: log p(x) on average, with the closed form of the divergence.
    bound = torch.stack([elbo(model, batches, seed=i).elbo for i in range(200)])
    assert abs((bound - exact).mean()) < 0.03


def test_the_bounds_are_in_order_and_reach_the_likelihood() -> None:
    model, mean, covariance = linear_gaussian(error=0.4)
    batches, exact = images(96, mean, covariance)
    one = torch.stack([elbo(model, batches, seed=i).elbo for i in range(50)]).mean()
    ten = torch.stack([iw_bound(model, batches, k=10, chunk=10, seed=i) for i in range(10)]).mean()
    many = iw_bound(model, batches, k=4000, chunk=1000)
    assert one < ten - 0.05 < many.mean()
    assert abs(many - exact).mean() < 0.03 and abs((many - exact).mean()) < 0.01


def test_one_sample_gives_the_elbo_and_chunks_change_nothing_in_expectation() -> None:
    model, mean, covariance = linear_gaussian(error=0.4)
    batches, _ = images(32, mean, covariance)
    analytic = torch.stack([elbo(model, batches, seed=i).elbo for i in range(400)]).mean(0)
    sampled = torch.stack([iw_bound(model, batches, k=1, seed=1000 + i) for i in range(400)]).mean(0)
    assert abs((analytic - sampled).mean()) < 0.05
    chunked = [torch.stack([iw_bound(model, batches, k=12, chunk=chunk, seed=i) for i in range(60)]).mean() for chunk in (1, 5, 12, 100)]
    assert max(chunked) - min(chunked) < 0.05


def test_figures_depend_on_the_seed_and_the_position_alone() -> None:
    model, mean, covariance = linear_gaussian(error=0.4)
    batches, _ = images(80, mean, covariance)
    model.train()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = iw_bound(model, batches, k=3, seed=4)
    assert torch.equal(torch.get_rng_state(), before) and model.training
    torch.rand(9)
    assert torch.equal(iw_bound(model, batches, k=3, seed=4), first)
    assert not torch.equal(iw_bound(model, batches, k=3, seed=5), first)
    assert torch.equal(iw_bound(model, batches[1:], k=3, seed=4, start=32), first[32:])
    assert torch.equal(elbo(model, iter(batches), seed=4).elbo, evaluate_batches(model, batches, seed=4).bound.elbo)


def test_the_global_generator_survives_an_error() -> None:
    model, *_ = linear_gaussian()
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError):
        elbo(model, [torch.zeros(2, 3, 3, 3)])
    assert torch.equal(torch.get_rng_state(), before)


def test_no_images_are_refused() -> None:
    with pytest.raises(UserError, match="no images"):
        elbo(linear_gaussian()[0], [])


def test_bf16_is_near_and_progress_is_told() -> None:
    model, mean, covariance = linear_gaussian(error=0.1)
    batches, _ = images(70, mean, covariance)
    seen: list[tuple[int, int | None]] = []
    rough = elbo(model, batches, precision="bf16", progress=lambda done, total: seen.append((done, total)), total=70)
    assert seen == [(32, 70), (64, 70), (70, 70)]
    assert abs(rough.elbo.mean() - elbo(model, batches).elbo.mean()) < 0.3
    with pytest.raises(UserError, match="precision"):
        elbo(model, batches, precision="fp16")


def test_the_parts_add_up() -> None:
    model, mean, covariance = linear_gaussian(error=0.4)
    bound = elbo(model, images(64, mean, covariance)[0])
    means = bound.means()
    assert means["elbo_nats"] == -(means["rate_nats"] + means["distortion_nats"])
    assert math.isclose(means["elbo_nats"], bound.elbo.mean().item(), rel_tol=1e-9)
    assert math.isclose(means["rate_nats"], means["cross_entropy_nats"] - means["entropy_nats"], rel_tol=1e-9)
    # Entropy of a Gaussian with the posterior's variances, in closed form.
    log_variance = model.latent.posterior.head.bias[LATENT:].sum().item()
    assert math.isclose(means["entropy_nats"], 0.5 * (LATENT * (1 + math.log(2 * math.pi)) + log_variance), rel_tol=1e-5)


def test_mean_and_standard_error() -> None:
    values = torch.tensor([1.0, 2.0, 3.0, 6.0]).double()
    mean, se = mean_and_se(values)
    assert mean == 3 and se is not None and math.isclose(se, np.std([1, 2, 3, 6], ddof=1) / 2)
    assert mean_and_se(values[:1]) == (1.0, None)


def term(mean: Tensor, scale: float | Tensor = 1.0) -> LatentTerm:
    one = torch.ones_like(mean)
    q, p = Independent(Normal(mean, one * scale), mean.dim() - 1), Independent(Normal(torch.zeros_like(mean[0]), one[0]), mean.dim() - 1)
    return LatentTerm(mean, q, p)


def test_active_units_are_those_whose_mean_moves() -> None:
    x = torch.randn(500, 1)
    means = torch.cat([x, 0.11 * x / x.std(), 0.09 * x / x.std(), torch.full_like(x, 3.0)], dim=1)
    stats = LatentStatistics()
    for part in means.split([1, 99, 150, 250]):
        stats.update([term(part, 0.5)])
    layer = stats.layers[0]
    assert stats.active_units == 2 and stats.latent_dim == 4 and layer.images == 500
    assert torch.allclose(layer.variance_of_means, means.double().var(0, correction=0), rtol=1e-6, atol=1e-9)
    assert torch.allclose(layer.posterior_variance, torch.full((4,), 0.25).double())
    kl = 0.5 * (means.double() ** 2 + 0.25 - 1) - math.log(0.5)
    assert torch.allclose(stats.rate_per_dim, kl.mean(0), rtol=1e-5)
    assert math.isclose(stats.rate, kl.sum(1).mean().item(), rel_tol=1e-5)


def test_layers_are_counted_together_and_points_have_no_rate() -> None:
    stats = LatentStatistics()
    maps = torch.randn(50, 2, 3, 3)
    stats.update([term(maps), LatentTerm(torch.randn(50, 4))])
    assert stats.latent_dim == 22 and stats.active_units == 22 and stats.rate_per_dim is None
    indices = LatentStatistics()
    indices.update([LatentTerm(torch.randint(0, 9, (5, 1, 4, 4)))])
    assert indices.active_units is None and collapse_warning(indices) is None


def test_collapse_is_told_with_its_cure() -> None:
    def statistics(used: int, dimensions: int, size: float, scale: float = 1.0) -> LatentStatistics:
        means = torch.zeros(2000, dimensions)
        means[:, :used] = size * torch.randn(2000, used)
        scales = torch.ones(dimensions)
        scales[:used] = scale
        stats = LatentStatistics()
        stats.update([term(means, scales)])
        return stats

    message = collapse_warning(statistics(2, 40, 0.85))
    assert message is not None and message.startswith("2 of 40 latent dimensions are used (rate 0.")
    assert "the posterior is collapsing; try --warmup 0.3, --free-bits 0.25 or a smaller --beta" in message
    assert (collapse_warning(statistics(0, 8, 0.0)) or "").startswith("0 of 8 latent dimensions are used")
    assert (collapse_warning(statistics(1, 64, 1.0, 0.05)) or "").startswith("1 of 64 latent dimensions is used (rate 3")
    assert collapse_warning(statistics(2, 2, 1.0, 0.1)) is None
    assert collapse_warning(statistics(10, 512, 1.0, 0.05)) is None  # few, but full


def test_mse_and_psnr_in_closed_form() -> None:
    x = torch.randint(0, 240, (3, 1, 8, 8), dtype=torch.uint8)
    y = x.float() + torch.tensor([0.0, 5.0, 12.0]).view(3, 1, 1, 1)
    assert torch.allclose(mse(x, y), torch.tensor([0.0, 25.0, 144.0]).double())
    assert torch.allclose(psnr(x, y, GREY)[1:], 20 * torch.log10(255 / torch.tensor([5.0, 12.0]).double()))
    assert psnr(x, x, GREY).tolist() == [100.0] * 3
    mask = torch.zeros(3, 1, 8, 8, dtype=torch.bool)
    mask[..., 0] = True
    y[..., 1:] = 0
    assert torch.allclose(mse(x, y, mask), torch.tensor([0.0, 25.0, 144.0]).double())
    deep = DataSpec("pixels", (1, 8, 8), 65536)
    wide = torch.full((1, 1, 8, 8), 65535.0).to(torch.uint16)
    assert torch.allclose(psnr(wide, torch.zeros(1, 1, 8, 8), deep), torch.zeros(1).double())
    floats = DataSpec("values", (2, 4, 4), None, mean=(5.0, 0.0), std=(2.0, 0.1))
    z = torch.randn(2, 2, 4, 4)
    off = z + torch.tensor([1.2, 0.06]).view(1, 2, 1, 1)  # a tenth of six standard deviations
    assert torch.allclose(psnr(z, off, floats), torch.full((2,), 20.0).double(), atol=1e-3)


def test_the_sharpness_of_reconstructions_in_closed_form() -> None:
    """Contrast c leaves c^2 of the variance of a Laplacian; sigma^2 of noise adds sigma^2 (16 + 4), in units of the range."""
    torch.manual_seed(0)
    x = torch.randint(0, 256, (40, 1, 30, 30)).float()
    spec = DataSpec("pixels", (1, 30, 30), 256)

    def ratio(y: Tensor, mask: Tensor | None = None, x: Tensor = x) -> float:
        nothing = torch.zeros(len(x), dtype=torch.float64)
        return Reconstructions(nothing, nothing, nothing, detail(x, y, spec, mask)).sharpness

    assert ratio(x) == pytest.approx(1.0) and ratio(0.5 * x + 40) == pytest.approx(0.25) and ratio(torch.full_like(x, 9.0)) == pytest.approx(0.0)
    own = detail(x, x, spec)[0].mean().item()
    noisy = ratio(x + 25.5 * torch.randn_like(x))
    assert (noisy - 1) * own == pytest.approx(0.1**2 * 20, rel=0.05)
    # What is missing does not count, whatever stands there: an image of half the contrast keeps its quarter.
    seen = torch.rand(x.shape) < 0.9
    assert ratio(torch.where(seen, 0.5 * x + 40, 200.0), seen, torch.where(seen, x, 60.0)) == pytest.approx(0.25)
    box = torch.ones(x.shape, dtype=torch.bool)
    box[..., 10:] = False
    assert torch.allclose(detail(x, x, spec, box), detail(x[..., :10], x[..., :10], spec))
    assert math.isnan(ratio(x, torch.zeros_like(box)))
    assert math.isnan(ratio(x[..., :2], None, x[..., :2]))


def reference_ssim(x: np.ndarray, y: np.ndarray, size: int, sigma: float) -> float:
    """Wang et al., Eq. 13, at each place of one channel in unit range, by loops; the edges are reflected."""
    r = size // 2
    w = np.exp(-0.5 * (np.arange(-r, r + 1) / sigma) ** 2)
    w = np.outer(w, w) / w.sum() ** 2
    x, y = np.pad(x, r, mode="reflect"), np.pad(y, r, mode="reflect")
    values = []
    for i in range(x.shape[0] - 2 * r):
        for j in range(x.shape[1] - 2 * r):
            a, b = x[i : i + size, j : j + size], y[i : i + size, j : j + size]
            ma, mb = (w * a).sum(), (w * b).sum()
            va, vb, cov = (w * a * a).sum() - ma**2, (w * b * b).sum() - mb**2, (w * a * b).sum() - ma * mb
            values.append((2 * ma * mb + 1e-4) * (2 * cov + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4)))
    return float(np.mean(values))


@pytest.mark.parametrize(("side", "window"), [(14, 11), (11, 11), (10, 9), (8, 7), (5, 5), (3, 3)])
def test_ssim_with_a_window_that_fits(side: int, window: int) -> None:
    x = torch.randint(0, 256, (2, 1, side, side)).to(torch.uint8)
    y = (x.float() + 40 * torch.randn(x.shape)).clamp(0, 255)
    expected = [
        reference_ssim(a[0].numpy() / 255, b[0].numpy() / 255, window, 1.5 * (window // 2) / 5) for a, b in zip(x.double(), y.double(), strict=True)
    ]
    assert torch.allclose(ssim(x, y, GREY), torch.tensor(expected).double(), atol=1e-3)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 9), (2, 4, 20), (3, 2, 2), (5, 12, 7)])
def test_ssim_of_any_shape(shape: tuple[int, int, int]) -> None:
    x = torch.randint(0, 256, (4, *shape)).to(torch.uint8)
    spec = DataSpec("pixels", shape, 256)
    assert torch.allclose(ssim(x, x, spec), torch.ones(4).double(), atol=1e-4)
    assert bool((ssim(x, 255 - x.float(), spec) < 1).all())


def test_a_report_of_a_density() -> None:
    model, mean, covariance = linear_gaussian(error=0.2)
    batches, exact = images(96, mean, covariance)
    seen: list[tuple[int, int | None]] = []
    figures = report(model, FLOATS, lambda: iter(batches), samples=50, limit=90, progress=lambda done, total: seen.append((done, total)))
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    assert math.isclose(figures["elbo_nats"], -(figures["rate_nats"] + figures["distortion_nats"]), rel_tol=1e-6)
    assert math.isclose(figures["rate_nats"], figures["cross_entropy_nats"] - figures["entropy_nats"], rel_tol=1e-6)
    assert figures["images"] == 90 and figures["iw_samples"] == 50
    assert figures["elbo_nats"] - 0.2 < figures["iw_bound_nats"] < exact[:90].mean() + 3 * figures["iw_bound_nats_se"]
    assert figures["bits_per_dim"] is None and figures["iw_bits_per_dim"] is None
    assert (figures["likelihood"], figures["likelihood_kind"]) == ("gaussian", "density")
    assert figures["active_units"] == figures["latent_dim"] == len(figures["rate_per_dim_nats"]) == 2
    assert seen[-1] == (90 * 52, 90 * 52) and [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert report(model, FLOATS, lambda: iter(batches), samples=50, limit=90) == figures


def test_a_report_of_probabilities() -> None:
    spec = DataSpec("pixels", (1, 4, 4), 2)
    model = VAE(Flatten(), Flat(DiagonalGaussian(16, 3), StandardNormal([3])), Linear(3, [1, 4, 4]), Bernoulli())
    x = torch.randint(0, 2, (40, 1, 4, 4)).to(torch.uint8)
    figures = report(model, spec, lambda: x.split(16), samples=8)
    assert math.isclose(figures["bits_per_dim"], -figures["elbo_nats"] / (16 * math.log(2)), rel_tol=1e-9)
    assert math.isclose(figures["iw_bits_per_dim"], -figures["iw_bound_nats"] / (16 * math.log(2)), rel_tol=1e-9)
    assert figures["likelihood"] == "bernoulli"
    for none in (0, None):
        short = report(model, spec, lambda: x.split(16), samples=none)
        assert short["iw_bound_nats"] is short["iw_bound_nats_se"] is short["iw_samples"] is short["iw_bits_per_dim"] is None
        assert short["elbo_nats"] == figures["elbo_nats"]
    single = report(model, spec, lambda: x.split(16), samples=0, limit=1)
    assert single["images"] == 1 and single["elbo_nats_se"] is None


def test_a_broken_model_reports_no_figure_rather_than_nan() -> None:
    model, mean, covariance = linear_gaussian()
    with torch.no_grad():
        model.decoder.map.bias.fill_(math.nan)
    figures = report(model, FLOATS, lambda: images(8, mean, covariance)[0], samples=2)
    json.dumps(figures, allow_nan=False)
    assert figures["elbo_nats"] is None and figures["iw_bound_nats"] is None and figures["psnr_db"] is None and figures["rate_nats"] is not None
