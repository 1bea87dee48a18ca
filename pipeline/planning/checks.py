"""What planning refuses before any training starts: captions and weights that cannot be used.

Light: no model library is imported here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from zipfile import is_zipfile

import numpy as np

from pipeline.config.captioner_base import Resolved
from pipeline.config.captioners import CaptionerModel
from pipeline.config.encoders import Word2VecEncoderConfig
from pipeline.config.params import Params, with_settings
from pipeline.config.prefix import PrefixConfig
from pipeline.config.training import ScstConfig, TrainingConfig
from pipeline.corpora.clips import Clips
from pipeline.corpora.manifest import Manifest
from pipeline.corpora.splits import training_clips
from pipeline.errors import EarwitnessError
from pipeline.planning.context import Context
from pipeline.planning.lookup import text_features
from pipeline.text.counting import count_words
from pipeline.text.ptb import ptb_tokens

# what the tokenizer makes of brackets: no words, though they have letters
BRACKETS = frozenset(("-lrb-", "-rrb-", "-lsb-", "-rsb-", "-lcb-", "-rcb-"))
# one that no rule of the tokenizer makes anything but a word of
PLAIN_WORD = re.compile(r"(?:^| )[A-Za-z]{2,}(?=[ ,.]|$)")

SPLITS = ("development", "validation")  # that a captioner learns from


def check_captioner(
    context: Context, name: str, found: Resolved[CaptionerModel], training: TrainingConfig
) -> None:
    """Refuses a captioner that its datasets cannot teach.

    Raises:
        EarwitnessError: captions that teach nothing, a split or sound that is missing, or sound
            that is to be read in the place of text and is not of its space.
    """
    dataset = context.params.captioners[name].dataset
    sound_dataset, tokens = found.sound_dataset or dataset, found.model.tokens
    min_count = tokens.min_count if tokens.kind == "words" else 1
    check_captions(context.manifests[dataset], SPLITS, min_count)
    for each in (dataset, sound_dataset):
        training_clips(context.manifests[each], training)
    if found.model.architecture != "prefix" or found.text is None:
        return
    where, (feature,), own = f"captioners.{name}", found.features, found.model.prefix
    if own.supervised and sound_dataset != dataset:
        raise EarwitnessError(
            f"{where}: prefix.supervised: true pairs captions with their own sound; leave "
            "sound_dataset out"
        )
    sound, text = context.width(sound_dataset, feature), context.width(dataset, found.text)
    if sound != text:
        raise EarwitnessError(
            f"{where}: {feature} is {sound} wide, but {found.text} is {text}; name the sound and "
            "the text of one space, such as one CLAP's"
        )
    if found.model.reads.sound and feature not in text_features(context.params):
        check_sound(context.manifests[sound_dataset], where, own)


def check_finetuning(
    context: Context,
    name: str,
    found: Resolved[CaptionerModel],
    training: TrainingConfig,
    scst: ScstConfig,
) -> None:
    """Refuses rewards that cannot be computed.

    Args:
        found, training: of the captioner that is trained further.

    Raises:
        EarwitnessError: a reward's weights are missing; the best would be chosen on clips that were
            trained on; or there are no clips with sound and captions, which rewards compare.
    """
    where, base = f"finetuned.{name}", context.params.finetuned[name].captioner
    check_reward_weights(scst, where, context.root)
    if training.validation_share != scst.validation_share:
        raise EarwitnessError(
            f"{where}: {base} is trained with validation_share "
            f"{training.validation_share or 'null'}, scst has {scst.validation_share or 'null'}; "
            "set scst.validation_share to the same"
        )
    dataset = context.params.captioners[base].dataset
    sound_dataset = found.sound_dataset or dataset
    paired = sound_dataset == dataset and context.manifests[sound_dataset].sounding
    if not paired and found.features[0] != found.text:
        lacks = "no sound" if sound_dataset == dataset else f"sound of {sound_dataset} alone"
        raise EarwitnessError(
            f"{where}: rewards need clips with sound and captions, and {base} has captions of "
            f"{dataset} and {lacks}; name a captioner of a dataset with both"
        )


def check_captions(manifest: Manifest, splits: Sequence[str], min_count: int = 1) -> None:
    """Refuses a clip that teaches nothing.

    Args:
        splits: of the dataset, those that training reads.
        min_count: how often a word must stand in their captions to be in a vocabulary.

    Raises:
        EarwitnessError: a clip without captions, or a caption without a known word: nothing but
            punctuation and symbols, or words that are rarer than ``min_count``.
    """
    clips = manifest.columns.of_splits(splits)
    counts = clips.caption_counts
    if not counts.all():
        bare = clips[int(counts.argmin())]
        raise EarwitnessError(
            f"dataset {manifest.dataset}: clip {bare.clip_id!r} of {bare.split} has no caption; "
            "write one or remove the clip"
        )
    wordless = _without_words(clips, min_count)
    if wordless is None:
        return
    place, occurs = wordless
    ends = np.cumsum(counts)
    at = int(np.searchsorted(ends, place, side="right"))
    clip = clips[at]
    caption = clip.captions[place - int(ends[at]) + len(clip.captions)]
    kinds = f"no word that occurs {min_count} times" if occurs else "no word"
    lower = ", or lower min_count" if occurs else ""
    raise EarwitnessError(
        f"dataset {manifest.dataset}: caption {_short(caption)} of clip {clip.clip_id!r} "
        f"({clip.split}) has {kinds}; correct or remove it{lower}"
    )


def check_sound(manifest: Manifest, where: str, prefix: PrefixConfig) -> None:
    """Refuses a captioner that asks for the sound of a dataset of captions alone.

    Args:
        where: whose settings these are, such as ``captioners.wsac``.

    Raises:
        EarwitnessError: the dataset has none.
    """
    if manifest.sounding:
        return
    asked = "supervised: true" if prefix.supervised else "shift: true"
    if not (prefix.supervised or prefix.shift):
        asked = "validation: sound"
    raise EarwitnessError(
        f"{where}: prefix.{asked} needs sound, and dataset {manifest.dataset} has none; name a "
        "sound_dataset, or change that setting"
    )


@lru_cache(maxsize=8)  # many captioners and retrievers learn from one dataset
def _without_words(clips: Clips, min_count: int) -> tuple[int, int] | None:
    """The first caption without a word that is common enough: its place among all captions of
    ``clips``, and how often its commonest word stands in them; None where there is none.
    """
    if min_count == 1:  # nothing needs to be counted, and nearly all begin with a plain word
        for place, caption in enumerate(clips.each_caption()):
            if PLAIN_WORD.search(caption) is None and not _words(caption):
                return place, 0
        return None
    commonest = count_words(map(_words, clips.each_caption())).commonest
    few = np.flatnonzero(commonest < min_count)
    return (int(few[0]), int(commonest[few[0]])) if len(few) else None


def check_reward_weights(scst: ScstConfig, where: str, root: Path) -> None:
    """Refuses rewards whose weights are not on this machine; a hub's are only seen when loaded.

    Args:
        where: whose settings these are, such as ``finetuned.transformer-scst``.
        root: the repository.

    Raises:
        EarwitnessError: ``rewards.sbert`` has a weight, and its model is not there.
    """
    if not scst.rewards.sbert or scst.sbert is None:
        return
    missing = scst.sbert.missing(root=root)
    if missing:
        raise EarwitnessError(
            f"{where}: rewards.sbert needs scst.sbert, but {missing}, or set rewards.sbert to 0"
        )


def check_reranking(params: Params) -> None:
    """Refuses to choose among hypotheses where there is one.

    Raises:
        EarwitnessError: a system reranks, and its search finds one caption a clip.
    """
    for name, system in params.systems.items():
        own = with_settings(params, system.set, f"params.yaml: systems.{name}.set")
        several = own.decoding.method != "greedy" and own.decoding.beams > 1
        if own.rerank.retriever is not None and not several:
            raise EarwitnessError(
                f"systems.{name}: rerank.retriever {own.rerank.retriever} has one caption a clip "
                "to choose from; set decoding.method to beam or sample and decoding.beams above 1, "
                "or rerank.retriever to null"
            )


def check_weights(params: Params, root: Path) -> None:
    """Refuses frozen encoders whose weights are a path or a package that is not there, or whose
    classes' names are.

    Args:
        root: the repository.

    Raises:
        EarwitnessError: so it is, with the parameter that names it.
    """
    for section in ("encoders", "text_encoders"):
        for name, entry in getattr(params, section).items():
            if missing := entry.weights.missing(root=root):
                source = (
                    f", or get {entry.source}" if isinstance(entry, Word2VecEncoderConfig) else ""
                )
                raise EarwitnessError(f"{section}.{name}.weights: {missing}{source}")
            labels = getattr(entry, "labels", None)
            if labels is not None and not (root / labels).is_file():
                raise EarwitnessError(
                    f"{section}.{name}.labels: {labels} is not there; correct the path"
                )


def check_tag_names(params: Params, root: Path) -> None:
    """Refuses a tag space whose tagger's classes have no names, or whose table of descriptions is
    not there.

    Args:
        root: the repository.

    Raises:
        EarwitnessError: so it is, as far as can be seen before the tagger is loaded.
    """
    for name, space in params.spaces.items():
        encoder, where = params.encoders[space.sound[0]], f"encoders.{space.sound[0]}"
        if space.module != "tags":
            continue
        if space.descriptions is not None and not (root / space.descriptions).is_file():
            raise EarwitnessError(
                f"spaces.{name}.descriptions: {space.descriptions} is not there; correct the path"
            )
        if encoder.weights.kind != "path":
            continue
        labels, file = getattr(encoder, "labels", None), root / encoder.weights.name
        config = (file if file.is_dir() else file.parent) / "config.json"
        if labels is None and not config.is_file() and not is_zipfile(file):
            raise EarwitnessError(
                f"{where}.labels: missing, and {encoder.weights} does not say what its classes are "
                f"called; spaces.{name} needs their names: give a file (docs/encoders.md)"
            )


def _words(caption: str) -> list[str]:
    tokens = ptb_tokens(caption)
    return [t for t in tokens if t not in BRACKETS and any(map(str.isalnum, t))]


def _short(caption: str) -> str:
    return repr(caption if len(caption) <= 40 else f"{caption[:39]}…")
