"""The one loop of every measurement: eval mode, no gradients, and noise that is a function of the seed and the position alone."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from vaekit.errors import UserError
from vaekit.latents.fitted import Fitted
from vaekit.memory import keep_freed_memory
from vaekit.model import VAE, evaluating
from vaekit.output import Batch

Batches = Iterable[Batch | Tensor]
Progress = Callable[[int, int | None], None]
"""Called after each batch with what is done, and with what there is to do (None where it is not known)."""
Result = TypeVar("Result")


def passes(
    model: VAE | Fitted,
    batches: Batches,
    compute: Callable[[Batch], Result],
    *,
    seed: int = 0,
    start: int = 0,
    precision: str = "fp32",
    progress: Progress | None = None,
    total: int | None = None,
) -> Iterator[Result]:
    """`compute(batch)` for each batch, on the model's device.

    The noise of a batch depends on `seed` and on the position of its first image: the same batches give the same figures, whatever ran before,
    and a measurement that stopped after `start` images goes on from there. The global generators stay as they were. Another batch size is
    another draw of the noise.

    Args:
        start: the position of the first image of `batches`.
        precision: "bf16" runs the networks under autocast: faster where the hardware has it, and good to about 0.1 % of a figure.
        progress: called with the number of images done, and `total`.
    """
    if precision not in ("fp32", "bf16"):
        raise UserError(f"precision is 'fp32' or 'bf16' here, and not '{precision}'.")
    keep_freed_memory()
    done = 0
    for batch in batches:
        device = model.device
        batch = Batch.of(batch).to(device)
        with (
            torch.no_grad(),
            evaluating(model),
            seeded(device, seed, start + done),
            torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"),
        ):
            result = compute(batch)
        done += len(batch)
        yield result
        if progress is not None:
            progress(done, total)
    if done == 0:
        raise UserError("There are no images to evaluate.")


def first(batches: Batches, limit: int | None) -> Iterator[Batch]:
    """The first `limit` images (all of them when None); the last batch is cut."""
    left = limit
    for item in batches:
        batch = Batch.of(item)
        if left is not None and len(batch) > left:
            batch = batch[:left]
        if len(batch) > 0:
            yield batch
        if left is not None:
            left -= len(batch)
            if left <= 0:
                return


@contextmanager
def seeded(device: torch.device, *key: int) -> Iterator[None]:
    """The generators of the CPU and of this device start from `key` inside, and are as they were afterwards."""
    seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])
    accelerator = None if device.type == "cpu" else torch.get_device_module(device)
    where = (device,) if device.type == "cuda" else ()
    states = torch.get_rng_state(), None if accelerator is None else accelerator.get_rng_state(*where)
    try:
        # Not `torch.manual_seed`, which would seed every device of the machine.
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        elif accelerator is not None:
            accelerator.manual_seed(seed)
        yield
    finally:
        torch.set_rng_state(states[0])
        if accelerator is not None:
            accelerator.set_rng_state(states[1], *where)
