"""Quantizers and priors over indices against brute force, closed forms and counting."""

import copy
import itertools
import math

import pytest
import torch
from scipy.cluster.vq import vq as scipy_vq
from torch import Tensor

from tests.contracts.examples import Batch, batch, raw, scrambled, spec_of
from tests.contracts.families.discrete import EXAMPLES
from vaekit.errors import UserError
from vaekit.evaluation.latent import LatentStatistics
from vaekit.latents.discrete import Discrete
from vaekit.latents.priors.codes import CodePrior, UniformCodes
from vaekit.latents.quantizers import FSQ, LFQ, EMAVectorQuantizer, GroupedQuantizer, Quantizer, ResidualQuantizer, VectorQuantizer
from vaekit.latents.quantizers.clusters import kmeans, nearest, reborn
from vaekit.networks import ClassCondition
from vaekit.networks.maps import MapDecoder, MapEncoder
from vaekit.part import registered
from vaekit.recipes import build_recipe
from vaekit.recipes.discrete import rounded, values_of
from vaekit.testing import check_gradients, check_latent, check_spec
from vaekit.testing.quantizers import check_codes_prior, check_quantizer

QUANTIZERS = [cls.__name__ for cls in registered(Quantizer)]
RECIPES = ["vq", "vq-ema", "rvq", "grouped-vq", "fsq", "lfq"]


# ---- all quantizers


@pytest.mark.parametrize("places", [(), (3, 5)], ids=str)
@pytest.mark.parametrize("name", QUANTIZERS)
def test_quantizers(name: str, places: tuple[int, ...]) -> None:
    quantizer = EXAMPLES[name]()
    h = torch.randn(6, quantizer.channels, *places)
    check_quantizer(quantizer, h)
    quantizer.initialize(h)
    check_quantizer(quantizer, h)


@pytest.mark.parametrize("name", [n for n in QUANTIZERS if n != "FSQ"])
def test_the_gradient_passes_straight_through(name: str) -> None:
    """By hand: what reaches the features is what reached the codes, and the codebook gets nothing of it."""
    quantizer = EXAMPLES[name]()
    h = torch.randn(4, quantizer.channels, 2, 3, requires_grad=True)
    made = quantizer(h)
    weights = torch.randn_like(made.z_q)
    gradients = torch.autograd.grad((made.z_q * weights).sum(), [h, *quantizer.parameters()], allow_unused=True)
    assert torch.equal(gradients[0], weights) and all(g is None for g in gradients[1:])


@pytest.mark.parametrize("name", QUANTIZERS)
def test_codes_are_found_in_float32_under_autocast(name: str) -> None:
    quantizer = EXAMPLES[name]()
    h = torch.randn(64, quantizer.channels, 4, 4)
    exact = quantizer(h)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lower = quantizer(h)
    assert torch.equal(lower.indices, exact.indices) and torch.equal(lower.z_q, exact.z_q) and lower.z_q.dtype == torch.float32
    assert torch.allclose(lower.penalty, exact.penalty, rtol=1e-5) and all(torch.allclose(v, exact.stats[k]) for k, v in lower.stats.items())


# ---- codebooks


def test_nearest_neighbours_by_brute_force() -> None:
    points, codebook = torch.randn(500, 6), torch.randn(40, 6)
    assert torch.equal(nearest(points, codebook), (points[:, None] - codebook).square().sum(2).argmin(1))
    assert (nearest(points, codebook).numpy() == scipy_vq(points.numpy(), codebook.numpy())[0]).all()


def _vq(beta: float = 0.25) -> tuple[VectorQuantizer, Tensor]:
    return VectorQuantizer(3, 8, beta=beta), torch.randn(4, 3, 2, 5, requires_grad=True)


def test_vq_loss_that_grows_with_the_batch() -> None:
    """A sum over the batch beside a mean makes the commitment 64 times heavier at 64 images (pythae)."""
    quantizer, h = _vq()
    expected = torch.stack([1.25 * (quantizer(h).z_q[i] - h[i]).square().sum() for i in range(4)])
    assert torch.allclose(quantizer(h).penalty, expected, rtol=1e-5)
    for copies in (1, 8, 64):
        assert torch.allclose(quantizer(h.repeat(copies, 1, 1, 1)).penalty.mean(), expected.mean(), rtol=1e-5)


