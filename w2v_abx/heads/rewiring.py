"""Contrast utterances with twins of them, without labels (Yang, Zhao, Haffari and Shareghi, 2022)."""

import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from w2v_abx.data.batch import Batch
from w2v_abx.data.module import ShardDataModule
from w2v_abx.errors import InputError
from w2v_abx.heads.coupled import CoupledHead
from w2v_abx.heads.draws import clip_seeds
from w2v_abx.heads.head import States
from w2v_abx.heads.pooling import mean_over_frames
from w2v_abx.items.frames import FrameClock
from w2v_abx.models.encoder import Encoder
from w2v_abx.system import checks

__all__ = ["PAIR", "SYNTHETIC", "Rewiring"]

PAIR = "pair"  # the label that a recording shares with a synthesiser's reading of it
SYNTHETIC = "synthetic"  # the label of the reading alone
HALF = 2**16  # a clip's group is two numbers below this, which float32 holds exactly

Views = Literal["neutral", "twin", "mixed", "dropout", "same"]


class Rewiring(CoupledHead):
    """NT-Xent (Chen et al., 2020) of utterance vectors: each is to be nearest to its twin, of all in the batch.

    An utterance's vector is the mean over its frames of the mean over layers, without a projection; both directions of
    each pair count. Negatives are all other vectors of the effective batch, of all ranks. A vector that has several
    twins in the batch is to be near each of them (the mean over them; Khosla et al., 2020, L_out).

    Args:
        views: what a clip's twin is. neutral: the synthesiser's reading that shares its label ``pair``. twin: itself,
            with one span of samples set to zero. mixed: one or the other, by a coin for each pair. dropout: itself once
            more, under other dropout (Gao et al., 2021, SimCSE). same: every clip of the same value of ``group``.
        group: views=same: the label, such as text.
        temperature: what cosines are divided by.
        span: twin, mixed: the share of its samples that is set to zero.
        seed: of spans and coins.
        options: see `Head`; by default all layers, alike.

    Raises:
        InputError: values out of range; groups that are no pairs, or a single one; batches of one pair.
    """

    empty = "no clip has a twin"

    def __init__(
        self,
        encoder: Encoder,
        data: ShardDataModule,
        name: str,
        views: Views = "twin",
        group: str | None = None,
        temperature: float = 0.04,
        span: float = 0.2,
        seed: int = 0,
        layers: int | Sequence[int] | Literal["weighted", "all"] = "all",
        **options: Any,
    ) -> None:
        self.views = views
        if layers == "all":
            layers = list(range(encoder.n_layers))
        own = {"neutral": PAIR, "mixed": PAIR, "same": group}.get(views)
        super().__init__(encoder, data, name, own, layers, **options)
        checks.choice(self.key("views"), views, get_args(Views))
        self.temperature = checks.number(self.key("temperature"), temperature, above=0)
        self.span = checks.number(self.key("span"), span, above=0, below=1)
        self.seed = seed
        if (views == "same") != (group is not None):
            raise checks.fail(self.key("group"), group, "the label that twins share where views=same, else null")
        if views == "dropout" and not _drops(encoder):
            raise InputError(f"{self.key('views')}=dropout: the model has no dropout; set model.dropout=0.1")
        self._check_batches(data)
        if own is not None:
            self._check_pairs(data)

    def _check_batches(self, data: ShardDataModule) -> None:
        least = 2 if self.label is None else 3  # vectors: one needs a twin, and another that is none
        if data.settings.batch_seconds is None and data.settings.batch_size < least:
            raise checks.fail(
                "data.batch_size",
                data.settings.batch_size,
                f"at least {least}",
                f"{self.name} contrasts clips of a batch",
            )
        if self.label is not None and data.settings.group != self.label:
            made = "" if self.views == "same" else "; corpus=twins makes recordings and readings that do"
            hint = f"twins of {self.name} have to share a batch{made}"
            raise checks.fail("data.group", data.settings.group, repr(self.label), hint)

    def _check_pairs(self, data: ShardDataModule) -> None:
        """Raise InputError where groups, of which the order of clips has made sure by now, are not what is asked."""
        members: dict[str, list[tuple[bool, str]]] = defaultdict(list)
        for clip in data.labels("train"):
            if (value := clip.labels.get(str(self.label))) is not None:
                members[str(value)].append((bool(clip.labels.get(SYNTHETIC)), clip.key))
        why = f"{self.key('views')}={self.views}"
        if self.views != "same":
            for clips in members.values():
                if sorted(made for made, _ in clips) != [False, True]:
                    named = ", ".join(key for _, key in clips)
                    raise InputError(f"{why}: {named} are a group, and not one recording and one reading of it")
        if len(members) < 2:
            raise InputError(f"{why}: all clips are twins of each other, and none is a negative")

    def target(self, labels: Mapping[str, Any], frames: int, clock: FrameClock) -> Tensor | None:
        """Make (3,) int64: two numbers that name its group, and whether the clip is a reading."""
        if (value := labels.get(str(self.label))) is None:
            return None
        return torch.tensor([*divmod(zlib.crc32(str(value).encode()), HALF), int(bool(labels.get(SYNTHETIC)))])

    def concerned(self, batch: Batch) -> list[int]:
        """Number the clips with a twin; once views are drawn, those of which one takes part."""
        rows = super().concerned(batch)
        own = batch.extra.get(self.name)
        return rows if own is None else [row for row in rows if any(own["used"][row])]

    def prepare(self, encoder: Encoder, batch: Batch, step: int) -> Batch:
        """Draw the spans and coins, and say which views of each clip take part, (B, 2): itself, its own copy."""
        keys = batch.keys
        groups, reading = self._groups(batch)
        # A pair's coin is a function of its group, so that both of its clips, wherever they are, know it.
        cut = torch.tensor([_coin(self.seed, step, group) for group in groups.tolist()])
        used = {
            "twin": [[True, True]] * len(keys),
            "dropout": [[True, True]] * len(keys),
            "neutral": [[True, False]] * len(keys),
            "same": [[True, False]] * len(keys),
            "mixed": torch.stack([~(reading & cut), ~reading & cut], 1).tolist(),
        }[self.views]
        spans = []
        for seed, length in zip(clip_seeds(keys, self.seed, step), batch.lengths.tolist(), strict=True):
            samples = round(self.span * length) if self.views in ("twin", "mixed") else 0
            generator = torch.Generator().manual_seed(seed)
            first = int(torch.randint(length - samples + 1, (), generator=generator))
            spans.append([first, first + samples])
        own = {"used": used, "spans": spans, "groups": groups.tolist()}
        return super().prepare(encoder, batch.with_extra(**{self.name: own}), step)

    def total(self, batch: Batch) -> float:
        """Count the vectors."""
        used = batch.extra[self.name]["used"]
        return float(sum(sum(used[row]) for row in self.concerned(batch)))

    def encode(self, encoder: Encoder, batch: Batch, layers: Sequence[int]) -> States:
        """Run the encoder on all views that take part, clip by clip."""
        own = batch.extra[self.name]
        views = [(row, copy) for row, used in enumerate(own["used"]) for copy in (0, 1) if used[copy]]
        rows = torch.tensor([row for row, _ in views])
        waveforms = batch.waveforms[rows.to(batch.waveforms.device)]  # a copy
        for place, (row, copy) in enumerate(views):
            if copy:
                first, last = own["spans"][row]
                waveforms[place, first:last] = 0
        features = encoder(waveforms, batch.lengths[rows], layers)
        return States(dict(zip(layers, features.layers, strict=True)), features.lengths)

    def embed(self, states: States, batch: Batch) -> Tensor:
        """Make (B, 2, D + 3): of each view its vector, the two numbers of its group, and whether it takes part."""
        own = batch.extra[self.name]
        vectors = mean_over_frames(self.mixed(states), states.frames).float()
        used = torch.tensor(own["used"])
        table = vectors.new_zeros(len(batch), 2, vectors.shape[1] + 3)
        row, copy = (part.to(vectors.device) for part in used.nonzero(as_tuple=True))
        named = torch.tensor(own["groups"], dtype=torch.float32).to(vectors.device)[row]
        marked = torch.cat([vectors, named, torch.ones(len(row), 1, device=vectors.device)], 1)
        return table.index_put((row, copy), marked)

    def batch_loss(self, embeddings: Tensor) -> dict[str, Tensor]:
        views = embeddings.flatten(0, 1)
        views = views[views[:, -1] > 0]
        units, groups = functional.normalize(views[:, :-3], dim=1), views[:, -3:-1]
        own = torch.eye(len(views), dtype=torch.bool, device=views.device)
        twins = (groups[:, None] == groups[None]).all(-1) & ~own
        scores = (units @ units.T / self.temperature).masked_fill(own, -torch.inf)
        logarithms = scores.log_softmax(1).masked_fill(~twins, 0.0)
        number = twins.sum(1)
        losses = -logarithms.sum(1) / number.clamp(min=1)
        cosines = (units @ units.T).masked_fill(~twins, 0.0).sum(1) / number.clamp(min=1)
        return {
            "loss": losses.sum(),
            "accuracy": twins.gather(1, scores.argmax(1, keepdim=True)).sum().float(),
            "twin_cosine": cosines.sum(),
        }

    def loss_sum(self, states: States, batch: Batch) -> dict[str, Tensor]:
        return self.coupled(self.embed(states, batch), batch)

    def _groups(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Two numbers (B, 2) that name each clip's group, and whether it is a reading (B,); on the CPU."""
        if self.label is None:  # each clip by itself
            crcs = [zlib.crc32(f"{row}/{key}".encode()) for row, key in enumerate(batch.keys)]
            return torch.tensor([divmod(crc, HALF) for crc in crcs]), torch.zeros(len(batch), dtype=torch.bool)
        values = self.own(batch).values.cpu()
        return values[:, :2], values[:, 2] > 0


def _coin(seed: int, step: int, group: Sequence[int]) -> bool:
    return bool(clip_seeds([f"{group[0]}/{group[1]}"], seed, step)[0] & 1)


def _drops(encoder: Encoder) -> bool:
    """Whether two passes differ."""
    config = encoder.model.config
    names = ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout", "layerdrop")
    return any(getattr(config, name, 0) for name in names)
