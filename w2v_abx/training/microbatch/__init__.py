"""Elastic micro-batches: a training step of constant mathematics in pieces of any size, on any number of ranks.

A step takes the *effective batch*, as the data module gives it, and runs it in *micro-batches* of the current size.
Heat and memory pressure change the size, also in the middle of a step, and never the mathematics: each micro-batch
adds the gradient of its *sum* of losses divided by one normaliser drawn from the whole effective batch, and one
optimiser step follows. With dropout off, losses and weights match the unsplit step to rounding. (Layers that couple the
clips of a batch, such as batch norm, would break this; the wav2vec 2.0 family has none.)

An objective is a subclass of :class:`ElasticModule` and writes::

    class MyObjective(ElasticModule):
        def __init__(self, ..., microbatch=None, gradient_clip_norm=None, microbatch_seconds=None):
            super().__init__(microbatch, gradient_clip_norm, microbatch_seconds)

        def prepare(self, batch):       # optional: draw everything random (masks, negatives) for the whole batch, here
            return {**batch, "mask": draw_mask(...)}              # (B, F); rows are handed out with their clips
        def normaliser(self, batch):    # optional; default: the number of clips. Sees what prepare returned; it is
            return batch["mask"].sum()  # summed over ranks
        def loss_sum(self, micro):      # the SUM over the micro-batch, a scalar; may run twice on a clip: keep it pure
            return loss                 # or {"loss": loss, "another_sum": ...}: each is summed over ranks, divided by
                                        # the normaliser and logged as train/loss, train/another_sum
        def configure_optimizers(self): # as usual; one optimiser; schedulers of interval "step" step once per effective
            ...                         # batch, those of interval "epoch" once per epoch

``training_step`` is not to be overridden. ``self.microbatches`` is the :class:`MicroBatcher`. ``trainer.global_step``
counts effective batches. Of Lightning's own settings, ``gradient_clip_val`` and ``accumulate_grad_batches`` are refused
with the name of what takes their place.

How a batch is split: tensors with leading dimension B and lists of length B are sliced, dicts (``targets``) are gone
into, zero-dimensional tensors, numbers, strings and None go whole to each micro-batch. ``lengths`` stay on the CPU.
With ``waveforms`` and ``lengths``, trailing padding is trimmed to the longest clip of the micro-batch, so a ``mask``
(B, F) drawn for the whole batch may be longer than the micro-batch's frames: use ``mask[:, :frames]``.

How large a micro-batch is: at most ``microbatch`` clips and at most ``microbatch_seconds`` of audio, padding counted,
which is what memory goes by where clips differ in length. Memory that runs out in a step halves what bound the
micro-batch, and the same clips run again; after ``microbatch_grow_after`` steps in which it did not, the limit doubles,
but a size that has failed three times is not tried again. ``microbatch=auto`` tries before the first step, on the
longest clips that there are, how many the device holds (a GPU), or how many are still faster than half as many and
leave memory for others (a CPU). What was found and learnt is in the checkpoint. ``prepare`` sees all clips at once:
memory that runs out there ends the run.

On several ranks (DDP) the effective batch is that of all of them together. Each rank runs its own clips in pieces of
its own size and number, and sends nothing to the others meanwhile; then the ranks agree whether all got through, sum
gradients and losses, and step. So a rank that rests or runs out of memory never leaves another in half a backward pass,
and the step equals that of one process with all the clips. Where the ranks hold the weights together (FSDP), each pass
moves them: there all ranks run as many pieces, and memory that runs out is an error.

A loss or gradient that is not finite raises :class:`NonFiniteLoss` with the keys of its clips, on all ranks, and never
reaches the weights. A fused optimiser leaves them alone on the device, and the host hears of it during the next step or
before a checkpoint is written, whichever comes first, so that it never waits for the device. Before any other
optimiser's step the host waits for the answer. Under a loss scaler (``16-mixed``) a gradient that overflows is a
skipped step, as ever.
"""

from w2v_abx.data.batch import Batch, batch_size
from w2v_abx.training.microbatch.batcher import MicroBatcher
from w2v_abx.training.microbatch.finite import NonFiniteLoss
from w2v_abx.training.microbatch.module import ElasticModule

__all__ = ["Batch", "ElasticModule", "MicroBatcher", "NonFiniteLoss", "batch_size"]
