"""The documentation's site, built by `make docs`: Sphinx, MyST Markdown, the theme Furo.

The README and the other pages of the repository's root are shown too. Links to files that are not
pages are shown as their paths. A notebook is shown as its Markdown cells and its code.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from myst_parser.parsers.sphinx_ import MystParser

project = "cropfirst"
author = "the cropfirst authors"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown", ".ipynb": "notebook"}
exclude_patterns = ["images"]
html_theme = "furo"
html_title = "cropfirst"
html_show_copyright = False
html_copy_source = False
myst_heading_anchors = 4

DOCS = Path(__file__).resolve().parent
ROOT_PAGES = {"index": "README.md", "korean": "README.ko.md", "contributing": "CONTRIBUTING.md"}
"""Page of the site -> file of the repository's root that it begins with."""


class NotebookParser(MystParser):
    """Reads a notebook as one Markdown page."""

    supported = ("notebook",)

    def parse(self, inputstring: str, document: Any) -> None:
        """Join the cells to Markdown, and parse that."""
        parts = []
        for cell in json.loads(inputstring)["cells"]:
            text = "".join(cell["source"])
            parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
        super().parse("\n\n".join(parts), document)


def read_page(app: Any, page: str, source: list[str]) -> None:
    """Put the root's file in front of a page that begins with it, and correct the links."""
    source[0] = mend_links(source[0], DOCS)
    if page in ROOT_PAGES:
        file = DOCS.parent / ROOT_PAGES[page]
        app.env.note_dependency(str(file), docname=page)
        source[0] = mend_links(file.read_text("utf-8"), DOCS.parent) + "\n" + source[0]


def mend_links(text: str, folder: Path) -> str:
    """Return Markdown whose links, which are relative to `folder`, work on the site."""

    def correct(match: re.Match[str]) -> str:
        label, target = match.groups()
        path, _, anchor = target.partition("#")
        if not path or re.match(r"[a-z]+:", target):
            return match[0]
        file = (folder / path).resolve()
        for page, name in ROOT_PAGES.items():
            if file == DOCS.parent / name:
                file = DOCS / f"{page}.md"
        if not file.is_relative_to(DOCS):
            place = f"`{file.relative_to(DOCS.parent)}`"
            return place if label.strip("`/") == path.strip("./") else f"{label} ({place})"
        return f"[{label}]({os.path.relpath(file, DOCS)}{'#' if anchor else ''}{anchor})"

    return re.sub(r"\[([^\]]*)\]\(([^)\s]+)\)", correct, text)


def setup(app: Any) -> None:
    """Register the parser and the hook with Sphinx."""
    app.add_source_parser(NotebookParser)
    app.connect("source-read", read_page)
