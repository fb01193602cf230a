"""Run by torchrun: two trainings and a fitted prior, one after the other."""

import atexit
import sys
from pathlib import Path

import torch

import vaekit
from tests.system.two_processes import no_thread_is_left
from vaekit.training import Silent


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    for name in ("one", "two"):
        run = vaekit.fit("mlp", "digits", scale=0.05, latent=2, epochs=0.2, precision="fp32", out=folder / name, watcher=Silent())
    vaekit.fit_prior(run, "gmm", watcher=Silent(), epochs=0.1)


if __name__ == "__main__":
    atexit.register(no_thread_is_left)
    main(Path(sys.argv[1]))
