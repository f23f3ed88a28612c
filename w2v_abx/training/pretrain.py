"""Go on with wav2vec 2.0's own training, on any corpus."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.distributed.fsdp import FSDPModule

from w2v_abx.distributed.sharding import full_state
from w2v_abx.errors import InputError
from w2v_abx.heads import pretrained
from w2v_abx.heads.contrastive import SIZES, Contrastive
from w2v_abx.models.lora import has_lora
from w2v_abx.training.microbatch import Batch
from w2v_abx.training.selfsupervised import SelfSupervised

__all__ = ["Pretrain"]


class Pretrain(SelfSupervised):
    """`Contrastive`, whose settings these are, as an objective.

    Args:
        folder: where the whole model goes when training ends, with the quantiser and the projections, as
            ``Wav2Vec2ForPreTraining.from_pretrained`` loads it; ``None``: nowhere.
        settings: see `SelfSupervised` and `Contrastive`.
    """

    loss = Contrastive
    part: Contrastive

    def __init__(self, *settings: Any, folder: Path | str | None = None, **more: Any) -> None:
        super().__init__(*settings, **more)
        self.folder = None if folder is None else Path(folder)

    def prepare(self, batch: Batch) -> Batch:
        prepared = super().prepare(batch)
        if not prepared["share"]:
            raise InputError(
                "no clip of the batch has two masked frames, of which one could be the negative of the other: raise "
                "objective.mask_share or objective.mask_span, or take longer clips (data.crop_seconds)"
            )
        return prepared

    def on_fit_start(self) -> None:
        super().on_fit_start()
        if self.folder is not None and isinstance(self.encoder, FSDPModule) and has_lora(self.encoder.model):
            raise InputError(
                "low-rank updates that are divided among processes cannot be merged into a whole model: give "
                "objective.folder=null, or another trainer than fsdp"
            )

    def on_fit_end(self) -> None:
        """After the callbacks', which may have put other weights in place; also where a resumed run had no step left.

        A run that was killed between its last checkpoint and here so writes what it lacks."""
        if self.folder is None:
            return
        weights = full_state(self.encoder) if isinstance(self.encoder, FSDPModule) else None  # of all ranks
        if self.trainer.is_global_zero:
            self.save(self.folder, weights)

    def save(self, folder: Path, weights: Mapping[str, Tensor] | None = None) -> None:
        """Write the whole model to ``folder``, from which the next run can go on.

        ``weights``: the encoder's, where it does not have them whole.
        """
        theirs = {SIZES[name][0]: size for name, size in self.part.sizes.items()}
        pretrained.save(self.encoder, self.part, theirs, folder, weights)
