"""WavCaps' CLAP against its definition, written out from WavCaps' retrieval code."""

from __future__ import annotations

import argparse
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import REPOSITORY
from encoder_sounds import sound
from ruamel.yaml import YAML
from torch import nn
from transformers import BertTokenizer
from wavcaps_networks import WIDTH, WORDS, Ase, save, tokenizer_at

from earwitness import recipes
from pipeline.config.encoders import WavCapsEncoderConfig, WavCapsTextEncoderConfig
from pipeline.config.params import load_params
from pipeline.config.plans import EmbeddingPlan, ExtractionPlan
from pipeline.corpora.manifest import Clip, Manifest
from pipeline.encoders.registry import build_sound_encoder, build_text_encoder, weights_digest
from pipeline.errors import EarwitnessError
from pipeline.planning import PHASES, Context

CAPTIONS = ["a dog barks", "Rain falls.", "A bird (two?), while a dog barks: rain-falls!", "dog"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Ase, Path, BertTokenizer]]:
    torch.manual_seed(0)
    model = Ase().eval()
    for name, value in model.state_dict().items():
        norm = ".bn" in name
        if norm and name.endswith(("running_var", "weight")):
            value.copy_(0.5 + torch.rand(value.shape))
        elif norm and value.is_floating_point():
            value.copy_(0.3 * torch.randn(value.shape))
    model.audio_encoder.audio_enc.bn0.running_mean.copy_(torch.linspace(-60, -30, 64))
    model.audio_encoder.audio_enc.bn0.running_var.copy_(torch.linspace(50, 150, 64))
    for projection in (model.audio_proj, model.text_proj):
        for layer in (projection[0], projection[2]):
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.bias)
    folder = tmp_path_factory.mktemp("wavcaps")
    tokenizer = tokenizer_at(folder)
    save(folder / "cnn14-bert.pt", model.state_dict())
    with torch.inference_mode():
        yield model, folder / "cnn14-bert.pt", tokenizer


def sound_settings(path: Path, **changes: Any) -> WavCapsEncoderConfig:
    return WavCapsEncoderConfig(module="wavcaps", weights=str(path), **changes)


def text_settings(path: Path, **changes: Any) -> WavCapsTextEncoderConfig:
    values = {"tokenizer": str(path.parent), "batch": 3, **changes}
    return WavCapsTextEncoderConfig(module="wavcaps_text", weights=str(path), **values)


