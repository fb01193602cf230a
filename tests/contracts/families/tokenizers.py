"""The parts of tokenizers: maps of Gaussians, the networks of diffusers, and a critic that is held."""

import pytest
import torch

from vaekit.latents.posteriors import GaussianMap
from vaekit.networks.diffusers import DiffusersDecoder, DiffusersEncoder
from vaekit.part import Part
from vaekit.penalties import Onset, PatchAdversarial


def needs_diffusers(name: str = "tokenizer") -> None:
    """Skips the test of a recipe whose networks are diffusers', where that is not installed."""
    if name.startswith("tokenizer"):
        pytest.importorskip("diffusers", reason="the networks of tokenizers are those of diffusers, which is not installed")


def encoder() -> Part:
    needs_diffusers()
    return DiffusersEncoder([2, 9, 11], 6, [4, 8], groups=2, quantized=True)


def decoder() -> Part:
    needs_diffusers()
    return DiffusersDecoder(3, [2, 9, 11], [4, 8], groups=2)


EXAMPLES = {
    "GaussianMap": lambda: GaussianMap(8, [2, 1, 2]),
    "DiffusersEncoder": encoder,
    "DiffusersDecoder": decoder,
    "Onset": Onset,
    "PatchAdversarial": lambda: PatchAdversarial(256, pull=0.5, weight=Onset()),
}
FEATURES = {"GaussianMap": lambda: torch.randn(4, 8, 1, 2)}
