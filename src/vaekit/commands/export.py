"""`vaekit export`."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from vaekit import api
from vaekit.commands.options import Json, RunFolder, bar
from vaekit.errors import UserError

IMAGES = 2000
"""Of the training split, from which the scale of the codes is measured."""


class Form(StrEnum):
    """What a model can be written as."""

    diffusers = "diffusers"


def export(
    run: RunFolder,
    out_: Annotated[Path, typer.Argument(help="The folder to write.", metavar="OUT")],
    to: Annotated[
        Form, typer.Option(help="diffusers: an AutoencoderKL or a VQModel, of the recipes tokenizer-kl and tokenizer-vq.")
    ] = Form.diffusers,
    data: Annotated[str | None, typer.Option(help="Other data than the run's own, to measure the scale of the codes on.")] = None,
    json_: Json = False,
) -> None:
    """Write a model in the form of another program.

    With 'diffusers', AutoencoderKL.from_pretrained(OUT) or VQModel.from_pretrained(OUT) loads it; images stand on [-1,1] there.
    """
    from vaekit.export.diffusers import code_scale, refusal, to_diffusers
    from vaekit.export.target import target

    target(out_)
    loaded = api.load(run)
    if (why := refusal(loaded.model, loaded.spec)) is not None:
        raise UserError(f"{run} cannot be an autoencoder of diffusers: {why}.")
    dataset = api.reopen(loaded, data)
    with bar("Measuring the codes", json_) as progress:
        scale = code_scale(loaded.model, dataset.batches("train", 128, IMAGES), progress=progress)
    name = to_diffusers(loaded.model, loaded.spec, scale, out_)
    if json_:
        figures = {"mean": scale.mean, "std": scale.std, "images": scale.images}
        print(json.dumps({"class": name, "folder": str(out_), "scaling_factor": scale.factor, "codes": figures}))
        return
    print(f"{out_} holds diffusers' {name}: diffusers.{name}.from_pretrained('{out_}'), with images on [-1,1].")
    print(f"scaling_factor {scale.factor:.4g}: the codes of {scale.images:,} training images have the standard deviation {scale.std:.4g}.")
