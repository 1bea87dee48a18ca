"""What parameters need of this machine: weights, and the files of a dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from earwitness.dataset_downloads import dataset_downloads
from earwitness.recipes import Recipe, available
from pipeline.config.datasets import CaptionsDatasetConfig, FolderDatasetConfig
from pipeline.config.params import Params
from pipeline.config.section import Section
from pipeline.corpora import folder
from pipeline.corpora.fetch_captions import missing_tables
from pipeline.corpora.manifest import SPLITS
from pipeline.encoders.registry import sound_entry, text_entry
from pipeline.encoders.sources import Hub
from pipeline.errors import EarwitnessError
from pipeline.files import shown
from pipeline.models.towers.registry import tower_entry
from pipeline.outside.named import named_files
from pipeline.planning.checks import check_tag_names
from pipeline.weights import Weights

FILES = (".csv", ".txt", ".json")  # of names and settings, which are no model's name


def needed(recipe: Recipe, root: Path, recipes: Path, data: bool) -> tuple[str, list[str]]:
    """What is there for a recipe, and what is missing, with how to get it; a line each.

    Args:
        root: the repository.
        recipes: the folder of recipes.
        data: whether the folder of the first dataset is looked into too.
    """
    about = f"sizes and training: {', '.join(recipe.overlays)}"
    missing = []
    if data:
        try:
            about = f"{first_dataset(recipe.params, root)}\n{about}"
        except EarwitnessError as error:
            missing.append(str(error))
    everywhere = [*available(recipes, "encoder")]
    fetched, absent = captions_to_fetch(recipe.params, root)
    missing += absent + missing_weights(recipe.params, recipe.values, root, everywhere)
    try:
        check_tag_names(recipe.params, root)
    except EarwitnessError as error:
        missing.append(f"{error}, by --labels FILE")
    if not missing:  # else nothing will be fetched
        sound = sound_to_fetch(recipe.params, root)
        about = "\n".join([about, *sound, *fetched, *weights_to_fetch(recipe.params)])
    return about, missing


def sound_to_fetch(params: Params, root: Path) -> list[str]:
    """What will be downloaded of recordings, a line a dataset.

    Args:
        root: the repository.
    """
    named = params.datasets.items()
    sounding = {name: own for name, own in named if not isinstance(own, CaptionsDatasetConfig)}
    return [f"will download {each}" for each in dataset_downloads(root, sounding)]


def captions_to_fetch(params: Params, root: Path) -> tuple[list[str], list[str]]:
    """What will be downloaded of public captions, and what cannot be; a line a dataset.

    Args:
        root: the repository.
    """
    from pipeline.answers import no_answer

    fetched, absent = [], []
    for name, settings in params.datasets.items():
        if not isinstance(settings, CaptionsDatasetConfig):
            continue
        tables = missing_tables(root / settings.root, settings.fetch)
        if not tables:
            continue
        size = sum(table.megabytes for table in tables)
        if why := next(filter(None, (no_answer(table.url) for table in tables)), None):
            absent.append(
                f"captions of {name}: {why}; put the tables into {settings.root}, or take the "
                "dataset `descriptions`, whose captions come with earwitness"
            )
        else:
            fetched.append(f"will download captions of {name}: {size:.1f} MB")
    return fetched, absent


def weights_to_fetch(params: Params) -> list[str]:
    """What will be downloaded of a hub's repositories, a line each, if it says how large it is."""
    from pipeline.encoders.hub_cache import size_on_hub

    lines = {}
    for each in named_weights(params):
        hub = hub_of(params, each)
        repository = each.weights.name or hub.repository
        if each.weights.kind == "hub" and repository and each.weights.name not in hub.named:
            size = size_on_hub(repository)
            if size is not None:
                lines[repository] = f"will download {repository}: {size / 1e6:,.0f} MB"
    return [*lines.values()]


