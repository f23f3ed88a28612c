"""`align=ctc`: phone times by forced alignment with a CTC model."""

import hashlib
import json
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from w2v_abx.alignment.ctc import CtcModel, Span, align, fits, times
from w2v_abx.alignment.spelling import Speller, Spelling
from w2v_abx.alignment.store import Store
from w2v_abx.alignment.timed import Timed
from w2v_abx.audio import SAMPLE_RATE, AudioError, info, load
from w2v_abx.clips import Clip, Corpus, Failure
from w2v_abx.errors import InputError
from w2v_abx.system.checks import number
from w2v_abx.system.progress import ClipProgress
from w2v_abx.system.streams import plain_console

__all__ = ["Aligned"]

FORMAT = 1  # raised when the same settings begin to give other results
CHUNK_CLIPS = 32  # clips after which a process looks for what others have aligned meanwhile


class Aligned(Timed):
    """A corpus whose clips are aligned with what they say, by torchaudio's forced aligner.

    Clips get the labels ``phones`` (and ``words``, and ``tones`` where the spelling has them), each a list of
    ``[onset s, offset s, symbol]`` from the clip's start, in order, inside the clip, without overlap; and
    ``phone_scores``, the mean log-probability of each phone's frames. See `CtcModel` for the models, `Speller` for
    ``target``, ``language``, ``lexicon`` and ``unknown``, and `times` for the convention of the times.

    A clip that cannot be aligned stays without these labels, under a reason in ``untimed``: no_text, unknown_symbol,
    too_short (fewer frames than symbols), too_long (more than ``max_seconds``: attention takes memory with the square
    of a clip's length), not_finite (the model fails), low_score (the mean of its ``phone_scores`` is below
    ``min_score``), or that of the audio.
    Clips that have ``phones`` already are left as they are, unless ``replace``.

    Results are stored in ``folder``, by clip, audio file, text, model and settings: a killed run goes on where it was,
    and several processes on one file system share the work.

    Raises:
        InputError: a setting is out of range, the model cannot be read, or a symbol is unknown to it.
    """

    def __init__(
        self,
        corpus: Corpus,
        model: str | Path | None = None,
        folder: Path | str = "alignments",
        *,
        revision: str | None = None,
        target: str = "text",
        language: str | None = None,
        lexicon: Path | str | None = None,
        unknown: str = "error",
        reach: float = 0.1,
        min_score: float | None = None,
        max_seconds: float = 120.0,
        replace: bool = False,
        device: str = "auto",
        console: Console | None = None,
    ) -> None:
        super().__init__(corpus)
        if model is None:  # what a configuration leaves open, a partial object leaves out
            raise InputError("align.model is missing; give align.model=…, a CTC model of the clips' language")
        number("align.reach", reach, low=0, unit="seconds")
        number("align.max_seconds", max_seconds, low=0, unit="seconds")
        number("align.min_score", min_score, high=0, optional="for any", hint="it is the mean of log-probabilities")
        if target == "phones" and not replace:
            raise InputError("align.target=phones aligns phones that have times already: set align.replace=true too")
        self.model = CtcModel(model, revision=revision, device=device)
        self.speller = Speller(self.model, target, language=language, lexicon=lexicon, unknown=unknown)
        self.store = Path(folder) / f"{corpus.name}.sqlite"
        self.reach, self.min_score, self.max_seconds, self.replace = reach, min_score, max_seconds, replace
        self.console = console or plain_console()
        if replace and target != "phones":
            self.closure_as_silence = None  # the corpus's own phones are replaced

    def labels(self, clips: Sequence[Clip]) -> Mapping[str, Mapping[str, Any] | Failure]:
        found: dict[str, Mapping[str, Any] | Failure] = {}
        spelt: dict[str, tuple[Clip, Spelling]] = {}
        wanted = [clip for clip in clips if self.replace or not clip.labels.get("phones")]
        if hasattr(self.corpus, "fetch"):
            found.update(self.corpus.fetch(wanted))
        for clip in wanted:
            if clip.key in found:
                continue
            spelling = self.speller.spell(clip)
            if isinstance(spelling, Failure):
                found[clip.key] = spelling
            else:
                spelt[clip.key] = (clip, spelling)
        if spelt:
            found.update(self._aligned(spelt))
        return found

    def remarks(self) -> Iterator[str]:
        if dropped := self.speller.dropped:
            symbols = ", ".join(f"{symbol!r} {count} times" for symbol, count in dropped.most_common(20))
            yield f"dropped, since the model does not know them: {symbols}"

    def _aligned(self, spelt: Mapping[str, tuple[Clip, Spelling]]) -> Iterator[tuple[str, Mapping[str, Any] | Failure]]:
        """The labels of each clip, from results that are stored or new."""
        digests = {key: self._digest(clip, spelling) for key, (clip, spelling) in spelt.items()}
        with Store(self.store) as store:
            there = store.has(digests.values())
            stored = [key for key, digest in digests.items() if digest in there]
            rest = [key for key, digest in digests.items() if digest not in there]
            # Each process in an order of its own, so that those that share the work seldom do the same.
            random.Random(os.getpid()).shuffle(rest)
            with ClipProgress(self.console, len(digests), "align", "not aligned") as progress:
                progress.add_stored(len(stored), 0, 0.0)
                for chunk in (*_chunks(stored), *_chunks(rest)):
                    results = store.get(digests[key] for key in chunk)
                    for key in chunk:
                        digest, (clip, spelling) = digests[key], spelt[key]
                        if digest not in results:
                            results[digest] = self._result(clip, spelling)
                            if "spans" in results[digest]:  # failures are soon found again, and may have passed
                                store.put(digest, results[digest])
                        if digest not in there:
                            progress.advance(results[digest].get("seconds", 0.0), "failure" in results[digest])
                        yield key, self._labelled(key, spelling, results[digest])

    def _result(self, clip: Clip, spelling: Spelling) -> dict[str, Any]:
        """Seconds of the clip and spans of its tokens, or why there are none; a JSON value."""
        try:
            length = (info(clip.path)[0] if clip.end is None else clip.end) - clip.start
            if length > self.max_seconds:
                message = f"{clip.key} lasts {length:g} s, more than align.max_seconds={self.max_seconds:g}"
                return {"failure": ["too_long", message]}
            samples = load(clip.path, clip.start, clip.end)
        except AudioError as error:
            return {"failure": [error.reason, str(error)]}
        tokens = [self.model.vocabulary[token] for token in spelling.tokens]
        frames = self.model.frames(len(samples))
        delimited, places = self._delimited(tokens, spelling)
        if not fits(tokens, frames):
            message = f"{clip.key} has {frames} frames for its {len(tokens)} symbols: its text may belong elsewhere"
            return {"failure": ["too_short", message]}
        if not fits(delimited, frames):
            delimited, places = tokens, list(range(len(tokens)))
        emissions = self.model.emissions(samples)
        if emissions.isnan().any():
            return {"failure": ["not_finite", f"{clip.key}: the model gives no finite probabilities for its audio"]}
        spans = align(emissions, delimited, self.model.blank)
        seconds = len(samples) / SAMPLE_RATE
        return {"seconds": seconds, "spans": [[*spans[place][:2], round(spans[place].score, 5)] for place in places]}

    def _delimited(self, tokens: list[int], spelling: Spelling) -> tuple[list[int], list[int]]:
        """The tokens with the model's delimiter between words, and their places among these."""
        if self.model.delimiter is None or len(spelling.words) < 2:
            return tokens, list(range(len(tokens)))
        starts = {first for first, _, _ in spelling.words[1:]}
        delimited, places = [], []
        for place, token in enumerate(tokens):
            if place in starts:
                delimited.append(self.model.vocabulary[self.model.delimiter])
            places.append(len(delimited))
            delimited.append(token)
        return delimited, places

    def _labelled(self, key: str, spelling: Spelling, result: Mapping[str, Any]) -> Mapping[str, Any] | Failure:
        if "failure" in result:
            return Failure(*result["failure"])
        spans = [Span(*span) for span in result["spans"]]
        scores = [span.score for span in spans]
        score = sum(scores) / len(scores)
        if self.min_score is not None and score < self.min_score:
            return Failure(
                "low_score", f"{key} aligns with {score:.3f} a phone, under align.min_score={self.min_score:g}"
            )
        bounds = times(
            spans,
            stride=self.model.stride,
            field=self.model.field,
            seconds=result["seconds"],
            reach=self.reach,
            joined={place for first, end, _ in spelling.words for place in range(first + 1, end)},
        )
        labels: dict[str, Any] = {
            "phones": [[*bound, phone] for bound, phone in zip(bounds, spelling.phones, strict=True)],
            "phone_scores": scores,
        }
        for label, groups in (("words", spelling.words), ("tones", spelling.tones)):
            if groups:
                labels[label] = [[bounds[first][0], bounds[end - 1][1], name] for first, end, name in groups]
        return labels

    def _digest(self, clip: Clip, spelling: Spelling) -> str:
        """Of all that decides the result."""
        try:
            status = clip.path.stat()
            file = [status.st_size, status.st_mtime_ns]
        except OSError:
            file = []
        words = [first for first, _, _ in spelling.words]
        # The key, since files of one name in several folders may be of one size and time.
        place = [clip.key, clip.path.name, *file, clip.start, clip.end]
        content = [FORMAT, self.model.digest, place, spelling.tokens, words]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _chunks(keys: list[str]) -> Iterator[list[str]]:
    return (keys[start : start + CHUNK_CLIPS] for start in range(0, len(keys), CHUNK_CLIPS))
