"""Looks at the built pages: no link within them leads nowhere, none of them needs the network, none repeats another.

Run as ``python -m docs.tools.check build/docs``. Links to other sites are not followed. Not responsible for links in
sources that Sphinx resolves (it fails by itself) or for spelling.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from .generate import ROOT, pages

__all__ = ["main"]

_FETCHED: Final = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}
"""What a browser fetches by itself."""
_LEAST_WORDS: Final = 14
"""A paragraph of fewer words may stand on two pages."""


class _Page(HTMLParser):
    """Ids and links of one page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids |= {value for name in ("id", "name") if (value := found.get(name))}
        attribute = _FETCHED.get(tag)
        for name, into in (("href" if tag == "a" else None, self.links), (attribute, self.fetched)):
            value = found.get(name) if name is not None else None
            if value:
                into.append(value)


def broken_links(folder: Path) -> list[str]:
    """What is wrong with the links of the pages in ``folder``."""
    read = {path.resolve(): _Page(path.read_text(encoding="utf-8")) for path in folder.rglob("*.html")}
    wrong: list[str] = []
    for path, page in read.items():
        where = path.relative_to(folder.resolve())
        wrong += [f"{where}: needs the network for {url}" for url in page.fetched if urlsplit(url).netloc]
        for url in page.links + page.fetched:
            parts = urlsplit(url)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                wrong.append(f"{where}: {url} is not there")
            elif parts.fragment and target in read and unquote(parts.fragment) not in read[target].ids:
                wrong.append(f"{where}: {url} has no such place")
    return wrong


def readme() -> list[str]:
    """Links of the README to files that are not there: a part of it is on no built page."""
    links = re.findall(r"\]\(([^)#:]+)[^):]*\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    return [f"README.md: {link} is not there" for link in links if not (ROOT / link).exists()]


def repetitions() -> list[str]:
    """Paragraphs and rows of tables that stand on more than one page."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for page in pages():
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for paragraph in re.split(r"\n\s*\n|\n(?=[|*\d])", text):
            words = re.sub(r"\W+", " ", paragraph).split()
            if len(words) >= _LEAST_WORDS:
                found[" ".join(words).lower()].add(str(page.relative_to(ROOT)))
    return [
        f"{' and '.join(sorted(where))} both say: {text:.90} ..." for text, where in found.items() if len(where) > 1
    ]


def main() -> int:
    """Say what is wrong; 1 if anything is."""
    wrong = broken_links(Path(sys.argv[1])) + readme() + repetitions()
    print("\n".join(wrong) or "links and paragraphs: nothing wrong")  # noqa: T201 - a script
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
