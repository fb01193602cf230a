"""Estimators of the gradient against their formulas, each other, and the mean of the plain one: DReG, STL, PIWAE."""

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from tests.contracts.examples import batch, scrambled, vae
from tests.oracles.sampled import SAMPLED, of_weights
from tests.oracles.test_bounds import SIZE, linear_gaussian
from vaekit.errors import UserError
from vaekit.latents import DensityPrior, DiagonalGaussian, Flat
from vaekit.likelihoods import Gaussian
from vaekit.model import VAE
from vaekit.objectives import CIWAE, IWAE, MIWAE, PIWAE, STL, DReG, Objective
from vaekit.output import LatentTerm, VAEOutput


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


def gradients(loss: Tensor, parameters: list[Tensor]) -> list[Tensor]:
    found = torch.autograd.grad(loss.sum(), parameters, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for g, p in zip(found, parameters, strict=True)]


def same(a: list[Tensor], b: list[Tensor], tolerance: float = 1e-4) -> bool:
    # A bias before batch norm has a gradient of 0 but for the rounding of all the others.
    largest = max(y.abs().max().item() for y in b)
    return all(
        torch.allclose(x, y, rtol=tolerance, atol=tolerance * (y.abs().max().item() + 0.1) + 1e-5 * largest) for x, y in zip(a, b, strict=True)
    )


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
