"""Losses that look at the whole batch, under micro-batches: gradients of embeddings are found first.

Gao et al. (2021), Scaling deep contrastive learning batch size under memory limited setup (GradCache).
"""

import functools
import zlib
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from w2v_abx.data.batch import Batch, Whole
from w2v_abx.distributed.collectives import current_rank, gather, gather_rows, world_size
from w2v_abx.heads.head import Head, States
from w2v_abx.models.encoder import Encoder

__all__ = ["CoupledHead"]


class _Coupling(NamedTuple):
    """Terms of the loss of the whole batch, its gradient by each embedding of this rank, and the clips of all ranks."""

    terms: dict[str, Tensor]
    gradient: Tensor
    clips: int


class CoupledHead(Head):
    """A head with a loss of the whole effective batch, such as in-batch negatives, whatever the micro-batches.

    A subclass writes ``embed`` and ``batch_loss``, and its ``loss_sum`` adds ``self.coupled(embeddings, batch)``; what
    it draws itself it adds to the batch before it calls ``super().prepare``. Before the micro-batches run, all clips
    are embedded without gradients, in the same micro-batches and under the same random state, and ``batch_loss`` of the
    embeddings of all ranks gives the gradient of each, which the micro-batches pass on. (Where heat or memory changes
    the micro-batches in between, dropout is drawn anew.) A batch that one process runs as one micro-batch needs no
    first pass.
    """

    shares_pass = False
    split: Callable[[Batch], list[Batch]] = staticmethod(lambda batch: [batch])  # set by the objective

    @abstractmethod
    def embed(self, states: States, batch: Batch) -> Tensor:
        """Embed some clips: (B, …)."""

    @abstractmethod
    def batch_loss(self, embeddings: Tensor) -> dict[str, Tensor]:
        """Compute the ``"loss"``, and what else to log, of the embeddings of all clips of all ranks (N, …).

        They are sums, which are divided by ``total``, as those of ``loss_sum`` are. Nothing that trains may stand in
        here: a learnt scale belongs in ``embed``.
        """

    def first_pass(self, encoder: Encoder, batch: Batch) -> States:
        """Run the encoder for ``embed`` alone; a subclass may leave out what that does not need."""
        return self.encode(encoder, batch, self.layers)

    def prepare(self, encoder: Encoder, batch: Batch, step: int) -> Batch:
        """Add to the batch, with its draws, how its clips are coupled, and each clip's place among them."""
        rows = self.concerned(batch)
        place = torch.zeros(len(batch), dtype=torch.int64)
        place[rows] = torch.arange(len(rows))
        # Taken here: the first pass may run inside the second one's random state, which has a seed of its own.
        draws = f"{torch.initial_seed()}/{self.name}/{step}"
        couple = functools.cache(functools.partial(self._couple, encoder, batch, draws))
        if self.training and world_size() > 1:
            couple()  # now, with all ranks: later they may do different things
        own = batch.extra.get(self.name, {})
        return batch.with_extra(
            **{self.name: {**own, "place": place, "draws": Whole(draws), "coupling": Whole((len(rows), couple))}}
        )

    def terms(self, encoder: Encoder, batch: Batch) -> dict[str, Tensor]:
        with self._random_state(batch, batch.extra[self.name]["draws"].value):
            return super().terms(encoder, batch)

    def coupled(self, embeddings: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Compute a micro-batch's share of `batch_loss`; its gradient is that of the whole batch's loss.

        In validation it is the loss of the micro-batch by itself.
        """
        own = batch.extra[self.name]
        clips, couple = own["coupling"].value
        if not self.training or (len(batch) == clips and world_size() == 1):
            return self.batch_loss(embeddings)
        coupling = couple()
        gradient = coupling.gradient[own["place"].to(embeddings.device, non_blocking=True)]
        linear = (embeddings * gradient).sum()
        terms = {name: value * (len(batch) / coupling.clips) for name, value in coupling.terms.items()}
        return {**terms, "loss": terms["loss"] + linear - linear.detach()}

    @contextmanager
    def _random_state(self, batch: Batch, draws: str) -> Iterator[None]:
        """Let dropout be a function of ``draws`` (the run's seed and the step) and the clips, in both passes alike."""
        device = batch.waveforms.device
        text = "/".join([draws, *batch.keys])
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(zlib.crc32(text.encode()))
            yield

    @torch.no_grad()
    def _couple(self, encoder: Encoder, batch: Batch, draws: str) -> _Coupling:
        embedded = []
        for part in self.split(batch):
            if rows := self.concerned(part):
                chosen = part.rows(rows)
                with self._random_state(chosen, draws):
                    embedded.append(self.embed(self.first_pass(encoder, chosen), chosen))
        own = torch.cat(embedded) if embedded else torch.zeros(0)
        shapes = gather(list(own.shape))
        counts = [shape[0] for shape in shapes]
        if not any(counts):
            return _Coupling({}, own, 0)  # for nobody
        if not embedded:  # of a rank whose clips are all of another kind
            own = torch.zeros(0, *next(shape[1:] for shape in shapes if shape[0]))
        everyone = own if world_size() == 1 else gather_rows(own.float().cpu()).to(batch.waveforms.device)
        first = sum(counts[: current_rank()])
        with torch.enable_grad():
            leaf = everyone.clone().requires_grad_()
            terms = self.batch_loss(leaf)
            (gradient,) = torch.autograd.grad(terms["loss"], leaf)
        values = {name: value.detach() for name, value in terms.items()}
        return _Coupling(values, gradient[first : first + counts[current_rank()]], sum(counts))
