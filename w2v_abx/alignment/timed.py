"""Corpora whose clips get phone times from elsewhere, and where times and audio meet."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from w2v_abx.clips import Clip, Corpus, Failure
from w2v_abx.corpora.wrapper import Wrapper
from w2v_abx.items.labels import UNTIMED, fitted

__all__ = ["Timed"]


class Timed(Wrapper):
    """A corpus around another one: its clips, whose labels `labels` completes, once.

    A clip for which no times are found stays as it is, and one whose timed labels, its own ones too, are not of its
    audio loses these; ``untimed`` says why, by key.
    """

    def __init__(self, corpus: Corpus) -> None:
        super().__init__(corpus)
        self.untimed: dict[str, Failure] = {}

    def clips(self) -> list[Clip]:
        """The clips of the corpus with the labels that were found. Raises InputError as the corpus and `labels` do."""
        return self._clips

    @property
    def scanned(self) -> bool:
        """Whether the clips have been asked for."""
        return "_clips" in vars(self)

    @cached_property
    def _clips(self) -> list[Clip]:
        clips = self.corpus.clips()
        found = self.labels(clips)
        return [self._timed(clip, found.get(clip.key)) for clip in clips]

    def _timed(self, clip: Clip, found: Mapping[str, Any] | Failure | None) -> Clip:
        if isinstance(found, Failure):
            self.untimed[clip.key] = found
        elif found:
            own = {label: value for label, value in clip.labels.items() if label != UNTIMED}
            clip = replace(clip, labels={**own, **found})
        clip = fitted(clip)
        if why := clip.labels.get(UNTIMED):
            self.untimed.setdefault(clip.key, Failure(*why))
            clip = replace(clip, labels={label: value for label, value in clip.labels.items() if label != UNTIMED})
        return clip

    def labels(self, clips: Sequence[Clip]) -> Mapping[str, Mapping[str, Any] | Failure]:
        """New labels of clips by key, or why there are none; clips that need none are left out."""
        return {}

    def remarks(self) -> Iterator[str]:
        """What else there is to say after the clips have been asked for."""
        return iter(())
