"""Heads: what is asked of an encoder. Each is one loss with its own parameters, supervised or not."""

import math
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from w2v_abx.data.batch import Batch, Target
from w2v_abx.data.module import ShardDataModule
from w2v_abx.errors import InputError
from w2v_abx.heads.readout import Kind, Readout
from w2v_abx.items.frames import FrameClock
from w2v_abx.models.encoder import Encoder
from w2v_abx.shards.manifest import categories_of
from w2v_abx.system import checks

__all__ = ["CategoryHead", "Head", "HeadResult", "ResultTable", "States"]


class States(NamedTuple):
    """Hidden states of some clips by layer, each (B, F, D), zero past each clip's end; frame counts (B,), int64.

    ``captured``: what a head's own `encode` adds.
    """

    layers: Mapping[int, Tensor]
    frames: Tensor
    captured: Mapping[str, Tensor] = MappingProxyType({})

    def rows(self, index: Sequence[int]) -> "States":
        """Take the clips at ``index``."""
        if list(index) == list(range(len(self.frames))):
            return self
        chosen = torch.tensor(index, dtype=torch.long).to(self.frames.device, non_blocking=True)
        layers = {layer: hidden[chosen] for layer, hidden in self.layers.items()}
        return States(layers, self.frames[chosen], {name: kept[chosen] for name, kept in self.captured.items()})


