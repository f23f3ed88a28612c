"""What each shard will hold: decided from the clips, before any audio is read."""

import hashlib
import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from w2v_abx.audio import SAMPLE_RATE, AudioError, Cleaning, Format
from w2v_abx.audio.lengths import clip_seconds
from w2v_abx.audio.walking import BY_FFMPEG
from w2v_abx.clips import SPLITS, Clip, Corpus, Failure
from w2v_abx.errors import InputError
from w2v_abx.items.labels import holds_intervals
from w2v_abx.shards.description import check_labels
from w2v_abx.system.progress import tracked
from w2v_abx.system.records import strict_json

__all__ = ["Plan", "json_bytes", "listing", "member_names", "plan_shards"]

LAYOUT = 2  # changes when the same plan would give other bytes
PCM_BYTES_PER_SECOND = 2 * SAMPLE_RATE
COMPRESSED_BYTES_PER_SECOND = 16_000  # their bytes per second, about


@dataclass(frozen=True)
class Plan:
    """All that decides one shard's bytes."""

    name: str  # without an ending: train-000000
    split: str
    corpus: str
    format: Format
    cleaning: Cleaning
    entries: tuple[tuple[str, Clip], ...]  # (name inside the tar, clip)

    @property
    def settings(self) -> list[Any]:
        return [LAYOUT, self.split, self.corpus, self.format, self.cleaning.settings]

    def digest(self, failures: Mapping[str, Failure]) -> str:
        """Changes with anything that the shard depends on; ``failures`` says which clips could not be fetched."""
        content = list(self.settings)
        for name, clip in self.entries:
            described = vars(clip) | {"path": _identity(clip.path), "labels": dict(clip.labels)}
            content.append([name, described, failures.get(clip.key)])
        return hashlib.sha256(json_bytes(content)).hexdigest()


def plan_shards(
    corpus: Corpus,
    size: int | None,
    megabytes: float | None,
    format: Format,
    cleaning: Cleaning,
    seed: int,
    group: str | None = None,
) -> list[Plan]:
    """Deal each split's clips to shards of at most ``size`` clips and ``megabytes`` of 16-bit audio, by header.

    Clips that share the value of the label ``group`` lie side by side, in one shard.

    Raises `InputError` where two clips have one key, or one cannot be stored, or is to be trimmed and has timed labels.
    """
    clips = _checked(corpus)
    for clip in clips if cleaning.trim is not None else ():
        if timed := [label for label, value in clip.labels.items() if holds_intervals(label, value)]:
            raise InputError(
                f"prepare.trim={cleaning.trim:g}: the label {timed[0]} of {clip.key} has times, which trimming would "
                "shift; set prepare.trim=null"
            )
    names = member_names([clip.key for clip in clips])
    plans = []
    for split in SPLITS:
        chosen = [clip for clip in clips if clip.split == split]
        # A hash rather than a shuffle: a new clip does not change the order of the others.
        chosen.sort(key=lambda clip: [_hash(seed, _group(clip, group)), _hash(seed, clip.key)])
        groups = [list(clips) for _, clips in itertools.groupby(chosen, lambda clip: _group(clip, group))]
        for number, dealt in enumerate(_deal(groups, size, megabytes)):
            entries = tuple((names[clip.key], clip) for clip in dealt)
            plans.append(Plan(f"{split}-{number:06d}", split, corpus.name, format, cleaning, entries))
    return plans


def listing(plans: Sequence[Plan]) -> str:
    """A digest of what is asked for: clips, labels, how they are cleaned and dealt; not of what the files hold."""
    digest = hashlib.sha256()
    for plan in plans:
        clips = [
            [name, vars(clip) | {"path": clip.path.name, "labels": dict(clip.labels)}] for name, clip in plan.entries
        ]
        digest.update(json_bytes([plan.name, plan.settings, clips]))
    return digest.hexdigest()


