"""What a shard says of a clip: its length and its labels, checked before anything is done with them."""

from collections.abc import Mapping
from typing import Any

from w2v_abx.audio import SAMPLE_RATE
from w2v_abx.errors import InputError
from w2v_abx.system.records import strict_json

__all__ = ["MAX_SAMPLES", "check_labels", "parse_description"]

MAX_SAMPLES = 2**32 - 1  # samples of a clip, as the index can hold
MAX_SECONDS = MAX_SAMPLES / SAMPLE_RATE
SAMPLES_PER_BYTE = 8192  # of FLAC at the most: a block of 65535 equal samples takes eleven bytes


def parse_description(shard: object, key: str, data: bytes, audio_bytes: int) -> tuple[int, dict[str, Any]]:
    """Read ``KEY.json``: the length in samples at 16 kHz, and the labels; raises `InputError`, naming the shard."""
    try:
        content = strict_json(data)
        if not isinstance(content, dict):
            raise ValueError("it is no object")
        samples, labels = content.get("samples"), content.get("labels")
        if type(samples) is not int or not 0 < samples <= MAX_SAMPLES:
            raise ValueError(f"samples={samples!r} must be a whole number from 1 to {MAX_SAMPLES}")
        if samples > audio_bytes * SAMPLES_PER_BYTE:
            raise ValueError(f"samples={samples} are more than {audio_bytes} bytes of audio can hold")
        if not isinstance(labels, dict):
            raise ValueError("its labels are no object")
        check_labels(labels)
        return samples, labels
    except ValueError as error:
        raise InputError(f"{shard}: {key}.json is not a clip's description ({error})") from error


def check_labels(labels: Mapping[str, Any]) -> None:
    """Check labels, as JSON has them: one with times is a list of ``[onset, offset, symbol]`` lists, or `ValueError`.

    The times are seconds from the clip's start, the offset not before the onset. More may follow the symbol.
    """
    for field, value in labels.items():
        if not isinstance(value, list) or not any(isinstance(entry, list) for entry in value):
            continue
        for entry in value:
            timed = isinstance(entry, list) and len(entry) >= 3 and isinstance(entry[2], str)
            if not timed or not (_is_time(entry[0]) and _is_time(entry[1]) and entry[0] <= entry[1]):
                raise ValueError(f"{entry!r:.200} in the label {field!r} is not [onset s, offset s, symbol]")


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MAX_SECONDS
