"""Read the vectors of some frames at one layer, raw or reduced to a few dimensions, some at a time."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from w2v_abx.errors import InputError

__all__ = ["SPACES", "Latents", "reduced"]

Integers = npt.NDArray[np.int64]
Singles = npt.NDArray[np.float32]

SPACES = ("raw", "pca", "umap")
BLOCK = 8_192  # vectors in memory at once


@dataclass(frozen=True)
class Latents:
    """Vectors of frames (N, D), read when they are asked for.

    Attributes:
        where: the model and layer, for messages.
        values: an array that may be memory-mapped, and ``rows`` (N,), where in it each frame is.
        mean, axes: (D',) and (D', D) of a linear projection; None: there is none.
    """

    where: str
    values: npt.NDArray[Any]
    rows: Integers
    mean: npt.NDArray[np.float64] | None = None
    axes: npt.NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, frames: Integers | slice) -> Singles:
        """Read the vectors of some frames, float32.

        Raises:
            InputError: one of them is not finite.
        """
        found: Singles = np.asarray(np.take(self.values, self.rows[frames], axis=0), dtype=np.float32)
        if not np.isfinite(found.sum()):  # far faster than to ask each
            raise InputError(f"{self.where}: the features hold a NaN or an infinite number: the model is broken there")
        if self.mean is not None and self.axes is not None:
            found = ((found - self.mean) @ self.axes).astype(np.float32)
        return found

    def blocks(self) -> Iterator[tuple[slice, Singles]]:
        """Read all of them, some at a time."""
        for start in range(0, len(self), BLOCK):
            part = slice(start, min(start + BLOCK, len(self)))
            yield part, self.read(part)


def reduced(latents: Latents, space: str, dims: int, *, limit: int, seed: int) -> Latents:
    """Reduce vectors to ``dims`` by PCA (of all of them) or UMAP (of the first ``limit``, cosine distance); raw: as is.

    UMAP (McInnes et al., 2018) has its published defaults, 15 neighbours and a least distance of 0.1.

    Raises:
        InputError: there are no more vectors, or dimensions, than that.
    """
    if space == "raw":
        return latents
    if space == "pca":
        return _principal(latents, dims)
    if len(latents) < dims + 2:
        raise InputError(f"{latents.where}: {len(latents)} frames are too few for a UMAP of {dims} dimensions")
    # It takes seconds to load.
    from umap import UMAP

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "n_jobs value")  # one thread, for the seed's sake
        model = UMAP(n_components=dims, metric="cosine", random_state=seed)
        embedded = model.fit_transform(latents.read(slice(0, limit)))
    return Latents(f"{latents.where}, UMAP", embedded, np.arange(len(embedded)))


def _principal(latents: Latents, dims: int) -> Latents:
    """Project on the principal axes, from the covariance in float64."""
    mean = sum(block.sum(0, dtype=np.float64) for _, block in latents.blocks()) / len(latents)
    if dims > len(mean):
        raise InputError(f"{latents.where}: a PCA of {dims} dimensions is more than the {len(mean)} that there are")
    scatter = np.zeros((len(mean), len(mean)))
    for _, block in latents.blocks():
        centred = block - mean
        scatter += centred.T @ centred
    axes = np.linalg.eigh(scatter).eigenvectors[:, ::-1][:, :dims]
    return Latents(f"{latents.where}, PCA", latents.values, latents.rows, mean, axes)
