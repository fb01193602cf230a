"""Recipes and commands on the processor and on a simulated device, side by side: a JSON line for each, with what differs, or None.

Run as a program of its own: the device stays registered for as long as the process lives.
"""

import contextlib
import copy
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from tests.contracts.examples import raw, spec_of
from tests.simulated import simulated
from vaekit.cli import main
from vaekit.evaluation.passes import seeded
from vaekit.output import Batch
from vaekit.recipes import RECIPES, build_recipe

SHAPE = [1, 12, 12]
ALONE = {"seconds", "bytes", "picture", "run", "report"}
"""Figures that are not of the model."""
RUNS = {
    "plain": ["data.npz", "--recipe", "conv", "--latent", "4"],
    "told": ["data.npz", "--recipe", "ladder", "--likelihood", "causal", "--condition", "class", "--epochs", "0.3"],
    "codes": ["data.npz", "--recipe", "vq-ema", "--epochs", "0.3"],
    "shapes": ["shapes:300", "--size", "12", "--recipe", "realnvp", "--latent", "4"],
}
COMMANDS = [
    "evaluate plain --samples 4 --json",
    "evaluate told --samples 2 --limit 20 --json",
    "evaluate codes --samples 2 --json",
    "evaluate shapes --samples 2 --disentanglement --json",
    "quality plain -n 60 --features laplacian --json",
    "sample plain -n 8 --out OUT.png",
    "sample plain -n 8 --pixels draw --out OUT.png",
    "sample told -n 2 --class 1 --out OUT.png",
    "report plain --quick --json",
    "reconstruct plain a.png b.png --out OUT.png",
    "encode plain OUT --json",
    "encode codes OUT --json",
    "traverse plain --json --out OUT.png",
    "impute plain a.png --box 0,0,6,6 -n 2 --samples 8 --json --out OUT.png",
    "edit interpolate plain test:0 test:1 --how spherical --json --out OUT.png",
    "edit traverse plain test:0 --principal 2 --json --out OUT.png",
    "edit attribute plain test:0 --to 1 --json --out OUT.png",
    "edit arithmetic plain test:0 test:1 test:2 --json --out OUT.png",
    "edit mix told test:0 test:1 --json --out OUT.png",
    "edit inpaint plain test:0 --hide 0,0,6,6 -n 2 --how weighted --json --out OUT.png",
    "compare plain codes -n 60 --features laplacian --json --out OUT.png",
    "fit-prior plain --epochs 1 -q",
    "sample plain -n 8 --out OUT.png",
    "edit interpolate plain test:0 test:1 --json --out OUT.png",
    "fit-prior plain --prior flow-matching --condition class --epochs 0.2 -q",
    "sample plain -n 4 --class 1 --guidance 2 --out OUT.png",
    "fit-prior told --epochs 0.2 -q",
    "fit-prior codes --epochs 0.2 -q",
    "sample codes -n 2 --top 5 --out OUT.png",
    "fit-prior shapes --condition attributes --epochs 1 -q",
]
"""In this order. Not among them: `edit interpolate --how density`, `edit inpaint --how chains`, and `evaluate` of annealed importance sampling, which
go backward; the simulated device cannot."""


def of_recipe(name: str, device: torch.device) -> str | None:
    """The bound and new images of an untrained model."""
    torch.manual_seed(0)
    more: dict[str, Any] = {"classes": ("a", "b")} if name == "semi-supervised" else {}
    model = build_recipe(name, spec_of(SHAPE, **more), scale=0.25).model.eval()
    other = copy.deepcopy(model).to(device)
    x = Batch(raw(3, SHAPE), index=torch.arange(3))
    found = []
    for one, batch in ((model, x), (other, x.to(device))):
        with torch.no_grad(), seeded(torch.device("cpu"), 1):
            images = [one.sample(2), *([] if model.encoder is None else [one.reconstruct(batch)])]
            found.append([*images, one.score(batch, k=2)])
    for mine, theirs in zip(*found, strict=True):
        if theirs.device != device:
            return f"a result is on {theirs.device}"
        if not torch.allclose(mine.float(), theirs.cpu().float(), rtol=1e-4, atol=1e-2):
            return f"a result differs by {(mine - theirs.cpu()).abs().max()}"
    return None


