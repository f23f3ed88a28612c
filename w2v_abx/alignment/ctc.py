"""Where each symbol of a CTC model lies in a clip: emissions and forced alignment."""

import hashlib
from collections.abc import Collection, Sequence
from functools import cached_property
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torchaudio.functional as AF
from torch import Tensor
from transformers import AutoModelForCTC, PreTrainedModel

from w2v_abx.audio import SAMPLE_RATE
from w2v_abx.errors import InputError
from w2v_abx.models.checkpoints import (
    checkpoint_folder,
    configuration,
    normalizes,
    read_json,
    read_weights,
    require_weights,
)
from w2v_abx.models.convolutions import frame_count, normalize, receptive_field
from w2v_abx.system.checks import choice
from w2v_abx.system.text import nfc

__all__ = ["CtcModel", "Span", "align", "fits", "times"]

ACCEPTED = "a wav2vec2, hubert or wavlm model with a CTC head and its vocab.json, in Hugging Face layout"


class Span(NamedTuple):
    """One symbol: its first frame, the frame after its last, and the mean log-probability of its frames."""

    start: int
    end: int
    score: float


class CtcModel:
    """A wav2vec 2.0, HuBERT or WavLM model with a CTC head.

    ``vocabulary`` maps its symbols to their places; ``blank`` (Hugging Face's padding token) and ``specials`` are no
    symbols of speech; ``delimiter`` stands between words, ``None`` where the model knows none. The weights are read
    when they are first needed.

    Raises:
        InputError: there is no such model, its files cannot be read, or it has no CTC head.
    """

    def __init__(self, source: str | Path, *, revision: str | None = None, device: str = "auto") -> None:
        self.source = source
        name = f"align.model={source}"
        self.folder = checkpoint_folder(source, revision, files=["*.json"], accepted=ACCEPTED, setting="align.model")
        require_weights(name, self.folder, ACCEPTED)
        self.config, _ = configuration(name, read_json(name, self.folder / "config.json"), {})
        if self.config.add_adapter:
            raise InputError(f"{name} has an adapter, which joins frames: give a model without")
        if not (self.folder / "vocab.json").is_file():
            raise InputError(f"{name} has no vocab.json, the symbols of its CTC head: give {ACCEPTED}")
        tokens = read_json(name, self.folder / "vocab.json")
        if not all(type(place) is int for place in tokens.values()):
            raise InputError(
                f"{name}: its vocab.json does not map symbols to places (a model of many languages has "
                "one for each): give a model of one language"
            )
        added, tokenizer = (
            read_json(name, self.folder / file) if (self.folder / file).is_file() else {}
            for file in ("added_tokens.json", "tokenizer_config.json")
        )
        self.normalized = normalizes(name, self.folder)
        self.vocabulary: dict[str, int] = {nfc(symbol): place for symbol, place in {**tokens, **added}.items()}
        self.blank = int(self.config.pad_token_id or 0)
        delimiter = tokenizer.get("word_delimiter_token", "|")
        self.delimiter = delimiter if delimiter in self.vocabulary else None
        named = {_token(tokenizer.get(f"{kind}_token")) for kind in ("pad", "bos", "eos", "unk")}
        at_blank = {symbol for symbol, place in self.vocabulary.items() if place == self.blank}
        self.specials = {*named, *at_blank, *added, "<pad>", "<s>", "</s>", "<unk>", "[PAD]", "[UNK]", self.delimiter}
        self.symbols = sorted(set(self.vocabulary) - self.specials)
        self.kernels, self.strides = self.config.conv_kernel, self.config.conv_stride
        self.stride, self.field = prod(self.strides), receptive_field(self.kernels, self.strides)
        self.device = _device(device)

    @cached_property
    def digest(self) -> str:
        """Changes when the weights, the vocabulary or the configuration do."""
        digest = hashlib.sha256(f"{self.normalized}".encode())
        weights = sorted(path for path in self.folder.iterdir() if path.suffix in (".safetensors", ".bin"))
        for path in (self.folder / "config.json", self.folder / "vocab.json", *weights):
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()

    def frames(self, samples: int) -> int:
        """Frames of a clip of ``samples`` samples."""
        return max(0, frame_count(samples, self.kernels, self.strides))

    @torch.inference_mode()
    def emissions(self, samples: np.ndarray) -> Tensor:
        """Log-probabilities (F, symbols), float32 on the CPU, of a clip (T,) at 16 kHz.

        A clip goes through the model alone: no padding can reach it, and its times depend on no other clip.
        """
        waveform = torch.from_numpy(np.ascontiguousarray(samples))[None].to(self.device)
        if self.normalized:
            waveform = normalize(waveform, torch.tensor([waveform.shape[1]], device=self.device))
        logits: Tensor = self.model(waveform).logits[0]
        return logits.float().log_softmax(-1).cpu()

    @cached_property
    def model(self) -> PreTrainedModel:
        model, found = read_weights(
            AutoModelForCTC, f"align.model={self.source}", self.folder, ACCEPTED, config=self.config
        )
        missing = sorted(key for key in found["missing_keys"] if not key.endswith("masked_spec_embed"))
        if missing:
            raise InputError(
                f"the weights of align.model={self.source} lack {len(missing)} tensors, such as {missing[0]}: a model "
                f"that was pretrained alone has no CTC head; give {ACCEPTED}"
            )
        size = model.config.vocab_size
        if max(self.vocabulary.values()) >= size:
            raise InputError(
                f"align.model={self.source} has {size} outputs, fewer than its vocab.json numbers "
                f"({max(self.vocabulary.values()) + 1}): give {ACCEPTED}"
            )
        return model.eval().to(self.device)


