"""What every prior inside the bound keeps to: draws that follow its density, and whole models that fold, save and learn."""

import math
from pathlib import Path

import pytest
import torch
from torch.distributions import MultivariateNormal

from tests.contracts.examples import SHAPE
from tests.contracts.families.priors import EXAMPLES, moved
from tests.oracles.densities import follows
from tests.oracles.prior_models import PRIORS, D, exemplars, gaussians, started
from vaekit.latents.priors import AutoregressivePrior, FlowPrior, MixturePrior, VampPrior
from vaekit.objectives import ELBO, IWAE
from vaekit.saving import load_model, save_model
from vaekit.testing import check_gradients, check_prior, check_spec
from vaekit.testing.anchored import check_anchored_prior
from vaekit.training.task import Task

# ---- the prior alone


@pytest.mark.parametrize("name", ["VampPrior", "ExemplarPrior"])
def test_anchored_priors_keep_their_contract(name: str) -> None:
    prior = EXAMPLES[name]()
    check_spec(prior)
    check_anchored_prior(prior, gaussians(4, 2))


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
