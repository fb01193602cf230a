"""What was trained on what, and the command that does it again."""

import shlex
from typing import Any

import torch

from vaekit.data import Dataset
from vaekit.errors import UserError
from vaekit.recipes import RECIPES, SETTING_OPTIONS, build_recipe
from vaekit.report.content import Block, Command, Facts, Prose, Section
from vaekit.report.svg import number
from vaekit.run import Run
from vaekit.training.options import Training

TRAINING_FLAGS = (
    "epochs",
    "batch_size",
    "optimizer",
    "lr",
    "schedule",
    "weight_decay",
    "ema",
    "clip",
    "skip",
    "precision",
    "augment",
    "augment_until",
)
"""Options of `train`; those that are the recipe's own are left out of the command."""
PYTHON_ONLY = ("betas", "lr_warmup", "lr_hold")
"""Options that only Python can set."""


def about(run: Run, data: Dataset) -> Section:
    """The recipe, the data, the machine and the command."""
    described = run.description
    options, source, plan = described["options"], described["data"], described["plan"]
    entry = RECIPES.get(options["recipe"])
    spec, sizes = run.spec, source["sizes"]
    rows = [("recipe", options["recipe"])]
    links = {}
    if entry is not None:
        rows += [("good for", entry.good_for), ("paper", f"{entry.paper} ({entry.year})")]
        links["paper"] = entry.url
    levels = "floating-point values" if spec.levels is None else "binary pixels" if spec.levels == 2 else f"{spec.levels:,} levels"
    rows += [
        ("data", source["name"]),
        ("images", f"{sizes['train']:,} for training, {sizes['validation']:,} for validation, {sizes['test']:,} for testing"),
        ("form", f"{spec.shape[1]} x {spec.shape[2]} (height x width), {_count(spec.shape[0], 'channel')}, {levels}"),
    ]
    if spec.classes:
        rows.append(("classes", f"{len(spec.classes)}: {_some(spec.classes)}"))
    if spec.attributes:
        rows.append(("attributes", f"{len(spec.attributes)}: {_some(spec.attributes)}"))
    rows += [
        ("likelihood p(x|z)", type(run.model.likelihood).__name__),
        ("parameters", f"{described.get('parameters') or sum(p.numel() for p in run.model.parameters()):,}"),
        *_course(run, plan),
        ("machine", f"{plan.get('machine', plan['device'])}, {_count(plan['processes'], 'process', 'es')}, {_count(plan['threads'], 'thread')}"),
        ("arithmetic", plan["precision"]),
        ("versions", ", ".join(f"{name} {version}" for name, version in described["versions"].items())),
        ("fingerprint of the data", source["fingerprint"]),
    ]
    blocks: list[Block] = [Facts(tuple(rows), links)]
    command = repeat(run)
    if command is None:
        blocks.append(Prose("It was trained from Python with parts, data or options that the command line does not have: no command repeats it."))
    else:
        blocks += [Prose("The command that repeats it:"), Command(command)]
        if options.get("minutes"):
            blocks.append(
                Prose("With `--minutes` the number of images is measured at the start, so that another machine sees more or fewer of them.")
            )
    if data.notes:
        blocks.append(Prose("Of the data: " + " ".join(data.notes)))
    return Section("What was trained", tuple(blocks))


def _course(run: Run, plan: dict[str, Any]) -> list[tuple[str, str]]:
    rows = run.metrics()
    if not rows:
        return []
    last = rows[-1]
    seconds = run.description.get("seconds") or last["seconds"]
    spent = f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:.1f} minutes"
    return [("training", f"{number(last['epoch'])} epochs, {last['images']:,} images in batches of {plan['batch_size']}, {spent}")]


def repeat(run: Run) -> str | None:
    """The command that trains the same model on the same data; None where there is none."""
    described = run.description
    options, source = described["options"], described["data"]
    if source["source"] is None or source.get("validation") or options["recipe"] not in RECIPES:
        return None
    setting = {k: options.get(k) for k in SETTING_OPTIONS}
    told = options["condition"] if options["condition"] in (None, "class") else "attributes"
    try:
        with torch.random.fork_rng():
            built = build_recipe(options["recipe"], run.spec, condition=told, **setting)
    except UserError:
        return None
    if described.get("parameters", built.parameters) != built.parameters:  # an older version's network
        return None
    own = built.defaults.to_json()
    options = Training.complete(options)
    if any(options[k] != own[k] for k in PYTHON_ONLY):
        return None
    words = ["vaekit", "train", source["source"], "--recipe", options["recipe"]]
    for name in SETTING_OPTIONS:
        if name == "knobs":
            words += [w for knob, value in (options.get(name) or {}).items() for w in ("--set", f"{knob}={value}")]
        else:
            words += _flag(name, options.get(name))
    height, width = options["size"]
    words += _flag("size", f"{height}x{width}") + _flag("fit", options["fit"]) + _flag("channels", options["channels"])
    words += ["--binarize"] * bool(options["binarize"])
    for name in ("condition", "missing", "labels", "limit"):
        words += _flag(name, options.get(name))
    for name in TRAINING_FLAGS:
        if options[name] != own[name] and not (name == "epochs" and options["minutes"]):
            words += _flag(name, options[name])
    words += _flag("minutes", options["minutes"]) + ["--compile"] * bool(options["compile"]) + _flag("seed", options["seed"] or None)
    return shlex.join(words)


def _flag(name: str, value: Any) -> list[str]:
    if value is None:
        return []
    return [f"--{name.replace('_', '-')}", str(int(value)) if isinstance(value, float) and value == int(value) else str(value)]


def _some(names: tuple[str, ...], most: int = 12) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _count(n: int, what: str, plural: str = "s") -> str:
    return f"{n} {what}{plural * (n != 1)}"
