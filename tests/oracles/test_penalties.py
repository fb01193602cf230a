"""Penalties against the papers' formulas written out as loops, closed forms, and Monte-Carlo; and the defects of other libraries, by name."""

import copy
import math

import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance
from torch import Tensor, nn
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure, structural_similarity_index_measure

from tests.contracts.examples import SHAPE, batch, raw, scrambled, spec_of, vae
from tests.contracts.families.penalties import EXAMPLES
from vaekit.errors import UserError
from vaekit.latents import Flat, StandardNormal
from vaekit.latents.posteriors.point import PointPosterior
from vaekit.likelihoods import Bernoulli, Gaussian
from vaekit.model import VAE
from vaekit.networks import ConvDecoder, Decoder, Encoder, ResNetDecoder
from vaekit.networks.spectral import SpectralDecoder
from vaekit.objectives import ELBO, Constant, Warmup
from vaekit.output import Batch, LatentTerm, VAEOutput
from vaekit.part import build, spec
from vaekit.penalties import (
    DIP,
    MMD,
    MSSSIM,
    CodeNorm,
    Consistency,
    DecoderGradient,
    Penalty,
    Perceptual,
    SlicedWasserstein,
    TotalCorrelation,
)
from vaekit.penalties.mmd import KERNELS
from vaekit.penalties.ms_ssim import EXPONENTS, ms_ssim, scales_for
from vaekit.penalties.total_correlation import stratified, weighted
from vaekit.recipes import adversarial, autoencoders, build_recipe, disentangle, perceptual  # noqa: F401 (each registers its recipes)
from vaekit.testing import check_model, check_penalty
from vaekit.training.critics import Critics
from vaekit.training.ema import Average
from vaekit.training.options import Training
from vaekit.training.task import ANSWERS, Task

MINE = ["beta-tc", "factor", "dip-i", "dip-ii", "info-mmd", "wae-mmd", "sliced-wasserstein", "rae-l2", "rae-gp", "rae-sn"]
MINE += ["ms-ssim", "perceptual", "vae-gan", "aae", "consistency"]


def output(mean: Tensor, std: Tensor, z: Tensor | None = None, prior: Tensor | None = None) -> VAEOutput:
    """What a penalty on codes looks at, and nothing else."""
    q = Independent(Normal(mean, std), 1)
    z = q.rsample() if z is None else z
    px = Independent(Normal(torch.zeros(len(z), 1, 2, 2), 1.0), 3)
    asked = {} if prior is None else {"prior_codes": prior}
    return VAEOutput(Batch(torch.zeros(len(z), 1, 2, 2)), px, torch.zeros(1, len(z)), (LatentTerm(z, q),), asked=asked)


# ---- total correlation


def paper_tc(z: Tensor, mean: Tensor, std: Tensor, count: int) -> list[float]:
    """Appendix C.2 of Chen et al. as loops: 1/N for the sample's own image, (N - M)/(N M) for one other, 1/M for the rest."""
    size, dimensions = z.shape
    m_ = size - 1
    values = []
    for i in range(size):
        density, marginals = 0.0, [0.0] * dimensions
        for m in range(size):
            w = 1 / count if m == i else (count - m_) / (count * m_) if m == (i + 1) % size else 1 / m_
            each = [math.exp(Normal(mean[m, j], std[m, j]).log_prob(z[i, j]).item()) for j in range(dimensions)]
            density += w * math.prod(each)
            marginals = [a + w * b for a, b in zip(marginals, each, strict=True)]
        values.append(math.log(density) - sum(math.log(v) for v in marginals))
    return values


