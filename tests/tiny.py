"""Parameters of a pipeline that runs in seconds, with every kind of stage."""

from __future__ import annotations

from typing import Any

EDTC = {
    "architecture": "edtc",
    "dataset": "soundscapes",
    "training": "edtc",
    "features": ["panns", "logmel", "panns"],
    "text": "minilm",
}
PLAIN = {**EDTC, "features": ["panns"], "fuser": False, "translator": False, "twin": False}
WORDS = {
    "architecture": "seq2seq",
    "dataset": "soundscapes",
    "training": "words",
    "features": ["cnn10-minilm/frames"],
}
TINY: dict[str, Any] = {
    "seeds": [1],
    "hardware": {},
    "tracking": "none",
    "datasets": {
        "soundscapes": {
            "layout": "soundscapes",
            "development": 16,
            "validation": 4,
            "evaluation": 6,
            "seconds": [1.0, 2.0],
        }
    },
    "encoders": {
        "panns": {
            "module": "panns",
            "weights": "tagging",
            "model": "cnn10",
            "channels": 4,
            "sample_rate": 16000,
            "n_fft": 512,
            "fmax": 8000.0,
        },
        "logmel": {"module": "logmel", "sample_rate": 16000, "mels": 16, "fmax": 8000.0},
        "events": {"module": "events", "weights": "tagging:panns"},
    },
    "text_encoders": {"minilm": {"module": "sentence"}},
    "tagging": {"dataset": "soundscapes", "encoders": ["panns"], "epochs": 1},
    "spec_augment": {},
    "sound_towers": {
        "cnn10": {
            "module": "panns",
            "model": "cnn10",
            "channels": 4,
            "weights": "scratch",
            "input": "logmel",
        }
    },
    "text_towers": {},
    "biencoder": {"width": 16},
    "retrieval_training": {"epochs": 1, "batch": 8},
    "retrievers": {
        "cnn10-minilm": {"datasets": ["soundscapes"], "sound": ["cnn10"], "text": "minilm"},
        "frozen": {"datasets": ["soundscapes"], "sound": ["panns", "logmel"], "text": "minilm"},
    },
    "adapted": {"adapted": {"retriever": "frozen", "datasets": ["soundscapes"]}},
    "spaces": {"tags": {"module": "tags", "sound": ["events"], "text": "minilm"}},
    "encoded": ["cnn10-minilm", "tags"],
    "features": {"frames": 8, "width": 16},
    "fuser": {"layers": 1, "heads": 2, "reduced": 8, "feed_forward": 16, "dropout": 0.0},
    "translator": {
        "encoder_layers": 1,
        "decoder_layers": 1,
        "heads": 2,
        "feed_forward": 16,
        "dropout": 0.0,
    },
    "twin": {},
    "bart": {
        "pretrained": None,
        "vocabulary": 300,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "heads": 2,
        "width": 16,
        "feed_forward": 16,
        "dropout": 0.0,
    },
    "seq2seq": {
        "encoder_layers": 1,
        "encoder_width": 8,
        "width": 16,
        "heads": 2,
        "feed_forward": 16,
        "decoder_layers": 1,
    },
    "training": {
        # enough that captions of clips differ, and a change of the model is heard in them
        "edtc": {
            "epochs": 20,
            "batch": 8,
            "validations_per_epoch": 1,
            "learning_rate": 0.01,
            "schedule": "constant",
            "average_epochs": 1,
            "patience_epochs": 20,
            "label_smoothing": 0.0,
        },
        "words": {
            "epochs": 2,
            "batch": 16,
            "validations_per_epoch": 1,
            "learning_rate": 0.01,
            "optimizer": "adam",
            "schedule": "exponential",
            "decay_to": 0.001,
            "warmup_steps": 3,
            "teacher_forcing": 0.7,
            "average_epochs": 2,
            "validation_share": 0.2,
        },
        "wsac": {"epochs": 2, "batch": 16, "validations_per_epoch": 1, "schedule": "step"},
        "rlssr": {
            "epochs": 1,
            "batch": 4,
            "accumulate": 2,
            "validations_per_epoch": 1,
            "schedule": "constant",
        },
    },
    "prefix": {
        "vocabulary": 300,
        "mapping_width": 16,
        "layers": 1,
        "heads": 2,
        "width": 16,
        "noise": "captions",
        "shift": True,
    },
    "cmu": {"adapter_layers": 2, "adapter_width": 8, "memory": "last_two"},
    "rlssr": {"decoder_layers": 1, "width": 16, "heads": 2, "feed_forward": 16},
    "captioners": {
        "edtc": EDTC,
        "plain": PLAIN,
        "transformer": WORDS,
        "gru": {**WORDS, "set": {"seq2seq.decoder": "gru"}},
        "cmu": {
            "architecture": "cmu",
            "dataset": "soundscapes",
            "training": "edtc",
            "features": ["panns", "events"],
        },
        "wsac": {
            "architecture": "prefix",
            "dataset": "soundscapes",
            "training": "wsac",
            "features": ["cnn10-minilm/sound"],
            "text": "cnn10-minilm/text",
        },
        "rlssr": {
            "architecture": "rlssr",
            "dataset": "soundscapes",
            "training": "rlssr",
            "tower": "cnn10",
        },
    },
    "scst": {"epochs": 1, "batch": 8, "samples": 1, "validation_share": 0.2},
    "finetuned": {"transformer-scst": {"captioner": "transformer"}},
    "decoding": {},
    "text_memory": {},
    "systems": {
        "edtc": {"captioners": ["edtc"]},
        "plain": {"captioners": ["plain"]},
        "rlssr": {"captioners": ["rlssr"]},
        "cmu": {"captioners": ["cmu"]},
        "wsac": {"captioners": ["wsac"], "set": {"text_memory.method": "projection"}},
        "ensemble": {
            "captioners": ["transformer-scst", "gru"],
            "combine": "probs",
            "set": {"decoding.beams": 3},
        },
    },
    "retrieval_systems": {
        "towers": {"retrievers": ["cnn10-minilm"]},
        "both": {"retrievers": ["cnn10-minilm", "adapted"]},
        "tags": {"retrievers": ["tags"]},
        "captioned": {"captions_of": "edtc", "text": "minilm"},
    },
    "test_sets": ["soundscapes"],
    "retrieval_test_sets": ["soundscapes"],
    "evaluation": {"split": "evaluation", "spice": False, "sbert": None, "fluency": None},
    "report": {"attention_clips": 3},
}
