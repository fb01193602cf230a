"""Run by torchrun: one training step on this process's rows of the joined batch, with its rows of the joined noise; rank 0 saves the weights."""

import sys
from pathlib import Path

import torch
from accelerate import Accelerator

from tests.contracts.examples import spec_of, vae
from vaekit.recipes import Recipe, build_recipe
from vaekit.training.optimizer import make_optimizer
from vaekit.training.options import Training
from vaekit.training.task import Task


def main(out: Path, name: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    shape = [1, 12, 12]
    x = torch.randint(0, 256, (8, *shape), dtype=torch.uint8)
    if name == "plain":
        recipe = Recipe(vae("resnet", shape).eval())  # eval: the contract leaves batch norm's statistics out
    else:
        recipe = build_recipe(name, spec_of(shape), scale=0.25)
        recipe.model.initialize(x)
    model = recipe.model
    noise = torch.randn(3, 8, 3)
    accelerator = Accelerator(cpu=True)
    rank, world = accelerator.process_index, accelerator.num_processes
    task = Task(model, recipe.objective)
    prepared, optimizer = accelerator.prepare(task, make_optimizer(task, Training(optimizer="adamw", weight_decay=0.01)))
    for step in range(3):
        mine = noise[step, rank::world]
        torch.distributions.normal._standard_normal = lambda *_, mine=mine, **__: mine
        result = prepared(x[rank::world])
        accelerator.backward(result.loss / 144)
        optimizer.step()
        optimizer.zero_grad()
        task.post_step({part: {k: accelerator.reduce(v, "mean") for k, v in values.items()} for part, values in result.stats.items()})
    if accelerator.is_main_process:
        torch.save(model.state_dict(), out)
    accelerator.wait_for_everyone()
    accelerator.end_training()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
