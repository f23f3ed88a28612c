"""A prepared corpus of 22 short clips for training, six batches of four, and three for validation."""

from pathlib import Path

import numpy as np
import pytest
from sounds import Fixed, Sounds

from w2v_abx.shards import prepare


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("corpus")
    (root / "raw").mkdir()
    clips = Sounds(root / "raw")
    generator = np.random.default_rng(0)
    for i in range(25):
        split = "train" if i < 22 else "valid"
        clips.add(f"clip{i:02d}", seconds=float(generator.uniform(0.1, 0.3)), split=split, labels=[f"kind {i % 2}"])
    prepare(Fixed(clips.clips), root / "shards", clips_per_shard=5, format="flac")
    return root / "shards"
