"""Run by torchrun: training steps on this process's rows of the joined batch, with its rows of the joined noise; rank 0 saves the weights."""

import atexit
import os
import sys
from pathlib import Path

import torch

from tests.contracts.examples import spec_of, vae
from vaekit.recipes import Recipe, build_recipe
from vaekit.training.critics import Critics
from vaekit.training.optimizer import make_optimizer
from vaekit.training.options import Training
from vaekit.training.processes import joined, leave
from vaekit.training.task import Task

BATCH, STEPS = 8, 3


def main(out: Path, name: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    shape = [1, 12, 12]
    x = torch.randint(0, 256, (BATCH, *shape), dtype=torch.uint8)
    if name == "plain":
        recipe = Recipe(vae("resnet", shape).eval())  # eval: the contract leaves batch norm's statistics out
    else:
        recipe = build_recipe(name, spec_of(shape), scale=0.25)
        recipe.model.initialize(x)
    model = recipe.model
    accelerator = joined(cpu=True)
    rank, world = accelerator.process_index, accelerator.num_processes
    task = Task(model, recipe.objective, recipe.penalties, recipe.critics)
    task.progress(1.0)  # the full weight of every penalty
    critics = Critics(recipe.critics, Training(), accelerator.device)
    # Adam would make a full step of a gradient that is 0 but for rounding: a hinge critic's, where real and fake excite a patch alike.
    critics.optimizers = {name: torch.optim.SGD(critic.parameters(), 0.05) for name, critic in critics.critics.items()}
    prepared, optimizer = accelerator.prepare(task, make_optimizer(task, Training(optimizer="adamw", weight_decay=0.01)))
    for step in range(STEPS):
        hand_out(step, rank, world)
        result = prepared(x[rank::world])
        accelerator.backward(result.loss / 144)
        optimizer.step()
        optimizer.zero_grad()
        task.post_step({part: {k: accelerator.reduce(v, "mean") for k, v in values.items()} for part, values in result.stats.items()})
        critics.step(result.feeds)
    if accelerator.is_main_process:
        learned = {f"{name}.{k}": v for name, critic in critics.modules.items() for k, v in critic.state_dict().items()}
        torch.save(model.state_dict() | learned, out)
    leave(accelerator)


def no_thread_is_left() -> None:
    """Ends the process with an error if a thread of gloo is there, where the system tells them: for the very end, before Python's own."""
    names = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").glob("*")]
    if left := [name for name in names if "gloo" in name]:
        print(f"threads of the process group are left: {left}", file=sys.stderr, flush=True)
        os._exit(1)


def hand_out(step: int, rank: int, world: int) -> None:
    """Makes torch's noise of this step the rows of the joined noise; of a joined batch (a permutation, say), all rows."""

    def drawn(kind: int, shape: tuple[int, ...]) -> torch.Tensor:
        generator = torch.Generator().manual_seed(1000 * step + kind)
        make = torch.randn if kind < 2 else torch.rand
        joined = make(BATCH, *shape[1:], generator=generator)
        return joined if shape[0] == BATCH else joined[rank::world]

    torch.distributions.normal._standard_normal = lambda shape, **_: drawn(0, tuple(shape))
    torch.randn_like = lambda x, **_: drawn(0, tuple(x.shape))

    def standard_normal(self: object, n: int, **_: object) -> torch.Tensor:
        return drawn(1, (n, *self.zero.shape))  # type: ignore[attr-defined]

    from vaekit.latents.priors.normal import StandardNormal
    from vaekit.penalties import factor

    StandardNormal.sample = standard_normal  # type: ignore[method-assign,assignment]
    factor.permuted = lambda z: z.gather(0, drawn(2, tuple(z.shape)).argsort(0))


if __name__ == "__main__":
    atexit.register(no_thread_is_left)  # the first that is registered is the last that is called
    main(Path(sys.argv[1]), sys.argv[2])
