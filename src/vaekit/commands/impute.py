"""`vaekit impute`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from vaekit import api, pictures
from vaekit.commands.options import Device, Json, Klass, Prior, RunFolder, Seed
from vaekit.editing import imputations


def impute(
    run: RunFolder,
    images: Annotated[list[Path], typer.Argument(help="Image files.", metavar="IMAGES...")],
    mask: Annotated[Path | None, typer.Option(help="A picture that is white where pixels are missing, black elsewhere.")] = None,
    alpha: Annotated[bool, typer.Option("--alpha", help="Transparent pixels are missing.")] = False,
    box: Annotated[str | None, typer.Option(help="x,y,width,height of what is missing, in pixels of the model's images.")] = None,
    n: Annotated[int, typer.Option("-n", "--number", help="How many answers for each image.")] = 5,
    samples: Annotated[int, typer.Option(help="How many codes are weighed: more is closer to the model's own belief.")] = 256,
    class_: Klass = None,
    prior: Prior = None,
    seed: Seed = 0,
    out_: Annotated[
        Path, typer.Option("--out", "-o", help="The picture: the image with holes, the answers, their mean, and where they are unsure.")
    ] = Path("imputed.png"),
    device: Device = "auto",
    json_: Json = False,
) -> None:
    """Fill in missing pixels: several answers, their mean, and how sure the model is."""
    pictures.writable(out_)
    loaded = api.with_prior(api.load(run, device), prior)
    batch, result = api.impute(loaded, images, mask=mask, alpha=alpha, box=box, answers=n, samples=samples, condition=class_, seed=seed)
    pictures.save(out_, imputations(batch, result, loaded.spec))
    if json_:
        effective = [round(value, 2) for value in result.effective.tolist()]
        print(json.dumps({"images": len(batch), "answers": n, "samples": samples, "effective_samples": effective, "picture": str(out_)}))
        return
    print(f"{len(batch)} images with {n} answers each in {out_}; {result.effective.median().item():.1f} of {samples} codes count (the median).")
