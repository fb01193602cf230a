"""The command line: each command is a module of `vaekit.commands`, and one call into the library."""

import sys
from typing import Annotated

import typer

from vaekit import __version__
from vaekit.commands.compare import compare
from vaekit.commands.data import data_
from vaekit.commands.edit import edit
from vaekit.commands.encode import encode
from vaekit.commands.evaluate import evaluate
from vaekit.commands.export import export
from vaekit.commands.fit_prior import fit_prior
from vaekit.commands.impute import impute
from vaekit.commands.quality import quality
from vaekit.commands.recipes import recipes
from vaekit.commands.reconstruct import reconstruct
from vaekit.commands.report import report
from vaekit.commands.sample import sample
from vaekit.commands.train import train
from vaekit.commands.traverse import traverse
from vaekit.errors import UserError
from vaekit.memory import ask_for_huge_pages
from vaekit.training import Interrupted

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Variational autoencoders on your own images: from a folder of pictures to a trained model, new images and an honest likelihood.",
)
for make in (train, sample, reconstruct, fit_prior, impute, traverse, encode, export):
    app.command(rich_help_panel="Main")(make)
app.add_typer(edit, name="edit", rich_help_panel="Main")
for measure in (evaluate, quality, compare, report):
    app.command(rich_help_panel="Measure")(measure)
app.command("data", rich_help_panel="Look")(data_)
app.command(rich_help_panel="Look")(recipes)


@app.callback(invoke_without_command=True)
def _top(
    debug: Annotated[bool, typer.Option("--debug", help="Show the whole traceback of an error.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit()


PLACES = (PermissionError, NotADirectoryError, IsADirectoryError, FileExistsError)
"""What is wrong with a place that a person chose."""


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line; exits with 2 and one sentence for an error that is the user's to mend."""
    ask_for_huge_pages()
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    try:
        app(["--debug"] * debug + [a for a in arguments if a != "--debug"], prog_name="vaekit")
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        raise SystemExit(128 + stop.signal) from None
    except UserError as error:
        if debug:
            raise
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        raise SystemExit(130) from None
    except Exception as error:
        if debug:
            raise
        if isinstance(error, PLACES) and error.filename is not None:
            print(f"Error: {error.filename}: {error.strerror}. Choose another place, or see to its permissions.", file=sys.stderr)
            raise SystemExit(2) from None
        from vaekit.saving import disk_full

        if disk_full(error):
            place = f" ({error.filename})" if isinstance(error, OSError) and error.filename else ""
            print(f"Error: The disk is full{place}. Free some space and run the command again.", file=sys.stderr)
            raise SystemExit(2) from None
        sentence = " ".join(str(error).split()) or "no message"
        import torch

        if isinstance(error, torch.OutOfMemoryError):
            cure = "Free the GPU, take a smaller --batch-size, or the processor (--device cpu; CUDA_VISIBLE_DEVICES= before train)."
            print(f"Error: {sentence} {cure}", file=sys.stderr)
            raise SystemExit(2) from None
        print(f"Error: {type(error).__name__}: {sentence}. This looks like a fault of vaekit: --debug shows where it happened.", file=sys.stderr)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