def test_sound_is_encode_audio_of_each_clip_alone(made: tuple[Ase, Path, BertTokenizer]) -> None:
    model, path, _ = made
    encoder = build_sound_encoder(sound_settings(path), None)
    lengths = (96000, 70001, 32000)
    waveform, counts = sound(*lengths)
    waveform[2] *= torch.linspace(0, 3, 96000)  # the clips differ
    frames = encoder(waveform, counts)
    expected = torch.cat(
        [model.encode_audio(waveform[i : i + 1, :n]) for i, n in enumerate(lengths)]
    )
    assert encoder.pooled and encoder.width == WIDTH and encoder.sample_rate == 32000
    assert frames.lengths.tolist() == [1, 1, 1]
    assert (expected @ expected.T)[0, 1:].max() < 0.999
    torch.testing.assert_close(frames.values[:, 0], expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(frames.values.norm(dim=2), torch.ones(3, 1))


def test_a_clip_shorter_than_a_frame_is_padded_with_silence(
    made: tuple[Ase, Path, BertTokenizer],
) -> None:
    model, path, _ = made
    waveform, lengths = sound(40000, 5000)
    frames = build_sound_encoder(sound_settings(path), None)(waveform, lengths)
    padded_clip = F.pad(waveform[1:, :5000], (0, 63 * 320 - 5000))  # 64 log-mel frames
    torch.testing.assert_close(frames.values[1], model.encode_audio(padded_clip), atol=1e-4, rtol=0)


def test_text_is_encode_text_of_each_caption_alone(made: tuple[Ase, Path, BertTokenizer]) -> None:
    model, path, tokenizer = made
    encoder = build_text_encoder(text_settings(path))
    captions = [*CAPTIONS, "a dog barks while " * 12]  # longer than 30 tokens
    values, lengths = encoder.encode(captions)
    expected = torch.cat([model.encode_text(caption, tokenizer) for caption in captions]).numpy()
    assert encoder.width == WIDTH and lengths.tolist() == [1] * 5
    assert np.abs(expected @ expected.T - np.eye(5)).max() < 0.999  # the captions differ
    np.testing.assert_allclose(values, expected, atol=1e-5)
    np.testing.assert_allclose(values[1], encoder.encode(["rain falls"]).values[0], atol=1e-6)


def test_text_tokens_are_berts_hidden_states(made: tuple[Ase, Path, BertTokenizer]) -> None:
    model, path, tokenizer = made
    encoder = build_text_encoder(text_settings(path, pooling="tokens"))
    values, lengths = encoder.encode(["a dog barks", "dog"])
    expected = [
        model.text_encoder.text_encoder(**tokenizer(caption, return_tensors="pt"))[0][0]
        for caption in ("a dog barks", "dog")
    ]
    assert encoder.width == 128 and lengths.tolist() == [6, 3]
    np.testing.assert_allclose(values, torch.cat(expected).numpy(), atol=1e-5)


def test_what_only_training_needs_is_left_out(
    made: tuple[Ase, Path, BertTokenizer], tmp_path: Path
) -> None:
    """Older versions save momentum encoders and queues, and old transformers position_ids."""
    model, path, _ = made
    state = model.state_dict()
    more = {name.replace("coder.", "coder_m.", 1): 2 * value for name, value in state.items()}
    more |= {name.replace("proj.", "proj_m.", 1): 2 * value for name, value in state.items()}
    more |= {"audio_queue": torch.ones(WIDTH, 8), "text_queue": torch.ones(WIDTH, 8)}
    more |= {"idx_queue": torch.full((1, 8), -100), "queue_ptr": torch.zeros(1, dtype=torch.long)}
    more["text_encoder.text_encoder.embeddings.position_ids"] = torch.arange(40)[None]
    larger = save(tmp_path / "old.pt", {**more, **state})
    assert len(more) > len(state)
    waveform, lengths = sound(40000)
    clip = [build_sound_encoder(sound_settings(p), None)(waveform, lengths) for p in (path, larger)]
    assert (clip[0].values == clip[1].values).all()
    settings = [text_settings(p, tokenizer=str(path.parent)) for p in (path, larger)]
    text = [build_text_encoder(each).encode(CAPTIONS).values for each in settings]
    assert (text[0] == text[1]).all()
    save(larger, {**state, "audio_encoder.audio_enc.conv_block7.x": torch.zeros(1)})
    with pytest.raises(EarwitnessError, match=r"conv_block7\.x is not part"):
        build_sound_encoder(sound_settings(larger), None)


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("audio_encoder.audio_enc.conv_block1.conv1.weight", "sound"),
        ("audio_encoder.audio_enc.conv_block6.bn2.running_var", "sound"),
        ("audio_proj.0.weight", "sound"),
        ("audio_proj.2.bias", "sound"),
        ("text_encoder.text_encoder.embeddings.word_embeddings.weight", "text"),
        ("text_encoder.text_encoder.encoder.layer.0.attention.self.key.bias", "text"),
        ("text_proj.2.weight", "text"),
    ],
)
def test_a_missing_tensor_is_named(
    made: tuple[Ase, Path, BertTokenizer], tmp_path: Path, name: str, side: str
) -> None:
    model, path, _ = made
    state = model.state_dict()
    del state[name]
    cut = save(tmp_path / "cut.pt", state)
    short = re.escape(name.split("audio_enc.")[-1].split("text_encoder.text_encoder.")[-1])
    with pytest.raises(EarwitnessError, match=rf"cut\.pt: .*{short} is missing") as raised:
        if side == "sound":
            build_sound_encoder(sound_settings(cut), None)
        else:
            build_text_encoder(text_settings(cut, tokenizer=str(path.parent)))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        (
            "audio_proj.0.weight",
            (WIDTH, 64),
            r"audio_proj\.0\.weight is \(12, 64\), .* \(12, 128\)",
        ),
        ("text_proj.2.weight", (10, WIDTH), r"text_proj\.2\.bias is \(12,\), .* \(10,\)"),
    ],
)
def test_tensors_of_another_size_are_refused(
    made: tuple[Ase, Path, BertTokenizer],
    tmp_path: Path,
    name: str,
    shape: tuple[int, int],
    message: str,
) -> None:
    model, path, _ = made
    other = save(tmp_path / "other.pt", {**model.state_dict(), name: torch.zeros(shape)})
    with pytest.raises(EarwitnessError, match=message):
        if name.startswith("audio"):
            build_sound_encoder(sound_settings(other), None)
        else:
            build_text_encoder(text_settings(other, tokenizer=str(path.parent)))