class ResultTable(NamedTuple):
    """Cells, numbers as such, under their columns."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True)
class HeadResult:
    """What a head has learnt, for the report and head.json.

    ``metrics``: numbers over all held-out clips; those in ``Head.logged`` are logged. ``intervals``: of 95 %, of some
    metrics, ``over`` what it says ("24 speakers"). ``rows``: one for each category, of equal keys. ``drawn``: the
    column of ``rows`` that a figure shows, beside a column ``guess`` where there is one. ``confusion``: row for row,
    how often each category (``labels``) was taken for each; ``groups``: the class of each label, such as vowel, by
    which they are ordered. ``titles``: what metrics and columns are called in tables and figures. ``tables``: further
    ones. ``by_speaker``: how often each category was found in what each speaker says (``hits``), of how many times
    (``count``). ``transcripts``: some utterances (``which``: worst or median), with ``key``, ``corpus``, ``speaker``,
    ``reference``, ``hypothesis``, ``errors`` and ``symbols``. ``notes``: sentences on how the numbers were made.
    """

    metrics: Mapping[str, float | int | None] = field(default_factory=dict)
    rows: Sequence[Mapping[str, Any]] = ()
    drawn: str | None = None
    labels: Sequence[str] = ()
    confusion: Sequence[Sequence[int]] = ()
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    over: str = ""
    groups: Sequence[str] = ()
    titles: Mapping[str, str] = field(default_factory=dict)
    tables: Sequence[ResultTable] = ()
    by_speaker: Sequence[Mapping[str, Any]] = ()
    transcripts: Sequence[Mapping[str, Any]] = ()
    notes: Sequence[str] = ()

    def plain(self) -> dict[str, Any]:
        """Convert to what JSON holds."""
        return asdict(self) | {"tables": [table._asdict() for table in self.tables]}


class Head(nn.Module):
    """One loss on an encoder, with its own parameters.

    A subclass writes ``target`` (if it has labels) and ``loss_sum``; all else is optional. An objective makes it with
    ``encoder``, ``data`` and ``name``, and what its config says beside them.

    Args:
        encoder: whose layers it is given; the objective keeps it.
        data: the prepared corpus.
        name: of the head in the objective; its targets and what it draws are kept in batches under this name.
        label: the clips' label that it is about; None: it needs none.
        layers: one layer (negative: counted from the last), several, whose mean is taken, or "weighted": a mixture of
            all layers that is learnt (SUPERB; Yang et al., 2021).
        weight: of its loss beside those of other heads.

    Raises:
        InputError: a layer that the encoder has not, a weight below zero.
    """

    shares_pass: ClassVar[bool] = True  # False: the encoder runs for this head alone, on input that `encode` makes
    logged: ClassVar[tuple[str, ...]] = ()  # metrics of `result` that are logged after a validation
    empty: ClassVar[str] = "no clip carries its label"  # what to say of a step in which nothing is asked

    def __init__(
        self,
        encoder: Encoder,
        data: ShardDataModule,
        name: str,
        label: str | None = None,
        layers: int | Sequence[int] | Literal["weighted"] = -1,
        weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.name, self.label = name, label
        self.weight = checks.number(self.key("weight"), weight, low=0)
        self.mixture: nn.Parameter | None = None
        if isinstance(layers, str):
            checks.choice(self.key("layers"), layers, ["weighted"], hint="or give numbers of layers")
            self.layers = list(range(encoder.n_layers))
            self.mixture = nn.Parameter(torch.zeros(encoder.n_layers))
        else:
            asked = list(layers) if isinstance(layers, Sequence) else [layers]
            last = encoder.n_layers - 1
            if not asked or len(set(asked)) < len(asked):
                raise checks.fail(self.key("layers"), layers, "a layer, several different ones, or weighted")
            self.layers = [checks.whole(self.key("layers"), layer, -last - 1, last) % (last + 1) for layer in asked]

    def key(self, setting: str) -> str:
        """Name one of this head's settings as a user writes it."""
        return f"objective.heads.{self.name}.{setting}"

    # Labels

    def target(self, labels: Mapping[str, Any], frames: int, clock: FrameClock) -> Tensor | None:
        """Make the target of one clip of so many ``frames``; None: the clip has no such label. Runs in the loader."""
        return None

    def concerned(self, batch: Batch) -> list[int]:
        """Number the clips of a batch that the head is about: those that have its label, or all where it needs none."""
        if self.label is None:
            return list(range(len(batch)))
        return batch.targets[self.name].present.nonzero()[:, 0].tolist()

    def own(self, batch: Batch) -> Target:
        """Return this head's targets of some clips."""
        return batch.targets[self.name]

    # Training

    def begin(self, encoder: Encoder, batches: Iterable[Batch]) -> None:
        """Find, before the first step, what has to be found on training clips; ``batches`` may be left unread."""

    def prepare(self, encoder: Encoder, batch: Batch, step: int) -> Batch:
        """Draw all that is random for the whole effective batch, from the seed and ``step``; all ranks call it."""
        return batch

    def total(self, batch: Batch) -> float:
        """Count what the loss is the mean over in a prepared batch: clips. It is summed over ranks."""
        return float(len(self.concerned(batch)))

    def encode(self, encoder: Encoder, batch: Batch, layers: Sequence[int]) -> States:
        """Run the encoder on the clips of which something is asked."""
        masks = [batch.extra[mask] for mask in ("time_mask", "feature_mask") if mask in batch.extra]
        features = encoder(batch.waveforms, batch.lengths, layers, *masks)
        return States(dict(zip(layers, features.layers, strict=True)), features.lengths)

    def mixed(self, states: States) -> Tensor:
        """Return this head's layer, or the mixture of its layers, (B, F, D)."""
        chosen = [states.layers[layer] for layer in self.layers]
        if self.mixture is None:
            return chosen[0] if len(chosen) == 1 else torch.stack(chosen).mean(0)
        return torch.einsum("l,lbfd->bfd", self.mixture.softmax(0), torch.stack(chosen))

    def layer_weights(self) -> list[ResultTable]:
        """Tabulate what a learnt mixture takes of each layer, for `result`; an empty list without one."""
        if self.mixture is None:
            return []
        weights = self.mixture.detach().softmax(0).tolist()
        return [ResultTable("Learnt weights of the layers", ["layer", "weight"], list(enumerate(weights)))]

    def readout(self) -> Readout | None:
        """Give what the head makes of the layers, for analyses; None: that is no linear layer."""
        return None

    def _readout(self, kind: Kind, outputs: Sequence[str], linear: nn.Linear) -> Readout:
        even = torch.full((len(self.layers),), 1 / len(self.layers))
        shares = even if self.mixture is None else self.mixture.detach().softmax(0)
        return Readout(
            str(self.label), outputs, kind, linear.weight.detach(), linear.bias.detach(), self.layers, shares
        )

    def terms(self, encoder: Encoder, batch: Batch) -> dict[str, Tensor]:
        """Run the encoder for this head alone, and sum over the clips."""
        return self.loss_sum(self.encode(encoder, batch, self.layers), batch)

    def loss_sum(self, states: States, batch: Batch) -> dict[str, Tensor]:
        """Sum over some clips: the ``"loss"`` and what else is to be logged. It may run twice, and has to be pure."""
        raise TypeError(f"{type(self).__name__} has no loss_sum")

    def finish(self, encoder: Encoder) -> None:
        """Write what the head leaves beside the encoder, at the end of training, in the first rank."""

    # Validation and test

    def summary(self, sums: Mapping[str, Tensor], total: float) -> dict[str, Tensor]:
        """Make what is logged of a validation out of the sums over all its clips; ``"loss"`` among it."""
        return {name: value / total for name, value in sums.items()}

    def predict(self, states: States, batch: Batch) -> Any | None:
        """Say what the head makes of some clips, for ``update``; None: nothing that is kept."""
        return None

    def reset(self) -> None:
        """Forget what ``update`` was given: a validation, or a test, begins."""

    def update(self, predicted: Any, batch: Batch) -> None:
        """Take in the predictions for some held-out clips, which have this head's label."""

    def result(self) -> HeadResult:
        """Rate what ``update`` was given since ``reset``; all ranks call it."""
        return HeadResult()


