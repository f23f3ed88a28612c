"""Take so many minutes of a corpus's training clips, spread over its speakers."""

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property

from w2v_abx.audio import AudioError
from w2v_abx.audio.lengths import clip_seconds
from w2v_abx.clips import Clip, Corpus
from w2v_abx.corpora.wrapper import Wrapper
from w2v_abx.errors import InputError
from w2v_abx.system.checks import number, whole
from w2v_abx.system.progress import tracked

__all__ = ["Subset"]

# So near below what is asked the search for a clip that still fits ends.
CLOSE_SECONDS, CLOSE_SHARE = 1.0, 0.01


class Subset(Wrapper):
    """``minutes`` of the training clips of a corpus, and all others.

    Speakers take turns in an order that ``seed`` decides, each with clips in such an order (clips without the label
    ``speaker`` are of one); a clip that does not fit any more is passed over. So one speaker's share is another's, as
    far as there are clips, and the clips of fewer minutes are, but for the last, among those of more.

    Raises:
        InputError: no number of minutes; no training clip, or none so short.
    """

    def __init__(self, corpus: Corpus, minutes: float, seed: int = 0) -> None:
        super().__init__(corpus)
        self.minutes = number("corpus.minutes", minutes, above=0, unit="minutes", optional="for all clips")
        self.seed = whole("prepare.seed", seed, 0)
        self._taken = ""  # in words

    def clips(self) -> list[Clip]:
        """The clips that are taken, and those of other splits, by key."""
        return self._clips

    def report(self) -> str:
        """Say how much was taken, after what the corpus itself has to say."""
        own = [self.corpus.report()] if hasattr(self.corpus, "report") else []
        return "\n".join(filter(None, [*own, self._taken]))

    @cached_property
    def _clips(self) -> list[Clip]:
        clips = self.corpus.clips()
        train = [clip for clip in clips if clip.split == "train"]
        if not train:
            raise InputError(f"corpus.minutes={self.minutes:g}: {self.name} has no training clips to take some of")
        taken, seconds, left = set(), 0.0, 60 * self.minutes
        close = min(CLOSE_SECONDS, CLOSE_SHARE * left)
        for clip in tracked("lengths", list(self._order(train))):
            length = _seconds(clip)
            if length <= left:
                taken.add(clip.key)
                seconds, left = seconds + length, left - length
            if left < close:
                break
        if not taken:
            raise InputError(
                f"corpus.minutes={self.minutes:g}: each training clip of {self.name} is longer: ask for more"
            )
        short = "all of them: there are no more" if len(taken) == len(train) else f"of {len(train)}"
        self._taken = (
            f"corpus.minutes={self.minutes:g}: {seconds / 60:.2f} minutes, {len(taken)} training clips, {short}"
        )
        return [clip for clip in clips if clip.split != "train" or clip.key in taken]

    def _order(self, clips: Sequence[Clip]) -> Iterator[Clip]:
        """Let the speakers take turns."""
        turns: dict[str, int] = {}
        placed = []
        for clip in sorted(clips, key=lambda clip: self._hash(clip.key)):
            speaker = str(clip.labels.get("speaker"))
            turns[speaker] = turns.get(speaker, 0) + 1
            placed.append((turns[speaker], self._hash(speaker), clip))
        yield from (clip for *_, clip in sorted(placed, key=lambda entry: entry[:2]))

    def _hash(self, text: str) -> bytes:
        # Rather than a shuffle: a new clip does not change the order of the others.
        return hashlib.blake2b(f"{self.seed}/{text}".encode()).digest()


def _seconds(clip: Clip) -> float:
    try:
        return clip_seconds(clip)
    except (AudioError, OSError):
        return 0.0  # it will be skipped, under its reason
