"""Objectives against closed forms, hand-written gradients, and each other."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from tests.contracts.examples import batch, scrambled, spec_of, vae
from tests.contracts.families.objectives import OBJECTIVES
from tests.oracles.test_bounds import LATENT, SIGMA, SIZE, linear_gaussian
from vaekit.errors import UserError
from vaekit.latents import DensityPrior, DiagonalGaussian, Flat
from vaekit.likelihoods import Bernoulli, Gaussian, Laplace
from vaekit.model import VAE
from vaekit.networks import ClassCondition
from vaekit.objectives import CIWAE, GECO, IWAE, MIWAE, PIWAE, STL, DReG, Objective, Renyi, TargetRate
from vaekit.output import Batch, LatentTerm, VAEOutput
from vaekit.part import registered
from vaekit.recipes import RECIPES, build_recipe, knobs
from vaekit.testing import check_gradients, check_objective, check_spec
from vaekit.training.task import Task

SAMPLED: dict[str, Callable[[], Objective]] = {
    "IWAE": lambda: IWAE(6),
    "MIWAE": lambda: MIWAE(2, 3),
    "CIWAE": lambda: CIWAE(6, 0.3),
    "PIWAE": lambda: PIWAE(2, 3),
    "Renyi": lambda: Renyi(0.4, 6),
    "STL": lambda: STL(6),
    "DReG": lambda: DReG(6),
}
MINE = ["beta", "annealed", "free-bits", "cyclical", "iwae", "miwae", "ciwae", "piwae", "renyi", "stl", "dreg", "geco", "target-rate"]


class LearnedNormal(DensityPrior):
    """N(mean, 1) with a learned mean."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(0.1 * torch.ones(latent))

    def forward(self, c: Tensor | None = None) -> Distribution:
        return Independent(Normal(self.mean, torch.ones_like(self.mean)), 1)

    def sample(self, n: int, *, c: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        return self.mean + temperature * torch.randn(n, *self.mean.shape)


def model_with_a_prior(net: str = "mlp") -> VAE:
    model = vae(net, likelihood=Gaussian(sigma=0.5, channels=2))
    model.latent = Flat(DiagonalGaussian(model.encoder.features, 3), LearnedNormal(3))
    return scrambled(model)


def of_weights(log_w: Tensor, penalty: Tensor | None = None) -> VAEOutput:
    """An output whose log weights are given: p and q of z are both 1."""
    k, b = log_w.shape
    term = LatentTerm(torch.zeros(k * b, 1), penalty=penalty)
    return VAEOutput(Batch(torch.zeros(b, 1, 1, 1)), Normal(0.0, 1.0), log_w, (term,), k)


def gradients(loss: Tensor, parameters: list[Tensor]) -> list[Tensor]:
    found = torch.autograd.grad(loss.sum(), parameters, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for g, p in zip(found, parameters, strict=True)]


def same(a: list[Tensor], b: list[Tensor], tolerance: float = 1e-4) -> bool:
    # A bias before batch norm has a gradient of 0 but for the rounding of all the others.
    largest = max(y.abs().max().item() for y in b)
    return all(
        torch.allclose(x, y, rtol=tolerance, atol=tolerance * (y.abs().max().item() + 0.1) + 1e-5 * largest) for x, y in zip(a, b, strict=True)
    )


# ---- contracts and values


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_contract(name: str) -> None:
    check_objective(OBJECTIVES[name](), scrambled(vae("mlp")), batch())
    check_spec(OBJECTIVES[name]())


def test_every_objective_is_here() -> None:
    """Those of this family: whatever stands in `vaekit.objectives`."""
    here = {type(build()).__name__ for build in OBJECTIVES.values()}
    assert {cls.__name__ for cls in registered(Objective) if cls.__module__.rpartition(".")[2] in ("bounds", "routed", "controlled", "elbo")} <= here


def test_the_bounds_by_hand() -> None:
    """Each value from w itself, in float64."""
    log_w = torch.randn(6, 5).double()
    w, out = log_w.exp(), of_weights(log_w)
    elbo, iwae = log_w.mean(0), w.mean(0).log()
    groups = torch.stack([w[i::2].mean(0).log() for i in range(2)])
    expected = {
        "IWAE": iwae,
        "MIWAE": groups.mean(0),
        "CIWAE": 0.3 * elbo + 0.7 * iwae,
        "Renyi": (w**0.6).mean(0).log() / 0.6,
    }
    for name, value in expected.items():
        assert torch.allclose(SAMPLED[name]()(out), -value), name


def test_the_limits_in_which_two_bounds_agree() -> None:
    out = scrambled(vae("mlp"))(batch(), k=6)
    elbo, iwae = -out.log_w().mean(0), IWAE(6)(out)
    for objective, expected in [
        (MIWAE(1, 6), iwae),
        (MIWAE(6, 1), elbo),
        (CIWAE(6, 0.0), iwae),
        (CIWAE(6, 1.0), elbo),
        (Renyi(0.0, 6), iwae),
        (Renyi(1.0, 6), elbo),
        (STL(6), elbo),
        (DReG(6), iwae),
        (PIWAE(2, 3), iwae),
    ]:
        assert torch.allclose(objective(out), expected, rtol=1e-5), type(objective).__name__
    small = of_weights(torch.randn(6, 5))
    near = torch.stack([Renyi(1 + d, 6)(small) for d in (-0.01, 0.01)])
    assert torch.allclose(near.mean(0), -small.log_w().mean(0), atol=1e-3), "alpha -> 1 is the ELBO by samples"
    values = torch.stack([Renyi(a, 6)(small) for a in (-1.0, 0.0, 0.5, 1.0, 2.0)])
    assert (values.diff(dim=0) >= -1e-5).all(), "the bound falls as alpha rises"
    assert (MIWAE(2, 3)(out) >= iwae - 1e-3).all()


@pytest.mark.parametrize("alpha", [-0.5, 0.5, 1.5])
def test_the_renyi_bound_misses_log_p_by_the_renyi_divergence(alpha: float) -> None:
    """Between Gaussians D_a(q || p) = a d^2 / (2 v) + log(v / (s^2(1-a) t^2a)) / (2(1-a)), with v = (1-a) s^2 + a t^2 ... in closed form."""
    model, truth = linear_gaussian(exact_posterior=False)
    x = truth.sample((100,))
    t2 = torch.linalg.inv(torch.eye(LATENT) + model.decoder.linear.weight.T @ model.decoder.linear.weight / SIGMA**2).diagonal()
    s2 = t2 * math.exp(0.5)
    v = (1 - alpha) * s2 + alpha * t2
    divergence = (alpha * 0.3**2 / (2 * v) + (v.log() - (1 - alpha) * s2.log() - alpha * t2.log()) / (2 * (1 - alpha))).sum()
    # The closed form is that of (1/(a-1)) log E_p[(q/p)^a]; here the mean is of (p/q)^(1-a) under q, which is the same number.
    with torch.no_grad():
        loss = Renyi(alpha, 4000)(model(x.view(100, 1, 1, SIZE), k=4000))
    gap = truth.log_prob(x) + loss
    assert abs(gap.mean() - divergence) < 0.02


# ---- gradients


def test_iwae_dreg_and_piwae_teach_the_decoder_the_same() -> None:
    """The decoder and the prior get sum_k W_k d log p(x, z_k), exactly, with the same noise; with batch norm too, which ties images together."""
    for model in (model_with_a_prior(), model_with_a_prior("conv").train()):
        parameters = [*model.decoder.parameters(), *model.latent.prior.parameters()]
        out = model(batch(), k=6)
        expected = gradients(IWAE(6)(out), parameters)
        assert same(gradients(DReG(6)(out), parameters), expected)
        assert same(gradients(PIWAE(2, 3)(out), parameters), expected)
        assert not same(gradients(MIWAE(2, 3)(out), parameters), expected)


@pytest.mark.parametrize("net", ["mlp", "conv"])
def test_piwae_teaches_the_encoder_what_miwae_does(net: str) -> None:
    model = model_with_a_prior(net).train()
    parameters = [*model.encoder.parameters(), *model.latent.posterior.parameters()]
    out = model(batch(), k=6)
    assert same(gradients(PIWAE(2, 3)(out), parameters), gradients(MIWAE(2, 3)(out), parameters), 1e-3)
    assert not same(gradients(PIWAE(2, 3)(out), parameters), gradients(IWAE(6)(out), parameters), 1e-3)


def test_dreg_is_its_formula() -> None:
    """-sum_k W_k^2 (d log w_k / d z_k) (d z_k / d phi), in graphs of their own: z is a leaf in the first factor, and p is not in the second."""
    model = model_with_a_prior()
    phi = [*model.encoder.parameters(), *model.latent.posterior.parameters()]
    data = batch()
    torch.manual_seed(7)
    out = model(data, k=6)
    found = gradients(DReG(6)(out), phi)
    term = out.terms[0]
    z = term.z.detach().requires_grad_()
    q = Normal(term.q.base_dist.loc.detach(), term.q.base_dist.scale.detach())
    target = model.likelihood.target(data.x).repeat(6, 1, 1, 1)
    log_px = Normal(model.likelihood(model.decoder(z)).mean, 0.5 * 255).log_prob(target).sum((1, 2, 3))
    log_w = log_px + Normal(model.latent.prior.mean, 1.0).log_prob(z).sum(1) - q.log_prob(z).sum(1)
    assert torch.allclose(log_w.view(6, -1), out.log_w(), rtol=1e-5)
    (slope,) = torch.autograd.grad(log_w.sum(), z)
    weight = log_w.detach().view(6, -1).softmax(0).square().flatten()
    noise = (term.z - term.q.base_dist.loc) / term.q.base_dist.scale
    again = model.latent.posterior(model.encoder(model.likelihood.input(data.x))).base_dist
    path = again.loc.repeat(6, 1) + again.scale.repeat(6, 1) * noise.detach()
    expected = torch.autograd.grad(path, phi, -weight.unsqueeze(1) * slope)
    assert same(found, list(expected))


def test_stl_is_its_formula() -> None:
    """The ELBO by samples without the score of q: the two differ by -d log q(z|x) at a fixed z."""
    model = model_with_a_prior()
    phi = [*model.encoder.parameters(), *model.latent.posterior.parameters()]
    out = model(batch(), k=4)
    term = out.terms[0]
    score = gradients(term.q.log_prob(term.z.detach()) / 4, phi)
    by_samples = gradients(-out.log_w().mean(0), phi)
    assert same(gradients(STL(4)(out), phi), [a - b for a, b in zip(by_samples, score, strict=True)])
    theta = [*model.decoder.parameters(), *model.latent.prior.parameters()]
    assert same(gradients(STL(4)(out), theta), gradients(-out.log_w().mean(0), theta))


def per_image(objective: Objective, x: Tensor, exact: bool = False) -> Tensor:
    """The gradient [N, 2D] by the mean and the log of the scale of each image's posterior."""
    model, _ = linear_gaussian(exact_posterior=exact)
    out = model(x, k=objective.samples)
    q = out.terms[0].q.base_dist
    mean, scale = torch.autograd.grad(objective(out).sum(), (q.loc, q.scale))
    both = torch.cat([mean, scale * q.scale], 1)
    return both.view(objective.samples, len(x), -1).sum(0).detach()


@pytest.mark.parametrize(("routed", "plain"), [(DReG(5), IWAE(5)), (DReG(20), IWAE(20)), (STL(1), IWAE(1)), (STL(4), CIWAE(4, 1.0))], ids=str)
def test_the_mean_of_the_gradient_is_that_of_the_plain_estimator(routed: Objective, plain: Objective) -> None:
    _, truth = linear_gaussian(exact_posterior=False)
    x = truth.sample((1,)).view(1, 1, 1, SIZE).expand(20_000, -1, -1, -1)
    a, b = per_image(routed, x), per_image(plain, x)
    error = ((a.var(0) + b.var(0)) / len(x)).sqrt()
    assert ((a.mean(0) - b.mean(0)).abs() < 4.5 * error).all()
    assert a.var(0).sum() < b.var(0).sum(), "it has less noise here, which is what it is for"


def test_dreg_keeps_its_signal_as_samples_are_added() -> None:
    """The ratio of mean to noise falls with K for IWAE (Rainforth et al.), and does not for DReG (Tucker et al.)."""
    _, truth = linear_gaussian(exact_posterior=False)
    x = truth.sample((1,)).view(1, 1, 1, SIZE).expand(4000, -1, -1, -1)

    def signal(objective: Objective) -> float:
        gradient = per_image(objective, x)
        return (gradient.mean(0).norm() / gradient.var(0).sum().sqrt()).item()

    assert signal(IWAE(64)) < signal(IWAE(4))
    assert signal(DReG(64)) > 0.9 * signal(DReG(4))


def test_at_the_exact_posterior_stl_and_dreg_have_no_gradient() -> None:
    _, truth = linear_gaussian(exact_posterior=True)
    x = truth.sample((50,)).view(50, 1, 1, SIZE)
    assert per_image(STL(1), x, exact=True).abs().max() < 1e-4
    assert per_image(DReG(5), x, exact=True).abs().max() < 1e-4
    assert per_image(IWAE(1), x, exact=True).abs().max() > 0.1


@pytest.mark.parametrize("name", ["DReG", "PIWAE", "STL"])
def test_routing_leaves_the_penalties_alone(name: str) -> None:
    """A penalty on z, or on the picture, gets its own gradient and no weight of the bound."""
    model, objective = model_with_a_prior(), SAMPLED[name]()
    out = model(batch(), k=6)
    parameters = list(model.parameters())
    extra = out.terms[0].z.square().sum() + out.px.mean.square().mean()
    both = gradients(objective(out).sum() + extra, parameters)
    apart = [a + b for a, b in zip(gradients(objective(out), parameters), gradients(extra, parameters), strict=True)]
    assert same(both, apart)


# ---- defects of other libraries


@pytest.mark.parametrize("name", SAMPLED)
def test_defect_importance_weights_with_the_wrong_sign(name: str) -> None:
    """softmax over a loss gives the worst sample the largest weight: here the best one has it, or all the same."""
    out = scrambled(vae("mlp"))(batch(), k=6)
    (gradient,) = torch.autograd.grad(SAMPLED[name]()(out).sum(), out.log_px)
    best, worst = (-gradient).gather(0, out.log_w().argmax(0, True)), (-gradient).gather(0, out.log_w().argmin(0, True))
    assert (best >= worst - 1e-6).all() and (worst >= 0).all()
    assert torch.allclose(-gradient.sum(0), torch.ones(5), atol=1e-4)


@pytest.mark.parametrize("name", SAMPLED)
def test_defect_the_analytic_divergence_inside_the_weights(name: str) -> None:
    """The weights are of the samples: a closed form, the same for every sample, is never asked for."""
    model = scrambled(vae("mlp"))
    torch.manual_seed(1)
    expected = SAMPLED[name]()(model(batch(), k=6))
    torch.manual_seed(1)
    out = model(batch(), k=6)
    out.terms[0]._cache |= {"kl": torch.full((30, 3), torch.nan), "rate": torch.full((30,), torch.nan)}
    assert torch.isfinite(SAMPLED[name]()(out)).all() and expected.isfinite().all()


@pytest.mark.parametrize(("name", "groups"), [("IWAE", 1), ("DReG", 1), ("PIWAE", 1), ("MIWAE", 2)])
def test_defect_weights_that_are_not_held_fixed(name: str, groups: int) -> None:
    """d loss / d log p(x|z_k) is -W_k, and not -W_k - sum_j (d W_j / d log w_k) log w_j."""
    out = scrambled(vae("mlp"))(batch(), k=6)
    (gradient,) = torch.autograd.grad(SAMPLED[name]()(out).sum(), out.log_px)
    weight = out.log_w().detach().view(-1, groups, 5).softmax(0).view(6, 5) / groups
    # Routed objectives take one more pass through log p(x|z), which does not count here: it ends at z.
    assert torch.allclose(-gradient, weight, atol=1e-4)


@pytest.mark.parametrize("name", SAMPLED)
def test_weights_survive_underflow(name: str) -> None:
    """A hundred thousand nats between two samples: finite values, finite gradients."""
    model = scrambled(vae("mlp", likelihood=Gaussian(sigma=0.001, channels=2)))
    out = model(batch(), k=6)
    assert (out.log_w().max(0).values - out.log_w().min(0).values).max() > 1e3
    loss = SAMPLED[name]()(out)
    assert torch.isfinite(loss).all()
    check_gradients(model, loss.mean())


@pytest.mark.parametrize("name", [*SAMPLED, "GECO", "TargetRate"])
def test_what_the_layers_add_is_in_the_loss(name: str) -> None:
    objective = {**SAMPLED, **OBJECTIVES}[name]()
    k = objective.samples
    out = scrambled(vae("mlp"))(batch(), k=k)
    without = objective(out)
    out.terms[0].penalty = torch.arange(5.0 * k)
    assert torch.allclose(objective(out) - without, torch.arange(5.0 * k).view(k, 5).mean(0), atol=0.02)


def test_routed_objectives_are_plain_values_without_gradients_and_refuse_several_layers() -> None:
    model = scrambled(vae("mlp"))
    with torch.no_grad():
        out = model(batch(), k=6)
        assert torch.allclose(DReG(6)(out), IWAE(6)(out))
    out.terms = out.terms * 2
    for objective in (DReG(6), PIWAE(2, 3)):
        with pytest.raises(UserError, match="one stochastic layer"):
            objective(out)
    with pytest.raises(UserError, match="one stochastic layer"):
        DReG(6)(of_weights(torch.randn(6, 5)))


def test_a_compiled_step_that_hides_the_backward_pass_is_refused() -> None:
    """One compiled graph gives z and log p(x|z) side by side, and between them there is nothing to differentiate: not a gradient of 0."""

    class CompiledFunction(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, z: Tensor) -> tuple[Tensor, Tensor]:
            return z.clone(), -z.square().sum(1)

        @staticmethod
        def backward(ctx: object, *slopes: Tensor) -> Tensor:
            return slopes[0]

    q = Independent(Normal(torch.zeros(30, 3), torch.ones(30, 3)), 1)
    z, log_px = CompiledFunction.apply(torch.randn(30, 3, requires_grad=True))
    out = VAEOutput(batch(), Normal(0.0, 1.0), log_px.view(6, 5), (LatentTerm(z, q),), 6)
    for objective in (DReG(6), PIWAE(2, 3)):
        with pytest.raises(UserError, match="without --compile"):
            objective(out)


@pytest.mark.parametrize(
    ("build", "match"),
    [
        (lambda: IWAE(0), "samples is at least 1"),
        (lambda: MIWAE(0, 3), "groups is at least 1"),
        (lambda: CIWAE(3, 1.5), "share of the ELBO"),
        (lambda: Renyi(math.inf), "alpha is a number"),
        (lambda: GECO(fraction=1.0), "fraction"),
        (lambda: TargetRate(0.0), "target of the rate"),
        (lambda: TargetRate(gain=0.0), "gain"),
    ],
)
def test_numbers_that_make_no_sense(build: Callable[[], Objective], match: str) -> None:
    with pytest.raises(UserError, match=match):
        build()


# ---- controllers


def test_geco_sets_its_target_between_the_floor_and_the_start() -> None:
    model = vae("mlp", likelihood=Gaussian(sigma=0.1, channels=2))
    data = batch(200)
    task = Task(model, GECO(fraction=0.25))
    task.initialize(data)
    target = model.likelihood.target(data.x)
    wide = 0.1 * 255
    floor = 198 * (math.log(wide) + 0.5 * math.log(2 * math.pi))
    error = (target - target.mean(0)).square().flatten(1).sum(1).mean() / (2 * wide**2)
    geco = task.objective
    assert geco.floor.item() == pytest.approx(floor, rel=1e-5)
    # The untrained decoder is close to the mean of each pixel, and a quarter of the variance about it may stay.
    assert geco.target.item() == pytest.approx(floor + 0.25 * error.item(), rel=0.03)
    again = GECO(fraction=0.25)
    again.load_state_dict(geco.state_dict())
    assert again.target == geco.target and {"log_weight", "average", "started", "target", "floor"} == set(geco.state_dict())


def test_the_floor_of_other_likelihoods() -> None:
    bits = Task(vae("mlp", likelihood=Bernoulli()), GECO(fraction=0.4))
    data = batch(50, levels=2)
    bits.initialize(data)
    assert bits.objective.floor == 0
    assert bits.objective.target.item() == pytest.approx(0.4 * bits.model(data).distortion.mean().item(), rel=0.05)
    laplace = Task(vae("mlp", likelihood=Laplace(scale=0.1, channels=2)), GECO())
    mask = torch.zeros(20, 2, 9, 11, dtype=torch.bool)
    mask[..., :5] = True
    laplace.initialize(Batch(batch(20).x, mask=mask))
    assert laplace.objective.floor.item() == pytest.approx(90 * math.log(2 * 25.5), rel=1e-4), "only what is seen counts"
    with pytest.raises(UserError, match="cannot be reached"):
        Task(vae("mlp", likelihood=Gaussian(sigma=0.1, channels=2)), GECO(target=10.0)).initialize(batch(20))


def test_geco_is_rate_plus_lambda_times_the_constraint() -> None:
    out = scrambled(vae("mlp"))(batch())
    geco = GECO(target=500.0)
    assert torch.allclose(geco(out), (out.rate() + out.distortion - 500)[0]), "it starts as the ELBO"
    before = geco.state_dict()["log_weight"].clone()
    geco(out)
    assert torch.equal(before, geco.log_weight), "forward changes nothing"
    geco.log_weight.fill_(math.log(3))
    assert torch.allclose(geco(out), (out.rate() + 3 * (out.distortion - 500))[0])
    assert geco.progress(0.5) == {"lambda": pytest.approx(3.0)}
    assert torch.allclose(TargetRate(3.0)(out), (out.rate() + out.distortion)[0])


def test_the_multiplier_rises_above_the_target_and_falls_below_and_is_never_negative() -> None:
    geco = GECO(target=100.0, gain=0.1)
    geco.post_step({"distortion": torch.tensor(150.0)})
    assert geco.log_weight.item() == pytest.approx(0.05) and geco.average == 150, "the first batch is the average"
    geco.post_step({"distortion": torch.tensor(50.0)})
    assert geco.average.item() == pytest.approx(145.0) and geco.log_weight.item() == pytest.approx(0.05 + 0.045)
    for _ in range(2000):
        geco.post_step({"distortion": torch.tensor(-1e6)})
    assert geco.weight.item() == pytest.approx(1e-3, rel=1e-3)
    rate = TargetRate(10.0, gain=0.1)
    rate.post_step({"rate": torch.tensor(500.0)})
    assert rate.log_weight.item() == pytest.approx(0.1), "no step is larger than the gain"
    rate.post_step({"rate": torch.tensor(0.0)})
    assert rate.log_weight.item() == pytest.approx(0.2), "it is the average that counts"


def trained(objective: Objective, steps: int) -> tuple[float, float, Task]:
    """The last distortion and rate of a small model of three dots, each at one of eight places."""
    torch.manual_seed(0)
    model = vae("mlp", shape=[1, 8, 8], likelihood=Gaussian(sigma=0.1, channels=1))
    x = torch.zeros(512, 1, 8, 8)
    places = torch.randint(0, 8, (512, 3))
    for i in range(3):
        x[torch.arange(512), 0, 2 * i, places[:, i]] = 200.0
    data = Batch(x.byte())
    task = Task(model, objective)
    task.initialize(data)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    logs = []
    for step in range(steps):
        task.progress(step / steps)
        result = task(data[torch.randint(0, 512, (64,))])
        optimizer.zero_grad()
        result.loss.backward()
        optimizer.step()
        task.post_step(result.stats)
        logs.append(result.logs)
    _, distortion, rate = torch.stack(logs[-60:]).mean(0).tolist()
    return distortion, rate, task


def test_geco_reaches_its_distortion() -> None:
    distortion, rate, task = trained(GECO(fraction=0.5, gain=0.02), 700)
    geco = task.objective
    span = (geco.target - geco.floor).item()
    assert abs(distortion - geco.target.item()) < 0.1 * span
    assert rate > 0.3 and geco.weight > 0


def test_target_rate_reaches_its_rate() -> None:
    _, rate, task = trained(TargetRate(4.0, gain=0.03), 500)
    assert rate == pytest.approx(4.0, rel=0.1)
    assert task.progress(1.0)["beta"] != 1


# ---- recipes


@pytest.mark.parametrize("name", MINE)
@pytest.mark.parametrize(("shape", "levels"), [([1, 28, 28], 2), ([3, 17, 30], 256), ([1, 12, 12], None)], ids=str)
def test_the_recipes(name: str, shape: list[int], levels: int | None) -> None:
    recipe = build_recipe(name, spec_of(shape, levels), scale=0.25)
    task = Task(scrambled(recipe.model), recipe.objective, recipe.penalties)
    data = batch(3, shape, levels)
    task.progress(0.5)
    step = task(data)
    assert torch.isfinite(step.loss)
    check_gradients(recipe.model, step.loss)
    task.post_step(step.stats)
    assert RECIPES[name].good_for


@pytest.mark.parametrize("name", MINE)
def test_the_recipes_take_conditions(name: str) -> None:
    recipe = build_recipe(name, spec_of([1, 16, 16], classes=("a", "b")), condition="class", latent=2, scale=0.25)
    assert isinstance(recipe.model.condition, ClassCondition)
    x = batch(4, [1, 16, 16])
    check_gradients(recipe.model, Task(scrambled(recipe.model), recipe.objective)(Batch(x.x, condition=torch.arange(4) % 2)).loss)


def test_options_are_honoured_or_refused() -> None:
    data = spec_of([1, 12, 12])

    def built(name: str, **options: object) -> Objective:
        return build_recipe(name, data, scale=0.25, **options).objective

    assert built("beta").progress(1.0) == {"beta": 4.0}
    assert built("beta", beta=2.0, warmup=0.0).progress(0.0) == {"beta": 2.0}
    assert built("beta", knobs={"beta": 7}, free_bits=0.3).progress(1.0) == {"beta": 7.0}
    assert built("beta", free_bits=0.3).free_bits == 0.3
    assert built("free-bits").free_bits == 0.25 and built("free-bits", free_bits=0.0).free_bits == 0.0
    assert built("annealed", latent=4).progress(0.25) == {"capacity": 4.0}
    assert built("annealed", warmup=0.1).progress(0.1) == {"capacity": 20.0}
    assert built("cyclical", beta=0.5).progress(1.0) == {"beta": 0.5}
    assert built("miwae", knobs={"groups": 3, "samples": 2}).samples == 6
    assert built("target-rate", latent=3).target == 6.0
    assert built("geco", knobs={"target": "700"}).target == 700.0
    for name in ("iwae", "dreg", "stl", "geco", "target-rate"):
        for option in ("beta", "free_bits", "warmup"):
            with pytest.raises(UserError, match="no use for --"):
                built(name, **{option: 0.5})
    with pytest.raises(UserError, match="no use for --beta"):
        built("annealed", beta=2.0)
    with pytest.raises(UserError, match="target is a number"):
        built("geco", knobs={"target": "low"})
    with pytest.raises(UserError, match="fixed width"):
        built("geco", sigma="learned")
    with pytest.raises(UserError, match="optimal sigma"):
        built("iwae", sigma="optimal")


@pytest.mark.parametrize(("name", "end"), [("beta", 4.0), ("beta-tc", 1.0), ("factor", 1.0), ("dip-i", 1.0), ("dip-ii", 1.0)])
def test_a_code_of_few_meanings_starts_with_a_heavy_divergence(name: str, end: float) -> None:
    """One for each 16 pixels, down to the recipe's weight; with `start=1`, with a warm-up, or below 1 it begins as published."""
    data = spec_of([1, 32, 32])

    def weights(**options: object) -> list[float]:
        objective = build_recipe(name, data, scale=0.1, **options).objective
        return [objective.progress(fraction).get("beta", 1.0) for fraction in (0.0, 0.3, 0.6, 1.0)]

    assert weights() == pytest.approx([64, 8 * end**0.5, end, end])
    assert weights(knobs={"start": 100 * end}) == pytest.approx([100 * end, 10 * end, end, end])
    assert weights(knobs={"start": 1}) == weights(warmup=0.1) == [0.0, end, end, end]
    with pytest.raises(UserError, match="leave one of them out"):
        weights(knobs={"start": 50}, warmup=0.1)
    assert build_recipe("beta", data, scale=0.1, beta=0.5).objective.progress(0.0) == {"beta": 0.0}


def test_sigma_of_the_recipes() -> None:
    """An optimal sigma is not measured with several samples, and would stay where it starts; a target distortion needs a fixed one."""
    modes = {n: build_recipe(n, spec_of([1, 12, 12]), scale=0.25).model.likelihood.noise.mode for n in MINE}
    assert modes["geco"] == "fixed" and modes["iwae"] == modes["dreg"] == modes["miwae"] == "learned"
    assert build_recipe("geco", spec_of([1, 12, 12]), scale=0.25, sigma=0.3).model.likelihood.noise.fixed.exp().item() == pytest.approx(0.3)
    assert isinstance(build_recipe("geco", spec_of([1, 12, 12], 2), scale=0.25).model.likelihood, Bernoulli)
    assert build_recipe("geco", spec_of([1, 12, 12], 2), scale=0.25).objective.fraction == 0.4
    assert set(knobs("geco")) == {"fraction", "target", "gain"}
