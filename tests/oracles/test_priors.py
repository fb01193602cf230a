"""Priors inside the bound, against torch, zuko, numerical integrals and each other."""

import math
from pathlib import Path

import pytest
import torch
import zuko
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent, Laplace, MixtureSameFamily, MultivariateNormal, Normal

import vaekit.recipes.priors  # noqa: F401 (registers the recipes)
from tests.contracts.examples import SHAPE, batch, nets, raw, scrambled, spec_of
from tests.contracts.families.priors import EXAMPLES, moved
from vaekit.distributions.mixture import Mixture, normal_log_prob, pairwise_log_prob
from vaekit.errors import UserError
from vaekit.latents import DensityPrior, DiagonalGaussian, Flat, Posterior, StandardNormal
from vaekit.latents.base import AnchoredPrior
from vaekit.latents.priors import AutoregressivePrior, ExemplarPrior, FlowPrior, MixturePrior, VampPrior
from vaekit.likelihoods import Gaussian
from vaekit.model import VAE
from vaekit.networks import AttributeCondition, ClassCondition, Condition
from vaekit.objectives import ELBO, IWAE
from vaekit.output import Batch
from vaekit.recipes import build_recipe
from vaekit.saving import load_model, save_model
from vaekit.testing import check_gradients, check_prior, check_spec
from vaekit.testing.anchored import check_anchored_prior
from vaekit.testing.parts import agree
from vaekit.training.task import Task

D = 3
RECIPES = ["mixture", "vamp", "exemplar", "realnvp", "maf", "nsf", "autoregressive-prior"]
PRIORS = {
    "mixture": lambda: moved(MixturePrior(D, components=7)),
    "vamp": lambda: VampPrior(SHAPE, components=6),
    "exemplar": lambda: ExemplarPrior(SHAPE, exemplars=8, per_step=4),
    "realnvp": lambda: moved(FlowPrior(D, "realnvp", 3, 16)),
    "maf": lambda: moved(FlowPrior(D, "maf", 2, 16)),
    "nsf": lambda: moved(FlowPrior(D, "nsf", 2, 16)),
    "autoregressive": lambda: moved(AutoregressivePrior(D, 16, 4)),
}


def model_with(prior: DensityPrior | AnchoredPrior, condition: Condition | None = None) -> VAE:
    """A small VAE that knows its data-dependent start."""
    likelihood = Gaussian(sigma=0.3, channels=SHAPE[0])
    told = 0 if condition is None else condition.features
    encoder, decoder = nets("mlp", SHAPE, likelihood.channels(SHAPE[0]), D, told)
    return VAE(encoder, Flat(DiagonalGaussian(encoder.features, D), prior), decoder, likelihood, condition)


def started(name: str) -> tuple[VAE, Batch]:
    model, data = model_with(PRIORS[name]()), batch(12)
    scrambled(model.encoder), scrambled(model.decoder), scrambled(model.latent.posterior)
    model.initialize(data)
    return model, data


def gaussians(count: int, size: int = D) -> Distribution:
    generator = torch.Generator().manual_seed(1)
    loc = torch.randn(count, size, generator=generator)
    return Independent(Normal(loc, 0.3 + torch.rand(count, size, generator=generator)), 1)


def integral(p: Distribution, reach: float = 12.0, points: int = 801) -> Tensor:
    """The integral of a density in two dimensions on a grid."""
    line = torch.linspace(-reach, reach, points)
    grid = torch.cartesian_prod(line, line)
    parts = [p.log_prob(part).double().exp().sum(0) for part in grid.split(200_000)]
    return torch.stack(parts).sum(0) * (line[1] - line[0]) ** 2


def follows(p: Distribution, z: Tensor, reach: float = 12.0, points: int = 401) -> None:
    """Codes [S, 2] have the density's means, second moments and entropy, integrated on a grid."""
    line = torch.linspace(-reach, reach, points)
    grid = torch.cartesian_prod(line, line)
    with torch.no_grad():

        def of(codes: Tensor) -> Tensor:
            return torch.cat((codes, codes**2, codes.prod(1, keepdim=True), (codes[:, :1] + codes[:, 1:]).sin(), p.log_prob(codes)[:, None]), 1)

        values = of(grid)
        exact = (values * values[:, -1:].exp()).double().sum(0) * (line[1] - line[0]) ** 2
        agree(exact.float(), of(z), "A moment of the density")


