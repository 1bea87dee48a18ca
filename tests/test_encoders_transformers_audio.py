"""Small random models, saved as published ones are, against transformers run on one clip."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import transformers
from encoder_sounds import sound
from test_encoders_weights import Harm

from pipeline.config.encoders import SpecAugmentConfig, TransformersAudioEncoderConfig
from pipeline.encoders.base import Masks, SoundEncoder
from pipeline.encoders.labels import class_names
from pipeline.encoders.registry import build_sound_encoder
from pipeline.errors import EarwitnessError

RATE, WIDTH, LAYERS = 16000, 16, 3
SIZES = {
    **{"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 2},
    "intermediate_size": 8,
}
CONVOLUTIONS = {
    **{"conv_dim": (8, 8, 8), "conv_kernel": (10, 3, 3), "conv_stride": (5, 4, 4)},
    **{"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2},
}
WHISPER = {
    **{"d_model": WIDTH, "encoder_layers": LAYERS, "decoder_layers": 1, "vocab_size": 50},
    **{"encoder_attention_heads": 2, "decoder_attention_heads": 2, "max_source_positions": 100},
    **{"encoder_ffn_dim": 8, "decoder_ffn_dim": 8, "num_mel_bins": 20, "pad_token_id": 0},
    **{"bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1},
    **{"suppress_tokens": [], "begin_suppress_tokens": []},
}
AST = {**SIZES, "max_length": 64, "num_mel_bins": 32, "patch_size": 8}
STRIDE, BANDS = 10, 3  # AST's own stride, and (32 − 8) // 10 + 1


class Kind(NamedTuple):
    """A model of transformers."""

    model: Callable[[], Any]  # with a classifier, where there is one
    extractor: Callable[[], Any]
    hop: int  # samples
    seconds: float = 1.5  # of a window
    base: str = ""  # the encoder in the model


def raw(config: Any, model: Any, **more: Any) -> Callable[[], Any]:
    return lambda: model(config(**SIZES, **CONVOLUTIONS, num_labels=4, **more))


def wave(**more: Any) -> Callable[[], Any]:
    return lambda: transformers.Wav2Vec2FeatureExtractor(sampling_rate=RATE, **more)


t = transformers
KINDS = {
    "ast": Kind(
        lambda: t.ASTForAudioClassification(t.ASTConfig(**AST, num_labels=4)),
        lambda: t.ASTFeatureExtractor(max_length=64, num_mel_bins=32, mean=-5.0, std=4.0),
        *(1600, 0.6, "audio_spectrogram_transformer"),
    ),
    "whisper": Kind(
        lambda: t.WhisperForAudioClassification(t.WhisperConfig(**WHISPER, num_labels=4)),
        lambda: t.WhisperFeatureExtractor(feature_size=20, chunk_length=2),
        *(320, 2.0, "encoder"),
    ),
    "wav2vec2": Kind(
        raw(t.Wav2Vec2Config, t.Wav2Vec2ForSequenceClassification), wave(), 80, base="wav2vec2"
    ),
    "wav2vec2-large": Kind(
        raw(
            t.Wav2Vec2Config,
            t.Wav2Vec2ForSequenceClassification,
            do_stable_layer_norm=True,
            feat_extract_norm="layer",
        ),
        wave(return_attention_mask=True),
        80,
        base="wav2vec2",
    ),
    "hubert": Kind(
        raw(t.HubertConfig, t.HubertForSequenceClassification), wave(), 80, base="hubert"
    ),
    "wavlm": Kind(
        raw(t.WavLMConfig, t.WavLMForSequenceClassification),
        wave(do_normalize=False),
        80,
        base="wavlm",
    ),
    "data2vec-audio": Kind(
        lambda: t.Data2VecAudioForSequenceClassification(
            t.Data2VecAudioConfig(
                **SIZES,
                **{**CONVOLUTIONS, "num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 3},
                num_labels=4,
            )
        ),
        wave(),
        80,
        base="data2vec_audio",
    ),
    "wav2vec2-bert": Kind(
        lambda: t.Wav2Vec2BertForSequenceClassification(
            t.Wav2Vec2BertConfig(
                **SIZES,
                **{"feature_projection_input_dim": 160, "conv_depthwise_kernel_size": 5},
                num_labels=4,
            )
        ),
        lambda: t.SeamlessM4TFeatureExtractor(),
        320,
        base="wav2vec2_bert",
    ),
}
LENGTHS = (9000, 5000, 9000, 7001)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All models, as they are published."""
    root = tmp_path_factory.mktemp("models")
    for name, kind in KINDS.items():
        torch.manual_seed(0)
        model = kind.model()
        with torch.no_grad():
            for parameter in model.parameters():  # as far from another as a trained one's
                parameter.add_(0.05 * torch.randn(parameter.shape))
        model.config.id2label = dict(enumerate(("dog", "rain", "bell", "dog")))
        model.save_pretrained(root / name)
        kind.extractor().save_pretrained(root / name)
    return root


