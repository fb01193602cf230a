"""Bounds by several samples, by hand and against each other; and the defects that other libraries have in their weights, by name."""

import math

import pytest
import torch

from tests.contracts.examples import batch, scrambled, vae
from tests.oracles.sampled import SAMPLED, of_weights
from tests.oracles.test_bounds import LATENT, SIGMA, SIZE, linear_gaussian
from vaekit.likelihoods import Gaussian
from vaekit.objectives import CIWAE, IWAE, MIWAE, PIWAE, STL, DReG, Renyi
from vaekit.testing import check_gradients

# ---- values


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


# ---- weights


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
