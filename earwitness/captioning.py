"""Captions of any sound by a trained captioner, or by an ensemble of several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from earwitness.certainty import Usual, usual
from earwitness.inputs import Sound, read_sounds
from earwitness.places import Place, place_of
from earwitness.repository import Repository
from earwitness.sound_features import SoundFeatures, Sounds
from earwitness.training_data import FOR_CAPTIONS, sound_of, warn_if_synthetic
from pipeline.config.evaluation import DecodingConfig, SystemConfig
from pipeline.config.params import Params, with_settings
from pipeline.config.section import nearest, parse_section
from pipeline.decoding.ensemble import Ensemble
from pipeline.decoding.predict import Caption, predict
from pipeline.decoding.text_memory import TextMemory, open_memory, read_sound
from pipeline.errors import EarwitnessError
from pipeline.limits import LONGEST_MINUTES
from pipeline.tensors import Padded, pad_arrays
from pipeline.trained.captioner import load_captioner

CHUNK = 128  # sounds whose features are held at once


@dataclass(frozen=True)
class CaptioningSystem:
    """One captioner or several in one search, with the encoders of its features."""

    ensemble: Ensemble
    memories: tuple[TextMemory | None, ...]  # one a captioner
    decoding: DecodingConfig
    seed: int  # of the method `sample`
    features: SoundFeatures
    usual: Usual | None  # what its captions of held-out clips are like

    @classmethod
    def load(
        cls, name: str | Path | None = None, *, root: str | Path | None = None, device: str = "auto"
    ) -> CaptioningSystem:
        """A system of ``params.yaml``, the first where none is named, or one captioner's folder.

        Arguments and errors are those of :func:`earwitness.load`.
        """
        return cls.open(place_of(name, root), device)

    @classmethod
    def open(cls, place: Place, device: str = "auto") -> CaptioningSystem:
        """As :meth:`load`, of a place that is found already."""
        repository, name, folder = place
        if folder is not None:
            params, system_name = repository.params(), folder.name
            ensemble = Ensemble((load_captioner(folder, device),))
        else:
            system_name, system, params = _system(repository, name)
            folders = [repository.captioners / member for member in system.captioners]
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
        expected = usual(system_name, known, tokenizer, params, repository)
        return cls(ensemble, memories, params.decoding, params.seed, features, expected)

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
            seed: of the decoding method ``sample``; None: the repository's.
            longest_minutes: a longer file is refused, before it takes memory.
            decoding: settings of the section ``decoding`` for this call, such as ``beams=8``.

        Raises:
            EarwitnessError: a sound cannot be used (the message names it), an unknown setting, or
                an encoder that is not there or gives other features than were trained on.
        """
        values = {**self.decoding.model_dump(), **decoding}
        settings = parse_section(DecodingConfig, values, "decoding")
        if candidates is not None and not 0 <= candidates < _found(settings):
            raise EarwitnessError(
                f"candidates {candidates}: this search finds {_found(settings) - 1} beside the "
                "best; ask for at most so many, or raise beams"
            )
        # of another search the held-out captions say nothing
        same = settings.model_copy(update={"batch": self.decoding.batch}) == self.decoding
        expected = self.usual if same else None
        draws = self.seed if seed is None else seed
        read = read_sounds(sounds, sample_rate)
        batches = self._batches(read, settings.batch, longest_minutes)
        return [
            caption._replace(
                candidates=caption.candidates[:candidates],
                unsure=expected and expected.is_unsure(caption.text, caption.log_prob),
            )
            for batch in predict(self.ensemble, batches, settings, draws)
            for caption in batch
        ]

    def _batches(
        self, sounds: Sounds, size: int, longest_minutes: float
    ) -> Iterator[list[tuple[Padded, ...]]]:
        """M × E × (B, T, D), ``size`` sounds at a time."""
        members = self.ensemble.captioners
        own = [[(m.plan.dataset, feature) for feature in m.plan.features] for m in members]
        wanted = [feature for features in own for feature in features]
        chunk = max(CHUNK // size, 1) * size
        for made in self.features.chunks(sounds, wanted, chunk, longest_minutes):
            for member, features in zip(members, own, strict=True):
                widths = [made[feature][0].shape[1] for feature in features]
                member.check_widths(widths, member.plan.features)
            for at in range(0, len(made[wanted[0]]), size):
                values = {
                    feature: pad_arrays(entries[at : at + size], self.ensemble.device)
                    for feature, entries in made.items()
                }
                batch = [tuple(values[feature] for feature in features) for features in own]
                yield read_sound(self.memories, batch)


def _system(
    repository: Repository, name: str | Path | None
) -> tuple[str, SystemConfig, Params]:
    """The system of that name, the first for None, and the parameters with its own settings."""
    params, source = repository.params(), repository.params_file
    if not params.systems:
        raise EarwitnessError(f"{source}: systems is empty; add one and run `dvc repro`")
    name = str(name or next(iter(params.systems)))
    if name not in params.systems:
        raise EarwitnessError(f"{source}: no system '{name}'{nearest(name, params.systems)}")
    system = params.systems[name]
    return name, system, with_settings(params, system.set, f"{source}: systems.{name}.set")


def _found(settings: DecodingConfig) -> int:
    """How many hypotheses a search gives, at most."""
    return 1 if settings.method == "greedy" else settings.beams
