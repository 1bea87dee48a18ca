"""A retriever chooses among hypotheses: against its definition, hypothesis by hypothesis."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_repository import make_repository

from earwitness.captioning import CaptioningSystem
from earwitness.identity import identity
from earwitness.retrieval import RetrievalSystem
from pipeline.config.evaluation import DecodingConfig, RerankConfig
from pipeline.config.plans import DecodingPlan
from pipeline.corpora.manifest import Manifest
from pipeline.decoding.predict import Caption
from pipeline.decoding.rerank import Reranker, open_reranker
from pipeline.errors import EarwitnessError
from pipeline.trained.captioner import load_captioner
from pipeline.trained.retriever import load_retriever
from stages import decode

CPU = torch.device("cpu")
CAPTIONS = [  # of three clips: text, log-probability; the words, and the end, are its tokens
    Caption("a tone", -3.0, (("a low tone rises", -2.0), ("", -0.5), ("a dog", -4.0))),
    Caption("a dog", -1.0, (("a tone", -1.5),)),
    Caption("a tone", -1.0, ()),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rerank")
    make_repository(folder)
    return folder


def reranker(root: Path, retriever: str, weight: float) -> Reranker:
    settings = RerankConfig(retriever=retriever, weight=weight)
    found = open_reranker(settings, root / "data/models/retrievers", 1, CPU)
    assert found is not None
    return found


def clips(root: Path) -> list[str]:
    return [clip.clip_id for clip in Manifest.load(root / "data/corpora/toy.json").clips]


@pytest.mark.parametrize(("name", "weight"), [("tower", 2.0), ("far", 0.3), ("flat", 1e6)])
def test_the_order_is_that_of_the_definition(root: Path, name: str, weight: float) -> None:
    own = reranker(root, name, weight)
    sound = own.embed_stored(root / "data/features/toy", clips(root)[:3])
    tokenizer = load_captioner(root / "data/models/captioners/heard/1", "cpu").tokenizer
    chosen = own.choose(CAPTIONS, sound, tokenizer)
    for before, after, clip in zip(CAPTIONS, chosen, sound.double(), strict=True):
        scores = {}
        for text, log_prob in ((before.text, before.log_prob), *before.candidates):
            if not text:
                scores[text, log_prob] = -np.inf
                continue
            retriever = load_retriever(root / "data/models/retrievers" / name / "1", "cpu")
            caption = retriever.embed_text(retriever.text.queries([text]))[0].double()
            fit = -torch.dist(caption, clip) if name == "far" else caption @ clip
            tokens = len(tokenizer.encode([text], 99)[0]) - 1  # the end among them
            scores[text, log_prob] = log_prob / tokens + weight * float(fit)
        expected = sorted(scores, key=lambda each: -scores[each])
        assert [(after.text, after.log_prob), *after.candidates] == expected


def test_no_weight_is_the_likeliest_token_by_token_and_ties_stay(root: Path) -> None:
    own = reranker(root, "tower", 0.0)
    tokenizer = load_captioner(root / "data/models/captioners/heard/1", "cpu").tokenizer
    rows = [Caption("a tone", -1.0, (("a dog", -1.0), ("a a a a a", -1.2))), CAPTIONS[2]]
    sound = own.embed_stored(root / "data/features/toy", clips(root)[:2])
    first, second = own.choose(rows, sound, tokenizer)
    assert first.text == "a a a a a"  # −1.2 / 6 tokens
    assert first.candidates == (("a tone", -1.0), ("a dog", -1.0))
    assert second == CAPTIONS[2]


def test_the_stage_writes_what_fits_the_sound_best(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    plan = DecodingPlan(
        name="alone", inputs={}, code={}, dataset="toy", split="evaluation", captioners=("heard",),
        combine="log_probs", decoding=DecodingConfig(beams=4, max_length=8),
    )  # fmt: skip
    again = plan.model_copy(update={"rerank": RerankConfig(retriever="flat", weight=1e6)})
    models = root / "data/models"
    for each, name in ((plan, "plain"), (again, "reranked")):
        each.save(root / "data/plans/systems/toy-alone.json")
        monkeypatch.setattr(decode.paths, "PREDICTIONS", tmp_path / name)
        decode.main("toy", "alone")
    rows = {
        name: [*csv.DictReader((tmp_path / name / "toy/alone.csv").open(encoding="utf-8"))]
        for name in ("plain", "reranked")
    }
    retriever = load_retriever(models / "retrievers/flat/1", "cpu")
    sound = reranker(root, "flat", 1.0).embed_stored(root / "data/features/toy", clips(root))
    changed = 0
    for plain, found, clip in zip(rows["plain"], rows["reranked"], sound, strict=True):
        texts = [plain["caption"], *(text for text, _ in json.loads(plain["candidates"]))]
        assert {found["caption"], *(t for t, _ in json.loads(found["candidates"]))} == {*texts}
        fits = retriever.embed_text(retriever.text.queries(texts)) @ clip
        assert found["caption"] == texts[int(fits.argmax())]
        changed += found["caption"] != plain["caption"]
    assert changed  # or nothing was shown


def test_sounds_that_are_not_stored_are_reranked_alike(tmp_path: Path) -> None:
    """By ``earwitness caption``: the hypothesis that the retriever itself finds the most alike."""
    make_repository(tmp_path)
    params = tmp_path / "params.yaml"
    files = sorted((tmp_path / "sounds").glob("*.wav"))
    plain = CaptioningSystem.load("alone", root=tmp_path, device="cpu")
    before = plain.caption(files)
    text = params.read_text(encoding="utf-8")
    params.write_text(f"{text}rerank: {{retriever: mixed, weight: 1.0e6}}\n", encoding="utf-8")
    with pytest.raises(EarwitnessError, match=r"rerank\.retriever"):
        CaptioningSystem.load("alone", root=tmp_path, device="cpu")
    params.write_text(f"{text}rerank: {{retriever: flat, weight: 1.0e6}}\n", encoding="utf-8")
    own = CaptioningSystem.load("alone", root=tmp_path, device="cpu")
    judge = RetrievalSystem.load(tmp_path / "data/models/retrievers/flat/1", root=tmp_path)
    sounds = judge.embed_audio(files)
    after = own.caption(files)
    for one, other, sound in zip(before, after, sounds, strict=True):
        texts = [one.text, *(text for text, _ in one.candidates)]
        fits = judge.similarity(judge.embed_text(texts), sound[None])[:, 0]
        assert other.text == texts[int(fits.argmax())]
    windows = [own.caption_windows(file, windows="none") for file in files]
    assert [each.windows[0].caption.text for each in windows] == [each.text for each in after]
    assert [each.text for each in after] != [each.text for each in before]
    assert identity(own) != identity(plain)
