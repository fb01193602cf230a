"""Everything random in a run is a function of the seed and the position: the order of the data, and the noise of each step."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

MPS = torch.backends.mps.is_available()


def derived_seed(*key: int | str) -> int:
    """A 63-bit seed from a key."""
    digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def epoch_order(count: int, seed: int, epoch: int) -> Tensor:
    """The rows of the training split in the order of this pass, [count]."""
    generator = torch.Generator().manual_seed(derived_seed("order", seed, epoch))
    return torch.randperm(count, generator=generator)


@contextmanager
def reproducible(*key: int | str) -> Iterator[None]:
    """What is drawn within is a function of the key; the generators, a GPU's where it is in use already, are as they were afterwards."""
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=gpus):
        torch.manual_seed(derived_seed(*key))
        yield


def seed_step(seed: int, rank: int, images: int) -> None:
    """Noise that depends on the position in the run and on the process, and on nothing else."""
    value = derived_seed("step", seed, rank, images)
    # Not `torch.manual_seed`, which looks for every kind of device and takes 0.1 ms.
    torch.default_generator.manual_seed(value)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(value)
    elif MPS:
        torch.mps.manual_seed(value)
