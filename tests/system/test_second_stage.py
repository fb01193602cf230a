"""A prior fitted to the codes of a run, by the command and in Python."""

from pathlib import Path

import pytest
import torch

import vaekit
from vaekit import api
from vaekit.errors import UserError
from vaekit.training import Silent


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for name, recipe in (("flat", "mlp"), ("codes", "vq"), ("ladder", "ladder")):
        vaekit.fit(recipe, "digits", out=folder / name, epochs=1, scale=0.25, precision="fp32", watcher=Silent())
    return folder


@pytest.mark.parametrize("name", ["flat", "codes", "ladder"])
def test_sampling_uses_the_fitted_prior(runs: Path, name: str) -> None:
    run = vaekit.load(runs / name)
    assert run.model.sampler is None
    before = {k: v.clone() for k, v in run.model.state_dict().items()}
    inner = api.fit_prior(run, epochs=1, watcher=Silent())
    again = vaekit.load(runs / name).model
    assert all(torch.equal(again.state_dict()[k], v) for k, v in before.items()), "The model itself has changed."
    torch.manual_seed(0)
    code = again.sampler.sample(3)
    assert again.sample(3).shape == (3, 1, 8, 8) and code.shape[0] == 3
    assert inner.path.parent == runs / name / "priors" and len(inner.metrics()) == 1
    silent = Silent()
    api.fit_prior(vaekit.load(runs / name), epochs=1, watcher=silent)
    assert "is finished" in " ".join(silent.messages)


def test_a_prior_that_is_told_the_class(runs: Path) -> None:
    run = vaekit.load(runs / "flat")
    api.fit_prior(run, "flow-matching", condition="class", epochs=1, watcher=Silent())
    model = vaekit.load(runs / "flat").model
    torch.manual_seed(0)
    a = model.sample(4, condition=3, guidance=2.0)
    torch.manual_seed(0)
    assert not torch.equal(a, model.sample(4, condition=5, guidance=2.0))
    assert model.sample(4).shape == a.shape
    assert vaekit.load(runs / "flat").description["prior"]["condition"] == "class"


def test_what_is_refused(runs: Path, tmp_path: Path) -> None:
    run = vaekit.load(runs / "ladder")
    with pytest.raises(UserError, match="class or nothing"):
        api.fit_prior(run, condition="colour", watcher=Silent())
    fresh = vaekit.recipe("mlp", shape=(1, 8, 8)).model
    with pytest.raises(UserError, match="fit one with"):
        fresh.sample(2, guidance=2.0)
    with pytest.raises(UserError, match="condition"):
        fresh.sample(2, condition=1)
