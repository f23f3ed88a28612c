"""A batch of clips: audio, what heads ask of each clip, and what was drawn for it."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from w2v_abx.errors import InputError

__all__ = ["Batch", "Target", "Whole", "collate"]

IGNORED = -100  # pads integer targets: torch's losses leave it out


class Whole(NamedTuple):
    """A value in `Batch.extra` that belongs to the whole batch: each micro-batch gets it as it is."""

    value: Any


class Target(NamedTuple):
    """What one head is to find in each clip.

    ``values``: (B,), (B, C) or (B, L), padded with -100 (integers) or NaN. ``lengths``: (B,) of L, on the CPU; None
    where all clips have as many values. ``present``: (B,) bool, on the CPU: whether the clip has this label.
    """

    values: Tensor
    lengths: Tensor | None
    present: Tensor

    def counts(self) -> Tensor:
        """Count the values of each clip, (B,) int64 on the CPU: of a target (B, L, …), L; none without the label."""
        if self.lengths is not None:
            return self.present * self.lengths
        return self.present * (self.values.shape[1] if self.values.dim() > 1 else 1)


@dataclass(frozen=True)
class Batch:
    """Clips, their targets by head, and what heads drew for them.

    ``keys`` and ``corpora`` name each clip and where it comes from, ``speakers`` who speaks ("": no label tells).
    ``waveforms``: (B, T) float32 at 16 kHz, zero past each clip's end; (B, 0) where ``extra`` has features instead.
    ``lengths``: (B,) int64 samples. ``extra``: tensors and lists with an entry for each clip, dicts of them, and
    `Whole` values. Lengths, and which targets are present, stay on the CPU: nothing waits for the device to tell them.
    """

    keys: list[str]
    corpora: list[str]
    waveforms: Tensor
    lengths: Tensor
    targets: dict[str, Target] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    speakers: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.speakers:
            object.__setattr__(self, "speakers", [""] * len(self.keys))

    def __len__(self) -> int:
        return len(self.keys)

    def rows(self, index: Sequence[int]) -> Self:
        """Take the clips at ``index``, in that order; padding, of targets too, is trimmed to the longest of them."""
        if list(index) == list(range(len(self))):
            return self._trimmed()
        chosen = torch.tensor(index, dtype=torch.long)
        return self._taken(lambda value: _rows(value, chosen))._trimmed()

    def slice(self, start: int, stop: int) -> Self:
        """Take the clips from ``start`` up to ``stop``; padding, of targets too, is trimmed to the longest of them."""
        return self._taken(lambda value: value[start:stop])._trimmed()

    def with_extra(self, **values: Any) -> Self:
        """Add to ``extra``."""
        return replace(self, extra={**self.extra, **values})

    def to(self, device: torch.device, non_blocking: bool = True) -> Self:
        """Move what a loss computes with; lengths, and which targets are present, stay on the CPU."""
        move = lambda value: _mapped(value, lambda tensor: tensor.to(device, non_blocking=non_blocking))  # noqa: E731
        targets = {name: target._replace(values=move(target.values)) for name, target in self.targets.items()}
        return replace(self, waveforms=move(self.waveforms), targets=targets, extra=move(self.extra))

    def longest(self, clips: int, samples: int) -> Self:
        """Take ``clips`` rows, of each corpus in turn its longest clip, their audio repeated to ``samples``.

        It is what may ask for the most memory.
        """
        lengths: list[int] = self.lengths.tolist()
        longest: dict[str, int] = {}  # the row of each corpus
        for row, corpus in enumerate(self.corpora):
            if corpus not in longest or lengths[row] > lengths[longest[corpus]]:
                longest[corpus] = row
        taken = self.rows([row for row, _ in zip(itertools.cycle(longest.values()), range(clips), strict=False)])
        repeated = [
            wave[:length].repeat(-(-samples // length))[:samples]
            for wave, length in zip(taken.waveforms, taken.lengths.tolist(), strict=True)
        ]
        return replace(taken, waveforms=torch.stack(repeated), lengths=torch.full_like(taken.lengths, samples))

    def _taken(self, rows: Any) -> Self:
        return replace(
            self,
            keys=rows(self.keys),
            corpora=rows(self.corpora),
            waveforms=rows(self.waveforms),
            lengths=rows(self.lengths),
            speakers=rows(self.speakers),
            targets={
                name: Target(rows(of.values), None if of.lengths is None else rows(of.lengths), rows(of.present))
                for name, of in self.targets.items()
            },
            extra={name: self._extra(name, value, rows) for name, value in self.extra.items()},
        )

    def _extra(self, name: str, value: Any, rows: Any) -> Any:
        if isinstance(value, Whole):
            return value
        if isinstance(value, Mapping):
            return {key: self._extra(f"{name}.{key}", entry, rows) for key, entry in value.items()}
        if not isinstance(value, list | Tensor) or len(value) != len(self):
            found = f"{len(value)} entries" if isinstance(value, list | Tensor) else f"a {type(value).__name__}"
            raise InputError(
                f"the batch's extra {name!r} has {found} for {len(self)} clips: give one for each clip, or Whole(value)"
            )
        return rows(value)

    def _trimmed(self) -> Self:
        targets = {
            name: target if target.lengths is None else target._replace(values=_cut(target.values, target.lengths))
            for name, target in self.targets.items()
        }
        return replace(self, waveforms=_cut(self.waveforms, self.lengths), targets=targets)


def collate(targets: Sequence[Tensor | None]) -> Target:
    """Put the targets of clips, all of one shape or (L, …) of a length L of its own each, into one padded `Target`.

    None: the clip has no such label. Where none has, the values are (B,) NaN.
    """
    known = [target for target in targets if target is not None]
    sample = known[0] if known else torch.zeros(())
    padding = torch.nan if sample.is_floating_point() else IGNORED
    present = torch.tensor([target is not None for target in targets], dtype=torch.bool)
    if len({target.shape for target in known}) <= 1:
        empty = torch.full_like(sample, padding)
        return Target(torch.stack([empty if target is None else target for target in targets]), None, present)
    lengths = torch.tensor([0 if target is None else len(target) for target in targets])
    values = sample.new_full((len(targets), int(lengths.max()), *sample.shape[1:]), padding)
    for row, target in zip(values, targets, strict=True):
        if target is not None:
            row[: len(target)] = target
    return Target(values, lengths, present)


def _cut(values: Tensor, lengths: Tensor) -> Tensor:
    """Cut off what is padding in all rows."""
    return values[:, : max(lengths.tolist(), default=0)]


def _rows(value: Any, index: Tensor) -> Any:
    if isinstance(value, Tensor):
        return value[index.to(value.device, non_blocking=True)]  # made on the CPU, so that the host does not wait
    return [value[row] for row in index.tolist()]


def _mapped(value: Any, change: Any) -> Any:
    """Apply ``change`` to the tensors in ``value``."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Whole):
        return Whole(_mapped(value.value, change))
    return {key: _mapped(entry, change) for key, entry in value.items()} if isinstance(value, dict) else value
