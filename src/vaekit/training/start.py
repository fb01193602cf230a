"""From a recipe and data to a finished run: what makes it the same run, the plan, the folder, and the loop."""

import copy
import importlib.util
import json
import platform
from contextlib import nullcontext
from typing import Any

import torch

from vaekit import __version__
from vaekit.data import Dataset
from vaekit.data.cache import cache_folder
from vaekit.device import device_name
from vaekit.errors import UserError
from vaekit.memory import keep_freed_memory
from vaekit.part import spec
from vaekit.recipes import SETTING_OPTIONS, Recipe
from vaekit.recipes.recipe import ALL
from vaekit.run import Run
from vaekit.training.options import Training
from vaekit.training.order import epoch_order
from vaekit.training.processes import joined, leave
from vaekit.training.progress import Watcher


def identity(recipe: Recipe, data: Dataset, training: Training) -> dict[str, Any]:
    """The options that make two runs the same run, as JSON."""
    custom: dict[str, Any] = {}
    if recipe.name == "custom":
        custom = {"model": spec(recipe.model), "objective": spec(recipe.objective), "penalties": [spec(p) for p in recipe.penalties]}
        custom["critics"] = {name: spec(critic) for name, critic in recipe.critics.items()}
    return {
        "recipe": recipe.name,
        **{k: recipe.options.get(k) for k in SETTING_OPTIONS},
        **custom,
        **data.options,
        "limit": data.limit,
        **training.to_json(),
        "data": data.fingerprint,
    }


def start(
    run: Run,
    recipe: Recipe,
    data: Dataset,
    training: Training,
    watcher: Watcher,
    trackers: tuple[str, ...] = (),
    save_seconds: float = 20.0,
    tune: bool = False,
    afresh: str = "choose another folder with --out",
) -> None:
    """Starts the run of this folder, resumes it, or says that it is finished. `tune` tries more plans (`tune.tune`); a resumed run has its plan.

    Args:
        afresh: what a person does to start anew instead, the end of a sentence.

    Raises:
        UserError: if the folder holds something else, or the machine lacks what is asked for.
    """
    from vaekit.training.loop import Trainer
    from vaekit.training.plan import Chosen

    keep_freed_memory()
    options = identity(recipe, data, training)
    if run.exists:
        refuse_other(run, options, afresh)
        if run.finished:
            watcher.say(f"{run.path} is finished: nothing to do. Its figures are in metrics.jsonl; to start afresh, {afresh}.")
            return
        now = recipe.parameters
        if (before := run.description.get("parameters", now)) != now:
            raise UserError(
                f"{run.path} was begun by another version of vaekit, in which this network had {before:,} parameters, and not {now:,}: {afresh}."
            )
    elif run.path.exists() and any(not p.name.startswith(".") for p in run.path.iterdir()):
        raise UserError(f"{run.path} exists and is no run: choose another folder with --out.")
    check_machine(training, trackers)
    tracking = {"log_with": list(trackers), "project_dir": str(run.path)} if trackers else {}
    accelerator = joined(
        cpu=not (torch.cuda.is_available() or torch.backends.mps.is_available()),
        mixed_precision="fp16" if training.precision == "fp16" else "no",
        **tracking,
    )
    if accelerator.num_processes > (size := min(training.batch_size, data.size("train"))):
        raise UserError(f"{accelerator.num_processes} processes share batches of {size}: take fewer, or a larger --batch-size.")
    # From here on the folder is this process's: nobody else writes down another plan while this one is measured.
    with run.held() if accelerator.is_main_process else nullcontext():
        if not run.exists and accelerator.is_main_process:
            _write_down(run, recipe, data, training, options, accelerator, tune)
        accelerator.wait_for_everyone()
        plan = run.description["plan"]
        if plan["processes"] != accelerator.num_processes:
            watcher.say(f"The run was begun on {plan['processes']} processes and goes on on {accelerator.num_processes}: its last bits will differ.")
        chosen = Chosen.from_json(plan)
        watcher.say(str(chosen))
        if trackers:
            accelerator.init_trackers("vaekit", config={k: v for k, v in options.items() if isinstance(v, (int, float, str, bool))})
        threads = torch.get_num_threads()
        torch.set_num_threads(chosen.plan.threads)
        try:
            Trainer(recipe, data, training, run, accelerator, chosen.plan, plan["images"], watcher, save_seconds).train()
        finally:
            torch.set_num_threads(threads)
    leave(accelerator)


