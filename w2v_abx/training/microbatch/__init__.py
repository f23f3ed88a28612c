"""Elastic micro-batches: a training step of constant mathematics in micro-batches of any size, on any number of ranks.

A step takes the *effective batch*, as the data module gives it, and runs it in *micro-batches* of the current size.
Heat and memory pressure change the size, also in the middle of a step, and never the mathematics: each micro-batch adds
its share of the loss, which is divided by totals over the whole effective batch, and one optimiser step follows. With
dropout off, losses and weights match the unsplit step to rounding. A loss that looks at the whole batch is a
`w2v_abx.heads.coupled.CoupledHead`. (Layers that couple the clips of a batch, such as batch norm, would break this; the
wav2vec 2.0 family has none.)

A module that trains so is a subclass of :class:`ElasticModule`, as `w2v_abx.training.objective.Objective` is::

    class MyModule(ElasticModule):
        def prepare(self, batch):        # optional: draw everything random for the whole batch, here
            return batch.with_extra(mask=draw_mask(...))     # (B, F): rows go with their clips, Whole(value) to all
        def totals(self, batch):         # optional; default: {"clips": number of clips}; summed over ranks
            return {"frames": float(batch.extra["mask"].sum())}
        def loss(self, micro, totals):   # this micro-batch's share; may run twice on a clip: keep it pure
            return {"loss": losses.sum() / totals["frames"]}  # each entry is summed and logged as train/NAME
        def configure_optimizers(self):  # as usual; one optimiser; schedulers of interval "step" step once per
            ...                          # effective batch, those of interval "epoch" once per epoch

``training_step`` may be extended, not replaced. ``self.microbatches`` is the :class:`MicroBatcher`.
``trainer.global_step`` counts effective batches. Of Lightning's own settings, ``gradient_clip_val`` and
``accumulate_grad_batches`` are refused with the name of what takes their place. A batch is a
`w2v_abx.data.batch.Batch`.

How large a micro-batch is: at most ``clips`` clips and at most ``seconds`` of audio, padding counted, which is what
memory goes by where clips differ in length (`MicroBatching`). Memory that runs out in a step halves what bound the
micro-batch, and the same clips run again; after ``grow_after`` steps in which it did not, the limit doubles, but a size
that has failed three times is not tried again. ``clips=auto`` tries before the first step, on the longest clips that
there are, how many a GPU holds; what was found is in the checkpoint. On a CPU, which does not say that its memory is
full, it is the whole batch: smaller micro-batches are not faster there (wav2vec 2.0 base, clips of 10 s, two cores: 5.5
s of processor time per clip with 8 at once, 5.7 with 4, 5.7 with 2, 5.8 with 1). ``prepare`` sees all clips at once:
memory that runs out there ends the run.

On several ranks (DDP) the effective batch is that of all of them together. Each rank runs its own clips in
micro-batches of its own size and number, and sends nothing to the others meanwhile; then the ranks agree whether all
got through, sum gradients and losses, and step. So a rank that rests or runs out of memory never leaves another in half
a backward pass, and the step equals that of one process with all the clips.

A loss or gradient that is not finite raises :class:`NonFiniteLoss` with the keys of its clips, on all ranks, and never
reaches the weights. A fused optimiser leaves them alone on the device, and the host learns of it during the next step
or before a checkpoint is written, whichever comes first, so that it never waits for the device. Before any other
optimiser's step the host waits for the answer. Under a loss scaler (``16-mixed``) a gradient that overflows is a
skipped step, as ever.
"""

from w2v_abx.training.microbatch.batcher import MicroBatcher, MicroBatching
from w2v_abx.training.microbatch.finite import NonFiniteLoss
from w2v_abx.training.microbatch.module import ElasticModule

__all__ = ["ElasticModule", "MicroBatcher", "MicroBatching", "NonFiniteLoss"]
