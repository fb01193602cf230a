"""A rectangle is left, top, width and height wherever one is asked for."""

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.contracts.examples import spec_of
from vaekit.commands import edit
from vaekit.commands.impute import impute
from vaekit.data.loose import read_holes
from vaekit.data.rectangle import rectangle
from vaekit.editing import hidden_part
from vaekit.errors import UserError

SPEC = spec_of([1, 4, 6])


def test_it_is_drawn_by_hand() -> None:
    drawn = [[0, 0, 0, 0, 0, 0], [0, 0, 0, 1, 1, 0], [0, 0, 0, 1, 1, 0], [0, 0, 0, 1, 1, 0]]
    assert torch.equal(rectangle("3,1,2,3", SPEC, "--box")[0], torch.tensor(drawn) == 1)
    assert rectangle(" 0, 0, 6, 4", SPEC, "--box").all(), "spaces do no harm"


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5", "a,0,1,1", "0.5,0,1,1", "1 2 3 4"])
def test_what_is_no_rectangle(text: str) -> None:
    with pytest.raises(UserError, match=r"--hide is x,y,width,height in pixels, as 4,8,12,10, and not"):
        rectangle(text, SPEC, "--hide")


@pytest.mark.parametrize("text", ["5,0,2,1", "0,3,1,2", "-1,0,1,1", "0,-1,1,1", "0,0,0,1", "0,0,1,0", "0,0,4,6"])
def test_what_is_not_within(text: str) -> None:
    """The last one would be within if it were height and width."""
    with pytest.raises(UserError, match=rf"--box {text} .* which are 6 wide and 4 high"):
        rectangle(text, SPEC, "--box")


def test_the_same_for_every_command(tmp_path: Path) -> None:
    """`impute --box` and `edit --hide` mean the same pixels by the same text, and say so in their help."""
    Image.fromarray(np.zeros((4, 6), np.uint8)).save(tmp_path / "a.png")
    options = {"size": [4, 6], "fit": "crop", "fill": "white", "channels": 1, "levels": 256, "binarize": False}
    _, seen = read_holes([tmp_path / "a.png"], SPEC, options, box="3,1,2,3")
    assert torch.equal(~seen, hidden_part(SPEC, options, hide="3,1,2,3")) and torch.equal(~seen[0], rectangle("3,1,2,3", SPEC, "--box"))
    said = [
        inspect.signature(command).parameters[name].annotation
        for command, name in ((impute, "box"), (edit.inpaint, "hide"), (edit.attribute, "hide"))
    ]
    assert all(annotation.__metadata__[0].help.startswith("x,y,width,height of") for annotation in said)
