"""The corpus: settings in, a folder of clips with their labels out."""

import hashlib
import json
import math
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
        self.categories = _categories(categories)
        self.counts = {
            split: _whole(f"n_{split}", count, 0)
            for split, count in zip(SPLITS, (n_train, n_valid, n_test), strict=True)
        }
        if sum(self.counts.values()) == 0:
            raise InputError("soundscape: n_train, n_valid and n_test are all 0; ask for some clips.")
        self.seconds = _number("seconds", seconds, MINIMUM_SECONDS, 600.0)
        self.max_events = _whole("max_events", max_events, 1)
        if self.max_events > len(self.categories):
            raise InputError(
                f"soundscape: max_events={self.max_events}, but a clip's events differ in category and there are "
                f"{len(self.categories)}; lower it or add categories."
            )
        self.ranges = Ranges(
            duration=_range("duration", duration, MINIMUM_SECONDS, self.seconds),
            onset=_range("onset", (0.0, self.seconds) if onset is None else onset, 0.0, self.seconds),
            snr=_range("snr", snr, -40.0, 80.0),
            background=_range("background", background, QUIETEST, 0.0),
        )
        if self.ranges.onset[0] + self.ranges.duration[1] > self.seconds:
            raise InputError(
                f"soundscape: an event of {self.ranges.duration[1]} s that starts at {self.ranges.onset[0]} s does not "
                f"fit into {self.seconds} s; lower duration or onset, or raise seconds."
            )
        self.seed = _whole("seed", seed, 0)

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
            raise InputError(
                f"soundscape: root={self.root} cannot be made into a folder ({error.strerror})."
            ) from error
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


def _categories(asked: Sequence[str] | None) -> tuple[str, ...]:
    names = list(CATEGORIES if asked is None else asked)
    unknown = [name for name in names if name not in CATEGORIES]
    if isinstance(asked, str) or unknown:
        raise InputError(
            f"soundscape: categories has {asked if isinstance(asked, str) else unknown[0]!r}; "
            f"give a list of some of {', '.join(CATEGORIES)}."
        )
    if not names or len(set(names)) < len(names):
        raise InputError("soundscape: categories must be a list without repetition that names one or more.")
    return tuple(sorted(names))


def _number(key: str, value: object, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InputError(f"soundscape: {key}={value!r}; give a number from {low:g} to {high:g}.")
    return float(value)


def _whole(key: str, value: object, low: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise InputError(f"soundscape: {key}={value!r}; give a whole number, {low} or more.")
    return value


def _range(key: str, value: Sequence[float], low: float, high: float) -> tuple[float, float]:
    ends = [] if isinstance(value, str) or not isinstance(value, Sequence) else list(value)
    if len(ends) != 2 or not all(isinstance(end, int | float) and math.isfinite(end) for end in ends):
        raise InputError(f"soundscape: {key}={value!r}; give two numbers [lowest, highest].")
    if not low <= ends[0] <= ends[1] <= high:
        raise InputError(
            f"soundscape: {key}={ends}; give [lowest, highest] in rising order between {low:g} and {high:g}."
        )
    return float(ends[0]), float(ends[1])