def settings_of(folder: Path, **values: Any) -> TransformersAudioEncoderConfig:
    seconds = KINDS[folder.name].seconds if folder.name in KINDS else 1.0
    whole = {"window_seconds": seconds, **values, "weights": str(folder)}
    return TransformersAudioEncoderConfig(module="transformers_audio", **whole)


def encoder_of(folder: Path, **values: Any) -> SoundEncoder:
    return build_sound_encoder(settings_of(folder, **values))


@torch.inference_mode()
def direct(folder: Path, clip: torch.Tensor, layer: int) -> torch.Tensor:
    """(T, D) of a clip alone, by transformers; all frames that it gives and does not mask."""
    kind = KINDS[folder.name]
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    model = transformers.AutoModelForAudioClassification.from_pretrained(folder).eval()
    taken = extractor(clip.numpy(), sampling_rate=RATE, return_tensors="pt")
    output = getattr(model, kind.base)(**taken, output_hidden_states=True)
    found = output.last_hidden_state if layer == -1 else output.hidden_states[layer]
    if folder.name == "ast":
        return found[0, 2:].reshape(BANDS, -1, WIDTH).mean(0)
    if folder.name == "wav2vec2-bert":  # an odd spectrum has zeros behind it
        return found[0, : int(taken.attention_mask.sum())]
    return found[0]


def clips() -> list[torch.Tensor]:
    waveform, lengths = sound(*LENGTHS)
    return [row[:length] for row, length in zip(waveform, lengths.tolist(), strict=True)]


