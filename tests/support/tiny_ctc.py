"""A CTC model small enough for tests, as `save_pretrained` leaves one."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from small import ARCHITECTURE
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC


def save_ctc(folder: Path, symbols: Sequence[str], *, delimiter: str | None = "|", **changes: Any) -> Path:
    """A randomly initialised model over ``symbols``, with its blank at 0 and the delimiter last."""
    tokens = ["<pad>", "<unk>", *symbols, *([delimiter] if delimiter else [])]
    settings = {**ARCHITECTURE, "vocab_size": len(tokens), "pad_token_id": 0, **changes}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Wav2Vec2ForCTC(Wav2Vec2Config.from_dict(settings))
    model.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({token: place for place, token in enumerate(tokens)}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"word_delimiter_token": delimiter, "pad_token": "<pad>"}))
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return folder
