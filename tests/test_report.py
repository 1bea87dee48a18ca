"""The report page: its tables, read back as a browser would."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

from earwitness.report import page, read_scores
from pipeline.corpora.manifest import Clip, Manifest


class Tables(HTMLParser):
    """Headings, and the cells of each table's rows, by the heading above it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: dict[str, list[list[str]]] = {}
        self.open = self.heading = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open = tag
        if tag == "h2":
            self.heading = ""
        elif tag == "tr":
            self.found.setdefault(self.heading, []).append([])
        elif tag in ("td", "th"):
            self.found[self.heading][-1].append("")

    def handle_data(self, data: str) -> None:
        if self.open == "h2":
            self.heading += data
        elif self.open in ("td", "th"):
            self.found[self.heading][-1][-1] += data

    def handle_endtag(self, tag: str) -> None:
        self.open = ""


SCORES = {"N": 9, "captions": 45, "t2a_map10": 0.25678, "t2a_r1": 0.1, "a2t_median_rank": 7.5}


def test_retrieval_has_a_table_a_dataset_with_chance_last(tmp_path: Path) -> None:
    for path, values in {
        "toy/edtc.json": {"cider_d": 0.5},
        "retrieval/toy/<five>.json": SCORES,
        "retrieval/toy/yardstick_chance.json": {**SCORES, "t2a_map10": 0.01},
        "retrieval/toy/z.json": {**SCORES, "t2a_map10": 0.3},
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(json.dumps(values, sort_keys=True))
    scores, retrieval = read_scores(tmp_path), read_scores(tmp_path / "retrieval")
    tables = Tables(page(scores, {}, {}, {}, retrieval)).found
    assert tables["toy"] == [["", "cider_d"], ["edtc", "0.500"]]
    assert tables["Retrieval on toy"] == [
        ["", "N", "captions", "t2a_r1", "t2a_map10", "a2t_median_rank"],
        ["<five>", "9", "45", "0.100", "0.257", "7.500"],
        ["z", "9", "45", "0.100", "0.300", "7.500"],
        ["yardstick_chance", "9", "45", "0.100", "0.010", "7.500"],
    ]


def test_captions_without_cider_d_are_still_shown() -> None:
    """As of a test set of one clip, of which it cannot be made."""
    manifests = {"toy": Manifest("toy", ".", (Clip("c", "evaluation", "c.wav", 1.0, ("rain",)),))}
    rows = {"toy": {"edtc": [{"clip_id": "c", "caption": "it rains", "bleu_1": "0.5"}]}}
    text = page({}, rows, manifests, {})
    assert "<td>c<td><td class=text>it rains<br><small>rain" in text and "CIDEr-D." not in text


def test_retrievers_have_curves_of_their_own() -> None:
    captioners = {"edtc": [{"epoch": "1", "validation_cider_d": "0.3"}]}
    retrievers = {
        name: [{"epoch": str(n), "validation_map10": f"0.{n}"} for n in range(3)] for name in "ab"
    }
    text = page({}, {}, {}, captioners, {}, retrievers)
    assert text.count("<svg") == 2
    own = text[text.index("Retrievers'") :]
    assert "validation mAP@10" in own and "CIDEr-D" not in own
    assert text == page({}, {}, {}, captioners, {}, retrievers)
    assert "Retriev" not in page({}, {}, {}, captioners)
