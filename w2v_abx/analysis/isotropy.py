"""Isotropy: how evenly a cloud of vectors uses the directions of its space.

Three published measures, because they answer three questions and can disagree (Rudman et al., 2022, compare them):
the partition ratio sees the mean as well as the spread, IsoScore the spread alone, the mean cosine mostly the mean.

``vectors`` are an (N, D) array or tensor. Each function raises InputError for fewer than two vectors, another number of
dimensions, or a value that is not finite.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

from w2v_abx.errors import InputError

__all__ = ["Isotropy", "iso_score", "isotropy", "mean_cosine", "partition_ratio"]

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Isotropy:
    """The three measures of one cloud: see :func:`partition_ratio`, :func:`iso_score` and :func:`mean_cosine`."""

    partition_ratio: float
    iso_score: float
    mean_cosine: float


def isotropy(vectors: Any, most: int | None = None, seed: int = 0) -> Isotropy:
    """Compute all three measures of ``vectors``, or of ``most`` of them drawn with ``seed`` where there are more."""
    array = _checked(vectors)
    if most is not None and len(array) > most:
        array = array[np.sort(np.random.default_rng(seed).choice(len(array), most, replace=False))]
    return Isotropy(partition_ratio(array), iso_score(array), mean_cosine(array))


def partition_ratio(vectors: Any, scale_free: bool = True) -> float:
    """Compute the isotropy of Mu and Viswanath (2018, "All-but-the-Top"): from 0 to 1, the same in all directions.

    The smallest over the largest value of the partition function Z(c) = Σ exp(c·v), where c runs over the unit
    eigenvectors of VᵀV. It is the isotropy score of the contrastive rewiring of text encoders (Liu et al., 2021,
    "Mirror-BERT") and of those that follow it, and therefore the main one here. An eigenvector has no sign, and Z
    depends on it: both are taken.

    Z also depends on the scale: small vectors look isotropic whatever their directions. With ``scale_free`` they are
    first scaled to a mean square norm of D, that of a standard normal cloud, so that a model that merely shrinks its
    space changes nothing; without, the number is the published one.

    It falls with fewer vectors: a standard normal cloud of D = 768 gives about 0.6 with 10,000 of them. Compare clouds
    of one size.
    """
    array = _checked(vectors)
    if scale_free:
        size = np.sqrt(np.mean(np.square(array)))
        array = array / size if size > 0 else array
    _, directions = np.linalg.eigh(array.T @ array)
    projected = array @ directions
    logarithms = np.concatenate([logsumexp(projected, axis=0), logsumexp(-projected, axis=0)])
    return float(np.exp(logarithms.min() - logarithms.max()))


def iso_score(vectors: Any) -> float:
    """Compute IsoScore (Rudman et al., 2022): from 0 (a line) to 1 (a covariance proportional to the identity).

    It depends neither on the mean, nor on the scale, nor on a rotation. A cloud that is even in k of D dimensions, and
    flat in the others, has (k − 1) / (D − 1). Vectors that are all equal have 0: they use no direction.
    """
    array = _checked(vectors)
    dims = array.shape[1]
    # The eigenvalues of the covariance are the variances along the principal components.
    variances = np.linalg.eigvalsh(np.atleast_2d(np.cov(array, rowvar=False))).clip(min=0)
    norm = np.linalg.norm(variances)
    if norm == 0:
        return 0.0
    if dims == 1:
        return 1.0
    # Σ̂ = √D Σ / ‖Σ‖; with the defect ‖Σ̂ − 1‖ / √(2 (D − √D)), the share of dimensions in use is (1ᵀΣ̂)² / D².
    used = (variances.sum() / norm) ** 2 / dims
    return float(np.clip((dims * used - 1) / (dims - 1), 0.0, 1.0))


def mean_cosine(vectors: Any) -> float:
    """Compute the mean cosine of two vectors (Ethayarajh, 2019): 0 where no direction is preferred, 1 in a cone.

    Over all pairs, exactly: the sum over pairs is the square of the sum. A null vector has cosine 0 with any other.
    """
    array = _checked(vectors)
    norms = np.linalg.norm(array, axis=1, keepdims=True)
    unit = np.divide(array, norms, out=np.zeros_like(array), where=norms > 0)
    number = len(unit)
    same = float(np.count_nonzero(norms))
    return float((np.square(unit.sum(axis=0)).sum() - same) / (number * (number - 1)))


def _checked(vectors: Any) -> Doubles:
    if hasattr(vectors, "detach"):  # a tensor
        vectors = vectors.detach().cpu().double().numpy()
    array = np.asarray(vectors, dtype=np.float64)
    if array.ndim != 2 or len(array) < 2 or not array.shape[1]:
        raise InputError(f"Isotropy needs at least two vectors, as rows of a matrix, not the shape {array.shape}.")
    if not np.isfinite(array).all():
        raise InputError("Isotropy needs finite numbers, and the vectors hold a NaN or an infinite one.")
    return array
