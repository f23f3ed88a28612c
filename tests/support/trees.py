"""Miniature trees of published corpora, and the corpora that the shipped configuration makes of them."""

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from w2v_abx import audio
from w2v_abx.clips import Clip
from w2v_abx.commands.phone_times import corpus_of
from w2v_abx.config import CONF


def grow(root: Path, files: Mapping[str, str | bytes | float]) -> Path:
    """Write files below ``root``: text, bytes, or noise of so many seconds in the format of the name's ending."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif isinstance(content, str):
            path.write_text(content, encoding="utf-8")
        else:
            noise = np.random.default_rng(zlib.crc32(name.encode())).uniform(-0.5, 0.5, round(content * 16_000))
            sphere = path.suffix == ".WAV"  # TIMIT's
            sf.write(path, noise, 16_000, format="NIST" if sphere else None, subtype="PCM_16" if sphere else None)
    return root


def configured(corpus: str, *overrides: str) -> Any:
    """What ``w2v-abx prepare corpus=CORPUS OVERRIDES`` instantiates."""
    with initialize_config_dir(str(CONF), version_base=None):
        config = compose("prepare", [f"corpus={corpus}", *overrides])
    return corpus_of(config)


def downloading(url: str, checksum: str = "") -> tuple[str, str]:
    """Overrides that let a corpus fetch its only archive from ``url``; ``checksum`` as ``md5:VALUE``."""
    kind, _, value = checksum.partition(":")
    return "corpus.download=true", f"corpus.archives=[{{url: '{url}'{f', {kind}: {value!r}' if value else ''}}}]"


def measured(preset: str, *overrides: str) -> Any:
    """The speech that ``w2v-abx abx abx=PRESET OVERRIDES`` measures on."""
    with initialize_config_dir(str(CONF), version_base=None):
        config = compose("abx", [f"abx={preset}", *overrides])
    return instantiate(config.abx.speech)


def by_key(clips: list[Clip]) -> dict[str, Clip]:
    """The clips by key, in order, after checking what every corpus promises."""
    found = {clip.key: clip for clip in clips}
    assert list(found) == sorted(found)
    assert len(found) == len(clips)
    assert all(clip.source and clip.licence for clip in clips)
    return found


def readable(clips: list[Clip]) -> None:
    """Every clip's audio is where it says."""
    for clip in clips:
        assert len(audio.load(clip.path, clip.start, clip.end)) > 0


TEXTGRID = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = {end}
tiers? <exists>
size = {size}
item []:
"""


def textgrid(**tiers: list[tuple[float, float, str]]) -> str:
    """A TextGrid in Praat's long format, as the Montreal Forced Aligner writes it."""
    end = max(offset for tier in tiers.values() for _, offset, _ in tier)
    text = TEXTGRID.format(end=end, size=len(tiers))
    for number, (name, intervals) in enumerate(tiers.items(), 1):
        text += f'    item [{number}]:\n        class = "IntervalTier"\n        name = "{name}"\n'
        text += f"        xmin = 0\n        xmax = {end}\n        intervals: size = {len(intervals)}\n"
        for place, (onset, offset, symbol) in enumerate(intervals, 1):
            text += f"        intervals [{place}]:\n            xmin = {onset}\n            xmax = {offset}\n"
            text += f'            text = "{symbol}"\n'
    return text