class NamedWeights(NamedTuple):
    """Weights that the parameters name."""

    entry: str  # whose they are
    section: str
    weights: Weights
    tagger: str | None  # the encoder that the tagging stage trains them for, where it does


def named_weights(params: Params) -> Iterator[NamedWeights]:
    """Of encoders and towers."""
    for section in ("encoders", "text_encoders"):
        for name, encoder in getattr(params, section).items():
            yield NamedWeights(name, section, encoder.weights, encoder.weights.tagger(name))
    for section in ("sound_towers", "text_towers"):
        for name, tower in getattr(params, section).items():
            yield NamedWeights(name, section, tower.weights, tower.weights.tagger())


def missing_weights(
    params: Params, sections: Iterable[str], root: Path, everywhere: Sequence[str] = ()
) -> list[str]:
    """What is neither on this machine nor can be fetched, a line each, with how to get it.

    A score's weights are left out: without them that score is, by name.

    Args:
        sections: of the parameters, those that are read.
        root: the repository.
        everywhere: recipes of encoders that can be in every place.
    """
    from pipeline.encoders.hub_cache import not_available

    lines = []
    for each in named_weights(params):
        option = f"give them by --weights {each.entry}=PATH"
        if each.section == "encoders" and everywhere:
            option += f", or one encoder in every place by --weights {everywhere[0]}=PATH"
        where = f"weights of {each.entry} ({each.section})"
        if each.weights.kind == "hub":
            if why := not_available(each.weights, hub_of(params, each)):
                lines.append(f"{where}: {each.weights}: not on this machine, and {why}; {option}")
        elif why := each.weights.missing(root=root):
            lines.append(f"{where}: {why}")
    named = {each.weights.name for each in named_weights(params)}
    for section in {*sections} - {"evaluation"}:
        for name in _model_names(getattr(params, section)):
            if name in named or (root / name).exists():
                continue
            if Path(name).suffix in FILES or len(Path(name).parts) > 2:
                lines.append(f"{name} ({section}): is not there; correct the path")
            elif why := not_available(Weights("hub", name), Hub()):
                lines.append(
                    f"{name} ({section}): not on this machine, and {why}; name a folder that has "
                    "it in the recipe"
                )
    return lines


def _model_names(value: object) -> Iterator[str]:
    """Names in a section of models on a hub, or of their folders."""
    if isinstance(value, dict):
        for each in value.values():
            yield from _model_names(each)
    elif isinstance(value, Section):
        yield from named_files(value)


def hub_of(params: Params, named: NamedWeights) -> Hub:
    """Where weights that are ``hub`` come from."""
    match named.section:
        case "encoders":
            return sound_entry(params.encoders[named.entry]).hub or Hub()
        case "text_encoders":
            return text_entry(params.text_encoders[named.entry]).hub
        case "sound_towers":
            return tower_entry(params.sound_towers[named.entry]).hub
    return Hub()  # a text tower names its repository


def first_dataset(params: Params, root: Path) -> str:
    """What is in the folder of the first dataset, in words; no sound is decoded.

    Args:
        root: the repository.

    Raises:
        EarwitnessError: nothing is there that could be trained and tested on.
    """
    name, settings = next(iter(params.datasets.items()))
    if not isinstance(settings, FolderDatasetConfig):
        place = root / getattr(settings, "root", "")
        if not place.is_dir():
            raise EarwitnessError(f"{shown(place)}: no such folder; correct --root")
        return f"{name}: {shown(place)}"
    found = folder.look(settings, root)
    counts = Counter(recording.split for recording in found.recordings)
    captions = sum(len(recording.captions) for recording in found.recordings)
    words = [f"{len(found.recordings)} clips with {captions} captions"]
    words += [f"{counts[split]} of {split}" for split in SPLITS]
    if found.absent:
        words.append(f"{len(found.absent)} of them without their sound, as {found.absent[0]}")
    if found.unused:
        words.append(f"{found.unused} sound files have no captions")
    return f"{name}: {', '.join(words)}"
