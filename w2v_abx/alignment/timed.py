"""Corpora whose clips get phone times from elsewhere."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from w2v_abx.clips import Clip, Corpus, Failure

__all__ = ["Timed"]

LATER = ("fetch", "plan", "report", "closure_as_silence")  # what only some corpora have


class Timed:
    """A corpus around another one: its clips, whose labels `labels` completes, once.

    A clip for which no times are found stays as it is; ``untimed`` says why, by key.
    """

    def __init__(self, corpus: Corpus) -> None:
        self.name, self.corpus = corpus.name, corpus
        self.untimed: dict[str, Failure] = {}

    def __getattr__(self, name: str) -> Any:
        if name in LATER:
            return getattr(self.corpus, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def clips(self) -> list[Clip]:
        """The clips of the corpus with the labels that were found. Raises InputError as the corpus and `labels` do."""
        return self._clips

    @cached_property
    def _clips(self) -> list[Clip]:
        clips = self.corpus.clips()
        found = self.labels(clips)
        for clip in clips:
            if isinstance(why := found.get(clip.key), Failure):
                self.untimed[clip.key] = why
        return [
            replace(clip, labels={**clip.labels, **more}) if isinstance(more := found.get(clip.key), Mapping) else clip
            for clip in clips
        ]

    def labels(self, clips: Sequence[Clip]) -> Mapping[str, Mapping[str, Any] | Failure]:
        """New labels of clips by key, or why there are none; clips that need none are left out."""
        return {}

    def remarks(self) -> Iterator[str]:
        """What else there is to say after the clips have been asked for."""
        return iter(())