class CategoryHead(Head):
    """A head on a label with a closed set of categories, those of the training clips.

    Args:
        label: the clips' label that holds their category or categories.
        options: see `Head`.

    Raises:
        InputError: fewer than two categories.
    """

    def __init__(self, encoder: Encoder, data: ShardDataModule, name: str, label: str, **options: Any) -> None:
        super().__init__(encoder, data, name, label, **options)
        counts: Counter[str] = Counter()  # of training clips
        try:
            carried = data.counts(label)
        except InputError as error:
            raise InputError(
                f"{self.key('label')}={label}: {error} (~head@objective.heads.{name} leaves the head {name!r} out)"
            ) from error
        for symbol, clips in carried.items():
            if (category := self.category(symbol)) is not None:
                counts[category] += clips
        self.categories = sorted(counts)
        if len(self.categories) < 2:
            raise InputError(
                f"{self.key('label')}={label}: the training clips have {len(self.categories)} categories of it; this "
                "head needs at least two"
            )
        if not data.has("valid"):
            data.manifest.of("valid")  # raises: there is nothing to rate the head on
        try:
            data.categories(label, "valid")
        except InputError as error:
            warnings.warn(f"the head {name!r} is trained and not rated: {error}", stacklevel=2)
        if single := sorted(category for category, clips in counts.items() if clips == 1):
            warnings.warn(
                f"the head {name!r} has a single training clip of {', '.join(single)}, of which it can learn little",
                stacklevel=2,
            )
        held_out = {category for symbol in data.counts(label, None) if (category := self.category(symbol)) is not None}
        if unseen := sorted(held_out - set(self.categories)):
            warnings.warn(
                f"the head {name!r} cannot learn {', '.join(unseen)}: only held-out clips carry it", stacklevel=2
            )

    def category(self, symbol: str) -> str | None:
        """Name the category that a value of the label belongs to; None: it is left out."""
        return symbol

    def carried(self, labels: Mapping[str, Any]) -> set[str] | None:
        """Find the categories that a clip carries; None: it has no such label.

        Raises:
            InputError: a label that holds neither a text, nor texts, nor timed texts.
        """
        found = labels.get(str(self.label))
        if found is None or (isinstance(found, float) and math.isnan(found)):  # as tables have it
            return None
        categories = categories_of(found)
        if not categories and found != []:
            raise InputError(f"{self.key('label')}={self.label}: a clip has {found!r}, which is no category")
        return categories