def test_foreign_objects_are_refused_and_the_hint_works(
    made: tuple[Ase, Path, BertTokenizer], tmp_path: Path
) -> None:
    model, path, _ = made
    foreign = argparse.Namespace(embed_size=1024)
    old = save(tmp_path / "old.pt", model.state_dict(), config=foreign)
    with pytest.raises(EarwitnessError, match=r"old\.pt: holds argparse\.Namespace") as raised:
        build_sound_encoder(sound_settings(old), None)
    with pytest.raises(EarwitnessError, match=r"old\.pt: holds argparse\.Namespace"):
        build_text_encoder(text_settings(old))
    assert "\n" not in str(raised.value)
    line = str(raised.value)[str(raised.value).index("torch.save") :]
    exec(line, {"torch": torch, "OLD": old, "NEW": tmp_path / "new.pt"})
    waveform, lengths = sound(40000)
    mended = build_sound_encoder(sound_settings(tmp_path / "new.pt"), None)
    expected = build_sound_encoder(sound_settings(path), None)(waveform, lengths).values
    assert (mended(waveform, lengths).values == expected).all()


def test_settings_that_are_not_the_checkpoints_are_refused(
    made: tuple[Ase, Path, BertTokenizer], tmp_path: Path
) -> None:
    _, path, _ = made
    with pytest.raises(EarwitnessError, match="mel filters"):
        build_sound_encoder(sound_settings(path, fmin=20), None)
    with pytest.raises(EarwitnessError, match="wavcaps needs mels of 64 or more"):
        build_sound_encoder(sound_settings(path, mels=32), None)
    with pytest.raises(EarwitnessError, match="wavcaps: no weights on a hub"):
        build_sound_encoder(sound_settings(Path("hub")), None)
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS[:-1]))
    BertTokenizer.from_pretrained(tmp_path).save_pretrained(tmp_path)
    with pytest.raises(EarwitnessError, match=r"a tokenizer of 26 tokens, but .* has 27; set"):
        build_text_encoder(text_settings(path, tokenizer=str(tmp_path)))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(EarwitnessError, match=r"no tokenizer '.*empty'.*bert-base") as raised:
        build_text_encoder(text_settings(path, tokenizer=str(empty)))
    assert "\n" not in str(raised.value)


def test_wsac_validates_and_plans_with_the_papers_own_clap(
    made: tuple[Ase, Path, BertTokenizer], tmp_path: Path
) -> None:
    """As the recipe's comments say it."""
    params = Path(shutil.copy(REPOSITORY / "params.yaml", tmp_path / "params.yaml"))
    recipes.apply(params, REPOSITORY / "recipes", "wsac", "clotho")
    _, path, _ = made
    yaml = YAML()
    values = yaml.load(params.read_text(encoding="utf-8"))
    values["encoders"]["clap"] = {"module": "wavcaps", "weights": str(path)}
    values["text_encoders"]["clap-text"] = {
        "module": "wavcaps_text",
        "weights": str(path),
        "tokenizer": str(path.parent),
    }
    with params.open("w", encoding="utf-8") as stream:
        yaml.dump(values, stream)
    settings = load_params(params)
    manifest = Manifest("clotho", "raw", (Clip("a", "development", "a.wav", 4.0, ("a dog",)),))
    context = Context(settings, {"clotho": manifest}, REPOSITORY, tmp_path)
    tokenizer = f"weights {path.parent}"
    plans = PHASES["extraction"](context)
    sound_plan, text_plan = plans["clotho-clap"], plans["clotho-clap-text"]
    assert isinstance(sound_plan, ExtractionPlan) and isinstance(text_plan, EmbeddingPlan)
    assert sound_plan.encoder.window_seconds == 30.0  # a clip of Clotho is one embedding
    assert build_sound_encoder(sound_plan.encoder, None).width == WIDTH
    assert build_text_encoder(text_plan.encoder).width == WIDTH
    assert weights_digest(sound_plan.encoder) == weights_digest(text_plan.encoder)
    before = text_plan.inputs[tokenizer]
    (path.parent / "note.txt").write_text("another tokenizer")
    changed = PHASES["extraction"](context)["clotho-clap-text"].inputs[tokenizer]
    (path.parent / "note.txt").unlink()
    assert before != changed
