"""What a table prints: our numbers beside the paper's, marks, and what it was made with."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY

from earwitness.tables.formats import FORMATS, csv_text, json_text, latex, markdown, text
from earwitness.tables.made import MadeTable, make_table, read_made
from earwitness.tables.publishing import PAGE, block_text, blocks, publish, published, refreshed
from earwitness.tables.reading import NamedTable, PaperTable, metric_of
from earwitness.tables.results import (
    AgainstBase,
    MadeOf,
    RowMetric,
    RowResult,
    TableResults,
    why_stale,
)
from pipeline.errors import EarwitnessError

TABLE = PaperTable.model_validate(
    {
        "paper": "own",
        "recipe": "rlssr",
        "dataset": "soundscapes",
        "datasets": ["soundscapes", "clotho"],
        "columns": {"CIDEr": "cider_d", "SBERT": "sbert_sim", "words": "vocabulary"},
        "base": "base",
        "rows": {
            "others": {"label": "Others & co. [1]", "paper": {"clotho": [30.5, None, None]}},
            "base": {"label": "Base", "system": "a", "paper": {"clotho": [31.9, None, 210.0]}},
            "more": {"label": "Base | L1", "system": "b"},
        },
    }
)
NAMED = NamedTable("own-1", "Own, Table 1.", TABLE, ())
DIFFERENT = AgainstBase(difference=0.11, low=0.05, high=0.17, p=0.01, clear=True)


def result(cider: float, **more: Any) -> RowResult:
    values: dict[str, Any] = {
        "settings": {"a.b": 1},
        "settings_digest": "0" * 16,
        "code_digest": "1" * 16,
        "seeds": (1, 2, 3),
        "clips": 100,
        "metrics": {
            "cider_d": RowMetric(mean=cider, low=cider - 0.1, high=cider + 0.1, sd=0.0123,
                                by_seed={"1": cider, "2": cider, "3": cider}),
            "sbert_sim_minilm": RowMetric(mean=0.5),
            "vocabulary": RowMetric(mean=97.0),
        },
        "revision": "abcdef1234",
        "experiment": "own-1-soundscapes-000000",
        "date": "2026-11-26T10:00:00+00:00",
        "machine": "a processor, 2 cores",
        "seconds": 61.0,
    }  # fmt: skip
    return RowResult.model_validate(values | more)


def made(metrics: tuple[str, ...] = (), stale: str = "", **more: Any) -> MadeTable:
    results = {"base": (result(0.881), ""), "more": (result(0.991, **more), stale)}
    return make_table(NAMED, TABLE.rows, "soundscapes", (1, 2, 3), results, metrics)


def test_ours_stand_beside_the_papers_numbers() -> None:
    lines = markdown(made()).splitlines()
    assert lines[0] == "| | CIDEr | SBERT | words |"
    assert lines[2] == "| Others & co. [1] | – (30.5) | – | – |"
    assert lines[3] == "| Base | 88.1 ± 1.2 (31.9) | **50.0** | 97.0 (210.0) |"
    assert lines[4] == "| Base &#124; L1 | **99.1 ± 1.2** | 50.0 | 97.0 |"
    legend = "\n".join(lines[5:])
    assert "In brackets: the paper's number, on clotho." in legend
    assert "the deviation over seeds 1, 2, 3" in legend
    assert "`earwitness table own-1 soundscapes`" in legend and "N = 100" in legend
    assert "code abcdef1234" in legend and "a processor, 2 cores" in legend


def test_a_star_only_stands_where_a_test_is_behind_it() -> None:
    assert "\\*" not in markdown(made()) and "permutation" not in markdown(made())
    starred = markdown(made(against={"cider_d": DIFFERENT}))
    assert "| **99.1 ± 1.2**\\* |" in starred and starred.count("permutation") == 1
    unclear = AgainstBase(difference=0.11, low=-0.1, high=0.3, p=0.3, clear=False)
    assert "**99.1 ± 1.2** |" in markdown(made(against={"cider_d": unclear}))


def test_text_is_aligned_and_marks_the_same() -> None:
    shown = text(made(against={"cider_d": DIFFERENT}))
    head, rule, others, base, more = shown.splitlines()[2:7]
    assert head.split() == ["CIDEr", "SBERT", "words"] and set(rule) == {"─"}
    assert base.index("88.1") == head.index("CIDEr") == others.index("–")
    assert "◂ 99.1 ± 1.2*" in more and "50.0" in more


def test_latex_escapes_what_tex_reads() -> None:
    shown = latex(made(against={"cider_d": DIFFERENT}))
    assert r"Others \& co. [1] & -- (30.5)" in shown
    assert r"\textbf{99.1 $\pm$ 1.2}* &" in shown
    assert shown.startswith("\\begin{tabular}{lrrr}\n") and "\\end{tabular}\n" in shown
    body = shown[: shown.index("\\end")]
    assert all(line.endswith((r"\\", r"\hline", "}")) for line in body.splitlines())


def test_csv_has_what_was_measured() -> None:
    rows = list(csv.DictReader(io.StringIO(csv_text(made(against={"cider_d": DIFFERENT})))))
    assert [(row["row"], row["metric"]) for row in rows][3:6] == [
        ("base", "cider_d"), ("base", "sbert_sim_minilm"), ("base", "vocabulary"),
    ]  # fmt: skip
    base, more = rows[3], rows[6]
    assert (base["mean"], base["sd"], base["seed_2"], base["paper"]) == (
        "0.881", "0.0123", "0.881", "0.319"
    )  # fmt: skip
    assert rows[5]["paper"] == "210.0" and rows[0]["mean"] == "" and rows[0]["paper"] == "0.305"
    assert (more["difference"], more["p"], more["clear"]) == ("0.11", "0.01", "1")
    assert (base["difference"], base["clear"], base["stale"]) == ("", "", "")


def test_stale_rows_are_marked() -> None:
    shown = markdown(made(stale="decoding.beams: 3 → 4"))
    assert "Base &#124; L1 † |" in shown and "†: made with other settings or code" in shown


def test_columns_can_be_chosen() -> None:
    assert markdown(made(("vocabulary", "cider_d"))).startswith("| | words | CIDEr |")
    assert made(("sbert_sim_minilm",)).columns == {"sbert_sim_minilm": "sbert_sim_minilm"}
    with pytest.raises(EarwitnessError, match="no metric 'cidr_d'; did you mean 'cider_d'"):
        made(("cidr_d",))
    assert metric_of("spice", ["spice_clips"]) is None


def test_a_table_without_results_has_the_papers_numbers() -> None:
    table = make_table(NAMED, TABLE.rows, "soundscapes", (1,), {})
    assert "| Base | – (31.9) | – | – (210.0) |" in markdown(table)
    assert "None of our rows is made yet." in markdown(table)
    for show in FORMATS.values():
        assert show(table)


def test_what_is_published_reads_back_and_prints_the_same(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    page = "# RowMetric\n\n<!-- table own-1 soundscapes -->\nold\n<!-- end -->\n\nMore.\n"
    (tmp_path / PAGE).write_text(page, encoding="utf-8")
    table = made(against={"cider_d": DIFFERENT}, code={"pipeline.x": "1"})
    paths = publish(tmp_path, table)
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == [
        "tables/own-1-soundscapes.json", "tables/own-1-soundscapes.md", "docs/results.md",
    ]  # fmt: skip
    again = read_made(paths[0])
    assert markdown(again) == markdown(table) and json_text(again) == json_text(table)
    assert again.made()["more"].settings == {"a.b": 1}
    assert json.loads(json_text(table))["settings"] == {"a.b": 1}  # once, as both rows have it
    assert "pipeline.x" not in paths[0].read_text(encoding="utf-8")  # its digest is there
    shown = (tmp_path / PAGE).read_text(encoding="utf-8")
    assert shown.startswith("# RowMetric\n") and shown.endswith("\n<!-- end -->\n\nMore.\n")
    assert markdown(table) in shown and "\nold\n" not in shown
    assert refreshed(shown, tmp_path) == shown
    assert published(tmp_path, "own-1", "soundscapes").keys() == {"base", "more"}


@pytest.mark.parametrize("stale", ["decoding.beams: 3 → 4", ""])
def test_a_table_that_is_not_whole_is_not_published(tmp_path: Path, stale: str) -> None:
    table = made(stale=stale)
    if not stale:
        table = make_table(NAMED, TABLE.rows, "soundscapes", (1,), {"base": (result(0.8), "")})
    with pytest.raises(EarwitnessError, match="table own-1: row more is not made with today's"):
        publish(tmp_path, table)
    assert not [*tmp_path.iterdir()]


def test_the_docs_are_what_the_tables_say() -> None:
    """Each block of docs/results.md is printed from its JSON, and each JSON has its block."""
    page = (REPOSITORY / PAGE).read_text(encoding="utf-8")
    found = {(table, dataset): shown for table, dataset, shown in blocks(page)}
    assert len(found) == page.count("<!-- table ")
    for (table, dataset), shown in found.items():
        assert shown == block_text(REPOSITORY, table, dataset), (table, dataset)
    for path in (REPOSITORY / "tables").glob("*.json"):
        there = read_made(path)
        assert (there.table, there.dataset) in found
        assert path.stem == f"{there.table}-{there.dataset}"
        beside = path.with_suffix(".md").read_text(encoding="utf-8")
        assert beside == f"# {there.about}\n\n{markdown(there)}"


def test_a_result_is_found_by_what_it_is_made_of(tmp_path: Path) -> None:
    wanted = MadeOf(settings={"decoding.beams": 4, "x": 1}, code={"pipeline.a": "1"})
    of_today = {
        "settings": wanted.settings,
        "settings_digest": wanted.settings_digest,
        "code": wanted.code,
        "code_digest": wanted.code_digest,
    }
    results = TableResults(tmp_path, {"more": result(0.5, **of_today)})
    results.save("more", result(0.7, settings={"decoding.beams": 3}, date="2026-12-01"))
    found = results.of("more", wanted, (1, 2, 3))
    assert found is not None and found.metrics["cider_d"].mean == 0.5  # published, and it fits
    other = MadeOf(settings={"decoding.beams": 5, "x": 1}, code={"pipeline.a": "2"})
    latest = results.of("more", other, (1, 2, 3))
    assert latest is not None and latest.metrics["cider_d"].mean == 0.7
    assert results.of("base", wanted, (1, 2, 3)) is None
    stale = why_stale(found, other, (1, 2, 4))
    assert stale.split("; ") == [
        "decoding.beams: 4 → 5", "code pipeline/a.py changed", "seed 4 is not there",
    ]  # fmt: skip
    assert why_stale(found, wanted, (1, 2, 3)) == ""
    assert why_stale(found, wanted, (1, 2)) == "it has seeds 1, 2, 3"
    values = json.loads((tmp_path / "more.json").read_text(encoding="utf-8"))
    (tmp_path / "more.json").write_text(json.dumps(values | {"clipz": 1}), encoding="utf-8")
    with pytest.raises(EarwitnessError, match=r"more\.json: clipz: unknown key"):
        results.of("more", wanted, (1, 2, 3))
