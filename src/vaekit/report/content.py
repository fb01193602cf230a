"""What a report holds, as data: sections of blocks. What is in them knows no HTML, how they look stands in `page`."""

from dataclasses import dataclass, field
from typing import Literal

Level = Literal["warning", "hint", "fine"]


@dataclass(frozen=True)
class Prose:
    """A paragraph; options (--beta) and what stands in `backticks` are set as code."""

    text: str


@dataclass(frozen=True)
class Facts:
    """Names and values; a value may link to a page."""

    rows: tuple[tuple[str, str], ...]
    links: dict[str, str] = field(default_factory=dict)
    """The address of the value with this name."""


@dataclass(frozen=True)
class Command:
    """What to type."""

    text: str


@dataclass(frozen=True)
class Table:
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Chart:
    """A drawing with a title; the legend is a name and a colour of the style sheet for each group."""

    title: str
    svg: str
    legend: tuple[tuple[str, str], ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Charts:
    """Charts side by side where there is room."""

    charts: tuple[Chart, ...]


@dataclass(frozen=True)
class Picture:
    """A PNG that is shown enlarged by a whole factor, as far as there is room."""

    png: bytes
    width: int
    height: int
    enlarged: int
    title: str
    note: str = ""


@dataclass(frozen=True)
class Strips:
    """Pictures below each other, each with a name."""

    rows: tuple[tuple[str, Picture], ...]


@dataclass(frozen=True)
class Scale:
    """What the colours of an error map mean: hexadecimal colours in equal steps from low to high."""

    colours: tuple[str, ...]
    low: str
    high: str


@dataclass(frozen=True)
class Notice:
    """What stands out in a run, in plain words, and what to do about it."""

    level: Level
    text: str


@dataclass(frozen=True)
class Notices:
    notices: tuple[Notice, ...]


Block = Prose | Facts | Command | Table | Charts | Picture | Strips | Scale | Notices


@dataclass(frozen=True)
class Section:
    title: str
    blocks: tuple[Block, ...]

    @property
    def anchor(self) -> str:
        """Its name in a link."""
        return "".join(c if c.isalnum() else "-" for c in self.title.lower())
