"""Puts the page together: template, styles, scripts and data in one HTML file.

A script is an ES module that imports another as ``report/<name>.js``; an import map gives each its
text. Data is JSON, compressed, and read only when its section is opened. The page's own policy
(Content-Security-Policy) allows it no network.
"""

from __future__ import annotations

import base64
import gzip
import html
import json
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

from earwitness.report.run import Run
from earwitness.report.sections import SECTIONS
from earwitness.report.sounds import Sounds, collect

FOLDER = Path(__file__).parent / "page"


def page(run: Run) -> str:
    """The page as HTML; the same run gives the same bytes."""
    found = {each: each.data(run) for each in SECTIONS}
    shown = [each for each in found if found[each] is not None]
    sounds = collect(run)
    blocks = {each.name: found[each] for each in shown} | {"sounds": sounds.clips}
    return Template(_file("template.html")).substitute(
        title=html.escape(" · ".join(["earwitness", *run.params.test_sets])),
        style="\n".join(_file(f"{name}.css") for name in ("style", *(e.name for e in shown))),
        links="\n".join(
            f'<a href="#{each.name}" data-view="{each.name}">{html.escape(each.title)}</a>'
            for each in shown
        ),
        sections="\n".join(_section(each.name, each.title) for each in shown),
        imports=json.dumps({"imports": _scripts()}),
        data="\n".join(_block(name, value) for name, value in blocks.items()),
        sounds=_recordings(sounds),
    )


def _file(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def _section(name: str, title: str) -> str:
    return (
        f'<section id="view-{name}" aria-labelledby="{name}-title" hidden>\n'
        f'<h2 id="{name}-title" tabindex="-1">{html.escape(title)}</h2>\n'
        f"{_file(f'{name}.html')}</section>"
    )


def _scripts() -> Mapping[str, str]:
    """Name of a module → its text, as an address."""
    return {
        f"report/{path.name}": f"data:text/javascript;charset=utf-8,{quote(_file(path.name))}"
        for path in sorted(FOLDER.glob("*.js"))
    }


def _block(name: str, value: Any) -> str:
    """JSON that nothing in it can end early: base64 has no ``<``."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    packed = base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()
    return f'<script type="application/json+gzip" id="data-{name}">{packed}</script>'


def _recordings(sounds: Sounds) -> str:
    return "\n".join(
        f'<script type="audio/ogg" id="sound-{number}">{base64.b64encode(ogg).decode()}</script>'
        for number, ogg in enumerate(sounds.embedded)
    )