def test_mss_weights_written_along_a_column_instead_of_the_diagonal() -> None:
    for size, count in ((5, 100), (7, 7), (2, 50)):
        w = stratified(size, count)
        assert torch.allclose(w.sum(1), torch.ones(size)), "the weights of each sample sum to 1"
        assert torch.allclose(w.diagonal(), torch.full((size,), 1 / count)), "the own image of a sample has the weight 1/N"
        assert torch.allclose(w.sum(0), torch.ones(size)), "a column that holds all the special entries has another sum"
    mean, std = torch.randn(6, 3).double(), torch.rand(6, 3).double() + 0.3
    out = output(mean, std)
    expected = torch.tensor(paper_tc(out.terms[0].z, mean, std, 40), dtype=torch.double)
    assert torch.allclose(TotalCorrelation(40)(out), expected, atol=1e-5)


def test_stratified_weights_are_unbiased_for_the_aggregate_density() -> None:
    """The mean over batches, for a sample of image 0, is 1/N sum_n q(z|x_n)."""
    count, size, draws = 12, 5, 20000
    density = torch.rand(count, generator=torch.Generator().manual_seed(1))
    w = stratified(size, count)[0]
    others = torch.rand(draws, count - 1).argsort(1)[:, : size - 1] + 1
    chosen = torch.cat([torch.zeros(draws, 1, dtype=torch.long), others], 1)
    estimates = density[chosen] @ w
    assert abs(estimates.mean() - density.mean()) < 5 * estimates.std() / math.sqrt(draws)


def test_log_importance_weights_added_before_summing_over_dimensions() -> None:
    """The joint density gets each weight once, and not once for each dimension: posteriors that are all the same have no total correlation."""
    for dimensions in (1, 3, 20):
        out = output(torch.zeros(8, dimensions), torch.ones(8, dimensions))
        for estimator in ("stratified", "weighted"):
            assert torch.allclose(TotalCorrelation(1000, estimator)(out), torch.zeros(8), atol=1e-4), "constants are left over"


@pytest.mark.parametrize("estimator", ["stratified", "weighted"])
@pytest.mark.parametrize("rho", [0.0, 0.8])
def test_total_correlation_of_a_known_gaussian(estimator: str, rho: float) -> None:
    """Means from N(0, S) and a posterior of variance s^2 make the aggregate N(0, S + s^2 I), with TC = -1/2 log det of its correlation."""
    count, s = 1500, 0.4
    covariance = torch.tensor([[1.0, rho], [rho, 1.0]])
    mean = MultivariateNormal(torch.zeros(2), covariance).sample((count,))
    value = TotalCorrelation(count, estimator)(output(mean, torch.full((count, 2), s)))
    exact = -0.5 * math.log(1 - (rho / (1 + s**2)) ** 2)
    assert abs(value.mean().item() - exact) < 5 * value.std().item() / math.sqrt(count) + 0.02


def test_tc_maximized() -> None:
    """A step down the penalty makes correlated codes less correlated."""
    base = torch.randn(256, 1)
    mean = torch.cat([base, base + 0.3 * torch.randn(256, 1)], 1).requires_grad_()
    noise = torch.randn(256, 2)
    before = torch.corrcoef(mean.detach().T)[0, 1]
    for _ in range(20):
        loss = TotalCorrelation(256)(output(mean, torch.full((256, 2), 0.3), mean + 0.3 * noise)).mean()
        (gradient,) = torch.autograd.grad(loss, mean)
        mean = (mean - 25 * gradient).detach().requires_grad_()
    assert torch.corrcoef(mean.detach().T)[0, 1] < before - 0.05
    assert build_recipe("beta-tc", spec_of([1, 28, 28])).penalties[0].schedule.at(1.0) > 0


@pytest.mark.parametrize("options", [{"beta": 4.0}, {"knobs": {"beta": 4.0}}], ids=str)
def test_beta_kl_plus(options: dict) -> None:
    """The loss is KL + (beta - 1) TC, and not beta KL + (beta - 1) TC."""
    recipe = build_recipe("beta-tc", spec_of([1, 12, 12]), scale=0.1, **options)
    task = Task(scrambled(recipe.model).eval(), recipe.objective, recipe.penalties)
    task.progress(1.0)
    x = batch(8, [1, 12, 12])
    torch.manual_seed(1)
    loss = task(x).loss
    torch.manual_seed(1)
    out = recipe.model(x)
    expected = (out.distortion + out.rate()).mean() + 3 * TotalCorrelation(100)(out).mean()
    assert torch.allclose(loss, expected, rtol=1e-5)


