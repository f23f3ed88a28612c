"""Which parameters of an objective train, at what share of the learning rate, and which decay."""

import re
from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.nn import Parameter

__all__ = ["from_checkpoint", "groups", "in_encoder", "trainable_layers", "trained"]

BLOCK = re.compile(r"encoder\.model\.encoder\.layers\.(\d+)\.")
WEIGHTING = "weighting."
NORM = "encoder.model.encoder.layer_norm."


def in_encoder(name: str) -> bool:
    """Whether a parameter of an objective, by its name, is of the encoder; all others are of its heads."""
    return name.startswith("encoder.")


def from_checkpoint(module: nn.Module) -> set[str]:
    """Name the parameters beside the encoder's that do not start anew: a checkpoint had them."""
    return {
        f"{place}.{name}" for place, part in module.named_modules() for name in getattr(part, "from_checkpoint", ())
    }


def trained(module: nn.Module) -> Iterator[tuple[str, Parameter]]:
    """The parameters that train, by name."""
    return ((name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad)


def depth(name: str, blocks: int, stable: bool) -> int:
    """How far below the heads a parameter lies: 0 is a head, 1 the last block, ``blocks`` the first, and one more what
    comes before it: convolutions, projection, positional convolution.

    ``stable``: the blocks have their norms inside (``do_stable_layer_norm``), and one more follows the last of them.
    """
    if not in_encoder(name):
        return 0
    if stable and name.startswith(NORM):
        return 1
    block = BLOCK.match(name)
    return blocks - int(block[1]) if block else blocks + 1


def trainable_layers(module: Any) -> list[int]:
    """The layers of an objective's encoder whose features training can change: from the lowest part that trains on.

    A block above every layer that a head sees gets no gradient, and a norm after the last layer changes no feature.
    """
    encoder, heads = module.encoder, module.heads
    if not any(in_encoder(name) for name, _ in trained(module)):
        return []
    n_layers, stable = int(encoder.n_layers), bool(encoder.model.config.do_stable_layer_norm)
    seen = max(layer for head in heads.values() for layer in head.layers)
    layers = [
        n_layers - depth(name, n_layers - 1, stable)
        for name, _ in trained(module)
        if in_encoder(name) and not (stable and name.startswith(NORM))
    ]
    return list(range(min((layer for layer in layers if layer <= seen), default=n_layers), n_layers))


def decays(parameter: Parameter) -> bool:
    """Whether weight decay is meant for a parameter: not for biases and norms, nor for what is one row of gains in
    more dimensions (of the positional convolution's weight norm, of WavLM's position bias)."""
    return parameter.ndim > 1 and not (parameter.ndim > 2 and parameter.numel() == max(parameter.shape))


def groups(
    module: nn.Module, blocks: int, layer_decay: float, head_factor: float, decay_all: bool
) -> list[dict[str, Any]]:
    """The parameters of ``module`` that train, in groups for an optimiser.

    Each group has ``params``, a ``name``, ``lr_scale``, its share of the learning rate, and ``weight_decay`` of 0 where
    there is to be none. The heads have the share ``head_factor``, the encoder ``layer_decay`` to the power of the depth
    (Clark et al., 2020, ELECTRA; counted as by Bao et al., 2022, BEiT). ``decay_all``: biases and norms decay, too, but
    not the learnt weights of losses, which decay would pull towards one another.
    """
    made: dict[str, dict[str, Any]] = {}
    encoder: Any = module.encoder
    for name, parameter in trained(module):
        below = depth(name, blocks, encoder.model.config.do_stable_layer_norm) if in_encoder(name) else 0
        place = "heads" if below == 0 else "bottom" if below > blocks else f"block{blocks - below + 1}"
        if layer_decay == 1 and below > 0:
            place = "encoder"
        decaying = (decay_all and not name.startswith(WEIGHTING)) or decays(parameter)
        if not decaying:
            place += ", no decay"
        scale = head_factor if below == 0 else layer_decay**below
        group = {"params": [], "name": place, "lr_scale": scale} | ({} if decaying else {"weight_decay": 0.0})
        made.setdefault(place, group)["params"].append(parameter)
    return list(made.values())
