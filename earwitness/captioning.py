"""Captions of any sound by a trained captioner, or by an ensemble of several."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from tqdm import tqdm

from earwitness.captions.inputs import PartGroup, SystemInputs
from earwitness.captions.recordings import (
    CaptionAssembly,
    CaptionedSound,
    FileReading,
    SoundEnd,
    SoundPart,
    Windows,
    checked,
    groups,
)
from earwitness.certainty import Usual, usual
from earwitness.inputs import Sound, read_sounds
from earwitness.places import Place, place_of
from earwitness.repository import Repository, chosen_seed, seed_folder
from earwitness.sound_features import SoundFeatures
from earwitness.training_data import FOR_CAPTIONS, sound_of, warn_if_synthetic
from pipeline.config.evaluation import DecodingConfig, SystemConfig
from pipeline.config.params import Params, with_settings
from pipeline.config.section import nearest, parse_section
from pipeline.decoding.ensemble import Ensemble
from pipeline.decoding.predict import Caption
from pipeline.decoding.rerank import Reranker, open_reranker
from pipeline.decoding.text_memory import TextMemory, open_memory
from pipeline.errors import EarwitnessError
from pipeline.files import shown
from pipeline.limits import LONGEST_MINUTES
from pipeline.planning.lookup import system_seeds
from pipeline.trained.captioner import load_captioner


@dataclass(frozen=True)
class CaptioningSystem:
    """One captioner or several in one search, with the encoders of its features."""

    ensemble: Ensemble
    memories: tuple[TextMemory | None, ...]  # one a captioner
    decoding: DecodingConfig
    seed: int  # that its models were trained with, and of the method `sample`
    features: SoundFeatures
    usual: Usual | None  # what its captions of held-out clips are like
    reranker: Reranker | None = None  # chooses among the hypotheses

    @classmethod
    def load(
        cls,
        name: str | Path | None = None,
        *,
        root: str | Path | None = None,
        device: str = "auto",
        seed: int | None = None,
    ) -> CaptioningSystem:
        """A system of ``params.yaml``, the first where none is named, or one captioner's folder.

        Arguments and errors are those of :func:`earwitness.load`.
        """
        return cls.open(place_of(name, root), device, seed)

    @classmethod
    def open(cls, place: Place, device: str = "auto", seed: int | None = None) -> CaptioningSystem:
        """As :meth:`load`, of a place that is found already."""
        repository, name, folder = place
        if folder is not None:
            params = repository.params()
            folder, seed = seed_folder(folder, seed, repository)
            ensemble = Ensemble((load_captioner(folder, device),))
            system_name = ensemble.captioners[0].plan.name
        else:
            system_name, system, params = _system(repository, name)
            seeds = system_seeds(params)[system_name]
            seed = chosen_seed(system_name, seeds, seed, repository.params_file)
            folders = [repository.captioner(member, seed) for member in system.captioners]
            members = tuple(load_captioner(own, device) for own in folders)
            ensemble = Ensemble(members, system.combine)
        places = repository.data / "corpora", repository.data / "features"
        memories = tuple(
            open_memory(params.text_memory, member.plan, *places, ensemble.device)
            for member in ensemble.captioners
        )
        known = [each for own in ensemble.captioners for each in sound_of(own.plan, repository)]
        warn_if_synthetic(system_name, known, params, repository, FOR_CAPTIONS)
        features = SoundFeatures(repository, ensemble.device)
        tokenizer = ensemble.captioners[0].tokenizer
        expected = usual(system_name, seed, known, tokenizer, params, repository)
        chooser = open_reranker(params.rerank, repository.retrievers, seed, ensemble.device)
        return cls(ensemble, memories, params.decoding, seed, features, expected, chooser)

    def caption(
        self,
        sounds: Sequence[Sound],
        *,
        sample_rate: int | None = None,
        candidates: int | None = None,
        seed: int | None = None,
        longest_minutes: float = LONGEST_MINUTES,
        **decoding: Any,
    ) -> list[Caption]:
        """A caption for each sound, in their order.

        Args:
            sounds: N files, or arrays (samples,) or (channels, samples) of floats, full scale ±1.
            sample_rate: of the arrays, in Hz; needed where there are some.
            candidates: so many of the other hypotheses, best first; None: all that were found.
            seed: of the decoding method ``sample``; None: that of its models.
            longest_minutes: a longer file is refused, before it takes memory.
            decoding: settings of the section ``decoding`` for this call, such as ``beams=8``.

        Raises:
            EarwitnessError: a sound cannot be used (the message names it), an unknown setting, or
                an encoder that is not there or gives other features than were trained on.
        """
        settings, expected = self._search(decoding)
        if candidates is not None and not 0 <= candidates < _found(settings):
            raise EarwitnessError(
                f"candidates {candidates}: this search finds {_found(settings) - 1} beside the "
                "best; ask for at most so many, or raise beams"
            )
        draws = self.seed if seed is None else seed
        read = read_sounds(sounds, sample_rate)
        inputs = self._inputs()
        batches = inputs.batches(read, settings.batch, longest_minutes)
        return [
            _judged(caption, expected, candidates)
            for batch in inputs.predicted(batches, settings, draws)
            for caption in batch
        ]

    def check_candidates(self, count: int) -> None:
        """Refuses more hypotheses, the best among them, than the repository's search finds."""
        if count > (most := _found(self.decoding)):
            raise EarwitnessError(
                f"candidates {count}: this search finds {most}; ask for at most so many, or raise "
                "decoding.beams in params.yaml"
            )

    def caption_windows(
        self,
        path: str | Path,
        *,
        windows: Windows = "silence",
        window_seconds: float = 10.0,
        hop_seconds: float | None = None,
        seed: int | None = None,
        longest_minutes: float | None = None,
        **decoding: Any,
    ) -> CaptionedSound:
        """A recording in windows, each with its start, end and caption, and a line of all.

        It is read in blocks: an hour takes no more memory than some minutes. Arguments are those of
        :meth:`caption_files`.

        Raises:
            EarwitnessError: as :meth:`caption`; or windows that cannot be.
        """
        (found,) = self.caption_files(
            [path],
            windows=windows,
            window_seconds=window_seconds,
            hop_seconds=hop_seconds,
            seed=seed,
            longest_minutes=longest_minutes,
            **decoding,
        )
        if isinstance(found, EarwitnessError):
            raise found
        return found

    def caption_files(
        self,
        files: Sequence[str | Path],
        *,
        windows: Windows = "auto",
        window_seconds: float = 10.0,
        hop_seconds: float | None = None,
        seed: int | None = None,
        longest_minutes: float | None = None,
        **decoding: Any,
    ) -> Iterator[CaptionedSound | EarwitnessError]:
        """The captions of each file, or why there are none, in order, as soon as they are known.

        Files are decoded by threads while others are encoded and captioned, and windows of several
        files share a batch.

        Args:
            files: N of them.
            windows: ``none``: one caption a file. ``fixed``: windows of ``window_seconds``, one
                each ``hop_seconds``, or one after the other. ``silence``: windows of half to one
                and a half of ``window_seconds``, cut where it is quietest. ``auto``: as ``silence``
                where a file is longer than a minute, else one caption.
            longest_minutes: a longer file is refused; None: where windows are cut none is, as they
                take no memory, and else what lasts more than two hours.
            seed, decoding: as of :meth:`caption`.

        Raises:
            EarwitnessError: it is not about one file: an unknown setting, or an encoder that is not
                there or gives other features than were trained on.
        """
        settings, expected = self._search(decoding)
        cutting = checked(windows, window_seconds, hop_seconds)
        if not files:
            return
        inputs = self._inputs()
        if longest_minutes is None:
            longest_minutes = LONGEST_MINUTES if windows == "none" else math.inf
        reading = FileReading(windows, cutting, inputs.sample_rate(), 60 * longest_minutes)
        paths = [Path(file) for file in files]
        waiting: deque[PartGroup] = deque()
        features = inputs.grouped(groups(reading.parts(paths), settings.batch), waiting)
        assembly = CaptionAssembly()
        with tqdm(total=len(paths), unit="sound", disable=None) as bar:
            draws = self.seed if seed is None else seed
            predicted = inputs.predicted(features, settings, draws)
            for batch in chain(predicted, [[]]):  # the last: of groups without any captions
                judged = iter([_judged(caption, expected, None) for caption in batch])
                while waiting:
                    events, problems = waiting.popleft()
                    bar.set_postfix_str(_place(paths, events), refresh=False)
                    own = (problem or next(judged) for problem in problems)
                    for found in assembly.add(events, own):
                        bar.update()
                        yield found

    def _inputs(self) -> SystemInputs:
        return SystemInputs(self.ensemble, self.memories, self.features, self.reranker)

    def _search(self, decoding: dict[str, Any]) -> tuple[DecodingConfig, Usual | None]:
        """The settings of a call, and what held-out captions are like by the same search."""
        values = {**self.decoding.model_dump(), **decoding}
        settings = parse_section(DecodingConfig, values, "decoding")
        # of another search the held-out captions say nothing
        same = settings.model_copy(update={"batch": self.decoding.batch}) == self.decoding
        return settings, self.usual if same else None


