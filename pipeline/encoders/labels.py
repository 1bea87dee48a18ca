"""What the classes are called whose probabilities an encoder gives."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.config.encoders import PROBABILITIES, EncoderConfig
from pipeline.encoders.onnx_graph import hub
from pipeline.encoders.sources import Hub, locate
from pipeline.errors import EarwitnessError, one_line
from pipeline.files import read_json, read_text
from pipeline.tables import read_rows

# of a table, the first that it has; AudioSet's class_labels_indices.csv has display_name
COLUMNS = ("display_name", "label", "name", "class", "class_name", "category")
HINT = "give the classes' names, one a line, as a CSV file, or as a JSON list or id2label"
UNNAMED = "LABEL_"  # begins what transformers calls a class without a name


def class_names(settings: EncoderConfig, trained: Path | None = None) -> tuple[str, ...]:
    """The name of each column of an encoder's probabilities, in order; names may occur twice.

    Args:
        settings: of an encoder whose ``output`` is probabilities (of yamnet: ``scores``), or of
            ``events``.
        trained: the tagging stage's file, if ``settings.weights`` names the stage.

    Raises:
        EarwitnessError: the encoder gives no probabilities, or its classes have no names.
    """
    match settings.module:
        case "onnx" | "vit" | "transformers_audio" | "yamnet" | "events":
            wanted = PROBABILITIES[settings.module]
            output = wanted if settings.module == "events" else settings.output
        case other:
            raise EarwitnessError(
                f"{other}: gives no probabilities of classes; take {', '.join(PROBABILITIES)}"
            )
    if output != wanted:
        raise EarwitnessError(
            f"{settings.module}: output {output} has no classes; set it to {wanted}"
        )
    if settings.labels is not None:
        return read_labels(Path(settings.labels))
    names = None
    match settings.module:
        case "onnx":
            location = locate(settings.weights, "onnx", hub(settings.file))
            names = _beside(location)
        case "transformers_audio":
            names = _beside(locate(settings.weights, settings.module, Hub()))
        case "vit":
            from pipeline.encoders.vit import HUBS

            names = _beside(locate(settings.weights, settings.module, HUBS[settings.model]))
        case "yamnet":
            location = locate(settings.weights, "yamnet", Hub())
            names = _inside(location)
        case "events" if settings.weights.tagger():
            return _trained(locate(settings.weights, "events", Hub(), trained))
    if not names:
        raise EarwitnessError(
            f"{settings.module} {settings.weights}: its classes have no names; set labels to a "
            "file with them"
        )
    return names


def read_labels(path: Path) -> tuple[str, ...]:
    """Class names from a file, in the order of the model's outputs.

    Text, a name a line; ``.csv``, with a column of :data:`COLUMNS`, in the order of its ``index``
    if it has one; ``.json``, a list, ``{index: name}``, or a model's config.json.

    Raises:
        EarwitnessError: it is none of these, a class has no name, or indices are not 0, 1, 2 ….
    """
    match path.suffix.lower():
        case ".json":
            names = _of_json(read_json(path, HINT), path)
        case ".csv":
            names = _of_table(path)
        case _:
            names = [line.strip() for line in read_text(path, HINT).splitlines()]
            while names and not names[-1]:
                names.pop()
    if not names:
        raise EarwitnessError(f"{path}: has no names; {HINT}")
    if "" in names:
        raise EarwitnessError(f"{path}: class {names.index('')} has no name; {HINT}")
    return tuple(names)


def check_labels(labels: str | None, classes: int, source: Path | str) -> None:
    """Refuses a file of names that are not as many as the model has classes.

    Args:
        labels: the file; None: nothing is checked.
        source: the model, for errors.

    Raises:
        EarwitnessError: so it is, or the file cannot be read.
    """
    if labels is not None and (count := len(read_labels(Path(labels)))) != classes:
        raise EarwitnessError(
            f"{labels}: names {count} classes, but {source} has {classes}; give its own labels"
        )


def _beside(location: Path) -> tuple[str, ...] | None:
    """Of config.json in a model's folder."""
    config = (location if location.is_dir() else location.parent) / "config.json"
    return of_config(read_json(config, HINT), config) if config.is_file() else None


def of_config(saved: Any, path: Path) -> tuple[str, ...] | None:
    """The names in a model's config.json; None where it has none but ``LABEL_0`` …."""
    if not isinstance(saved, dict) or "id2label" not in saved:
        return None
    names = _of_json(saved, path)
    return None if all(name.startswith(UNNAMED) for name in names) else tuple(names)


def _inside(path: Path) -> tuple[str, ...] | None:
    """Of the list that a LiteRT model may carry, in a ZIP at its end."""
    if not zipfile.is_zipfile(path):
        return None
    problem = "its list of classes cannot be read"
    with one_line(path, "set labels to a file", problem), zipfile.ZipFile(path) as archive:
        lists = [name for name in archive.namelist() if name.endswith(".txt")]
        text = archive.read(lists[0]).decode() if lists else ""
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def _trained(path: Path) -> tuple[str, ...]:
    """Of the JSON that the tagging stage writes beside its weights."""
    about = path.with_suffix(".json")
    saved = read_json(about, "run `dvc repro tagging`")
    names = saved.get("classes") if isinstance(saved, dict) else None
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise EarwitnessError(f"{about}: has no names of classes; run `dvc repro -f tagging`")
    return tuple(names)


def _of_table(path: Path) -> list[str]:
    rows = read_rows(path, ())
    columns = {name.lower(): name for name in rows[0].values}
    column = next((columns[name] for name in COLUMNS if name in columns), None)
    if column is None:
        raise EarwitnessError(
            f"{path}: has no column of names; call it one of {', '.join(COLUMNS)}; it has: "
            f"{', '.join(columns)}"
        )
    names = [row.values[column] for row in rows]
    if "index" not in columns:
        return names
    return _in_order([row.values[columns["index"]] for row in rows], names, path)


def _of_json(saved: Any, path: Path) -> list[str]:
    if isinstance(saved, dict):
        saved = saved.get("id2label", saved)
    if isinstance(saved, dict):
        if saved and all(type(value) is int for value in saved.values()):  # {name: index}
            saved = {index: name for name, index in saved.items()}
        saved = _in_order(list(saved), list(saved.values()), path)
    if not isinstance(saved, list) or not all(isinstance(name, str) for name in saved):
        raise EarwitnessError(f"{path}: is no list of names; {HINT}")
    return [name.strip() for name in saved]


def _in_order(indices: Sequence[Any], names: Sequence[Any], path: Path) -> list[Any]:
    """The names, by their indices, which must be 0, 1, 2 … in any order."""
    numbers = [int(each) if str(each).isdecimal() else -1 for each in indices]
    if sorted(numbers) != [*range(len(names))]:
        raise EarwitnessError(
            f"{path}: indices of classes are to be 0 … {len(names) - 1}, each once; correct them"
        )
    return [name for _, name in sorted(zip(numbers, names, strict=True), key=lambda pair: pair[0])]
