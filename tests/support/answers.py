"""Held-out clips as a head is given them to rate: targets without audio."""

from collections.abc import Sequence

import torch
from torch import Tensor

from w2v_abx.data.batch import Batch, Target, collate


def held_out(name: str, values: Tensor | Sequence[Tensor], speakers: Sequence[str] = ()) -> Batch:
    """Make clips whose targets of the head ``name`` are the rows of ``values``."""
    clips = len(values)
    target = (
        Target(values, None, torch.ones(clips, dtype=torch.bool)) if isinstance(values, Tensor) else collate(values)
    )
    keys = [f"clip{number}" for number in range(clips)]
    lengths = torch.full((clips,), 400)
    return Batch(keys, ["x"] * clips, torch.zeros(clips, 400), lengths, {name: target}, speakers=list(speakers))