def test_weights_of_the_estimators() -> None:
    assert torch.allclose(weighted(4, 10), torch.full((4, 4), 0.25))
    assert torch.allclose(stratified(8, 0), stratified(8, 8)), "where N is unknown the batch stands for all"
    with pytest.raises(UserError, match="stratified or weighted"):
        TotalCorrelation(10, "none")


# ---- DIP


def test_dip_covariance_centred_over_the_latent_axis() -> None:
    """C is what numpy says of the means over the batch."""
    mean, std = torch.randn(50, 4) * torch.tensor([1.0, 2.0, 0.1, 1.0]) + torch.arange(4.0), torch.rand(50, 4) + 0.1
    cov = np.cov(mean.numpy().T)
    off = (cov**2).sum() - (cov.diagonal() ** 2).sum()
    expected = 3 * off + 7 * ((cov.diagonal() - 1) ** 2).sum()
    assert DIP("I", 3.0, 7.0)(output(mean, std)).item() == pytest.approx(expected, rel=1e-4)
    shifted = output(mean + 100 * torch.randn(4), std)
    assert DIP("I", 3.0, 7.0)(shifted).item() == pytest.approx(expected, rel=1e-2), "a constant is no covariance"


def test_dip_sigma_to_the_fourth() -> None:
    """The second kind adds the mean variance, sigma^2: means and codes of total variance 1 cost nothing on the diagonal."""
    torch.manual_seed(1)
    count = 4000
    mean = math.sqrt(0.75) * torch.randn(count, 3)
    q = output(mean, torch.full((count, 3), 0.5))
    sample = np.cov(torch.randn(40, count, 3).mul(0.5).add(mean).flatten(0, 1).numpy().T)
    kind = DIP("II", 1.0, 1.0)
    assert np.allclose(kind.covariance_of(q.terms[0].q, count).numpy(), sample, atol=0.01)
    assert kind(q).item() < 0.02
    with pytest.raises(UserError, match="I and II"):
        DIP("III")


# ---- distances of samples


def test_mmd_is_the_textbook_double_sum() -> None:
    a, b = torch.randn(6, 3).double(), torch.randn(9, 3).double()
    for kernel in KERNELS:

        def k(u: Tensor, v: Tensor, kernel: str = kernel) -> float:
            d2 = ((u - v) ** 2).sum().item()
            widths = [2 * 3 * 1.5**2 * s for s in (0.5, 2.0)]
            return sum(math.exp(-d2 / c) if kernel == "rbf" else c / (c + d2) for c in widths) / 2

        within = [sum(k(s[i], s[j]) for i in range(len(s)) for j in range(len(s)) if i != j) / (len(s) * (len(s) - 1)) for s in (a, b)]
        across = sum(k(u, v) for u in a for v in b) / (len(a) * len(b))
        assert MMD(kernel, 1.5, (0.5, 2.0)).between(a, b).item() == pytest.approx(sum(within) - 2 * across, abs=1e-6)


def test_rbf_mmd_of_two_gaussians_in_closed_form() -> None:
    """E k of N(0, I) and N(mu, I) for k = exp(-d^2 / C): (C / (C + 4))^(D/2) exp(-|mu|^2 / (C + 4))."""
    d, mu = 2, torch.tensor([1.0, -0.5])
    c = 2 * d
    factor = (c / (c + 4)) ** (d / 2)
    exact = 2 * factor * (1 - math.exp(-(mu @ mu).item() / (c + 4)))
    draws = torch.stack([MMD("rbf", scales=(1.0,)).between(torch.randn(64, d) + mu, torch.randn(64, d)) for _ in range(400)])
    assert abs(draws.mean() - exact) < 5 * draws.std() / math.sqrt(400)


