"""Shape annotations are executed: every function of vaekit that pytest runs is checked by jaxtyping and beartype."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # figures are compared bit by bit: on the processor alone

from jaxtyping import install_import_hook

import tests.checker  # noqa: F401 (named by the hook)

hook = install_import_hook("vaekit", "tests.checker.check")
hook.__enter__()

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("same", derandomize=True, deadline=None)
settings.load_profile("same")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["VAEKIT_CACHE"] = str(tmp_path_factory.mktemp("cache"))