def called(words: list[str]) -> tuple[int, str, str]:
    out, err, code = io.StringIO(), io.StringIO(), 0
    torch.manual_seed(0)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(words)
        except SystemExit as stop:
            code = int(stop.code or 0)
    return code, out.getvalue(), err.getvalue()


def of_command(number: int, command: str) -> str | None:
    """What it prints and draws."""
    results = {}
    for device in ["sim"] if command.startswith("fit-prior") else ["cpu", "sim"]:
        code, out, err = called([*command.replace("OUT", f"{device}{number}").split(), "--device", device])
        if code:
            return f"on {device} it ended with {code}: {err or out}"
        results[device] = out
    if len(results) == 1:
        return None
    if "--json" in command:
        mine, theirs = (json.loads(out) for out in results.values())
        for key in (mine.keys() | theirs.keys()) - ALONE:
            if not close(mine.get(key), theirs.get(key)):
                return f"{key} is {mine[key]}, and on sim {theirs[key]}"
    if command.startswith("encode"):
        for mine, theirs in zip(*(sorted(Path(f"{device}{number}").rglob("z*.npy")) for device in results), strict=True):
            if not np.allclose(np.load(mine), np.load(theirs), rtol=1e-3, atol=1e-3):
                return f"{mine} differs"
    if "OUT.png" in command:
        mine, theirs = (np.asarray(Image.open(f"{device}{number}.png").convert("RGB"), dtype=int) for device in results)
        if mine.shape != theirs.shape or abs(mine - theirs).max() > 2:
            return "its picture differs"
    return None


def close(mine: Any, theirs: Any) -> bool:
    """Whether two JSON values are the same but for the last digits of numbers."""
    if isinstance(mine, dict):
        return mine.keys() == theirs.keys() and all(close(mine[k], theirs[k]) for k in mine)
    if isinstance(mine, list):
        return len(mine) == len(theirs) and all(close(a, b) for a, b in zip(mine, theirs, strict=True))
    return bool(np.isclose(mine, theirs, rtol=1e-3, atol=1e-3)) if isinstance(mine, float) else mine == theirs


def prepare() -> None:
    """The data, two image files, and the runs, trained on the processor."""
    generator = np.random.default_rng(0)
    y = generator.integers(0, 2, 1000)
    x = generator.integers(0, 60, (1000, *SHAPE[1:]))
    for image, label in zip(x, y, strict=True):
        image[2 + label : 8 + label, 3:9] += generator.integers(80, 190)
    np.savez("data.npz", x=x.astype(np.uint8), y=y)
    for name in ("a", "b"):
        Image.fromarray(x[ord(name)].astype(np.uint8)).save(f"{name}.png")
    for name, options in RUNS.items():
        code, _, err = called(
            ["train", *options, "--out", name, "--scale", "0.25", "--precision", "fp32", *([] if "--epochs" in options else ["--epochs", "2"])]
        )
        assert code == 0, err


if __name__ == "__main__":
    torch.set_num_threads(1)
    os.chdir(Path(sys.argv[1]))
    prepare()
    with simulated() as sim:
        work = {name: lambda name=name: of_recipe(name, sim) for name in sorted(RECIPES)}
        work |= {command + f" ({i})": lambda i=i, command=command: of_command(i, command) for i, command in enumerate(COMMANDS)}
        for name, do in work.items():
            try:
                found = do()
            except Exception as error:
                found = f"{type(error).__name__}: {error}"
            print(json.dumps({"name": name, "found": found}), flush=True)
