"""Group vectors by k-means or spherical k-means, with a block of them in memory at a time."""

from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from sklearn.cluster import MiniBatchKMeans

from w2v_abx.analysis.clustering.latents import Latents
from w2v_abx.errors import InputError

__all__ = ["METHODS", "Grouped", "group"]

Singles = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Floats = TypeVar("Floats", bound=npt.NDArray[np.floating[Any]])

METHODS = ("kmeans", "spherical")
SAMPLE = 32_768  # vectors that the first centres are found from
PASSES = 3  # over all vectors, at most
ENOUGH = 1e-3  # of the distance: a pass that improves less is the last


class Grouped(NamedTuple):
    """Groups of vectors.

    Attributes:
        codes: (N,) the group of each, int32.
        distance: the mean squared distance from the nearest centre; of spherical ones that of unit vectors, which is
            twice 1 − cosine.
    """

    codes: npt.NDArray[np.int32]
    distance: float


def group(latents: Latents, k: int, method: str, seed: int, key: str = "analysis.clusters.k") -> Grouped:
    """Group vectors into ``k``.

    Centres are found in a sample of 32,768 by mini-batch k-means (Sculley, 2010; scikit-learn's), then improved on all
    vectors by passes of Lloyd's algorithm, the last being the one that improves the mean distance by less than 0.1 %,
    or the third. Spherical k-means (Dhillon and Modha, 2001) groups directions: vectors and centres have unit length.

    Raises:
        InputError: there are fewer different vectors than ``k``, the setting ``key``.
    """
    rows = np.arange(len(latents))
    if len(latents) > SAMPLE:
        rows = np.sort(np.random.default_rng(seed).choice(len(latents), SAMPLE, replace=False))
    sample = _scaled(latents.read(rows), method)
    if (different := _different(sample, k)) < k:
        raise InputError(f"{key}={k} is more than the {different} different frames of {latents.where}")
    centres: Doubles = MiniBatchKMeans(k, random_state=seed, n_init=3).fit(sample).cluster_centers_.astype(np.float64)
    found, sums = _assign(latents, _scaled(centres, method), method)
    for _ in range(PASSES):
        # A group that has lost all of its vectors keeps its centre.
        counts = np.bincount(found.codes, minlength=k)[:, None]
        centres = np.where(counts > 0, sums / np.maximum(counts, 1), centres)
        before = found.distance
        found, sums = _assign(latents, _scaled(centres, method), method)
        if before - found.distance <= ENOUGH * before:
            break
    return found


def _assign(latents: Latents, centres: Doubles, method: str) -> tuple[Grouped, Doubles]:
    """Give each vector its nearest centre; also the sum of each group's vectors, (k, D)."""
    codes = np.empty(len(latents), dtype=np.int32)
    sums, total = np.zeros(centres.shape), 0.0
    half, single = np.square(centres).sum(1) / 2, centres.astype(np.float32)
    for part, block in latents.blocks():
        vectors = _scaled(block, method)
        near = half - vectors @ single.T
        codes[part] = near.argmin(1)
        total += np.einsum("ij,ij->i", vectors, vectors).sum(dtype=np.float64) + 2 * near.min(1).sum()
        there = np.ones(len(vectors), dtype=np.float32), codes[part], np.arange(len(vectors) + 1)
        sums += csr_array(there, shape=(len(vectors), len(centres))).T @ vectors
    return Grouped(codes, max(total, 0.0) / len(latents)), sums


def _different(vectors: Singles, most: int) -> int:
    """Count different vectors, up to ``most``."""
    found: set[bytes] = set()
    for vector in vectors:
        found.add(vector.tobytes())
        if len(found) == most:
            break
    return len(found)


def _scaled(vectors: Floats, method: str) -> Floats:
    """Scale vectors to unit length for spherical k-means; null ones stay."""
    if method != "spherical":
        return vectors
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
