"""Reads the page of a report as a browser would."""

import re
from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "img"}
OUTSIDE = ("src", "href", "data", "action", "poster", "srcset", "xlink:href")


class Page(HTMLParser):
    """Checks that tags are closed in order, and collects what a browser would load, where links lead, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list) -> None:
        assert tag != "script"
        for name, value in attrs:
            if name == "id":
                assert value not in self.anchors
                self.anchors.add(value)
            elif name in OUTSIDE:
                (self.links if tag == "a" else self.loaded).append(value)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        # As in SVG; HTML has no such tags.
        assert "svg" in self.open
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.words.append(data)


def read(path: Path) -> Page:
    """The page of a report, which is well-formed, loads nothing and is small."""
    text = path.read_text(encoding="utf-8")
    parsed = Page(text)
    assert len(text) < 3_000_000
    assert all(source.startswith("data:image/png;base64,") for source in parsed.loaded)
    assert not re.search(r"url\(|@import|\bnan\b|\binf\b", re.sub(r"base64,[^\"]*", "", text)), "a figure that is no number, or something loaded"
    assert {link[1:] for link in parsed.links if link.startswith("#")} <= parsed.anchors
    return parsed
