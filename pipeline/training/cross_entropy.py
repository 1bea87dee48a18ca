"""Trains one captioner by cross-entropy, from its plan and its stored features to a folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from pipeline.config.evaluation import DecodingConfig
from pipeline.config.plans import CaptionerPlan
from pipeline.config.tokens import Subwords, Words
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.corpora.splits import training_clips
from pipeline.decoding.ensemble import Ensemble
from pipeline.decoding.predict import bank_batches, predict
from pipeline.features.bank import open_banks
from pipeline.features.store import FeatureStore, caption_id
from pipeline.metrics.cider_d import CiderD
from pipeline.metrics.diversity import diversity
from pipeline.models.captioners import build_captioner
from pipeline.tensors import Batch, TokenIds, pad_tokens
from pipeline.text.ptb import tokenize
from pipeline.text.subword import pretrained, train_subword
from pipeline.text.tokenizer import Tokenizer
from pipeline.text.vocabulary import Vocabulary
from pipeline.trained.captioner import TrainedCaptioner
from pipeline.training.caption_batches import CaptionBatches
from pipeline.training.checkpoints import Progress
from pipeline.training.jobs import Save, run_job
from pipeline.training.loop import Task, curves_csv

SCORE = "validation_cider_d"


def train_captioner(
    plan: CaptionerPlan,
    manifest: Manifest,
    features: Sequence[FeatureStore],
    text: FeatureStore | None,
    output: Path,
    checkpoints: Path,
    heard: Manifest | None = None,
) -> Progress:
    """Trains on the development split; the best on the validation split goes to ``output``.

    Args:
        features: of ``plan.features``, in their order, where ``plan.reads.any_sound``; of the
            dataset ``heard`` where that is another.
        text: of ``plan.text``, where the plan names some.
        output: a folder, there whole or not at all (see pipeline/trained/captioner.py).
        checkpoints: see :func:`run_job`.
        heard: the dataset ``plan.sound_dataset``, where the plan names one.

    Raises:
        EarwitnessError: what the user can mend, such as a clip without features or captions.
    """

    def begin(device: torch.device) -> tuple[Task[Batch], Save]:
        captioner, task = prepare(plan, manifest, features, text, device, heard)
        return task, lambda folder, done: captioner.save(folder, curves_csv(done.curves))

    return run_job("captioner", plan, plan.training, begin, output=output, checkpoints=checkpoints)


def prepare(
    plan: CaptionerPlan,
    manifest: Manifest,
    features: Sequence[FeatureStore],
    text: FeatureStore | None,
    device: torch.device,
    heard: Manifest | None = None,
) -> tuple[TrainedCaptioner, Task[Batch]]:
    """The untrained captioner, and the run that trains it."""
    clips, held_out = training_clips(manifest, plan.training)
    sounding = training_clips(heard, plan.training) if heard else (clips, held_out)
    reads, texts = plan.reads, [text] if text is not None else []
    captions = [caption for clip in clips for caption in clip.captions]
    tokenizer = make_tokenizer(plan.decoder.tokens, captions)
    text_width = text.width if text is not None else None
    widths = tuple(store.width for store in (features if reads.any_sound else texts))
    tokens = TokenIds(tokenizer.size, tokenizer.begin, tokenizer.pad, tokenizer.end)
    model = build_captioner(plan, widths, text_width, tokens).to(device)
    captioner = TrainedCaptioner(plan, model, tokenizer, widths)
    paired, told = features if reads.sound else [], text if reads.text else None
    batches = make_batches(plan, clips, paired, told, tokenizer, device)
    heard_ids = [clip.clip_id for clip in sounding[0]]
    sound = open_banks(features, heard_ids, device)[0] if reads.all_sound else None
    model.calibrate(sound, batches.text, batches.counts)
    shown = (held_out, texts) if reads.validation == "text" else (sounding[1], features)
    validate = validation(captioner, *shown, device)
    return captioner, Task(
        model=model,
        batches=batches,
        loss=model.loss,
        validate=validate,
        score=SCORE,
        before_step=model.before_step,
        after_step=model.after_step,
    )


def make_tokenizer(tokens: Words | Subwords, captions: Sequence[str]) -> Tokenizer:
    """Words, or subwords: a pretrained model's own, or those trained on the captions."""
    if isinstance(tokens, Words):
        return Vocabulary.train(captions, tokens.min_count)
    if tokens.pretrained is not None:
        return pretrained(tokens.pretrained, tokens.section)
    return train_subword(captions, tokens.vocabulary)


def make_batches(
    plan: CaptionerPlan,
    clips: Sequence[Clip],
    features: Sequence[FeatureStore],
    text: FeatureStore | None,
    tokenizer: Tokenizer,
    device: torch.device,
) -> CaptionBatches:
    """The training pairs of ``clips``."""
    captions = [caption for clip in clips for caption in clip.captions]
    rows = tokenizer.encode(captions, plan.max_tokens)
    tokens, lengths = pad_tokens(rows, tokenizer.pad)
    names = [caption_id(clip.clip_id, k) for clip in clips for k in range(len(clip.captions))]
    return CaptionBatches(
        open_banks(features, [clip.clip_id for clip in clips], device),
        torch.tensor([len(clip.captions) for clip in clips]),
        tokens,
        lengths,
        None if text is None else open_banks([text], names, device)[0],
        batch=plan.training.batch,
        draw=plan.training.captions,
        seed=plan.seed,
        device=device,
    )


def validation(
    captioner: TrainedCaptioner,
    clips: Sequence[Clip],
    features: Sequence[FeatureStore],
    device: torch.device,
) -> Callable[[], dict[str, float]]:
    """A function that captions ``clips`` greedily and scores them in process."""
    banks = open_banks(features, [clip.clip_id for clip in clips], device)
    scorer = CiderD([tokenize(clip.captions) for clip in clips])
    ensemble = Ensemble((captioner,))
    decoding = DecodingConfig(
        method="greedy", beams=1, min_length=1, max_length=captioner.plan.max_tokens - 2
    )

    def validate() -> dict[str, float]:
        batches = ((batch,) for batch in bank_batches(banks, decoding.batch))
        captions = [one.text for found in predict(ensemble, batches, decoding) for one in found]
        texts = tokenize(captions)
        repetition = diversity(texts).repetition.corpus
        return {SCORE: scorer.score(texts).corpus, "validation_repetition": repetition}

    return validate
