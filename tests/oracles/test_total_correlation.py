"""Total correlation against the paper's formula written out as loops, and Gaussians whose total correlation is known."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal

from tests.contracts.examples import batch, scrambled, spec_of
from tests.oracles.codes import of_codes
from vaekit.errors import UserError
from vaekit.penalties import TotalCorrelation
from vaekit.penalties.total_correlation import stratified, weighted
from vaekit.recipes import build_recipe
from vaekit.training.task import Task


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
    out = of_codes(mean, std)
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
        out = of_codes(torch.zeros(8, dimensions), torch.ones(8, dimensions))
        for estimator in ("stratified", "weighted"):
            assert torch.allclose(TotalCorrelation(1000, estimator)(out), torch.zeros(8), atol=1e-4), "constants are left over"


@pytest.mark.parametrize("estimator", ["stratified", "weighted"])
@pytest.mark.parametrize("rho", [0.0, 0.8])
def test_total_correlation_of_a_known_gaussian(estimator: str, rho: float) -> None:
    """Means from N(0, S) and a posterior of variance s^2 make the aggregate N(0, S + s^2 I), with TC = -1/2 log det of its correlation."""
    count, s = 1500, 0.4
    covariance = torch.tensor([[1.0, rho], [rho, 1.0]])
    mean = MultivariateNormal(torch.zeros(2), covariance).sample((count,))
    value = TotalCorrelation(count, estimator)(of_codes(mean, torch.full((count, 2), s)))
    exact = -0.5 * math.log(1 - (rho / (1 + s**2)) ** 2)
    assert abs(value.mean().item() - exact) < 5 * value.std().item() / math.sqrt(count) + 0.02


def test_tc_maximized() -> None:
    """A step down the penalty makes correlated codes less correlated."""
    base = torch.randn(256, 1)
    mean = torch.cat([base, base + 0.3 * torch.randn(256, 1)], 1).requires_grad_()
    noise = torch.randn(256, 2)
    before = torch.corrcoef(mean.detach().T)[0, 1]
    for _ in range(20):
        loss = TotalCorrelation(256)(of_codes(mean, torch.full((256, 2), 0.3), mean + 0.3 * noise)).mean()
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