@pytest.mark.parametrize("kernel", ["rbf", "imq"])
def test_weights_divided_by_b_times_b_minus_1_on_top_of_means(kernel: str) -> None:
    """The expectation does not depend on the batch size, and is 0 for codes that follow the prior."""
    penalty = MMD(kernel)
    for shift in (0.0, 1.0):
        means, errors = [], []
        for size in (2, 8, 64):
            draws = torch.stack(
                [penalty(output(torch.zeros(size, 3), torch.ones(size, 3), torch.randn(size, 3) + shift, torch.randn(size, 3))) for _ in range(250)]
            )
            means.append(draws.mean().item())
            errors.append(draws.std().item() / math.sqrt(250))
        for i in (0, 1):
            assert abs(means[i] - means[2]) < 4.5 * math.hypot(errors[i], errors[2]), (means, errors)
        assert (abs(means[2]) < 4.5 * errors[2]) == (shift == 0.0)


def test_sliced_wasserstein_is_the_sorted_distance() -> None:
    """In one dimension there is one direction: scipy's W1 where one sample is the other shifted, and the quantiles' squared distance always."""
    a, b = torch.randn(200, 1), torch.randn(200, 1) * 2 + 1
    value = SlicedWasserstein(3)(output(a, torch.ones_like(a), a, b)).item()
    assert value == pytest.approx(((a.sort(0).values - b.sort(0).values) ** 2).mean().item(), rel=1e-5)
    shifted = SlicedWasserstein(3)(output(a, torch.ones_like(a), a, a + 2)).item()
    assert math.sqrt(shifted) == pytest.approx(wasserstein_distance(a[:, 0].numpy(), a[:, 0].numpy() + 2), rel=1e-4)
    z = torch.randn(300, 5)
    v = torch.tensor([3.0, 0, 0, 0, 0])
    draws = torch.stack([SlicedWasserstein(50)(output(z, torch.ones_like(z), z, z[torch.randperm(300)] + v)) for _ in range(50)])
    assert abs(draws.mean() - 9 / 5) < 5 * draws.std() / math.sqrt(50)


# ---- autoencoders


class Linear(Decoder):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2 * 4 * 5)

    def forward(self, d: Tensor, c: Tensor | None = None, target: Tensor | None = None) -> Tensor:
        return self.linear(d).view(len(d), 2, 4, 5)


class Ident(Encoder):
    def __init__(self) -> None:
        super().__init__()
        self.features = 40

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        return x.flatten(1)


def linear_model() -> VAE:
    likelihood = Gaussian(sigma=0.5, channels=2, levels=None, mean=[3.0, 3.0], std=[2.0, 2.0])
    return VAE(Ident(), Flat(PointPosterior(40, 3), StandardNormal([3])), Linear(), likelihood)


def test_decoder_gradient_is_the_frobenius_norm_of_the_jacobian() -> None:
    model = linear_model()
    exact = model.decoder.linear.weight.square().sum().item()
    penalty = DecoderGradient(None, [3.0, 3.0], [2.0, 2.0])
    draws = torch.cat([penalty(model(torch.randn(64, 2, 4, 5))).detach() for _ in range(20)])
    assert abs(draws.mean().item() - exact) < 5 * draws.std().item() / math.sqrt(len(draws)), "in network units, whatever the raw ones"
    model.zero_grad()
    torch.manual_seed(0)
    torch.stack([penalty(model(torch.randn(256, 2, 4, 5))).mean() for _ in range(20)]).mean().backward()
    assert torch.allclose(model.decoder.linear.weight.grad, 2 * model.decoder.linear.weight, atol=0.15)
    with torch.no_grad():
        assert penalty(model(torch.randn(4, 2, 4, 5))).sum() == 0, "a pass that only measures has no gradient to look at"


