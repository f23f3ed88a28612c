"""Capture the output of an encoder's convolutions, before it is masked."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from w2v_abx.models.encoder import Encoder

__all__ = ["captured_convolutions"]


@contextmanager
def captured_convolutions(encoder: Encoder) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Yield a list to which each call of ``encoder`` inside adds two tensors ``(B, F, C)``.

    The output of the convolutions, and what their projection takes: the same after its layer norm, where it has one.
    """
    captured: list[tuple[Tensor, Tensor]] = []
    projection = encoder.model.feature_projection
    norm = getattr(projection, "layer_norm", None)
    if norm is not None:
        handle = norm.register_forward_hook(lambda _, given, made: captured.append((given[0], made)))
    else:  # some HuBERTs
        handle = projection.register_forward_hook(lambda _, given, made: captured.append((given[0], given[0])))
    try:
        yield captured
    finally:
        handle.remove()
