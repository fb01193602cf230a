"""What every penalty keeps to: one value for each image, what it needs, and a weight that follows its schedule."""

import pytest
import torch
from torch.distributions import Independent, Normal

from tests.contracts.examples import batch, scrambled, spec_of, vae
from tests.contracts.families.penalties import EXAMPLES
from vaekit.errors import UserError
from vaekit.likelihoods import Gaussian
from vaekit.objectives import ELBO, Constant, Warmup
from vaekit.output import LatentTerm, VAEOutput
from vaekit.penalties import DIP, CodeNorm, Consistency, Penalty, TotalCorrelation
from vaekit.recipes import build_recipe
from vaekit.testing import check_penalty
from vaekit.training.task import ANSWERS, Task


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
