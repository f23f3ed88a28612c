"""Prepared corpora: sounds of two kinds, speech of various lengths, and recordings with a twin each."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sounds import Fixed, Sounds

from w2v_abx.shards import prepare


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("corpora")
    generator = np.random.default_rng(0)
    for name, number in (("sounds", 23), ("speech", 17)):
        (root / "raw" / name).mkdir(parents=True)
        clips = Sounds(root / "raw" / name)
        for i in range(number + 3):
            labels = ["rare" if i % 8 == 0 else "common"] if name == "sounds" else ["voice"]
            split = "train" if i < number else "valid"
            clips.add(f"{name[:2]}{i:02d}", seconds=float(generator.uniform(0.05, 0.5)), split=split, labels=labels)
        prepare(Fixed(clips.clips, name=name), root / name, clips_per_shard=5, format="flac")
    (root / "raw" / "twins").mkdir()
    clips = Sounds(root / "raw" / "twins")
    for i in range(11):
        for voice in "ab":
            split = "train" if i < 9 else "valid"
            clips.add(f"t{i:02d}{voice}", seconds=float(generator.uniform(0.3, 0.5)), split=split)
            clips.clips[-1].labels.update(pair=f"t{i:02d}", take=str(i % 3) + voice, own=f"{i}{voice}")
    prepare(Fixed(clips.clips, name="twins"), root / "twins", clips_per_shard=5, format="flac", group="pair")
    pairs = [replace(clip, labels={"take": clip.labels["pair"]}) for clip in clips.clips]
    prepare(Fixed(pairs, name="pairs"), root / "pairs", clips_per_shard=5, format="flac")
    return root
