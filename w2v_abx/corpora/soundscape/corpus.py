"""The corpus: settings in, a folder of clips with their labels out."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from w2v_abx import audio
from w2v_abx.clips import SPLITS, Clip
from w2v_abx.corpora.soundscape.scene import compose
from w2v_abx.corpora.soundscape.sounds import CATEGORIES, MINIMUM_SECONDS
from w2v_abx.errors import InputError
from w2v_abx.system.atomic import write_folder
from w2v_abx.system.checks import fail, number, several, whole
from w2v_abx.system.progress import tracked

__all__ = ["Soundscape"]

QUIETEST = -80.0  # dB: below, 16-bit samples hold little but their own rounding


@dataclass(frozen=True, eq=False)
class Soundscape:
    """Procedural non-speech sound with multi-label targets; ``conf/corpus/soundscape.yaml`` explains every setting.

    A clip holds one to ``max_events`` sounds of different categories at once, over a coloured background noise.
    The first category goes through all of them in a shuffled order, and the others are drawn uniformly, so that
    categories are balanced. A clip depends on the settings, its split and its number alone: asking for more clips adds
    to them without changing any.

    The clips' labels: ``labels`` (sorted categories of the events heard), ``events`` and ``masked`` (lists of
    ``[onset s, offset s, category, level dB]``; `audible` tells which is which), ``background`` (dB). Levels are re
    full scale, see `level`.

    Audio is written once, into ``root/<fingerprint>``, the fingerprint being that of all settings and of the
    synthesisers' code.

    Raises InputError for a value that cannot be used, naming it.
    """

    root: Path | str
    name: str = "soundscape"
    categories: Sequence[str] | None = None
    n_train: int = 400
    n_valid: int = 100
    n_test: int = 0
    seconds: float = 5.0
    max_events: int = 3
    duration: Sequence[float] = (1.5, 4.0)
    onset: Sequence[float] | None = None
    snr: Sequence[float] = (5.0, 30.0)
    background: Sequence[float] = (-65.0, -45.0)
    seed: int = 0

    def __post_init__(self) -> None:
        categories = several("corpus.categories", self.categories, CATEGORIES, optional="for all")
        if sum(whole(f"corpus.n_{split}", count, 0) for split, count in self._counts.items()) == 0:
            raise InputError("corpus.n_train, n_valid and n_test are all 0: ask for some clips")
        number("corpus.seconds", self.seconds, low=MINIMUM_SECONDS, high=600.0)
        hint = f"a clip's events differ in category, and there are {len(categories)} categories"
        whole("corpus.max_events", self.max_events, 1, len(categories), hint=hint)
        _check_range("duration", self.duration, MINIMUM_SECONDS, self.seconds)
        _check_range("onset", self._onset, 0.0, self.seconds)
        _check_range("snr", self.snr, -40.0, 80.0)
        _check_range("background", self.background, QUIETEST, 0.0)
        if self._onset[0] + self.duration[1] > self.seconds:
            raise InputError(
                f"an event of corpus.duration={self.duration[1]} s that starts at corpus.onset={self._onset[0]} s does "
                f"not fit into corpus.seconds={self.seconds}: lower them or raise it"
            )
        whole("corpus.seed", self.seed, 0)

    @property
    def _counts(self) -> dict[str, int]:
        return dict(zip(SPLITS, (self.n_train, self.n_valid, self.n_test), strict=True))

    @property
    def _onset(self) -> Sequence[float]:
        return (0.0, self.seconds) if self.onset is None else self.onset

    @cached_property
    def _categories(self) -> list[str]:
        return sorted(self.categories or CATEGORIES)

    @property
    def folder(self) -> Path:
        """Where these settings' clips lie, or will."""
        settings = {key: value for key, value in asdict(self).items() if key not in ("root", "name")}
        sources = sorted(Path(__file__).parent.glob("*.py"))
        code = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
        content = json.dumps(settings | {"categories": self._categories, "code": code}, sort_keys=True)
        return Path(self.root) / hashlib.sha256(content.encode()).hexdigest()[:16]

    def clips(self) -> list[Clip]:
        """Every clip, by key; made on the first call, read back after.

        Raises InputError when root cannot be made, or the folder is there but clips are missing from it.
        """
        folder = self.folder
        if not folder.exists():
            try:
                folder.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(f"corpus.root={self.root} cannot be made into a folder ({error.strerror})") from error
            write_folder(folder, self._fill)
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
                end=float(self.seconds),
                split=row["split"],
                labels=row["labels"],
                source=f"generated (w2v-abx soundscape, seed {self.seed})",
                licence="CC0",
            )
            for row in rows
        ]
        return sorted(clips, key=lambda clip: clip.key)

    def _fill(self, folder: Path) -> None:
        rows = []
        places = [(split, index) for split, count in self._counts.items() for index in range(count)]
        for split, index in tracked(f"making {self.name}", places):
            file = f"{split}-{index:06d}.flac"
            samples, labels = self._clip(split, index)
            audio.save(folder / file, samples)
            rows.append({"file": file, "split": split, "labels": labels})
        (folder / "clips.json").write_text(json.dumps(rows), encoding="utf-8")

    def _clip(self, split: str, index: int) -> tuple[np.ndarray, dict[str, Any]]:
        """A clip's samples (T,) and labels: a function of the settings, the split and the clip's number."""
        stream = [self.seed, SPLITS.index(split)]
        cycle, place = divmod(index, len(self._categories))
        order = np.random.default_rng([*stream, 0, cycle]).permutation(len(self._categories))
        rng = np.random.default_rng([*stream, 1, index])
        others = rng.permutation(np.delete(order, place))[: rng.integers(0, self.max_events)]
        return compose(
            [self._categories[i] for i in (order[place], *others)],
            rng,
            seconds=self.seconds,
            duration=self.duration,
            onset=self._onset,
            snr=self.snr,
            background=self.background,
        )


def _check_range(key: str, value: Sequence[float], low: float, high: float) -> None:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise fail(f"corpus.{key}", value, "two numbers [lowest, highest]")
    number(f"corpus.{key}[0]", value[0], low=low, high=high)
    number(f"corpus.{key}[1]", value[1], low=value[0], high=high)