def test_decoder_gradient_of_a_network_against_its_jacobian() -> None:
    model = scrambled(vae("resnet")).eval()
    out = model(batch(2))
    penalty = DecoderGradient(256)
    draws = torch.stack([penalty(out).detach() for _ in range(300)])
    for i in range(2):
        jacobian = torch.autograd.functional.jacobian(lambda z: model.likelihood(model.decoder(z)).mean / 255, out.terms[0].z[i : i + 1].detach())
        assert abs(draws[:, i].mean() - jacobian.square().sum()) < 5 * draws[:, i].std() / math.sqrt(300)


def test_code_norm_is_the_gaussian_without_its_constant() -> None:
    out = output(torch.randn(7, 4), torch.ones(7, 4))
    expected = -Independent(Normal(torch.zeros(4), 1.0), 1).log_prob(out.terms[0].z) - 2 * math.log(2 * math.pi)
    assert torch.allclose(CodeNorm()(out), expected, atol=1e-5)


@pytest.mark.parametrize("make", [lambda: ResNetDecoder(3, [2, 9, 11], [4, 8], dense=8, shortcut=8), lambda: ConvDecoder(3, [2, 9, 11], [4, 8], 16)])
def test_spectral_decoder(make) -> None:  # type: ignore[no-untyped-def]
    """Every layer has norm 1 after some passes; it is saved, copied, averaged and given its bias as any decoder."""
    decoder = SpectralDecoder(make()).train()
    for _ in range(60):
        decoder(torch.randn(4, 3))
    decoder.eval()
    layers = [m for m in decoder.modules() if isinstance(m, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d))]
    assert layers
    for layer in layers:
        weight = layer.weight.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else layer.weight
        assert torch.linalg.matrix_norm(weight.flatten(1), 2).item() == pytest.approx(1.0, abs=0.03)
    z = torch.randn(4, 3)
    again = build(spec(decoder)).eval()
    again.load_state_dict(decoder.state_dict())
    assert torch.equal(again(z), decoder(z)) and torch.equal(copy.deepcopy(decoder)(z), decoder(z))
    likelihood = Gaussian(channels=2)
    model = vae("mlp")
    model.decoder, model.likelihood = SpectralDecoder(make()), likelihood
    average = Average(model, 0.9)
    model.initialize(batch(16))
    model.train()(batch())
    average.update()
    average.evaluated()
    assert torch.isfinite(average.model.eval()(batch()).log_px).all()
    check_model(scrambled(model), batch(4))


# ---- what the eye sees


def test_ms_ssim_is_that_of_torchmetrics_on_a_large_image() -> None:
    x = torch.rand(3, 2, 192, 178)
    y = (x + 0.2 * torch.randn_like(x)).clamp(0, 1)
    theirs = multiscale_structural_similarity_index_measure(y, x, data_range=1.0, reduction="none")
    assert scales_for(192, 178) == 5
    assert torch.allclose(ms_ssim(y, x), theirs, atol=1e-5)


def test_product_over_scales_with_the_luminance_only_at_the_last() -> None:
    """A brighter image has a lower luminance term and the same contrast and structure: it counts once, at the last scale, with its exponent."""
    x = torch.rand(2, 1, 30, 28) * 0.5
    y = x + 0.2
    value, scales = ms_ssim(y, x), scales_for(30, 28)
    assert scales == 3
    small_x, small_y = (nn.functional.avg_pool2d(v, 4) for v in (x, y))
    last = structural_similarity_index_measure(small_y, small_x, sigma=[0.9, 0.9], data_range=1.0, reduction="none")
    assert torch.allclose(value, last ** (EXPONENTS[2] / sum(EXPONENTS[:3])), atol=2e-3)