# ---- mixtures


def test_the_learned_mixture_is_torchs() -> None:
    prior = moved(MixturePrior(D, components=9), 1.0)
    z = 2 * torch.randn(50, D)
    theirs = MixtureSameFamily(Categorical(logits=prior.logits), Independent(Normal(prior.means, (prior.log_variances / 2).exp()), 1))
    assert torch.allclose(prior().log_prob(z), theirs.log_prob(z), atol=1e-5)
    assert torch.allclose(prior().mean, theirs.mean, atol=1e-5)
    mine = torch.autograd.grad(prior().log_prob(z).sum(), list(prior.parameters()))
    expected = torch.autograd.grad(theirs.log_prob(z).sum(), list(prior.parameters()))
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in zip(mine, expected, strict=True))


def test_the_mixture_starts_as_wide_as_the_standard_normal() -> None:
    prior = MixturePrior(20, components=4000)
    z = prior.sample(50_000)
    assert z.mean().abs() < 0.02 and (z.var() - 1).abs() < 0.03
    assert len(torch.unique(prior.means, dim=0)) == 4000


def test_the_density_of_a_narrow_member_far_from_zero_keeps_its_digits() -> None:
    """The square is opened for one product of matrices: in 32 bits its terms would cancel to nats of error."""
    loc, scale = torch.full((1, 40), 3.0), torch.full((1, 40), 1e-3)
    z = loc + scale * torch.randn(6, 40)
    exact = Normal(loc.double(), scale.double()).log_prob(z.double()).sum(1, keepdim=True)
    assert torch.allclose(normal_log_prob(z, loc, scale).double(), exact, atol=1e-3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.allclose(normal_log_prob(z, loc, scale).double(), exact, atol=1e-3)


@pytest.mark.parametrize("kind", ["normal", "laplace", "full", "map"])
def test_each_member_at_each_code(kind: str) -> None:
    """The general path and the fast one: the loop over members."""
    loc, scale = torch.randn(5, D), torch.rand(5, D) + 0.2
    q: Distribution = Independent(Normal(loc, scale), 1)
    z = torch.randn(2, 11, D)
    if kind == "laplace":
        q = Independent(Laplace(loc, scale), 1)
    if kind == "full":
        q = MultivariateNormal(loc, scale_tril=torch.randn(5, D, D).tril(-1) + torch.diag_embed(scale))
    if kind == "map":
        q, z = Independent(Normal(loc.view(5, D, 1), scale.view(5, D, 1)), 2), z.unsqueeze(-1)
    looped = torch.stack([type_of(q, m).log_prob(z) for m in range(5)], -1)
    assert torch.allclose(pairwise_log_prob(q, z), looped, atol=1e-5)
    p = Mixture(q, torch.randn(5).log_softmax(0))
    draws = p.sample((50_000,))
    assert draws.shape == (50_000, *q.event_shape)
    weights = p.log_weights.exp()
    mean = (weights @ q.mean.flatten(1)).view(q.event_shape)
    assert torch.allclose(p.mean, mean, atol=1e-5)
    assert (draws.mean(0) - mean).abs().max() < 5 * draws.std(0).max() / math.sqrt(50_000)
    second = (weights @ (q.variance + q.mean**2).flatten(1)).view(q.event_shape)
    assert ((draws**2).mean(0) - second).abs().max() < 5 * (draws**2).std(0).max() / math.sqrt(50_000)
    cold = p.draw(500, temperature=1e-5)
    assert torch.cdist(cold.flatten(1), q.mean.flatten(1)).min(1).values.max() < 1e-2, "Without temperature each draw is a member's mean."


def type_of(q: Distribution, m: int) -> Distribution:
    if isinstance(q, MultivariateNormal):
        return MultivariateNormal(q.loc[m], scale_tril=q.scale_tril[m])
    base = q.base_dist
    return Independent(type(base)(base.loc[m], base.scale[m]), len(q.event_shape))


# ---- the VampPrior


def test_the_log_variance_is_not_divided_by_the_variance() -> None:
    """PyTorch-VAE's VampVAE has -0.5 (log_var + (z - mu)^2) / log_var.exp(), in q and in p: its log_var is divided by the variance."""
    mu, log_var = torch.randn(6, D), torch.randn(6, D)
    z = torch.randn(20, D)
    q = Independent(Normal(mu, (log_var / 2).exp()), 1)
    p = VampPrior(SHAPE, components=6)(q)
    each = Normal(mu, (log_var / 2).exp()).log_prob(z[:, None]).sum(-1)
    assert torch.allclose(p.log_prob(z), each.logsumexp(1) - math.log(6), atol=1e-5)
    wrong = (-0.5 * (log_var + (z[:, None] - mu) ** 2) / log_var.exp()).sum(-1).logsumexp(1) - math.log(6) - 0.5 * D * math.log(2 * math.pi)
    assert not torch.allclose(p.log_prob(z), wrong, atol=0.1)
    two = VampPrior(SHAPE, components=6)(Independent(Normal(mu[:, :2], (log_var[:, :2] / 2).exp()), 1))
    assert integral(two).item() == pytest.approx(1, abs=1e-3)


def test_a_vamp_model_has_the_density_of_its_pseudo_inputs() -> None:
    model, data = started("vamp")
    model.eval()
    out = model(data)
    images = model.latent.prior.images().x
    assert images.shape == (6, *SHAPE) and images.min() > 0 and images.max() < 1
    q = model.latent.posterior(model.encoder(images, None)).base_dist
    each = Normal(q.loc, q.scale).log_prob(out.terms[0].z[:, None]).sum(-1)
    assert torch.allclose(out.terms[0].log_p, each.logsumexp(1) - math.log(6), atol=1e-4)
    assert torch.allclose(out.rate(), (out.terms[0].log_q - out.terms[0].log_p)[None], atol=1e-5)


def test_pseudo_inputs_start_as_images() -> None:
    model, data = started("vamp")
    wanted = model.likelihood.input(data.x[:6]).clamp(0.02, 0.98)
    assert torch.allclose(model.latent.prior.images().x, wanted, atol=1e-5)
    few = VampPrior(SHAPE, components=6)
    few.initialize(data.x[:4], None, None, model.likelihood.input(data.x[:4]))
    assert torch.allclose(few.images().x[:4], wanted[:4], atol=1e-5)
    assert not torch.allclose(few.images().x[4:], wanted[:2], atol=1e-4) and torch.allclose(few.images().x[4:], wanted[:2], atol=0.15)
    free = VampPrior([1, 2, 3], components=2, levels=None)
    x = 5 * torch.randn(3, 1, 2, 3)
    free.initialize(x, None, None, x)
    assert torch.equal(free.images().x, x[:2])


def test_gradients_reach_the_pseudo_inputs_and_the_encoder() -> None:
    model, data = started("vamp")
    term = model(data).terms[0]
    z = term.z.detach()
    encoder = list(model.encoder.parameters()) + list(model.latent.posterior.parameters())
    gradients = torch.autograd.grad(term.p.log_prob(z).sum(), [model.latent.prior.inputs, *encoder], allow_unused=True)
    assert all(g is not None and torch.isfinite(g).all() for g in gradients)
    assert gradients[0].flatten(1).norm(dim=1).min() > 0 and gradients[1].norm() > 0


def test_a_vamp_prior_refuses_a_posterior_without_a_cheap_density() -> None:
    class Elsewhere(Posterior):
        gives = frozenset({"density", "divergence", "vector"})

        @property
        def event_shape(self) -> tuple[int, ...]:
            return (D,)

        def forward(self, h: Tensor) -> Distribution:
            return Independent(Normal(h, 1.0), 1)

    with pytest.raises(UserError, match="VampPrior does not go with Elsewhere: it needs a density that is cheap at any code"):
        Flat(Elsewhere(), VampPrior(SHAPE, components=2))
    Flat(Elsewhere(), ExemplarPrior(SHAPE))


def test_a_conditional_vamp_learns_its_conditions() -> None:
    model = scrambled(model_with(VampPrior(SHAPE, 6, condition=5), ClassCondition(4, 5)))
    data = Batch(raw(8, SHAPE), condition=torch.arange(8) % 4)
    model.initialize(data)
    check_gradients(model, ELBO()(model(data)).mean())
    assert model.latent.prior.conditions.grad.norm() > 0
    assert model.sample(4).shape == (4, *SHAPE)


# ---- exemplars


def exemplars(count: int, **more: object) -> ExemplarPrior:
    prior = ExemplarPrior([1, 4, 5], exemplars=6, **more)
    x = raw(count, [1, 4, 5])
    prior.initialize(x, None, 10 + torch.arange(count), x.float() / 255)
    return prior


@pytest.mark.parametrize("name", ["VampPrior", "ExemplarPrior"])
def test_anchored_priors_keep_their_contract(name: str) -> None:
    prior = EXAMPLES[name]()
    check_spec(prior)
    check_anchored_prior(prior, gaussians(4, 2))


def test_an_exemplar_density_sums_to_one() -> None:
    prior = exemplars(6)
    with torch.no_grad():
        prior.log_variance.fill_(-1.5)
    q = gaussians(6, 2)
    same = torch.zeros(4, 6, dtype=torch.bool)
    same[1, 2], same[2, :5], same[3] = True, True, True
    assert integral(prior(q)).item() == pytest.approx(1, abs=1e-3)
    line = torch.linspace(-8, 8, 601)
    grid = torch.cartesian_prod(line, line)
    total = prior(q, same).log_prob(grid[:, None].expand(-1, 4, 2)).double().exp().sum(0) * (line[1] - line[0]) ** 2
    assert torch.allclose(total, torch.ones(4, dtype=torch.float64), atol=1e-3)


def test_an_image_is_left_out_of_its_own_mixture() -> None:
    prior = exemplars(6)
    q, sigma = gaussians(6), math.exp(-0.4)
    with torch.no_grad():
        prior.log_variance.fill_(-0.8)
    same = torch.zeros(3, 6, dtype=torch.bool)
    same[0, 4], same[2] = True, True
    z = torch.randn(3, D)
    log_p = prior(q, same).log_prob(z)
    each = Normal(q.mean, sigma).log_prob(z[:, None]).sum(-1)
    others = [0, 1, 2, 3, 5]
    assert torch.allclose(log_p[0], each[0, others].logsumexp(0) - math.log(5), atol=1e-5)
    assert torch.allclose(log_p[1], each[1].logsumexp(0) - math.log(6), atol=1e-5)
    assert torch.allclose(log_p[2], StandardNormal([D])().log_prob(z[2]), atol=1e-5), "With no other image, N(0, I) stands in."
    loc = q.mean.clone().requires_grad_()
    moving = Independent(Normal(loc, 1.0), 1)
    (gradient,) = torch.autograd.grad(prior(moving, same).log_prob(z)[0], loc)
    assert torch.isfinite(gradient).all() and gradient[4].norm() == 0 and gradient[others].norm() > 0
    assert prior(q, same).sample((7,)).shape == (7, 3, D)


def test_training_batches_are_told_from_their_exemplars() -> None:
    """Rows of the data set decide, in the model: an image far from all others has a lower log p(z) in training than a stranger like it."""
    model, data = started("exemplar")
    assert int(model.latent.prior.filled) == 8
    model.eval()
    torch.manual_seed(0)
    known = model(data).terms[0]
    torch.manual_seed(0)
    stranger = model(Batch(data.x, index=data.index + 100)).terms[0]
    q = model.latent.posterior(model.encoder(model.likelihood.input(data.x[:8])))
    each = Normal(q.mean, 1.0).log_prob(known.z[:, None]).sum(-1)
    assert torch.allclose(stranger.log_p, each.logsumexp(1) - math.log(8), atol=1e-4)
    own = torch.eye(12, 8, dtype=torch.bool)
    expected = torch.where(own, -math.inf, each).logsumexp(1) - (8 - own.sum(1)).float().log()
    assert torch.allclose(known.log_p, expected, atol=1e-4)


def test_a_training_pass_draws_some_of_the_exemplars() -> None:
    prior = exemplars(6, per_step=3).train()
    seen = set()
    for _ in range(30):
        images = prior.images()
        assert images.x.shape == (3, 1, 4, 5) and len(set(images.index.tolist())) == 3
        assert torch.equal(images.x, prior.x[images.index - 10]), "Images and rows go together."
        seen |= set(images.index.tolist())
    assert seen == set(range(10, 16))
    torch.manual_seed(4)
    first = prior.images().index
    torch.manual_seed(4)
    assert torch.equal(prior.images().index, first)
    assert len(prior.eval().images().x) == 6
    assert len(exemplars(2, per_step=3).train().images().x) == 2, "A data set may be smaller than the number of exemplars."
    assert len(ExemplarPrior([1, 4, 5]).images().x) == 1


def test_the_mean_over_draws_is_a_lower_bound() -> None:
    """E log(mean over some exemplars) <= log(mean over all)."""
    prior, q = exemplars(6), gaussians(6)
    z = torch.randn(5, D)
    whole = prior(q).log_prob(z)
    parts = []
    for _ in range(200):
        rows = torch.randperm(6)[:2]
        parts.append(prior(Independent(Normal(q.mean[rows], 1.0), 1)).log_prob(z))
    assert (torch.stack(parts).mean(0) < whole + 0.05).all()


@pytest.mark.parametrize("levels", [2, 256, 65536, None])
def test_exemplars_are_saved_with_the_model(levels: int | None, tmp_path: Path) -> None:
    likelihood = Gaussian(channels=2, levels=levels)
    encoder, decoder = nets("mlp", SHAPE, likelihood.channels(2), D)
    model = VAE(encoder, Flat(DiagonalGaussian(encoder.features, D), ExemplarPrior(SHAPE, 10, 4, levels)), decoder, likelihood)
    scrambled(model)
    x = torch.randn(7, *SHAPE) if levels is None else torch.randint(0, levels, (7, *SHAPE)).to(torch.int32 if levels > 256 else torch.uint8)
    data = Batch(x, index=torch.arange(100, 107))
    model.initialize(data)
    save_model(tmp_path / "model.safetensors", model)
    again, _ = load_model(tmp_path / "model.safetensors")
    prior = again.latent.prior
    assert int(prior.filled) == 7 and torch.equal(prior.x[:7], x) and prior.index.tolist() == [*range(100, 107), -1, -1, -1]
    values = []
    for same in (model, again):
        torch.manual_seed(0)
        values.append((same.score(data, k=2), same.sample(3)))
    assert all(torch.equal(a, b) for a, b in zip(*values, strict=True))


@pytest.mark.parametrize("condition", [ClassCondition(4, 5), AttributeCondition(3)], ids=["class", "attributes"])
def test_exemplars_keep_their_conditions(condition: Condition) -> None:
    shape = [] if isinstance(condition, ClassCondition) else [3]
    model = scrambled(model_with(ExemplarPrior(SHAPE, 6, 4, condition=shape), condition))
    told = torch.arange(6) % 4 if not shape else torch.randn(6, 3)
    data = Batch(raw(6, SHAPE), condition=told, index=torch.arange(6))
    model.initialize(data)
    assert torch.equal(model.latent.prior.condition, told)
    check_gradients(model.train(), ELBO()(model(data)).mean())
    assert model.sample(6, condition=told).shape == (6, *SHAPE)


# ---- flows and the autoregressive prior


@pytest.mark.parametrize("flow", ["realnvp", "maf", "nsf"])
def test_flow_priors(flow: str) -> None:
    prior = moved(FlowPrior(2, flow, transforms=2, hidden=8), 0.3)
    check_prior(prior, 40_000)
    assert integral(prior(), 10, 301).item() == pytest.approx(1, abs=2e-3)
    z = torch.randn(20, 2)
    theirs = prior.flow()
    assert isinstance(theirs, zuko.distributions.NormalizingFlow) and torch.allclose(prior().log_prob(z), theirs.log_prob(z))
    check_gradients(prior, -prior().log_prob(z).sum())


@pytest.mark.parametrize("flow", ["realnvp", "maf", "nsf"])
def test_flows_start_as_the_standard_normal(flow: str) -> None:
    prior, z = FlowPrior(D, flow), torch.randn(30, D)
    assert torch.allclose(prior().log_prob(z), StandardNormal([D])().log_prob(z), atol=1e-4)


@pytest.mark.parametrize("flow", ["realnvp", "maf", "nsf"])
def test_the_log_determinant_of_a_flow_is_that_of_its_jacobian(flow: str) -> None:
    prior = moved(FlowPrior(4, flow, 2, 12), 0.3).double()
    z = torch.randn(4, dtype=torch.float64)
    map_ = prior.flow().transform
    jacobian = torch.autograd.functional.jacobian(map_, z)
    expected = Normal(0.0, 1.0).log_prob(map_(z)).sum() + torch.linalg.slogdet(jacobian).logabsdet
    assert torch.allclose(prior().log_prob(z), expected, atol=1e-8)


@pytest.mark.parametrize("flow", ["realnvp", "maf", "nsf"])
def test_conditional_flows(flow: str) -> None:
    prior = moved(FlowPrior(2, flow, 2, 8, condition=3), 0.25)
    c = torch.randn(2, 3)
    p = prior(c)
    assert p.batch_shape == (2,)
    line = torch.linspace(-15, 15, 401)
    grid = torch.cartesian_prod(line, line)
    total = p.log_prob(grid[:, None].expand(-1, 2, 2)).exp().sum(0) * (line[1] - line[0]) ** 2
    assert torch.allclose(total, torch.ones(2), atol=5e-3)
    z = prior.sample(40_000, c=c[:1].expand(40_000, 3))
    other = prior.sample(40_000, c=c[1:].expand(40_000, 3))
    own = prior(c[:1]).log_prob(z)
    assert own.mean() - prior(c[1:]).log_prob(z).mean() > 0.01 and prior(c[:1]).log_prob(other).mean() < prior(c[1:]).log_prob(other).mean()
    assert torch.allclose(own.mean(), p.log_prob(p.sample((40_000,)))[:, 0].mean(), atol=0.05)
    assert prior.sample(5, c=torch.randn(5, 3), temperature=0.0).shape == (5, 2)
    with pytest.raises(UserError, match="conditional"):
        prior()


@pytest.mark.parametrize("name", ["maf", "nsf", "autoregressive", "mixture"])
def test_one_dimension(name: str) -> None:
    prior = {
        "maf": lambda: FlowPrior(1, "maf", 2, 8),
        "nsf": lambda: FlowPrior(1, "nsf", 2, 8),
        "autoregressive": lambda: AutoregressivePrior(1, 8, 3),
        "mixture": lambda: MixturePrior(1, 4),
    }[name]()
    check_prior(moved(prior, 0.3))
    check_spec(prior)


SMALL = {
    "mixture": lambda: moved(MixturePrior(2, 5), 0.5),
    "realnvp": lambda: moved(FlowPrior(2, "realnvp", 2, 8), 0.3),
    "maf": lambda: moved(FlowPrior(2, "maf", 2, 8), 0.3),
    "nsf": lambda: moved(FlowPrior(2, "nsf", 2, 8), 0.3),
    "autoregressive": lambda: moved(AutoregressivePrior(2, 8, 3), 0.5),
}


@pytest.mark.parametrize("name", SMALL)
def test_samples_follow_the_density(name: str) -> None:
    prior = SMALL[name]()
    follows(prior(), prior.sample(40_000))
    follows(prior(), prior().sample((40_000,)))


@pytest.mark.parametrize("kind", ["normal", "general"])
def test_samples_of_anchored_priors_follow_the_density(kind: str) -> None:
    q = gaussians(5, 2)
    if kind == "general":
        q = MultivariateNormal(q.mean, scale_tril=torch.diag_embed(q.base_dist.scale) + torch.tensor([[0.0, 0.0], [0.4, 0.0]]))
    vamp = VampPrior(SHAPE, components=5)
    follows(vamp(q), vamp.sample(40_000, q))
    prior = exemplars(5)
    follows(prior(q), prior.sample(40_000, q))
    same = torch.tensor([[True, True, True, True, False], [False, True, False, False, False]])
    each = prior(q, same)
    draws = each.sample((40_000,))
    for i in range(2):
        follows(prior(q, same[i : i + 1].expand(1, 5)), draws[:, i])


def test_flows_that_cannot_be_are_refused() -> None:
    with pytest.raises(UserError, match="needs 2 latent dimensions"):
        FlowPrior(1, "realnvp")
    with pytest.raises(UserError, match="There is no flow 'glow'; there are realnvp, maf, nsf"):
        FlowPrior(2, "glow")


def test_the_autoregressive_prior_is_the_product_of_its_conditionals() -> None:
    prior = moved(AutoregressivePrior(4, 16, 5), 0.5)
    z = torch.randn(9, 4)
    logits, means, scales = prior._conditionals(z)
    theirs = MixtureSameFamily(Categorical(logits=logits), Normal(means, scales.exp())).log_prob(z).sum(1)
    assert torch.allclose(prior().log_prob(z), theirs, atol=1e-5)
    for j in range(4):
        later = z.clone()
        later[:, j:] += torch.randn(9, 4 - j)
        again = prior._conditionals(later)
        assert all(torch.equal(a[:, : j + 1], b[:, : j + 1]) for a, b in zip((logits, means, scales), again, strict=True)), "z_j sees z_<j alone."
        if j < 3:
            earlier = z.clone()
            earlier[:, j] += 1
            assert (prior._conditionals(earlier)[1][:, j + 1 :] != means[:, j + 1 :]).any(-1).all(), "and each of those"
    two = moved(AutoregressivePrior(2, 8, 3), 0.5)
    assert integral(two()).item() == pytest.approx(1, abs=2e-3)
    check_prior(two)


def test_the_autoregressive_prior_sees_every_dimension_with_few_hidden_units() -> None:
    prior = moved(AutoregressivePrior(12, hidden=4), 0.5)
    z = torch.randn(1, 12)
    jacobian = torch.autograd.functional.jacobian(lambda v: prior._conditionals(v)[1].sum(-1), z)[0, :, 0]
    assert torch.equal(jacobian != 0, torch.ones(12, 12).tril(-1).bool())


def test_the_autoregressive_prior_starts_about_the_standard_normal() -> None:
    prior = AutoregressivePrior(5)
    z = prior.sample(40_000)
    assert z.mean().abs() < 0.02 and (z.var() - 1).abs() < 0.03
    assert (StandardNormal([5])().log_prob(z) - prior().log_prob(z)).mean().abs() < 0.1


@pytest.mark.parametrize("name", ["mixture", "realnvp", "maf", "nsf", "autoregressive"])
def test_densities_stay_in_32_bits_under_autocast(name: str) -> None:
    prior, z = PRIORS[name](), torch.randn(20, D)
    expected = prior().log_prob(z)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.allclose(prior().log_prob(z), expected, atol=1e-5)
        assert prior.sample(4).dtype == torch.float32


# ---- whole models


@pytest.mark.parametrize("name", PRIORS)
def test_the_elbo_is_below_the_importance_weighted_bound(name: str) -> None:
    model, data = started(name)
    model.eval()
    with torch.no_grad():
        out = model(data, k=400)
        elbo = -(out.distortion + out.rate())
        error = elbo.std(0).mean() / 20
        iwae = [model.score(data, k=k, chunk=50).mean().item() for k in (10, 400)]
    assert elbo.mean().item() < iwae[0] + 3 * error.item() and iwae[0] < iwae[1] + 3 * error.item()
    assert torch.allclose(out.rate(), out.rate(analytic=False)), "There is no closed form: the rate is that of the samples."


@pytest.mark.parametrize("name", PRIORS)
def test_k_samples_are_folded(name: str) -> None:
    """With k = 3 each sample meets its own image's prior: the densities are those of one sample at a time."""
    model, data = started(name)
    model.eval()
    out = model(data, k=3)
    assert out.log_w().shape == (3, 12) and out.terms[0].log_p.shape == (36,)
    one = model(data).terms[0].p
    for i, z in enumerate(out.terms[0].z.view(3, 12, D)):
        assert torch.allclose(one.log_prob(z), out.terms[0].log_p.view(3, 12)[i], atol=1e-4)
    model.train()
    check_gradients(model, IWAE(3)(model(data, k=3)).mean())


@pytest.mark.parametrize("name", PRIORS)
def test_models_are_saved(name: str, tmp_path: Path) -> None:
    model, data = started(name)
    save_model(tmp_path / "model.safetensors", model)
    again, _ = load_model(tmp_path / "model.safetensors")
    model.eval()
    torch.manual_seed(0)
    one = model(data)
    torch.manual_seed(0)
    assert torch.equal(again(data).terms[0].log_p, one.terms[0].log_p)


@pytest.mark.parametrize("name", PRIORS)
def test_a_few_steps_lower_the_loss(name: str) -> None:
    model, data = started(name)
    task = Task(model, ELBO())
    optimizer = torch.optim.Adam(task.parameters(), 1e-2)
    losses = []
    for _ in range(40):
        loss = task(data).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(map(math.isfinite, losses)) and sum(losses[-5:]) < sum(losses[:5])
    with torch.no_grad():
        assert torch.isfinite(model.sample(4, temperature=0.7)).all() and model.reconstruct(data).shape == data.x.shape


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize(("shape", "levels"), [([1, 28, 28], 2), ([3, 17, 30], 256), ([1, 12, 12], None)], ids=str)
def test_recipes_take_any_images(name: str, shape: list[int], levels: int | None) -> None:
    recipe = build_recipe(name, spec_of(shape, levels), scale=0.25)
    scrambled(recipe.model)
    data = batch(4, shape, levels)
    recipe.model.initialize(data)
    check_spec(recipe.model)
    check_gradients(recipe.model.train(), recipe.objective(recipe.model(data)).mean())
    assert recipe.model.sample(2).shape == (2, *shape)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("condition", ["class", "attributes"])
def test_recipes_take_conditions_and_knobs(name: str, condition: str) -> None:
    shape = [1, 16, 16]
    knobs = {"mixture": {"components": 9}, "vamp": {"components": 9}, "exemplar": {"exemplars": 5, "per_step": 3}}.get(name, {"hidden": 24})
    data = spec_of(shape, classes=("a", "b", "c"), attributes=("u", "v"))
    recipe = build_recipe(name, data, condition=condition, latent=2, scale=0.25, knobs=knobs)
    model = scrambled(recipe.model)
    told = torch.arange(6) % 3 if condition == "class" else torch.randn(6, 2)
    images = Batch(raw(6, shape), condition=told, index=torch.arange(6))
    model.initialize(images)
    check_gradients(model.train(), recipe.objective(model(images, k=2)).mean())
    assert model.sample(6, condition=told).shape == (6, *shape)
    assert model.score(images, k=4, chunk=2).shape == (6,)
    if name in ("realnvp", "maf", "nsf"):
        a, b = (model(Batch(images.x, condition=told.flip(0) if i else told)).terms[0].p for i in (0, 1))
        z = torch.randn(6, 2)
        assert not torch.allclose(a.log_prob(z), b.log_prob(z)), "The prior follows the condition."
