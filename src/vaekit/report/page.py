"""Sections as one HTML page with everything inline."""

import base64
import re
from collections.abc import Sequence
from html import escape

from vaekit.report.content import Block, Chart, Charts, Command, Facts, Notices, Picture, Prose, Scale, Section, Strips, Table
from vaekit.report.style import STYLE

WORDS = {"warning": "Warning", "hint": "Hint", "fine": "Fine"}


def page(title: str, sections: Sequence[Section], subtitle: str) -> str:
    """The whole page as text."""
    links = "".join(f'<a href="#{section.anchor}">{escape(section.title)}</a>' for section in sections)
    body = "".join(_section(section, tiles=i == 0) for i, section in enumerate(sections))
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f'<header><h1>{escape(title)}</h1><p class="sub">{escape(subtitle)}</p><nav>{links}</nav></header>\n<main>\n{body}</main>\n'
        f"<footer>Written by vaekit report. Log-likelihoods are in nats per image.</footer>\n</body>\n</html>\n"
    )


def _section(section: Section, tiles: bool) -> str:
    blocks = "\n".join(_block(block, tiles) for block in section.blocks)
    return f'<section id="{section.anchor}"><h2>{escape(section.title)}</h2>\n{blocks}\n</section>\n'


def _block(block: Block, tiles: bool = False) -> str:
    match block:
        case Prose(text):
            return f"<p>{prose(text)}</p>"
        case Facts():
            return _facts(block, tiles)
        case Command(text):
            return f"<pre>{escape(text)}</pre>"
        case Table(head, rows):
            top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
            lines = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
            return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table></div>'
        case Charts(charts):
            return f'<div class="charts">{"".join(_chart(chart) for chart in charts)}</div>'
        case Picture():
            note = f"<figcaption>{escape(block.note)}</figcaption>" if block.note else ""
            return f"<figure><h3>{escape(block.title)}</h3>{_image(block)}{note}</figure>"
        case Strips(rows):
            return f'<div class="strips">{"".join(f"<span>{escape(name)}</span>{_image(picture)}" for name, picture in rows)}</div>'
        case Scale(colours, low, high):
            return f'<div class="scale">{escape(low)}<i style="background:linear-gradient(90deg,{",".join(colours)})"></i>{escape(high)}</div>'
        case Notices(notices):
            items = "".join(f'<li class="{n.level}"><b>{WORDS[n.level]}</b>{prose(n.text)}</li>' for n in notices)
            return f'<ul class="notices">{items}</ul>'


def _facts(block: Facts, tiles: bool) -> str:
    rows = []
    for name, value in block.rows:
        shown = escape(value)
        if name in block.links:
            shown = f'<a href="{escape(block.links[name])}">{shown}</a>'
        pair = f"<dt>{escape(name)}</dt><dd>{shown}</dd>"
        rows.append(f"<div>{pair}</div>" if tiles else pair)
    return f'<dl class="{"tiles" if tiles else "facts"}">{"".join(rows)}</dl>'


def _chart(chart: Chart) -> str:
    items = "".join(f'<li><i style="background:var({colour})"></i>{escape(name)}</li>' for name, colour in chart.legend)
    legend = f'<ul class="legend">{items}</ul>' if items else ""
    note = f"<figcaption>{escape(chart.note)}</figcaption>" if chart.note else ""
    return f"<figure><h3>{escape(chart.title)}</h3>{chart.svg}{legend}{note}</figure>"


def _image(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode("ascii")
    width, height = picture.width * picture.enlarged, picture.height * picture.enlarged
    sharp = ' class="sharp"' if picture.enlarged > 1 else ""
    return f'<img{sharp} src="data:image/png;base64,{data}" width="{width}" height="{height}" alt="{escape(picture.title)}">'


def prose(text: str) -> str:
    """Escaped text, with options and what stands in backticks as code."""
    pieces = re.split(r"`([^`]*)`|(?<![\w-])(--[a-z][a-z-]*(?: [\d.]*\d)?)", text)
    made = [escape(pieces[0])]
    for quoted, option, rest in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True):
        made.append(f"<code>{escape(quoted if quoted is not None else option)}</code>{escape(rest)}")
    return "".join(made)