@pytest.mark.parametrize("shape", [[1, 28, 28], [2, 9, 11], [3, 17, 30], [5, 1, 3], [1, 64, 7]], ids=str)
def test_ms_ssim_of_any_size_is_per_image(shape: list[int]) -> None:
    x = torch.rand(4, *shape)
    y = torch.rand(4, *shape)
    value = ms_ssim(y, x)
    assert torch.allclose(ms_ssim(x, x), torch.ones(4), atol=1e-5)
    assert torch.allclose(value, torch.cat([ms_ssim(y[i : i + 1], x[i : i + 1]) for i in range(4)]), atol=1e-5), "not a mean over the batch"
    y = (1 - x).requires_grad_()
    (gradient,) = torch.autograd.grad(ms_ssim(y, x).sum(), y)
    assert torch.isfinite(gradient).all(), "a similarity below 0 has a power without gradient"


@pytest.mark.parametrize("penalty", [MSSSIM(256), Perceptual(256), DecoderGradient(256)], ids=lambda p: type(p).__name__)
def test_the_perceptual_loss_gives_the_decoder_a_gradient(penalty: Penalty) -> None:
    model = scrambled(vae("mlp"))
    penalty(model(batch(4))).mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for n, p in model.decoder.named_parameters() if "weight" in n)


def test_a_network_of_ones_own_passes_the_gradient_and_stays_as_it_is(tmp_path) -> None:  # type: ignore[no-untyped-def]
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Tanh()).eval()
    path = tmp_path / "net.pt"
    torch.jit.save(torch.jit.trace(net, torch.rand(1, *SHAPE)), path)
    penalty = Perceptual(256, features=str(path))
    model = scrambled(vae("mlp"))
    task = Task(model, ELBO(), (penalty,)).train()
    before = {k: v.clone() for k, v in penalty._distance[0].state_dict().items()}
    x = batch(4)
    out = model(x)
    penalty(out).mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for n, p in model.decoder.named_parameters() if "weight" in n)
    assert all(torch.equal(v, before[k]) for k, v in penalty._distance[0].state_dict().items()), "batch norm is frozen too"
    assert not any("net" in k for k in task.state_dict()) and not any(p is q for p in task.parameters() for q in penalty._distance[0].parameters())
    expected = 0.5 * (net(out.px.mean / 255) - net(x.x / 255)).square().sum((1, 2, 3))
    assert torch.allclose(penalty(out), expected, rtol=1e-4)
    copied = copy.deepcopy(task)
    assert torch.isfinite(copied(x).loss)


def test_features_that_are_not_there_are_refused(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match="no file"):
        Perceptual(256, features=str(tmp_path / "none.pt"))
    (tmp_path / "text.pt").write_text("text")
    with pytest.raises(UserError, match="TorchScript"):
        Perceptual(256, features=str(tmp_path / "text.pt"))
    with pytest.raises(UserError, match="pip install lpips"):
        Perceptual(256, features="lpips")


def test_laplacian_distance() -> None:
    """A sum over values: 0 for equal images, homogeneous, a constant counts by its last band alone; two images side by side count twice."""
    distance = Perceptual(256)._distance[0]
    x, y = torch.rand(3, 2, 16, 16), torch.rand(3, 2, 16, 16)
    assert distance(x, x).abs().max() == 0
    assert torch.allclose(distance(3 * x, 3 * y), 3 * distance(x, y), rtol=1e-4)
    assert torch.allclose(distance(x + 0.5, x), torch.tensor(0.5 * 2 * 16 * 16), rtol=1e-3), "4^j undoes the smaller number of values"
    assert torch.allclose(distance(torch.cat([x, x], 1), torch.cat([y, y], 1)), 2 * distance(x, y), rtol=1e-4)


