"""Trains one captioner by cross-entropy, by its plan, on stored features, into a folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from pipeline import ranks
from pipeline.config.evaluation import DecodingConfig
from pipeline.config.plans import CaptionerPlan
from pipeline.config.tokens import TokensConfig
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.corpora.splits import training_clips
from pipeline.decoding.ensemble import Ensemble
from pipeline.decoding.predict import bank_batches, predict
from pipeline.errors import EarwitnessError
from pipeline.features.bank import open_banks
from pipeline.features.store import FeatureStore, caption_ids
from pipeline.metrics.cider_d import CiderD, UnweightedError
from pipeline.metrics.diversity import diversity
from pipeline.models.captioners.base import Inputs
from pipeline.tensors import Batch, TokenIds, pad_tokens
from pipeline.text.ptb import tokenize
from pipeline.text.subword import pretrained, train_subword
from pipeline.text.tokenizer import Tokenizer
from pipeline.text.vocabulary import Vocabulary
from pipeline.tracking.registry import Tracking
from pipeline.trained.captioner import TrainedCaptioner, planned_captioner
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
    sound_manifest: Manifest | None = None,
    tracking: Tracking | None = None,
) -> Progress:
    """Trains on the development split; the best on the validation split is saved in ``output``.

    Args:
        features: of ``plan.features``, in their order, where ``plan.model.reads.sound``; of the
            sound's dataset.
        text: of ``plan.text``, where the plan names it.
        output: a folder, written whole or not at all (see pipeline/trained/folder.py).
        checkpoints, tracking: see :func:`run_job`.
        sound_manifest: of ``plan.sound_dataset``, where the plan names it: sound and captions are
            of two datasets.

    Raises:
        EarwitnessError: a clip has no features or captions, or see :func:`run_job`.
    """

    def begin(device: torch.device) -> tuple[Task[Batch], Save]:
        captioner, task = prepare(plan, manifest, features, text, device, sound_manifest)
        return task, lambda folder, done: captioner.save(folder, curves_csv(done.curves))

    return run_job(
        "captioner",
        plan,
        plan.training,
        begin,
        output=output,
        checkpoints=checkpoints,
        tracking=tracking,
    )


def prepare(
    plan: CaptionerPlan,
    manifest: Manifest,
    features: Sequence[FeatureStore],
    text: FeatureStore | None,
    device: torch.device,
    sound_manifest: Manifest | None = None,
) -> tuple[TrainedCaptioner, Task[Batch]]:
    """The untrained captioner, and the task of training it."""
    clips, held_out = training_clips(manifest, plan.training)
    sound_clips, sound_held_out = (
        training_clips(sound_manifest, plan.training) if sound_manifest else (clips, held_out)
    )
    reads, texts = plan.model.reads, [text] if text is not None else []
    captions = [caption for clip in clips for caption in clip.captions]
    tokenizer = make_tokenizer(plan.model.tokens, captions)
    widths = tuple(store.width for store in (features if reads.sound else texts))
    text_width = text.width if text is not None else None
    inputs = Inputs(plan.features, widths, plan.text, text_width)
    tokens = TokenIds(tokenizer.size, tokenizer.begin, tokenizer.pad, tokenizer.end)
    model = planned_captioner(plan, inputs, tokens).to(device)
    captioner = TrainedCaptioner(plan, model, tokenizer, widths)
    batches = make_batches(
        plan,
        clips,
        features if "batches" in reads.sound else [],
        text if "batches" in reads.text else None,
        tokenizer,
        device,
    )
    sound = None
    if "calibration" in reads.sound:
        sound = open_banks(features, [clip.clip_id for clip in sound_clips], device)[0]
    model.calibrate(sound, batches.text, batches.counts)
    by_text = "validation" in reads.text
    scored = (held_out, texts) if by_text else (sound_held_out, features)
    validate = validation(captioner, *scored, device)
    return captioner, Task(
        model=model,
        batches=batches,
        loss=model.loss,
        validate=validate,
        score=SCORE,
        before_step=model.before_step,
        after_step=model.after_step,
    )


def make_tokenizer(tokens: TokensConfig, captions: Sequence[str]) -> Tokenizer:
    """Words, or subwords: those of a pretrained model, or trained on the captions."""
    if tokens.kind == "words":
        return Vocabulary.train(captions, tokens.min_count)
    if tokens.pretrained is not None:
        return pretrained(tokens.pretrained, tokens.section, tokens.punctuation)
    return train_subword(captions, tokens.vocabulary, tokens.punctuation)


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
    rows = tokenizer.encode(captions, plan.model.tokens.longest)
    tokens, lengths = pad_tokens(rows, tokenizer.pad)
    return CaptionBatches(
        open_banks(features, [clip.clip_id for clip in clips], device),
        torch.tensor([len(clip.captions) for clip in clips]),
        tokens,
        lengths,
        None if text is None else open_banks([text], caption_ids(clips), device)[0],
        batch=plan.training.batch,
        draw=plan.training.captions,
        seed=plan.seed,
        device=device,
        bucket=plan.training.bucket,
    )


def validation(
    captioner: TrainedCaptioner,
    clips: Sequence[Clip],
    features: Sequence[FeatureStore],
    device: torch.device,
) -> Callable[[], dict[str, float]]:
    """A function that captions ``clips`` greedily and scores the captions, in this process.

    Ranks divide the captioning; each scores all captions.

    Raises:
        EarwitnessError: CIDEr-D cannot be made, such as of one clip.
    """
    try:
        scorer = CiderD([tokenize(clip.captions) for clip in clips])
    except UnweightedError as error:
        raise EarwitnessError(f"validation: {error}, which the best epoch is chosen by") from None
    banks = open_banks(features, [clip.clip_id for clip in clips], device)
    ensemble = Ensemble((captioner,))
    longest = captioner.plan.model.tokens.longest - 2
    decoding = DecodingConfig(method="greedy", beams=1, min_length=1, max_length=longest)

    def validate() -> dict[str, float]:
        batches = ((batch,) for batch in bank_batches(banks, decoding.batch))
        captions = [one.text for found in predict(ensemble, batches, decoding) for one in found]
        texts = tokenize(ranks.all_texts(captions))
        repetition = diversity(texts).repetition.corpus
        return {SCORE: scorer.score(texts).corpus, "validation_repetition": repetition}

    return validate