@pytest.mark.parametrize("layer", [-1, 0, 2])
@pytest.mark.parametrize("name", KINDS)
def test_frames_are_those_of_transformers(folders: Path, name: str, layer: int) -> None:
    """Of clips of three lengths in one batch, as of each clip alone."""
    kind, folder = KINDS[name], folders / name
    encoder = encoder_of(folder, layer=layer)
    assert (encoder.width, encoder.pooled) == (WIDTH, False)
    assert encoder.frame_seconds == pytest.approx(kind.hop / RATE)
    with torch.inference_mode():
        values, lengths = encoder(*sound(*LENGTHS))
    for clip, found, length in zip(clips(), values, lengths.tolist(), strict=True):
        expected = direct(folder, clip, layer)
        if name == "ast":
            spectra = (len(clip) - 400) // 160 + 1
            expected = expected[: -(-spectra // STRIDE)]
        if name == "whisper":
            assert len(expected) == 100  # of two seconds
            expected = expected[: -(-len(clip) // kind.hop)]
        assert length == len(expected) and expected.std() > 0.05
        torch.testing.assert_close(found[:length], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", KINDS)
def test_probabilities_are_those_of_transformers(folders: Path, name: str, tmp_path: Path) -> None:
    folder = folders / name
    model = transformers.AutoModelForAudioClassification.from_pretrained(folder).eval()
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    encoders = {
        activation: encoder_of(folder, output="probabilities", activation=activation)
        for activation in ("auto", "sigmoid")
    }
    for clip in clips()[:2]:
        with torch.inference_mode():
            taken = extractor(clip.numpy(), sampling_rate=RATE, return_tensors="pt")
            logits = model(**taken).logits
            found = {
                activation: encoder(clip[None], torch.tensor([len(clip)])).values[0]
                for activation, encoder in encoders.items()
            }
        assert logits.std() > 0.02
        torch.testing.assert_close(found["auto"], logits.softmax(-1), rtol=0, atol=1e-4)
        torch.testing.assert_close(found["sigmoid"], logits.sigmoid(), rtol=0, atol=1e-4)
    assert class_names(settings_of(folder, output="probabilities")) == (
        "dog",
        "rain",
        "bell",
        "dog",
    )


def test_a_tagger_of_many_events_is_a_sigmoid(folders: Path, tmp_path: Path) -> None:
    """By problem_type, as transformers' own pipeline has it."""
    folder = folders / "ast"
    copied = tmp_path / "ast"
    copied.mkdir()
    for path in folder.iterdir():
        (copied / path.name).write_bytes(path.read_bytes())
    config = json.loads((copied / "config.json").read_text())
    config["problem_type"] = "multi_label_classification"
    (copied / "config.json").write_text(json.dumps(config))
    waveform, lengths = sound(8000)
    with torch.inference_mode():
        sigmoid = encoder_of(copied, output="probabilities")(waveform, lengths).values
        given = encoder_of(folder, output="probabilities", activation="sigmoid")(waveform, lengths)
    assert sigmoid.equal(given.values)


def test_a_model_of_sound_and_text(tmp_path: Path) -> None:
    """Whisper's decoder is left out; PE-AV's audio side has a class token before its frames."""
    torch.manual_seed(0)
    whisper = transformers.WhisperForConditionalGeneration(transformers.WhisperConfig(**WHISPER))
    whisper.save_pretrained(tmp_path / "w")
    KINDS["whisper"].extractor().save_pretrained(tmp_path / "w")
    encoder = encoder_of(tmp_path / "w", window_seconds=2)
    assert not any("decoder" in name for name, _ in encoder.named_parameters())
    waveform, lengths = sound(16000)
    taken = KINDS["whisper"].extractor()(
        waveform[0].numpy(), sampling_rate=RATE, return_tensors="pt"
    )
    with torch.inference_mode():
        expected = whisper.eval().model.encoder(taken.input_features).last_hidden_state[:, :50]
        torch.testing.assert_close(encoder(waveform, lengths).values, expected, rtol=0, atol=1e-4)


def test_pe_av(tmp_path: Path) -> None:
    if not hasattr(transformers, "PeAudioEncoder"):
        pytest.skip("this transformers has no PE-AV")
    torch.manual_seed(0)
    dac = {"encoder_hidden_size": 4, "downsampling_ratios": [2, 4], "hidden_size": 16}
    config = t.PeAudioEncoderConfig(
        dac_config={**dac, "codebook_dim": 8},
        head_dim=8,
        num_key_value_heads=2,
        max_position_embeddings=500,
        **SIZES,
    )
    model = t.PeAudioEncoder(config).eval()
    model.save_pretrained(tmp_path / "pe")
    hop = int(np.prod(model.config.dac_config.downsampling_ratios))
    extractor = t.PeAudioFeatureExtractor(sampling_rate=RATE, hop_length=hop)
    extractor.save_pretrained(tmp_path / "pe")
    for layer in (-1, 1):
        encoder = encoder_of(tmp_path / "pe", window_seconds=0.2, layer=layer)
        assert encoder.frame_seconds == hop / RATE
        waveform, lengths = sound(1600, 1000)
        with torch.inference_mode():
            values, found = encoder(waveform, lengths)
            for row, length in enumerate(lengths.tolist()):
                clip = waveform[row, :length].numpy()
                taken = extractor(clip, sampling_rate=RATE, return_tensors="pt")
                output = model(**taken, output_hidden_states=True)
                expected = output.last_hidden_state[0]
                if layer != -1:
                    expected = output.hidden_states[layer][0, 1:]
                assert found[row] == len(expected) == -(-length // hop)
                torch.testing.assert_close(values[row, : found[row]], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", KINDS)
def test_very_short_sound_has_a_frame(folders: Path, name: str) -> None:
    encoder = encoder_of(folders / name)
    with torch.inference_mode():
        values, lengths = encoder(*sound(1, 150))
    assert (lengths >= 1).all() and values.isfinite().all()


def test_a_window_that_is_cut_is_refused(folders: Path) -> None:
    for name, seconds in (("ast", 0.8), ("whisper", 2.5), ("whisper", 100)):
        with pytest.raises(
            EarwitnessError, match=r"does not read all of .* s; lower window_seconds"
        ):
            encoder_of(folders / name, window_seconds=seconds)


def test_what_is_no_model_of_sound_is_one_line(folders: Path, tmp_path: Path) -> None:
    bert = transformers.BertModel(transformers.BertConfig(**SIZES, vocab_size=20))
    bert.save_pretrained(tmp_path / "bert")
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    vision = transformers.ViTModel(transformers.ViTConfig(**SIZES, image_size=32))
    vision.save_pretrained(tmp_path / "vit")
    pictures = {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}}
    (tmp_path / "vit" / "preprocessor_config.json").write_text(json.dumps(pictures))
    bert.save_pretrained(tmp_path / "both")
    KINDS["whisper"].extractor().save_pretrained(tmp_path / "both")
    for name, values, message in (
        ("bert", {}, r"no feature extractor .*give a model of sound, with its preprocessor_config"),
        ("vit", {}, "no feature extractor|reads no sound"),
        ("both", {}, "makes nothing that the model takes|it is no model of sound"),
        ("empty", {}, "no feature extractor"),
        ("file", {}, "not a folder"),
        ("nowhere", {}, "no weights at"),
    ):
        with pytest.raises(EarwitnessError, match=message) as raised:
            encoder_of(tmp_path / name, **values)
        assert "\n" not in str(raised.value)
    encoder = encoder_of(folders / "wavlm")
    for layer in (LAYERS + 1, -LAYERS - 2):
        with pytest.raises(EarwitnessError, match=f"has no layer {layer}; it has 0 … {LAYERS}"):
            encoder_of(folders / "wavlm", layer=layer)
    with pytest.raises(EarwitnessError, match="views"):
        encoder(*sound(8000), Masks(SpecAugmentConfig(), torch.tensor([1])))


def test_weights_that_are_not_all_there_are_refused(tmp_path: Path) -> None:
    """transformers fills them with noise, and says so in a warning."""
    torch.manual_seed(0)
    body = KINDS["hubert"].model().hubert
    body.save_pretrained(tmp_path / "hubert")
    wave()().save_pretrained(tmp_path / "hubert")
    encoder_of(tmp_path / "hubert")
    with pytest.raises(
        EarwitnessError, match=r"not a trained classifier: classifier.bias is missing"
    ):
        encoder_of(tmp_path / "hubert", output="probabilities")
    state = {
        n: v for n, v in body.state_dict().items() if "layers.1.attention.k_proj.bias" not in n
    }
    body.save_pretrained(tmp_path / "hubert", state_dict=state)
    with pytest.raises(EarwitnessError, match=r"layers.1.attention.k_proj.bias is missing"):
        encoder_of(tmp_path / "hubert")


def test_no_code_of_the_folder_is_run(folders: Path, tmp_path: Path) -> None:
    """Neither its modules nor a pickle of weights."""
    harm = tmp_path / "harm"
    for name in ("pickle", "module"):
        folder = tmp_path / name
        folder.mkdir()
        for path in (folders / "hubert").iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
    (tmp_path / "pickle" / "model.safetensors").unlink()
    torch.save({"x": torch.zeros(1), "y": Harm(harm)}, tmp_path / "pickle" / "pytorch_model.bin")
    config = json.loads((tmp_path / "module" / "config.json").read_text())
    config |= {"model_type": "other", "auto_map": {"AutoConfig": "x.C", "AutoModel": "x.M"}}
    (tmp_path / "module" / "config.json").write_text(json.dumps(config))
    (tmp_path / "module" / "x.py").write_text(f"open({str(harm)!r}, 'w')")
    for name in ("pickle", "module"):
        with pytest.raises(EarwitnessError) as raised:
            encoder_of(tmp_path / name)
        assert "\n" not in str(raised.value) and not harm.exists()


def test_labels_of_a_classifier_must_fit(folders: Path, tmp_path: Path) -> None:
    (tmp_path / "three.txt").write_text("dog\nrain\nbell\n")
    with pytest.raises(EarwitnessError, match=r"names 3 classes, but .*wavlm has 4"):
        encoder_of(folders / "wavlm", output="probabilities", labels=str(tmp_path / "three.txt"))