def test_images_stand_in_network_units_and_what_is_missing_is_equal() -> None:
    x = batch(3)
    model = scrambled(vae("mlp"))
    out = model(x)
    penalty = Perceptual(256)
    assert torch.allclose(penalty.images(out), x.x / 255) and torch.allclose(penalty.means(out), out.px.mean / 255)
    none = model(Batch(x.x, mask=torch.zeros(x.x.shape, dtype=torch.bool)))
    assert penalty(none).abs().max() == 0 and MSSSIM(256)(none).abs().max() < 1e-5
    floats = Perceptual(None, [1.0, 2.0], [0.5, 4.0])
    assert torch.allclose(floats.units.to_unit(torch.full((1, 2, 1, 1), 3.0)).flatten(), torch.tensor([4.0, 0.25]))
    assert torch.allclose(floats.shown(torch.tensor([-3.0, 3.0]).view(2, 1, 1, 1)).flatten(), torch.tensor([0.0, 1.0]))


# ---- consistency


def test_consistency_is_the_bound_of_the_moved_image_and_the_divergence() -> None:
    model = scrambled(vae("mlp"))
    x = batch(6)
    out = model(x)
    out.asked["moved"] = moved = ANSWERS["moved"](model, out)
    a, b = out.terms[0].q.base_dist, moved.terms[0].q.base_dist
    kl = kl_divergence(Normal(b.loc, b.scale), Normal(a.loc, a.scale)).sum(1)
    penalty = Consistency(0.3, beta=2.0)
    assert torch.allclose(penalty.divergence(out, moved), kl, rtol=1e-4), "KL(q(z|x~) || q(z|x)), in this order"
    assert not torch.allclose(kl, kl_divergence(Normal(a.loc, a.scale), Normal(b.loc, b.scale)).sum(1), rtol=1e-3)
    assert torch.allclose(penalty(out), (moved.distortion + 2 * moved.rate())[0] + 0.3 * kl, rtol=1e-5)
    out.asked["moved"] = out
    assert torch.allclose(Consistency(5.0)(out), (out.distortion + out.rate())[0], rtol=1e-6), "an image that did not move costs its own bound"


# ---- contracts of all of them


@pytest.mark.parametrize("name", [n for n in EXAMPLES if isinstance(EXAMPLES[n](), Penalty) and EXAMPLES[n]().critic is None])
@pytest.mark.parametrize("k", [1, 3])
def test_every_penalty_keeps_its_contract(name: str, k: int) -> None:
    model = scrambled(vae("mlp", likelihood=Gaussian(channels=2)))
    penalty = EXAMPLES[name]()
    for size in (1, 5):
        x = batch(size)
        out = model(x, k=k)
        for question in penalty.asks:
            out.asked[question] = ANSWERS[question](model, out)
        value = penalty(out)
        assert value.shape in {(), (size,)} and torch.isfinite(value).all() and value.requires_grad
    if k == 1 and not penalty.asks:
        check_penalty(penalty, model, batch())


@pytest.mark.parametrize("name", ["CodeNorm", "MSSSIM", "Perceptual", "Consistency"])
def test_penalties_of_single_images_do_not_look_at_the_batch(name: str) -> None:
    model, penalty = scrambled(vae("mlp")).eval(), EXAMPLES[name]()
    x = batch(4)
    out = model(x)
    out.asked["moved"] = ANSWERS["moved"](model, out)
    value = penalty(out)
    for i in range(4):

        def one(o: VAEOutput, i: int = i) -> VAEOutput:
            q = o.terms[0].q.base_dist
            px = type(o.px)(o.px.loc[i : i + 1], o.px.log_scale)
            term = LatentTerm(o.terms[0].z[i : i + 1], Independent(Normal(q.loc[i : i + 1], q.scale[i : i + 1]), 1), o.terms[0].p)
            return VAEOutput(o.batch[i : i + 1], px, o.log_px[:, i : i + 1], (term,))

        alone = one(out)
        alone.asked["moved"] = one(out.asked["moved"])
        assert torch.allclose(penalty(alone), value[i : i + 1], rtol=1e-4)


