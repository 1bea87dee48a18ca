"""What DCASE's public pages ask of a submission of each year, as data.

Sources: the task pages of "Automated Audio Captioning" and "Language-Based Audio Retrieval" (2022
to 2025), and each year's "Submission" page: the form of a label, four systems at most, and a meta
file beside each system's output.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from pipeline.config.section import nearest
from pipeline.errors import EarwitnessError

Kind = Literal["captioning", "retrieval"]
MOST_SYSTEMS = 4  # of a team, in one task
ABBREVIATION = 10  # characters of a system's abbreviation, at most
CAPTIONS = ("file_name", "caption_predicted")
NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]*")  # of an author and of an institute, in labels


class TaskRules(NamedTuple):
    """Of one task in one year."""

    kind: Kind
    year: int
    task: str  # in labels and file names
    clips: int  # that are listed for each query
    page: str

    def label(self, author: str, institute: str, number: int) -> str:
        """Of a team's system, counted from 1."""
        return f"{author}_{institute}_{self.task}_{number}"

    def output(self, author: str, institute: str, number: int) -> str:
        """The name of a system's file of captions or of clips."""
        ending = "testing_output" if self.kind == "captioning" else "output"
        return f"{author}_{institute}_{self.task}_submission_{number}_{ending}.csv"

    @property
    def header(self) -> tuple[str, ...]:
        """The columns of the output."""
        if self.kind == "captioning":
            return CAPTIONS
        return ("caption", *(f"fname_{place}" for place in range(1, self.clips + 1)))


_CAPTIONING = "https://dcase.community/challenge{}/task-automated-audio-captioning"
_RETRIEVAL = "https://dcase.community/challenge{}/task-language-based-audio-retrieval"
RULES = (  # the newest of each kind is the default
    TaskRules("captioning", 2024, "task6", 0, _CAPTIONING.format(2024)),
    TaskRules("captioning", 2023, "task6a", 0, _CAPTIONING.format(2023)),
    TaskRules("captioning", 2022, "task6a", 0, _CAPTIONING.format(2022)),
    TaskRules("retrieval", 2025, "task6", 16, _RETRIEVAL.format(2025)),
    TaskRules("retrieval", 2024, "task8", 10, _RETRIEVAL.format(2024)),
    TaskRules("retrieval", 2023, "task6b", 10, _RETRIEVAL.format(2023)),
    TaskRules("retrieval", 2022, "task6b", 10, _RETRIEVAL.format(2022)),
)
OUTPUT = re.compile(
    rf"(?P<author>{NAME.pattern})_(?P<institute>{NAME.pattern})_(?P<task>task[0-9]+[ab]?)_submission_"
    r"(?P<number>[0-9]+)_(?P<testing>testing_)?output\.csv"
)
META = re.compile(
    rf"(?P<author>{NAME.pattern})_(?P<institute>{NAME.pattern})_(?P<task>task[0-9]+[ab]?)_(?P<number>[0-9]+)"
    r"\.meta\.yaml"
)
# fields of a meta file that may not be empty, below their dots; `meta` of submission.yaml gives any
SUBMISSION = ("label", "name", "abbreviation", "authors")
AUTHOR = (
    *("lastname", "firstname", "email"),
    *("affiliation.institute", "affiliation.location"),
)
DESCRIPTION = {
    "captioning": (
        *("input_sampling_rate", "acoustic_features", "word_embeddings", "data_augmentation"),
        *("machine_learning_method", "learning_scheme", "ensemble_num_systems"),
        *("audio_modelling", "word_modelling", "loss_function", "optimizer", "learning_rate"),
        *("gradient_clipping", "metric_monitored", "decoding"),
    ),
    "retrieval": (
        *("input_sampling_rate", "acoustic_features", "text_features", "data_augmentation"),
        *("machine_learning_method", "learning_scheme", "ensemble_num_systems"),
        *("audio_modelling", "text_modelling", "loss_function", "optimizer", "learning_rate"),
        *("gradient_clipping", "metric_monitored"),
    ),
}
COMPLEXITY = ("total_parameters", "macs")


def rules_of(kind: Kind, year: int | None) -> TaskRules:
    """Of that year; the newest for None.

    Raises:
        EarwitnessError: DCASE had no such task in that year.
    """
    own = {rules.year: rules for rules in RULES if rules.kind == kind}
    if year is None:
        return next(iter(own.values()))
    if year not in own:
        known = nearest(str(year), [*map(str, own)])
        raise EarwitnessError(f"--year {year}: DCASE had no {kind} task{known}")
    return own[year]


def rules_of_output(task: str, testing: bool) -> TaskRules | None:
    """By the name of an output; None: no such task."""
    kind = "captioning" if testing else "retrieval"
    return next((rules for rules in RULES if (rules.kind, rules.task) == (kind, task)), None)