def fits(tokens: Sequence[object], frames: int) -> bool:
    """Whether so many frames can hold the symbols: one each, and a blank between two that are alike."""
    return len(tokens) + sum(one == other for one, other in pairwise(tokens)) <= frames


def align(emissions: Tensor, tokens: Sequence[int], blank: int) -> list[Span]:
    """The most probable CTC path (Graves et al., 2006) through ``emissions`` (F, C) that spells ``tokens``.

    Log-probabilities in, one span for each token out, in order and without overlap. ``fits`` must hold.
    """
    path, scores = AF.forced_align(emissions[None], torch.tensor([list(tokens)], dtype=torch.int32), blank=blank)
    return [Span(span.start, span.end, span.score) for span in AF.merge_tokens(path[0], scores[0], blank=blank)]


def times(
    spans: Sequence[Span],
    *,
    stride: int,
    field: int,
    seconds: float,
    reach: float,
    joined: Collection[int] = (),
) -> list[tuple[float, float]]:
    """Onset and offset in seconds from the clip's start, of consecutive ``spans``.

    Frame n stands for one ``stride`` of samples around the centre of its receptive ``field``: from
    ``n·stride + (field − stride)/2`` on, which for wav2vec 2.0 is 20·n + 2.5 ms. CTC marks a symbol by few frames and
    leaves blanks between: two neighbours share them half and half, and the first and last take those at the clip's
    ends; none takes more than ``reach`` seconds, and what lies beyond is a pause. ``joined`` are the places of spans
    that go on with the word of the span before: no pause is between those, however long the blanks.
    """
    shift = (field - stride) / 2
    onsets = [min((span.start * stride + shift) / SAMPLE_RATE, seconds) for span in spans]
    offsets = [min((span.end * stride + shift) / SAMPLE_RATE, seconds) for span in spans]
    found: list[tuple[float, float]] = []
    for place in range(len(spans)):
        before = (onsets[place] - offsets[place - 1]) / 2 if place else onsets[0]
        after = (onsets[place + 1] - offsets[place]) / 2 if place + 1 < len(spans) else seconds - offsets[place]
        onset = round(onsets[place] - (before if place in joined else min(before, reach)), 6)
        offset = round(min(offsets[place] + (after if place + 1 in joined else min(after, reach)), seconds), 6)
        # What neighbours share may be rounded to either side.
        found.append((max(onset, found[-1][1]) if found else onset, offset))
    return found


def _device(name: str) -> torch.device:
    there = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    there += [f"cuda:{place}" for place in range(torch.cuda.device_count())]
    choice("align.device", name, ("auto", *there))
    return torch.device(there[min(1, len(there) - 1)] if name == "auto" else name)


def _token(value: Any) -> str | None:
    """A special token, which tokenizers write as a string or as an object with its content."""
    content = value.get("content") if isinstance(value, dict) else value
    return content if isinstance(content, str) else None