def test_vq_loss_is_not_divided_by_dimensions() -> None:
    """An element mean shrinks with the map: twice the map is twice the loss (lucidrains, keras)."""
    quantizer, h = _vq()
    assert torch.allclose(quantizer(h.repeat(1, 1, 2, 1)).penalty, 2 * quantizer(h).penalty, rtol=1e-5)


@pytest.mark.parametrize("beta", [0.0, 0.25, 3.0])
def test_commitment_weight_on_the_wrong_term(beta: float) -> None:
    """beta weighs what pulls the encoder; the codebook's term has weight 1 (taming, diffusers `legacy`)."""
    quantizer, h = _vq(beta)
    made = quantizer(h)
    encoder, codebook = torch.autograd.grad(made.penalty.sum(), [h, quantizer.codebook])
    e = made.z_q.detach()
    assert torch.allclose(encoder, 2 * beta * (h - e), atol=1e-6)
    expected = torch.zeros(8, 3).index_add_(0, made.indices.flatten(), (2 * (e - h)).movedim(1, -1).reshape(-1, 3))
    assert torch.allclose(codebook, expected, atol=1e-5)


def test_the_gradients_of_the_penalty_by_finite_differences() -> None:
    """Each term with the other argument held: sg cannot be differenced, so beta = 0 gives the codebook's and the EMA variant the encoder's."""
    step, (quantizer, h) = 1e-2, _vq(0.0)
    ema = EMAVectorQuantizer(3, 8, beta=0.7)
    ema.codebook.copy_(quantizer.codebook)
    where = (quantizer(h).indices.flatten()[0].item(), 1)
    (codebook,) = torch.autograd.grad(quantizer(h).penalty.sum(), quantizer.codebook)
    (encoder,) = torch.autograd.grad(ema(h).penalty.sum(), h)
    index = quantizer(h).indices
    with torch.no_grad():
        values = []
        for sign in (1, -1):
            moved = quantizer.codebook.clone()
            moved[where] += sign * step
            e = torch.nn.functional.embedding(index[:, 0], moved).movedim(-1, 1)
            values.append(quantizer.penalty(h, e).sum())
        assert codebook[where].item() == pytest.approx(((values[0] - values[1]) / (2 * step)).item(), rel=1e-2, abs=1e-2)
        values = []
        for sign in (1, -1):
            moved = h.clone()
            moved[0, 1, 0, 0] += sign * step
            values.append(ema.penalty(moved, quantizer.lookup(index)).sum())
        assert encoder[0, 1, 0, 0].item() == pytest.approx(((values[0] - values[1]) / (2 * step)).item(), rel=1e-2, abs=1e-2)


def test_moving_averages_of_the_codebook() -> None:
    """The paper's N_k and m_k, kept by hand over several batches of different sizes."""
    quantizer = EMAVectorQuantizer(3, 5, decay=0.9, revive=0.0)
    n, m = quantizer.usage.clone(), quantizer.usage[:, None] * quantizer.codebook
    for images in (4, 7, 2):
        h = torch.randn(images, 3, 2, 2)
        made = quantizer(h)
        index, points = made.indices.flatten(), h.movedim(1, -1).reshape(-1, 3)
        n = 0.9 * n + 0.1 * torch.bincount(index, minlength=5) / images
        m = 0.9 * m + 0.1 * torch.zeros(5, 3).index_add_(0, index, points) / images
        quantizer.post_step(made.stats)
        assert torch.allclose(quantizer.usage, n, rtol=1e-5) and torch.allclose(quantizer.codebook, m / n[:, None], rtol=1e-4, atol=1e-5)


