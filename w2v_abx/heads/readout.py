"""What a trained head makes of an encoder's layers: a linear layer that is kept beside the encoder."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from w2v_abx.errors import InputError
from w2v_abx.system import atomic

__all__ = ["Kind", "Readout", "read_readouts"]

Kind = Literal["framewise", "ctc", "utterance", "multilabel"]


@dataclass(frozen=True)
class Readout:
    """A linear layer on a mixture of layers.

    Attributes:
        label: of the clips, that it was taught.
        outputs: (C) what each output stands for; of CTC, the first is the blank, "".
        kind: of the head. The outputs are for a frame, where one class is right (framewise) or a transcript is decoded
            (ctc), or for a clip's mean frame, where one class is right (utterance) or several are (multilabel).
        weight, bias: (C, D) and (C,), float32.
        layers: those that are mixed, ``shares`` (L,) of each.
    """

    label: str
    outputs: Sequence[str]
    kind: Kind
    weight: Tensor
    bias: Tensor
    layers: Sequence[int]
    shares: Tensor

    def __call__(self, hidden: Mapping[int, Tensor]) -> Tensor:
        """Compute the logits (F, C) of one clip's frames, or (C,) of the clip, from its layers (F, D)."""
        chosen = torch.stack([hidden[layer].float() for layer in self.layers])
        mixed = torch.einsum("l,lfd->fd", self.shares.to(chosen.device), chosen)
        if self.kind in ("utterance", "multilabel"):
            mixed = mixed.mean(0)
        return mixed @ self.weight.to(chosen.device).T + self.bias.to(chosen.device)

    def save(self, path: Path) -> None:
        """Write a safetensors file."""
        tensors = {"weight": self.weight, "bias": self.bias, "shares": self.shares}
        facts = {"label": self.label, "outputs": [*self.outputs], "kind": self.kind, "layers": [*self.layers]}
        plain = {name: tensor.detach().float().cpu().contiguous() for name, tensor in tensors.items()}
        atomic.write(path, lambda target: save_file(plain, target, {"readout": json.dumps(facts)}))

    @classmethod
    def read(cls, path: Path) -> "Readout":
        """Read such a file. Raises InputError for one that is none."""
        try:
            with safe_open(path, "pt") as file:
                facts = json.loads((file.metadata() or {})["readout"])
                return cls(**facts, **{name: file.get_tensor(name) for name in ("weight", "bias", "shares")})
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise InputError(f"{path} does not hold a head of w2v-abx ({error})") from error


def read_readouts(run: Path) -> dict[str, Readout]:
    """Read all of a run's folder, by head."""
    return {path.stem: Readout.read(path) for path in sorted(run.glob("heads/*.safetensors"))}
