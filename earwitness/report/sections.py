"""What is on the page, in its order: to add a section, write its four files and name it here.

``name`` is that of its files: ``<name>.py`` beside this one, and in ``page/`` ``<name>.html`` (what
stands below its heading), ``<name>.css`` and ``<name>.js`` (``export function start(root, data)``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from earwitness.report import attention, clips, curves, retrieval, scores, settings, space
from earwitness.report.run import Run


class ReportSection(NamedTuple):
    """``data`` gives what the section shows, as JSON can hold it; None: the run has none of it."""

    name: str
    title: str
    data: Callable[[Run], Any]


SECTIONS = (
    ReportSection("scores", "Scores", scores.data),
    ReportSection("curves", "Curves", curves.data),
    ReportSection("clips", "Clips", clips.data),
    ReportSection("attention", "Attention", attention.data),
    ReportSection("retrieval", "Retrieval", retrieval.data),
    ReportSection("space", "Modality gap", space.data),
    ReportSection("settings", "Run", settings.data),
)