def test_moving_averages_find_the_clusters() -> None:
    truth = torch.tensor([[-3.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    quantizer = EMAVectorQuantizer(2, 3)
    for _ in range(600):
        h = (truth[torch.randint(3, (64,))] + 0.1 * torch.randn(64, 2)).view(64, 2)
        quantizer.post_step(quantizer(h).stats)
    assert torch.cdist(truth, quantizer.codebook).min(1).values.max() < 0.1


@pytest.mark.parametrize("kind", [VectorQuantizer, EMAVectorQuantizer])
def test_dead_codes_are_born_again_alike_on_all_processes(kind: type) -> None:
    """Codes that start out of reach are in use after a while; two copies do the same, whatever their generators."""
    quantizer = kind(2, 16, decay=0.9)
    with torch.no_grad():
        quantizer.codebook[1:] += 100.0
    other = copy.deepcopy(quantizer)
    h = torch.randn(256, 2)
    for _ in range(200):
        quantizer.post_step(quantizer(h).stats)
        torch.manual_seed(int(torch.randint(1000, ())))
        other.post_step(other(h).stats)
    assert torch.equal(quantizer.codebook, other.codebook)
    assert len(quantizer(h).indices.unique()) >= 14
    frozen = kind(2, 16, decay=0.9, revive=0.0)
    with torch.no_grad():
        frozen.codebook[1:] += 100.0
    for _ in range(200):
        frozen.post_step(frozen(h).stats)
    assert len(frozen(h).indices.unique()) == 1


def test_rebirth_keeps_usage_and_splits_the_worst() -> None:
    codebook, usage, errors = torch.zeros(4, 2), torch.tensor([5.0, 0.0, 3.0, 2.0]), torch.tensor([1.0, 0.0, 6.0, 0.5])
    codebook[2] = 10.0
    dead = reborn(codebook, usage, errors, 0.1, seed=0)
    assert dead.tolist() == [False, True, False, False]
    assert usage.tolist() == [5.0, 1.5, 1.5, 2.0] and errors.tolist() == [1.0, 3.0, 3.0, 0.5]
    assert 0 < (codebook[1] - 10.0).norm() < 6


def test_kmeans_finds_separate_clusters_and_repeats_itself() -> None:
    truth = 20 * torch.randn(10, 3)
    points = (truth[:, None] + 0.1 * torch.randn(10, 50, 3)).view(-1, 3)
    centres, t = kmeans(points, 10, steps=30)
    assert torch.equal(centres, kmeans(points, 10, steps=30)[0])
    assert t.errors.sum() / len(points) < 0.2 and t.counts.sum() == len(points)
    few, _ = kmeans(points[:3], 10)
    assert torch.isfinite(few).all()


# ---- composites


def test_residuals_are_quantized_in_turn() -> None:
    """By hand; the penalty of level l is that of the features less the sum of the first l codes (RQ-VAE, Eq. 8)."""
    quantizer = ResidualQuantizer([EMAVectorQuantizer(4, 9) for _ in range(3)])
    h = torch.randn(5, 4, 2, 2, requires_grad=True)
    quantizer.initialize(h.detach())
    made, points = quantizer(h), h.detach().movedim(1, -1).reshape(-1, 4)
    total, penalty = torch.zeros_like(points), torch.zeros(5)
    errors = []
    for level, part in enumerate(quantizer.parts):
        index = nearest(points - total, part.codebook)
        assert torch.equal(made.indices[:, level].flatten(), index)
        total = total + part.codebook[index]
        errors.append((points - total).square().sum().item())
        penalty = penalty + 0.25 * (points - total).view(5, -1).square().sum(1)
    assert torch.allclose(made.z_q.movedim(1, -1).reshape(-1, 4), total, atol=1e-5) and torch.allclose(made.penalty, penalty, rtol=1e-4)
    assert errors[0] > errors[1] > errors[2]
    (gradient,) = torch.autograd.grad(made.penalty.sum(), h)
    assert torch.isfinite(gradient).all() and (gradient != 0).any()


def test_groups_are_quantized_each_by_itself() -> None:
    quantizer = GroupedQuantizer([EMAVectorQuantizer(1, 6), EMAVectorQuantizer(3, 6)])
    h = torch.randn(4, 4, 3)
    made = quantizer(h)
    for i, (part, some) in enumerate(zip(quantizer.parts, h.split([1, 3], dim=1), strict=True)):
        assert torch.equal(made.indices[:, i : i + 1], part(some).indices)
    assert set(made.stats) == {f"{i}.{k}" for i in (0, 1) for k in ("counts", "sums", "errors")}


# ---- without a codebook


@pytest.mark.parametrize("values", [[5], [8, 5, 5, 5], [3, 4], [7, 6, 6]], ids=str)
def test_fsq_reaches_every_code_and_no_other(values: list[int]) -> None:
    quantizer = FSQ(values)
    assert quantizer.size == math.prod(values)
    h = torch.atanh(0.9999 * (2 * torch.rand(100_000, len(values)) - 1))
    made = quantizer(h)
    assert len(made.indices.unique()) == quantizer.size
    every = quantizer.lookup(torch.arange(quantizer.size).view(-1, 1))
    assert len(every.unique(dim=0)) == quantizer.size and every.abs().max() <= 1
    for i, n in enumerate(values):
        expected = (torch.arange(n) - n // 2).float() / (n // 2)
        assert torch.allclose(every[:, i].unique(), expected)
    assert torch.equal(quantizer(torch.zeros(1, len(values))).z_q, torch.zeros(1, len(values))), "0 stays 0, with even numbers too"
    assert (made.penalty == 0).all()


def test_the_gradient_of_fsq_is_that_of_its_bound() -> None:
    """By finite differences of the bounded, unrounded channel."""
    values = [8, 5]
    h = (0.8 * torch.randn(50, 2)).double().float().requires_grad_()
    (gradient,) = torch.autograd.grad(FSQ(values)(h).z_q.sum(), h)

    def bound(x: Tensor) -> Tensor:
        half, offset = torch.tensor([7 * 1.001 / 2, 4 * 1.001 / 2]).double(), torch.tensor([0.5, 0.0]).double()
        return (half * torch.tanh(x.double() + torch.atanh(offset / half)) - offset) / torch.tensor([4.0, 2.0]).double()

    expected = (bound(h.detach() + 1e-3) - bound(h.detach() - 1e-3)) / 2e-3
    assert torch.allclose(gradient.double(), expected, atol=1e-3)


def test_fsq_refuses_two_values() -> None:
    with pytest.raises(UserError, match="lfq"):
        FSQ([5, 2])


@pytest.mark.parametrize(("channels", "size", "values"), [(3, 256, [7, 6, 6]), (4, 256, [4, 4, 4, 4]), (1, 256, [256]), (5, 256, [3] * 5)])
def test_fsq_values_of_a_size(channels: int, size: int, values: list[int]) -> None:
    assert values_of(channels, size) == values
    assert math.prod(values) <= size


def test_fsq_is_grouped_where_channels_are_many() -> None:
    assert rounded(3, 256).levels == 1
    many = rounded(16, 256)
    assert (many.levels, many.channels, many.size) == (4, 16, 256)


def test_the_entropies_of_lfq_by_enumeration() -> None:
    """p(code|h) over all 2^F codes, as a softmax of distances."""
    quantizer = LFQ(3, entropy=0.3, beta=0.0, temperature=2.0)
    h = torch.randn(5, 3, 2, 2)
    codes = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=3)))
    p = (-(h.movedim(1, -1)[..., None, :] - codes).square().sum(-1) / 2.0).softmax(-1)
    own = torch.special.entr(p).sum((1, 2, 3))
    shared = torch.special.entr(p.mean((0, 1, 2))).sum()
    assert torch.allclose(quantizer(h).penalty, 0.3 * (own - 4 * shared), rtol=1e-4, atol=1e-5)


def test_lfq_signs_and_commitment() -> None:
    quantizer = LFQ(4, entropy=0.0, beta=0.5)
    h = torch.randn(6, 4)
    made = quantizer(h)
    assert torch.equal(made.z_q, torch.sign(h))
    assert torch.equal(made.indices[:, 0], ((h > 0).long() * torch.tensor([1, 2, 4, 8])).sum(1))
    assert torch.allclose(made.penalty, 0.5 * (h - h.sign()).square().sum(1), rtol=1e-5)


def test_lfq_entropy_favours_sure_and_many_codes() -> None:
    quantizer = LFQ(2, entropy=1.0, beta=0.0)
    many = 3 * torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    one, unsure = 3 * torch.ones(4, 2), torch.zeros(4, 2)
    assert quantizer(many).penalty.mean().item() == pytest.approx(-math.log(4), abs=0.01)
    assert quantizer(one).penalty.mean().item() == pytest.approx(0.0, abs=0.01)
    assert quantizer(unsure).penalty.mean().item() == pytest.approx(0.0, abs=1e-5)


# ---- priors


PRIORS = {
    "uniform": lambda: UniformCodes([2, 1, 2], 3),
    "one-level": lambda: scrambled(CodePrior([1, 2, 3], 3, hidden=8, layers=2)),
    "levels": lambda: scrambled(CodePrior([3, 1, 2], 3, hidden=8, layers=2)),
    "both": lambda: scrambled(CodePrior([2, 2, 2], 2, hidden=8, layers=2)),
}


@pytest.mark.parametrize("name", PRIORS)
def test_probabilities_sum_to_one_and_samples_have_them(name: str) -> None:
    check_codes_prior(PRIORS[name]())


def _strong(prior: CodePrior) -> CodePrior:
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return prior


def test_probabilities_far_from_uniform_and_with_a_condition() -> None:
    prior = _strong(CodePrior([2, 2, 2], 2, hidden=8, layers=3, condition=3))
    a, b = torch.randn(1, 3), torch.randn(1, 3)
    check_codes_prior(prior, c=a)
    codes = torch.randint(2, (20, 2, 2, 2))
    assert not torch.allclose(prior(a.expand(20, -1)).log_prob(codes), prior(b.expand(20, -1)).log_prob(codes))


def test_the_uniform_rate_is_a_count() -> None:
    assert UniformCodes([2, 4, 5], 7)().log_prob(torch.zeros(3, 2, 4, 5)).tolist() == pytest.approx([-40 * math.log(7)] * 3)
    fresh = CodePrior([2, 4, 5], 7)
    assert torch.allclose(fresh().log_prob(torch.randint(7, (3, 2, 4, 5))), torch.tensor(-40 * math.log(7))), "it starts uniform"


def test_later_codes_never_change_earlier_logits() -> None:
    """Each index in turn: no logits up to and with its own move; and those of all later rows and levels may."""
    levels, height, width, size = 2, 3, 4, 5
    prior = _strong(CodePrior([levels, height, width], size, hidden=8, layers=4))
    codes = torch.randint(size, (1, levels, height, width))
    logits = prior.logits(codes).detach()
    order = [(q, i, j) for i in range(height) for j in range(width) for q in range(levels)]
    reached = torch.zeros(len(order), len(order), dtype=torch.bool)
    for n, (q, i, j) in enumerate(order):
        other = codes.clone()
        other[0, q, i, j] = (other[0, q, i, j] + 1) % size
        moved = (prior.logits(other) - logits).abs().amax(-1)[0]
        reached[n] = torch.tensor([moved[q2, i2, j2].item() > 1e-6 for q2, i2, j2 in order])
    assert not reached.tril().any(), "an index knows itself or what comes after it"
    assert reached.triu(1).sum() == len(order) * (len(order) - 1) / 2, "and there is no blind spot"


def test_sampling_sees_what_one_pass_sees() -> None:
    """The window of rows that sampling looks at gives the same contexts as the whole grid."""
    prior = _strong(CodePrior([1, 7, 3], 4, hidden=8, layers=2))
    codes = torch.randint(4, (2, 1, 7, 3))
    whole = prior.context(codes)
    for row in range(7):
        first = max(0, row - 3)
        window = prior.context(codes[:, :, first : row + 1], None, first)
        assert torch.allclose(window[:, -1], whole[:, row], atol=1e-5)


def test_temperature_and_top_k() -> None:
    prior = _strong(CodePrior([1, 2, 2], 6, hidden=8, layers=2))
    entropy = {t: -prior().log_prob(prior.sample(2000, temperature=t)).mean().item() for t in (0.3, 1.0)}
    assert entropy[0.3] < entropy[1.0]
    greedy = prior.sample(50, temperature=0.0)
    assert (greedy == greedy[:1]).all() and torch.equal(greedy, prior.sample(50, top=1))
    first = prior.sample(2000, top=2)[:, 0, 0, 0]
    assert len(first.unique()) == 2


def test_a_prior_learns_a_pattern() -> None:
    """Codes whose second row repeats the first cost the first row alone."""
    prior = CodePrior([1, 2, 3], 4, hidden=16, layers=2)
    optimizer = torch.optim.Adam(prior.parameters(), lr=0.02)
    for _ in range(150):
        row = torch.randint(4, (64, 1, 1, 3))
        loss = prior.loss(torch.cat([row, row], dim=2)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() == pytest.approx(3 * math.log(4), abs=0.2)


# ---- the latent


def test_the_latent_is_a_bound_whose_rate_is_the_cost_of_the_codes() -> None:
    latent = Discrete(VectorQuantizer(8, 5), scrambled(CodePrior([1, 2, 3], 5, hidden=8, layers=1)))
    h = torch.randn(6, 8, 2, 3, requires_grad=True)
    _, (term,) = latent.infer(h)
    assert term.bounded and term.codebook == 5 and term.z.dtype == torch.long and term.q is None
    assert torch.allclose(term.rate(), -latent.prior().log_prob(term.z)) and (term.log_q == 0).all()
    gradients = torch.autograd.grad(term.rate().sum(), [h, *latent.quantizer.parameters(), *latent.prior.parameters()], allow_unused=True)
    assert all(g is None for g in gradients[:2]), "the rate reaches the prior alone"
    assert all(g is not None for g in gradients[2:])


@pytest.mark.parametrize("prior", [UniformCodes([1, 2, 3], 5), CodePrior([1, 2, 3], 5, hidden=8)], ids=lambda p: type(p).__name__)
def test_the_latent_keeps_its_contract(prior: UniformCodes | CodePrior) -> None:
    latent = Discrete(EMAVectorQuantizer(8, 5), prior)
    h = 3 + 2 * torch.randn(6, 8, 2, 3)
    check_latent(latent, h)
    latent.initialize(h)
    check_latent(latent, h)
    _, (term,) = latent.infer(h)
    assert term.z.unique().numel() == 5
    before = copy.deepcopy(latent.quantizer)
    latent.post_step({f"0.{k}": v for k, v in term.stats.items()})
    after = latent.quantizer
    assert after.steps == before.steps + 1
    assert torch.allclose(after.usage, before.usage) and torch.allclose(after.errors, before.errors), "k-means starts the averages where they stay"
    assert latent.prior_codes(4).shape == (4, 1, 2, 3)


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(UserError, match="256 values"):
        Discrete(VectorQuantizer(8, 5), UniformCodes([1, 2, 2], 256))
    with pytest.raises(UserError, match="one size"):
        ResidualQuantizer([VectorQuantizer(4, 5), VectorQuantizer(4, 6)])
    with pytest.raises(UserError, match="whole numbers"):
        Discrete(VectorQuantizer(8, 5), UniformCodes([1], 5)).generate(2, code=(torch.randn(2, 1),))


def test_usage_counts_the_codes_of_all_levels() -> None:
    quantizer = ResidualQuantizer([EMAVectorQuantizer(4, 16) for _ in range(2)])
    latent = Discrete(quantizer, UniformCodes([2, 3, 3], 16))
    h = torch.randn(40, 4, 3, 3)
    latent.initialize(h)
    stats = LatentStatistics()
    for some in h.split(10):
        stats.update(latent.infer(some)[1])
    indices = latent.infer(h)[1][0].z
    p = torch.bincount(indices.flatten(), minlength=16) / indices.numel()
    assert stats.codebook_usage == pytest.approx((p > 0).float().mean().item())
    assert stats.codebook_perplexity == pytest.approx(torch.special.entr(p).sum().exp().item(), rel=1e-4)
    assert stats.latent_dim == 18 and stats.active_units is None
    assert stats.rate == pytest.approx(18 * math.log(16), rel=1e-5)


# ---- networks and recipes


@pytest.mark.parametrize("shape", [[1, 28, 28], [3, 8, 8], [2, 9, 11], [5, 1, 3]], ids=str)
@pytest.mark.parametrize("condition", [0, 3])
def test_maps_of_any_size(shape: list[int], condition: int) -> None:
    encoder = scrambled(MapEncoder(shape, 4, [4, 8], condition=condition))
    decoder = scrambled(MapDecoder(4, [2, *shape[1:]], [4, 8], norm=True, condition=condition))
    x, c = torch.randn(3, *shape), torch.randn(3, condition) if condition else None
    h = encoder(x, c)
    assert h.shape == (3, 4, -(-shape[1] // 4), -(-shape[2] // 4))
    assert decoder(h, c).shape == (3, 2, *shape[1:])
    check_gradients(encoder, h.square().sum())
    check_gradients(decoder, decoder(h.detach(), c).square().sum())
    bias = torch.randn(2, *shape[1:])
    decoder.initialize(bias)
    assert torch.equal(decoder.bias, bias)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize(("shape", "levels"), [([1, 28, 28], 2), ([3, 17, 30], 256), ([1, 12, 12], None)], ids=str)
def test_recipes_of_codes(name: str, shape: list[int], levels: int | None) -> None:
    """Everything a model does, on codes."""
    recipe = build_recipe(name, spec_of(shape, levels), scale=0.25)
    model, x = recipe.model, batch(4, shape, levels)
    model.initialize(x)
    scrambled(model)
    check_spec(model)
    out = model(x)
    check_gradients(model, recipe.objective(out).mean())
    model.post_step(out.stats)
    model.eval()
    code = model.encode(x)
    assert code[0].dtype == torch.long and code[0].shape == (4, *model.latent.prior.shape)
    assert torch.equal(code[0], torch.cat([model.encode(x[i : i + 1])[0] for i in range(4)]))
    image = (4, *shape)
    assert model.sample(4).shape == model.reconstruct(x).shape == image
    px = model.decode(code)
    assert px.mean.shape == image and torch.allclose(px.mean, model.reconstruct(x))
    elbo = (px.log_prob(model.likelihood.target(x.x)).flatten(1).sum(1) + model.latent.prior().log_prob(code[0])).detach()
    assert torch.allclose(model.score(x, k=5, chunk=2), elbo, rtol=1e-4), "without noise, the importance-weighted bound is the ELBO"


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_of_codes_take_conditions_and_knobs(name: str) -> None:
    data = spec_of([1, 16, 16], classes=("a", "b", "c"), attributes=("u", "v"))
    small = build_recipe(name, data, condition="class", latent=2, scale=0.25).model
    large = build_recipe(name, data, condition="attributes", latent=5, scale=2.0).model
    assert (small.latent.quantizer.channels, large.latent.quantizer.channels) == (2, 5)
    assert sum(p.numel() for p in large.parameters()) > 4 * sum(p.numel() for p in small.parameters())
    scrambled(small)
    x = Batch(raw(4, [1, 16, 16]), condition=torch.tensor([0, 1, 2, 0]))
    assert small.sample(4, condition=2).shape == small.decode(small.encode(x), condition=x.condition).mean.shape == (4, 1, 16, 16)
    assert small.reconstruct(x).shape == (4, 1, 16, 16) and small.score(x, k=2).shape == (4,)
    told = Batch(x.x, condition=torch.randn(4, 2))
    assert torch.isfinite(large(told).rate()).all()
    codes = torch.zeros(2, *small.latent.prior.shape, dtype=torch.long)
    log_p = small.latent.prior(small.embed(torch.tensor([0, 1]))).log_prob(codes)
    assert isinstance(small.condition, ClassCondition) and log_p[0] != log_p[1], "the prior is told as well"


def test_knobs_of_codes() -> None:
    data = spec_of([1, 28, 28])
    assert build_recipe("rvq", data, knobs={"levels": 4, "codebook": 32}).model.latent.prior.shape == (4, 7, 7)
    assert build_recipe("grouped-vq", data, knobs={"groups": 4}).model.latent.quantizer.levels == 4
    assert build_recipe("lfq", data, latent=20).model.latent.quantizer.size == 1024
    assert build_recipe("fsq", data).model.latent.quantizer.size == 252
    assert build_recipe("vq", spec_of([3, 64, 64])).model.latent.prior.shape == (1, 8, 8)
