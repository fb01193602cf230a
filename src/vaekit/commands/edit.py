"""`vaekit edit`: what can be done to images by way of their codes."""

import json
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from vaekit import api, editing, pictures
from vaekit.commands.images import kept, part_if_named, part_of, read
from vaekit.commands.options import Device, Json, Klass, Prior, RunFolder
from vaekit.editing.strips import spread
from vaekit.errors import UserError
from vaekit.output import Batch
from vaekit.run import Run

edit = typer.Typer(
    no_args_is_help=True,
    help="Change images by way of their codes: between two, along an attribute, by arithmetic, mixed, or inside a mask.",
)
ONE_WAY = "Say what the attribute is in one way: --to NAME, or examples on each side, --yes FOLDER --no FOLDER."
IMAGE = "An image file, or one of the run's own data as SPLIT:ROW, for example test:12."

Images = Annotated[list[str], typer.Argument(help="Image files, folders of them, or images of the run's own data (test:12).", metavar="IMAGES...")]
Steps = Annotated[int, typer.Option(help="Images in a row.")]
Mask = Annotated[Path | None, typer.Option(help="A picture that is white in the part that is meant, black elsewhere.")]
Hide = Annotated[str | None, typer.Option(help="x,y,width,height of that part, in pixels of the model's images.")]
Feather = Annotated[int, typer.Option(help="Pixels at the inner side of the part's edge over which the original passes into the edited image.")]
Data = Annotated[str | None, typer.Option(help="The data of SPLIT:ROW and of labels, where they are not the run's own or have moved.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="The picture: a strip (.png), or an animation (.gif).")]


@edit.command()
def interpolate(
    run: RunFolder,
    a: Annotated[str, typer.Argument(help=IMAGE, metavar="A")],
    b: Annotated[str, typer.Argument(help="The image to end at.", metavar="B")],
    how: Annotated[str, typer.Option(help="linear, spherical, or density (bent to where the prior is dense).")] = "linear",
    steps: Steps = 9,
    weight: Annotated[float, typer.Option(help="Of the prior, for --how density: the higher, the more the path is bent.")] = 1.0,
    mask: Mask = None,
    hide: Hide = None,
    feather: Feather = 0,
    prior: Prior = None,
    class_: Klass = None,
    data: Data = None,
    out_: Out = Path("interpolation.png"),
    device: Device = "auto",
    json_: Json = False,
) -> None:
    """Go from one image to another: the reconstructions of both, and what lies between them; with --mask or --hide only there, in A."""
    pictures.writable(out_)
    loaded = api.with_prior(api.load(run, device), prior)
    part = part_if_named(loaded, mask, hide, feather)
    start, end = (read(loaded, [name], class_, data, prior=True) for name in (a, b))
    path = editing.interpolate(loaded.model, start, end, steps, how, weight)
    editing.save_strip(out_, kept(start, path.images, part, feather), loaded.spec)
    figures: dict[str, Any] = {"how": how, "steps": steps}
    if path.log_p is not None:
        figures |= {"least_log_p_nats": round(float(path.log_p.min()), 3), "least_log_p_of_ends_nats": round(float(path.log_p[0, [0, -1]].min()), 3)}
    figures["length_in_code"] = round(float(path.codes[0].diff(dim=0).norm(dim=1).sum()), 4)
    _say(figures, out_, json_)


@edit.command()
def traverse(
    run: RunFolder,
    image: Annotated[str, typer.Argument(help=IMAGE, metavar="IMAGE")],
    dim: Annotated[list[int] | None, typer.Option(help="A dimension of the code, along the prior; may be repeated.")] = None,
    principal: Annotated[int | None, typer.Option(help="So many principal directions of the codes of the training images instead.")] = None,
    span: Annotated[float, typer.Option(help="From minus to plus this many standard deviations.")] = 2.0,
    steps: Steps = 9,
    limit: Annotated[int, typer.Option(help="Training images that the principal directions are found from.")] = 2000,
    mask: Mask = None,
    hide: Hide = None,
    feather: Feather = 0,
    class_: Klass = None,
    data: Data = None,
    out_: Out = Path("traversal.png"),
    device: Device = "auto",
    json_: Json = False,
) -> None:
    """Change one dimension of an image's code, or one principal direction of all codes, and see what it does; with --mask or --hide only there."""
    if (principal is None) == (not dim):
        raise UserError("Say what to go along in one way: --dim N (may be repeated), or --principal N.")
    pictures.writable(out_)
    loaded = api.load(run, device)
    part = part_if_named(loaded, mask, hide, feather)
    batch = read(loaded, [image], class_, data)
    if len(batch) > 1:
        raise UserError(f"One image is traversed at a time, and {image} has {len(batch)}: name a file.")
    figures: dict[str, Any] = {"span": span, "steps": steps}
    if principal is None:
        images = editing.traverse(loaded.model, batch, dim or [], span, steps)[0]
        figures["dimensions"] = dim
    else:
        codes = editing.codes_of(loaded.model, api.reopen(loaded, data).batches("train", 128, limit), limit)
        found = editing.principal_directions(codes, principal)
        images = editing.walk(loaded.model, batch, found, span, steps)[0]
        figures |= {"share_of_variance": _rounded(found.share), "deviations": _rounded(found.deviations)}
    images = kept(batch, images.flatten(0, 1).unsqueeze(0), part, feather).view_as(images)
    editing.save_strip(out_, images, loaded.spec, spread(torch.linspace(-span, span, steps).round(decimals=2).tolist()))
    _say(figures, out_, json_)


@edit.command()
def attribute(
    run: RunFolder,
    images: Images,
    to: Annotated[str | None, typer.Option(help="The attribute: the name of a class or of an attribute of the run's data.")] = None,
    since: Annotated[str | None, typer.Option("--from", help="The class that images without it have; any other one if not given.")] = None,
    apart: Annotated[list[str] | None, typer.Option(help="Another attribute or class that is to stay as it is; may be repeated.")] = None,
    yes: Annotated[list[str] | None, typer.Option(help="Instead of --to: images that have it, files or folders; may be repeated.")] = None,
    no: Annotated[list[str] | None, typer.Option(help="Instead of --to: images that do not have it.")] = None,
    how: Annotated[str, typer.Option(help="difference of the means, or logistic (what tells the two sides apart).")] = "difference",
    strengths: Annotated[str, typer.Option(help="How far, with commas; 1 is from the mean of those without to those with it.")] = "-0.5,0,0.5,1,1.5",
    mask: Mask = None,
    hide: Hide = None,
    feather: Feather = 0,
    data: Data = None,
    class_: Klass = None,
    out_: Out = Path("attribute.png"),
    device: Device = "auto",
    json_: Json = False,
) -> None:
    """Add an attribute to images at several strengths, from labels or from examples on each side; with --mask or --hide, only there."""
    pictures.writable(out_)
    loaded = api.load(run, device)
    batch, sizes = read(loaded, images, class_, data), _numbers(strengths)
    part = part_if_named(loaded, mask, hide, feather)
    found = _attribute(loaded, to, since, tuple(apart or ()), yes, no, how, data, class_)
    shown, _ = _along(loaded, batch, found.direction, sizes, part, feather)
    everything = torch.cat([batch.x.float().unsqueeze(1), shown], dim=1)
    editing.save_strip(out_, everything, loaded.spec, ["image", *spread(sizes)])
    one = found.direction
    figures = {
        "attribute": one.name,
        "examples": list(one.examples),
        "length_in_code": round(float(one.vector.norm()), 4),
        "left_beside_others": round(one.left, 4),
        "cosines": {name: round(value, 4) for name, value in one.cosines.items()},
        "measured_on": "these images" if found.measured is None else f"{len(found.measured)} images of the test split that do not have it",
        "strengths": _hits(loaded, batch, found, sizes, part, feather),
    }
    _say(figures, out_, json_)


def _attribute(
    run: Run,
    to: str | None,
    since: str | None,
    apart: tuple[str, ...],
    yes: list[str] | None,
    no: list[str] | None,
    how: str,
    data: str | None,
    class_: str | None,
) -> editing.Attribute:
    """The direction of an attribute, from the labels of the data (`to`, `since`, `apart`) or from examples on each side (`yes`, `no`)."""
    if bool(to) == bool(yes or no):
        raise UserError(ONE_WAY)
    if to:
        return editing.from_data(run.model, api.reopen(run, data), to, since, apart, how)
    if apart or since:
        raise UserError("--from and --apart name classes or attributes of the data, which goes with --to NAME.")
    if not (yes and no):
        raise UserError(ONE_WAY)
    return editing.from_examples(run.model, read(run, yes, class_, data), read(run, no, class_, data), how)


@edit.command()
def arithmetic(
    run: RunFolder,
    a: Annotated[str, typer.Argument(help=IMAGE, metavar="A")],
    b: Annotated[str, typer.Argument(help="What is taken away.", metavar="B")],
    c: Annotated[str, typer.Argument(help="What is added.", metavar="C")],
    mask: Mask = None,
    hide: Hide = None,
    feather: Feather = 0,
    class_: Klass = None,
    data: Data = None,
    out_: Out = Path("arithmetic.png"),
    device: Device = "auto",
    json_: Json = False,
) -> None:
    """A - B + C: what A has and B has not, given to C; with --mask or --hide only there."""
    pictures.writable(out_)
    loaded = api.load(run, device)
    part = part_if_named(loaded, mask, hide, feather)
    batches = [read(loaded, [name], class_, data) for name in (a, b, c)]
    result = kept(batches[2], editing.arithmetic(loaded.model, *batches), part, feather)
    own = [loaded.model.reconstruct(batch).float().cpu() for batch in batches]
    editing.save_strip(out_, torch.stack([*own, result], dim=1), loaded.spec, ["A", "- B", "+ C", "="])
    figures = {f"change_from_{name}": editing.edit_report(loaded.model, x, result)["change"] for name, x in zip("abc", batches, strict=True)}
    if part is not None:
        figures |= _rest(loaded, batches[2], result, part)
    _say(figures, out_, json_)


@edit.command()
def mix(
    run: RunFolder,
    coarse: Annotated[str, typer.Argument(help=IMAGE, metavar="COARSE")],
    fine: Annotated[str, typer.Argument(help="The image that the fine layers are of.", metavar="FINE")],
    layers: Annotated[list[int] | None, typer.Option(help="How many layers are coarse; may be repeated, all numbers if not given.")] = None,
    mask: Mask = None,
    hide: Hide = None,
    feather: Feather = 0,
    class_: Klass = None,
    data: Data = None,
    out_: Out = Path("mix.png"),
    device: Device = "auto",
    json_: Json = False,
) -> None:
    """Coarse layers from one image, fine layers from another, for a model with several layers; with --mask or --hide only there, in COARSE."""
    pictures.writable(out_)
    loaded = api.load(run, device)
    part = part_if_named(loaded, mask, hide, feather)
    above, below = read(loaded, [coarse], class_, data), read(loaded, [fine], class_, data)
    ends = [loaded.model.reconstruct(batch).float().cpu() for batch in (above, below)]
    counts = layers or list(range(len(loaded.model.encode(above)) + 1))
    mixed = [editing.mix(loaded.model, above, below, count) for count in counts]
    images = [kept(above, image, part, feather) for image in mixed]
    editing.save_strip(out_, torch.stack([ends[0], *images, ends[1]], dim=1), loaded.spec, ["coarse", *map(str, counts), "fine"])
    rows: list[dict[str, Any]] = [{"coarse_layers": n} | editing.mix_report(image, ends[0], ends[1]) for n, image in zip(counts, mixed, strict=True)]
    if part is not None:
        rows = [row | _rest(loaded, above, image, part) for row, image in zip(rows, images, strict=True)]
    _say({"layers": rows}, out_, json_)


def _rest(run: Run, batch: Batch, edited: Tensor, part: Tensor) -> dict[str, Any]:
    """What changed inside a part and outside of it."""
    figures = editing.edit_report(run.model, batch, edited, inside=part.expand(len(batch), -1, -1, -1))
    return {name: figures[name] for name in ("change_inside", "change_outside", "outside_same")}


@edit.command()
def inpaint(
    run: RunFolder,
    images: Images,
    mask: Mask = None,
    hide: Hide = None,
    n: Annotated[int, typer.Option("-n", "--number", help="How many answers for each image.")] = 5,
    how: Annotated[
        str | None, typer.Option(help="chains (slower, answers that differ) or weighted (the encoder's codes); chains where the model allows.")
    ] = None,
    samples: Annotated[int, typer.Option(help="How many codes are weighed, for --how weighted.")] = 256,
    steps: Annotated[int, typer.Option(help="Of each chain, for --how chains: more is closer to the model's own belief.")] = 60,
    feather: Annotated[int, typer.Option(help="Pixels at the edge through which the image's own hidden pixels show; 0 uses none of them.")] = 0,
    class_: Klass = None,
    prior: Prior = None,
    data: Data = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    out_: Out = Path("inpainted.png"),
    device: Device = "auto",
    json_: Json = False,
) -> None:
    """Hide a part of images and let the model fill it in, several times; outside of it nothing changes."""
    pictures.writable(out_)
    loaded = api.with_prior(api.load(run, device), prior)
    batch = read(loaded, images, class_, data, prior=True)
    hidden = part_of(loaded, mask, hide).expand(len(batch), -1, -1, -1)
    found = editing.inpaint(
        loaded.model,
        batch,
        hidden,
        answers=n,
        how=how,
        samples=samples,
        steps=steps,
        feather=feather,
        seed=seed,
    )
    answers = found.images
    x = batch.x.float().cpu()
    grey = (loaded.spec.levels - 1) / 2 if loaded.spec.levels else 0.0
    holes = torch.where(hidden, torch.tensor(grey), x)
    shown = torch.cat([x.unsqueeze(1), holes.unsqueeze(1), answers], dim=1)
    editing.save_strip(out_, shown, loaded.spec, ["image", "hidden", *(str(i + 1) for i in range(n))])
    filled = hidden if batch.mask is None else hidden | ~batch.mask.cpu()  # what is missing anyway is filled in too
    first = editing.edit_report(loaded.model, batch, answers[:, 0], inside=filled)
    between = round(float(answers.std(1, correction=0)[hidden].mean()), 4)
    weighed = {} if found.effective is None else {"effective_samples": _rounded(found.effective)}
    _say({"how": found.how} | first | {"deviation_between_answers": between} | weighed, out_, json_)


def _along(
    run: Run, batch: Batch, direction: editing.Direction, sizes: list[float], part: Tensor | None, feather: int
) -> tuple[Tensor, Tensor | None]:
    """The images moved along a direction at each strength, where there is a part in that alone; and the part of each of them."""
    moved = kept(batch, editing.add(run.model, batch, direction, sizes), part, feather)
    return moved, None if part is None else part.expand(len(batch), -1, -1, -1)


def _hits(run: Run, batch: Batch, found: editing.Attribute, sizes: list[float], part: Tensor | None, feather: int) -> list[dict[str, Any]]:
    """What each strength hits and what it keeps, on images of the test split where there are labels, and else on those that were given."""
    measured = batch if found.measured is None else found.measured
    moved, inside = _along(run, measured, found.direction, sizes, part, feather)
    options: dict[str, Any] = {"wanted": found.judge, "others": found.others, "attribute": found.direction, "inside": inside}
    return [{"strength": size} | editing.edit_report(run.model, measured, moved[:, i], **options) for i, size in enumerate(sizes)]


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"--strengths takes numbers with commas, as 0,0.5,1, and not '{text}'.") from None


def _rounded(values: Tensor) -> list[float]:
    return [round(value, 4) for value in values.tolist()]


def _say(figures: dict[str, Any], picture: Path, as_json: bool) -> None:
    if as_json:
        print(json.dumps(figures | {"picture": str(picture)}, allow_nan=False))
        return
    for name, value in figures.items():
        rows = value if isinstance(value, list) and value and isinstance(value[0], dict) else [{name: value}]
        for row in rows:
            if line := ", ".join(f"{k} {v}" for k, v in row.items() if v != {}):
                print(line)
    print(f"The picture is {picture}")
