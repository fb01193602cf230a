"""Run by torchrun: two trainings and a fitted prior, one after the other, and no thread of a process group is left."""

import sys
from pathlib import Path

import torch

import vaekit
from tests.system.two_processes import threads_of_the_group
from vaekit.training import Silent


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    for name in ("one", "two"):
        run = vaekit.fit("mlp", "digits", scale=0.05, latent=2, epochs=0.2, precision="fp32", out=folder / name, watcher=Silent())
        assert not (left := threads_of_the_group()), left
    vaekit.fit_prior(run, "gmm", watcher=Silent(), epochs=0.1)
    assert not (left := threads_of_the_group()), left


if __name__ == "__main__":
    main(Path(sys.argv[1]))