def _deal(groups: Sequence[list[Clip]], size: int | None, megabytes: float | None) -> Iterator[list[Clip]]:
    """Consecutive groups, as many as fit both limits, and one at least."""
    most = None if megabytes is None else megabytes * 1e6 / PCM_BYTES_PER_SECOND
    dealt: list[Clip] = []
    held = 0.0
    for group in tracked("plan", groups):
        seconds = 0.0 if most is None else sum(map(_seconds, group))
        full = size is not None and len(dealt) + len(group) > size
        if dealt and (full or (most is not None and held + seconds > most)):
            yield dealt
            dealt, held = [], 0.0
        dealt += group
        held += seconds
    if dealt:
        yield dealt


def _group(clip: Clip, label: str | None) -> object:
    """What a clip shares with those beside it: its key, unless it has the label."""
    value = None if label is None else clip.labels.get(label)
    return clip.key if value is None else value


def _hash(seed: int, key: object) -> bytes:
    return hashlib.blake2b(f"{seed}/{key}".encode()).digest()


def _seconds(clip: Clip) -> float:
    """About how long a clip is: as `clip_seconds` finds it, or by the size of a file that only ffmpeg reads."""
    try:
        # It takes a process of its own to look into these.
        if clip.seconds is None and clip.end is None and clip.path.suffix.lower() in BY_FFMPEG:
            return clip.path.stat().st_size / COMPRESSED_BYTES_PER_SECOND - clip.start
        return clip_seconds(clip)
    except (AudioError, OSError):
        return 0.0  # it will be skipped


def json_bytes(content: Any) -> bytes:
    """Strict JSON with sorted keys; the same content gives the same bytes."""
    return json.dumps(content, ensure_ascii=False, sort_keys=True, allow_nan=False, default=_native).encode()


def _checked(corpus: Corpus) -> list[Clip]:
    clips = corpus.clips()
    if not clips:
        raise InputError(f"the corpus {corpus.name} has no clips: check corpus.root and the corpus's settings")
    if not corpus.name.isprintable():
        raise InputError(f"corpus.name={corpus.name!r} has control characters: choose another")
    seen: dict[str, Clip] = {}
    for clip in clips:
        if clip.split not in SPLITS:
            raise InputError(f"{clip.path}: its split {clip.split!r} is unknown: choose from {', '.join(SPLITS)}")
        if other := seen.get(clip.key):
            raise InputError(f"{clip.path} and {other.path} have the same key {clip.key!r}: keys must be unique")
        seen[clip.key] = clip
        if not (math.isfinite(clip.start) and (clip.end is None or math.isfinite(clip.end))):
            raise InputError(f"{clip.key} is no span of {clip.path}: it goes from {clip.start} to {clip.end} s")
        try:
            f"{clip.key}{clip.path}".encode()
        except UnicodeEncodeError:
            raise InputError(f"{str(clip.path)!r} has a name that is not UTF-8: rename it") from None
        try:
            check_labels(strict_json(json_bytes(dict(clip.labels))))
        except (TypeError, ValueError) as error:
            raise InputError(f"the labels of {clip.key} cannot be stored ({error})") from error
    return clips


def member_names(keys: Sequence[str]) -> dict[str, str]:
    """Key to a name that tar and WebDataset (whose keys end at the first dot) take; distinct for distinct keys."""
    plain = {key: re.sub(r"[^\w+=@-]+", "_", key) or "_" for key in keys}
    names = plain
    for length in (4, 64):  # bytes; the short ones may be the name of another
        shared = Counter(names.values())
        names = {
            key: name
            if shared[name] == 1
            else f"{plain[key]}-{hashlib.blake2b(key.encode(), digest_size=length).hexdigest()}"
            for key, name in names.items()
        }
    return names


def _identity(path: Path) -> list[Any]:
    """Changes when the file does; the folder is left out, so that a corpus may move."""
    try:
        status = path.stat()
    except (OSError, ValueError):  # ValueError: a null character in the path
        return [path.name]
    return [path.name, status.st_size, status.st_mtime_ns]


def _native(value: Any) -> Any:
    """NumPy scalars, which corpora compute labels with."""
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{value!r} is {type(value).__name__}")