def _system(repository: Repository, name: str | Path | None) -> tuple[str, SystemConfig, Params]:
    """The system of that name, the first for None, and the parameters with its own settings."""
    params, source = repository.params(), repository.params_file
    if not params.systems:
        raise EarwitnessError(f"{source}: systems is empty; add one and run `dvc repro`")
    name = str(name or next(iter(params.systems)))
    if name not in params.systems:
        raise EarwitnessError(f"{source}: no system '{name}'{nearest(name, params.systems)}")
    system = params.systems[name]
    return name, system, with_settings(params, system.set, f"{source}: systems.{name}.set")


def _judged(caption: Caption, expected: Usual | None, candidates: int | None) -> Caption:
    return caption._replace(
        candidates=caption.candidates[:candidates],
        unsure=expected and expected.is_unsure(caption.text, caption.log_prob),
    )


def _place(paths: Sequence[Path], events: Sequence[SoundPart | SoundEnd]) -> str:
    """Where the reading is, for the progress bar."""
    last = events[-1]
    at = last.start if isinstance(last, SoundPart) else last.seconds
    return f"{shown(paths[last.file].name)[:32]} {int(at) // 60}:{int(at) % 60:02}"


def _found(settings: DecodingConfig) -> int:
    """How many hypotheses a search gives, at most."""
    return 1 if settings.method == "greedy" else settings.beams
