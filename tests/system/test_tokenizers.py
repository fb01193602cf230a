"""A tokenizer and its critic: what is stopped is resumed, also across the onset of the critic's pull."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from sklearn.datasets import load_digits

import vaekit
from tests.contracts.families.tokenizers import needs_diffusers
from tests.system.killing import killed_at
from vaekit.recipes import Recipe
from vaekit.training import Silent


def test_a_stopped_tokenizer_is_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_diffusers()

    def recipe() -> Recipe:
        torch.manual_seed(1)
        return vaekit.recipe("tokenizer-kl", shape=(1, 8, 8), scale=0.25, knobs={"start": 0.4})

    x = (load_digits().images[:100] * 15).astype("uint8")
    options = {"epochs": 2, "batch_size": 24, "precision": "fp32", "watcher": Silent(), "save_seconds": 0.0}
    whole = vaekit.fit(recipe(), x, out=tmp_path / "whole", **options)
    killed_at(4, monkeypatch, lambda: vaekit.fit(recipe(), x, out=tmp_path / "stopped", **options))
    resumed = vaekit.fit(recipe(), x, out=tmp_path / "stopped", **options)
    one, two = whole.model.state_dict(), resumed.model.state_dict()
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert [row["weight_1"] for row in whole.metrics()] == [row["weight_1"] for row in resumed.metrics()] != [0.0, 0.0]
    with (
        safe_open(tmp_path / "whole" / "checkpoints" / "last.safetensors", "pt") as a,
        safe_open(resumed.checkpoints / "last.safetensors", "pt") as b,
    ):
        names = [k for k in a.keys() if "critic" in k]  # noqa: SIM118 (not a dictionary)
        assert names and all(torch.equal(a.get_tensor(k), b.get_tensor(k)) for k in names)
