"""The corpus: settings in, a folder of clips with their labels out."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, astuple
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from w2v_abx import audio
from w2v_abx.clips import SPLITS, Clip
from w2v_abx.corpora.soundscape.scene import Ranges, compose
from w2v_abx.corpora.soundscape.sounds import CATEGORIES, MINIMUM_SECONDS
from w2v_abx.errors import InputError
from w2v_abx.system.checks import fail, number, several, whole

__all__ = ["Soundscape"]

QUIETEST = -80.0  # dB: below, 16-bit samples hold little but their own rounding


class Soundscape:
    """Procedural non-speech sound with multi-label targets.

    A clip holds one to ``max_events`` sounds of different categories at once, over a coloured background noise.
    The first category goes through all of them in turn, in a shuffled order, and the others are drawn uniformly, so
    that categories are balanced. A clip depends on the settings, its split and its number alone: asking for more clips
    adds to them without changing any.

    The clips' labels: ``labels`` (sorted categories of the events heard), ``events`` and ``masked`` (lists of
    ``[onset s, offset s, category, level dB]``; `audible` tells which is which), ``background`` (dB). Levels are re
    full scale, see `level`.

    Audio is written once, into ``root/<fingerprint>``, the fingerprint being that of all settings and of the
    synthesisers' code.

    Args:
        name: the corpus's name, with which keys begin.
        root: the folder under which clips are made.
        categories: which of CATEGORIES; None for all.
        n_train, n_valid, n_test: number of clips in each split.
        seconds: length of a clip.
        max_events: at most so many sounds in a clip.
        duration: range of an event's length, s.
        onset: range of an event's onset, s; one that would not fit starts as late as it fits. None: anywhere.
        snr: range of an event's level above the background's, dB.
        background: range of the background's level, dB re full scale.
        seed: another seed, other clips.

    Raises InputError for a value that cannot be used, naming it.
    """

    def __init__(
        self,
        root: Path | str,
        *,
        name: str = "soundscape",
        categories: Sequence[str] | None = None,
        n_train: int = 400,
        n_valid: int = 100,
        n_test: int = 0,
        seconds: float = 5.0,
        max_events: int = 3,
        duration: Sequence[float] = (1.5, 4.0),
        onset: Sequence[float] | None = None,
        snr: Sequence[float] = (5.0, 30.0),
        background: Sequence[float] = (-65.0, -45.0),
        seed: int = 0,
    ) -> None:
        self.name = name
        self.root = Path(root)
        self.categories = tuple(sorted(several("corpus.categories", categories, CATEGORIES, optional="for all")))
        self.counts = {
            split: whole(f"corpus.n_{split}", count, 0)
            for split, count in zip(SPLITS, (n_train, n_valid, n_test), strict=True)
        }
        if sum(self.counts.values()) == 0:
            raise InputError("corpus.n_train, n_valid and n_test are all 0: ask for some clips")
        self.seconds = float(number("corpus.seconds", seconds, low=MINIMUM_SECONDS, high=600.0))
        hint = f"a clip's events differ in category, and there are {len(self.categories)} categories"
        self.max_events = whole("corpus.max_events", max_events, 1, len(self.categories), hint=hint)
        self.ranges = Ranges(
            duration=_range("duration", duration, MINIMUM_SECONDS, self.seconds),
            onset=_range("onset", (0.0, self.seconds) if onset is None else onset, 0.0, self.seconds),
            snr=_range("snr", snr, -40.0, 80.0),
            background=_range("background", background, QUIETEST, 0.0),
        )
        if self.ranges.onset[0] + self.ranges.duration[1] > self.seconds:
            raise InputError(
                f"an event of corpus.duration={self.ranges.duration[1]} s that starts at corpus.onset="
                f"{self.ranges.onset[0]} s does not fit into corpus.seconds={self.seconds}: lower them or raise it"
            )
        self.seed = whole("corpus.seed", seed, 0)

    @property
    def folder(self) -> Path:
        """Where these settings' clips lie, or will."""
        sources = sorted(Path(__file__).parent.glob("*.py"))
        settings = {
            "categories": self.categories,
            "counts": self.counts,
            "seconds": self.seconds,
            "max_events": self.max_events,
            "ranges": asdict(self.ranges),
            "seed": self.seed,
            "code": hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest(),
        }
        return self.root / hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]

    def clips(self) -> list[Clip]:
        """Every clip, by key; made on the first call, read back after.

        Raises InputError when root cannot be made, or the folder is there but clips are missing from it.
        """
        folder = self.folder
        if not folder.exists():
            self._make(folder)
        rows = json.loads((folder / "clips.json").read_text(encoding="utf-8"))
        present = {path.name for path in folder.iterdir()}
        missing = [row["file"] for row in rows if row["file"] not in present]
        if missing:
            raise InputError(
                f"{folder} lacks {len(missing)} of its {len(rows)} clips, {missing[0]} for one; "
                "remove the folder to have it made again."
            )
        clips = [
            Clip(
                key=f"{self.name}-{Path(row['file']).stem}",
                path=folder / row["file"],
                end=self.seconds,
                split=row["split"],
                labels=row["labels"],
                source=f"generated (w2v-abx soundscape, seed {self.seed})",
                licence="CC0",
            )
            for row in rows
        ]
        return sorted(clips, key=lambda clip: clip.key)

    def _make(self, folder: Path) -> None:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"corpus.root={self.root} cannot be made into a folder ({error.strerror})") from error
        with TemporaryDirectory(prefix=f".{folder.name}-", dir=self.root) as temporary:
            made = Path(temporary, "clips")
            made.mkdir()
            rows = []
            for split, count in self.counts.items():
                for number in range(count):
                    file = f"{split}-{number:06d}.flac"
                    samples, labels = self._clip(split, number)
                    audio.save(made / file, samples)
                    rows.append({"file": file, "split": split, "labels": labels})
            (made / "clips.json").write_text(json.dumps(rows), encoding="utf-8")
            try:
                made.rename(folder)
            except OSError:
                # Another process, with the same settings and so the same clips, was faster.
                if not folder.exists():
                    raise

    def _clip(self, split: str, number: int) -> tuple[np.ndarray, dict[str, Any]]:
        """A clip's samples (T,) and labels: a function of the settings, the split and the number."""
        stream = [self.seed, SPLITS.index(split)]
        turn, place = divmod(number, len(self.categories))
        order = np.random.default_rng([*stream, 0, turn]).permutation(len(self.categories))
        rng = np.random.default_rng([*stream, 1, number])
        others = rng.permutation(np.delete(order, place))[: rng.integers(0, self.max_events)]
        mixture = compose(self.seconds, [self.categories[i] for i in (order[place], *others)], self.ranges, rng)
        return mixture.samples, {
            "labels": sorted(event.category for event in mixture.events),
            "events": [list(astuple(event)) for event in mixture.events],
            "masked": [list(astuple(event)) for event in mixture.masked],
            "background": mixture.background,
        }


def _range(key: str, value: Sequence[float], low: float, high: float) -> tuple[float, float]:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise fail(f"corpus.{key}", value, "two numbers [lowest, highest]")
    lowest = number(f"corpus.{key}[0]", value[0], low=low, high=high)
    highest = number(f"corpus.{key}[1]", value[1], low=lowest, high=high)
    return float(lowest), float(highest)