def _write_down(run: Run, recipe: Recipe, data: Dataset, training: Training, options: dict[str, Any], accelerator: Any, tune: bool) -> None:
    """Measures what is measured at the start, and writes `run.json` before the first step."""
    from vaekit.training import tune as tuning
    from vaekit.training.plan import choose, images_in
    from vaekit.training.task import Task

    critics = {name: critic.to(accelerator.device) for name, critic in recipe.critics.items()}
    task = copy.deepcopy(Task(recipe.model, recipe.objective, recipe.penalties, critics)).to(accelerator.device)
    if recipe.start < ALL:
        # What the data fill at the start (exemplars, codebooks) is part of what a step costs; a start that is the fit itself changes nothing of it.
        with torch.random.fork_rng():
            rows = epoch_order(data.size("train"), training.seed, 0)[: recipe.start]
            task.initialize(data.batch("train", rows).to(accelerator.device))
    size = min(training.batch_size, data.size("train"))
    batch = data.batch("train", torch.arange(size), augment=training.augment).to(accelerator.device)
    total = max(round(training.epochs * data.size("train")), 1)
    steps = total // size if training.minutes is None else 10**9
    alone = accelerator.num_processes == 1
    chosen = tuning.tune(task, training, batch, steps, cache_folder(), alone) if tune else choose(task, training, batch, steps, cache_folder())
    if training.minutes is not None:
        total = images_in(training.minutes, task, training, chosen, batch, data.size("validation") / data.size("train"))
    run.path.mkdir(parents=True, exist_ok=True)
    run.describe(
        options=options,
        plan={
            **chosen.to_json(),
            "images": total,
            "batch_size": size,
            "processes": accelerator.num_processes,
            "device": str(accelerator.device),
            "machine": device_name(accelerator.device),
        },
        data={
            "name": data.name,
            "source": data.source,
            "validation": data.validation,
            "limit": data.limit,
            "table": data.table,
            "fingerprint": data.fingerprint,
            "options": data.options,
            "spec": data.spec.to_json(),
            "sizes": {split: data.size(split) for split in ("train", "validation", "test")},
        },
        versions={"vaekit": __version__, "torch": torch.__version__, "python": platform.python_version()},
        select=recipe.select,
        parameters=recipe.parameters,
        finished=False,
    )


def check_machine(training: Training, trackers: tuple[str, ...]) -> None:
    """Raises `UserError` for what this machine does not have."""
    if training.precision == "fp16" and not torch.cuda.is_available():
        raise UserError("fp16 needs a GPU: choose --precision bf16 or fp32 here.")
    known = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow"}
    for name in trackers:
        if name not in known:
            raise UserError(f"There is no tracker '{name}': choose one of {', '.join(known)}.")
        if importlib.util.find_spec(known[name]) is None:
            raise UserError(f"The tracker '{name}' is not installed: pip install {name}.")


OF_DATA = {"data", "size", "fit", "fill", "channels", "levels", "batch_size", "epochs", "lr", "skip"}
"""Options that come of the images where nobody gives them."""


def refuse_other(run: Run, options: dict[str, Any], afresh: str) -> None:
    """Raises `UserError`, naming the first option that differs, unless the folder holds this very run."""
    there = Training.complete(run.description["options"])
    now = json.loads(json.dumps(options))
    differ = [key for key in now if there.get(key) != now[key]]
    if "data" in differ and set(differ) <= OF_DATA:
        key = next((key for key in differ if key in ("size", "fit", "channels", "lr", "epochs")), None)
        other = "" if key is None else f", or with another --{key} (it was {_said(there.get(key))}, now {_said(now[key])})"
        raise UserError(f"{run.path} holds a run on other images (or labels), or on these before they were changed{other}: {afresh}.")
    for key in sorted(differ, key=lambda key: key in OF_DATA):
        name = "the data" if key == "data" else "--set" if key == "knobs" else f"--{key.replace('_', '-')}"
        figures = "" if key in ("data", "model", "objective", "penalties", "critics") else f" (it was {_said(there.get(key))}, now {_said(now[key])})"
        raise UserError(f"{run.path} holds a run with another value of {name}{figures}: {afresh}, or repeat its options to resume it.")


def _said(value: Any) -> str:
    """An option as it is typed."""
    return " ".join(f"{name}={v}" for name, v in value.items()) if isinstance(value, dict) else str(value)