@pytest.mark.parametrize("name", MINE)
@pytest.mark.parametrize(("shape", "levels"), [([1, 28, 28], 2), ([3, 17, 30], 256), ([1, 12, 12], None), ([2, 9, 11], 256)], ids=str)
def test_recipes_take_a_step(name: str, shape: list[int], levels: int | None) -> None:
    """A step of the task with its critics: the loss is finite, and every parameter of the model gets a finite gradient."""
    recipe = build_recipe(name, spec_of(shape, levels), scale=0.25)
    check_model(scrambled(recipe.model), batch(3, shape, levels))
    recipe = build_recipe(name, spec_of(shape, levels), scale=0.25)
    critics = Critics(recipe.critics, Training(), torch.device("cpu"))
    task = Task(recipe.model, recipe.objective, recipe.penalties, recipe.critics)
    x = batch(6, shape, levels)
    task.initialize(x)
    scrambled(recipe.model)
    task.progress(1.0)
    task.train()
    step = task(x)
    (step.loss / x.x[0].numel()).backward()
    assert torch.isfinite(step.loss)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in recipe.model.parameters())
    assert all(math.isfinite(v) for v in critics.step(step.feeds).values())
    half = Task(recipe.model, recipe.objective, recipe.penalties, recipe.critics, precision="bf16")
    half.progress(1.0)
    assert torch.isfinite(half(x).loss)


@pytest.mark.parametrize("name", MINE)
def test_recipes_take_conditions_and_knobs(name: str) -> None:
    data = spec_of([1, 16, 16], classes=("a", "b", "c"), attributes=("u", "v"))
    small = build_recipe(name, data, condition="class", latent=2, scale=0.25)
    large = build_recipe(name, data, condition="attributes", latent=5, scale=2.0)
    assert small.model.latent.posterior.event_shape == (2,) and large.model.latent.posterior.event_shape == (5,)
    assert small.select == "last"
    task = Task(scrambled(small.model), small.objective, small.penalties, small.critics)
    assert torch.isfinite(task(Batch(raw(4, [1, 16, 16]), condition=torch.tensor([0, 1, 2, 0]))).loss)
    assert all(p.schedule.at(1.0) > 0 for p in small.penalties)


def test_point_recipes_hold_sigma_fixed_unless_it_is_set() -> None:
    data = spec_of([1, 12, 12])
    assert build_recipe("rae-l2", data, scale=0.25).model.likelihood.noise.mode == "fixed"
    assert build_recipe("rae-l2", data, scale=0.25, sigma="learned").model.likelihood.noise.mode == "learned"
    assert isinstance(build_recipe("aae", spec_of([1, 12, 12], 2), scale=0.25).model.likelihood, Bernoulli)
    assert isinstance(build_recipe("aae", data, scale=0.25).model.latent.posterior, PointPosterior)


def test_info_mmd_weights_are_those_of_the_paper() -> None:
    """(1 - alpha) KL + (alpha + lambda - 1) MMD."""
    recipe = build_recipe("info-mmd", spec_of([1, 12, 12]), knobs={"alpha": 0.25, "lambda": 100.0})
    recipe.objective.progress(1.0)
    assert recipe.objective.beta.item() == 0.75 and recipe.penalties[0].schedule.at(0.5) == pytest.approx(99.25)


def test_needs_are_refused_in_a_sentence() -> None:
    from dataclasses import replace

    recipe = build_recipe("wae-mmd", spec_of([1, 12, 12]), scale=0.25)
    for penalty in (TotalCorrelation(10), DIP(), Consistency()):
        with pytest.raises(UserError, match="does not go with PointPosterior"):
            replace(recipe, penalties=(penalty,))


def test_weights_move_with_their_schedule() -> None:
    penalty = DIP(weight=Warmup(0.5, 0.0, 4.0))
    task = Task(vae("mlp"), ELBO(), (penalty, CodeNorm(2.0)))
    assert task.progress(0.25) == {"weight_0": 2.0, "weight_1": 2.0}
    assert isinstance(CodeNorm(2.0).schedule, Constant)
