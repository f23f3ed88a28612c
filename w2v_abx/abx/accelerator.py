"""Item distances on any accelerator that PyTorch knows, for :class:`w2v_abx.abx.engine.Plan`.

The matrix of distances between the frames of some row items and some column items is computed, and the pairs of items
in it are aligned together, one anti-diagonal of their cost matrices after another.

The rounding of a distance does not depend on what else is computed with it, so that equal items tie wherever they lie,
and memory and the number of processes change no score: products are exact (see :func:`_slices`), and all else is
elementwise or one pair of frames at a time. (One reservation: some CPUs' logarithms, for ``kl_symmetric``, may differ
in the last bit with the place of a frame in memory.) Other roundings than the CPU engine's can part or join near ties.
"""

from collections.abc import Iterator
from itertools import pairwise
from math import isqrt, log2

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from w2v_abx.abx import dtw
from w2v_abx.abx.blocks import Batch

__all__ = ["align", "align_pairs", "frame_distances"]

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

# Bytes of all intermediate tensors at once, unless two items need more; not of the features and a batch's distances.
MEMORY = 1 << 30
FRAME_PAIR_BYTES = 24  # of a matrix of frame distances, with the temporary ones that it is computed by
FRAME_BYTES = 44  # of a dimension of the frames along a side of such a matrix
ITEM_PAIR_BYTES = 160  # of a pair of items: where their frames lie, how many there are, in which order they are aligned
CELL_BYTES = 96  # of a pair of frames on the anti-diagonals in memory


@torch.inference_mode()
def align(batch: Batch, needed: npt.NDArray[np.bool_], metric: int, values: Tensor, lengths: Integers) -> Floats:
    """Compute the distances of a batch between the items of groups that are ``needed``; infinity is elsewhere.

    Args:
        needed: (G, G) which groups are compared; within a block of rows, each pair in one order alone.
        metric: the distance between frames, as in :mod:`w2v_abx.abx.dtw`.
        values: (T, D) float32 frames of the batch's items, one behind the other, on the device that computes.
        lengths: (N,) how many frames each item has.
    """
    device, layout = values.device, batch.layout
    group = np.repeat(np.arange(len(batch.groups)), np.diff(layout.starts))
    ends = np.concatenate([[0], np.cumsum(lengths)])
    row = layout.base[group] + np.arange(len(group)) * layout.columns[group]
    begin, length, base, block, of = _upload([ends[:-1], lengths, row, layout.block[group], group], device)
    wanted, number = torch.from_numpy(needed).to(device), torch.arange(len(group), device=device)
    distances = torch.full((batch.size,), torch.inf, device=device)
    for rows in _cut(np.any(needed, axis=1), layout.starts, ends, values.shape[1]):
        near = np.any(needed[group[rows.start] : group[rows.stop - 1] + 1], axis=0)
        for columns in _cut(near, layout.starts, ends, values.shape[1]):
            # Of two items that both have a row here one order is aligned, and an item is never compared with itself.
            both = block[rows, None] == block[columns]
            chosen = wanted[of[rows]][:, of[columns]] & ~(both & (number[rows, None] >= number[columns]))
            x, y = chosen.nonzero(as_tuple=True)
            if not len(x):
                continue
            both = both[x, y]
            x, y = x + rows.start, y + columns.start
            one, other = (values[ends[items.start] : ends[items.stop]] for items in (rows, columns))
            matrix = frame_distances(metric, one, other)
            first = (begin[x] - ends[rows.start]) * matrix.shape[1] + begin[y] - ends[columns.start]
            forth, back = align_pairs(matrix, first, length[x], length[y])
            distances[base[x] + y] = forth
            distances[(base[y] + x)[both]] = back[both]
    return distances.cpu().numpy()


def _upload(arrays: list[Integers], device: torch.device) -> Tensor:
    return torch.from_numpy(np.stack(arrays)).to(device)


def _cut(groups: npt.NDArray[np.bool_], starts: Integers, ends: Integers, width: int) -> Iterator[slice]:
    """Cut the items from the first to the last of some ``groups`` into ranges that fit in memory as rows or columns."""
    frames = min(isqrt(MEMORY // 2 // FRAME_PAIR_BYTES), MEMORY // 2 // (FRAME_BYTES * width))
    items = isqrt(MEMORY // 4 // ITEM_PAIR_BYTES)
    first, last = starts[:-1][groups].min(initial=len(ends)), starts[1:][groups].max(initial=0)
    while first < last:
        fitting = int(np.searchsorted(ends, ends[first] + frames, side="right")) - 1
        stop = min(max(min(fitting, first + items), first + 1), last)
        yield slice(first, stop)
        first = stop


def frame_distances(metric: int, x: Tensor, y: Tensor) -> Tensor:
    """The distances of the frames ``x`` (R, D) to the frames ``y`` (C, D): (R, C)."""
    if metric == dtw.ANGULAR:
        return _angles(x, y)
    if metric == dtw.EUCLIDEAN:  # not by products, which would leave nothing of a small distance
        return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
    if metric == dtw.IDENTICAL:
        return (torch.cdist(x, y, p=0.0) > 0).float()
    log_x, log_y = (torch.log(frames + float(dtw.EPSILON)) for frames in (x, y))
    out = x.new_empty(len(x), len(y))
    at_once = max(1, MEMORY // 4 // (8 * y.numel()))
    for i in range(0, len(x), at_once):
        terms = x[i : i + at_once, None] - y
        terms *= log_x[i : i + at_once, None] - log_y
        out[i : i + at_once] = 0.5 * _sum(terms)
    return out


def _sum(terms: Tensor) -> Tensor:
    """Sum over the last dimension, in pairs: in an order that depends on its length alone. Overwrites ``terms``."""
    while (count := terms.shape[-1]) > 1:
        half = count // 2
        terms[..., :half] += terms[..., count - half :]
        terms = terms[..., : count - half]
    return terms[..., 0]


def _angles(x: Tensor, y: Tensor) -> Tensor:
    """Angles over π between vectors; a null vector is farthest from every other, and equal to another such."""
    high_x, low_x, square_x = _slices(x)
    high_y, low_y, square_y = _slices(y)
    cosine = high_x @ high_y.T
    cosine += low_x @ low_y.T
    mixed = high_x @ low_y.T
    mixed += low_x @ high_y.T
    cosine += mixed
    null_x, null_y = square_x == 0, square_y == 0
    # Of equal vectors the root is exactly their square, and so their distance zero.
    cosine /= torch.mul(square_x[:, None], square_y, out=mixed).sqrt_()
    t = torch.abs(cosine, out=mixed).clamp_(max=1.0)
    # The polynomial of `dtw`, whose values do not depend on how a library computes an arccosine.
    p = torch.full_like(t, float(dtw.P7))
    for coefficient in (
        dtw.P6,
        dtw.P5,
        dtw.P4,
        dtw.P3,
        dtw.P2,
        dtw.P1,
        dtw.P0,
    ):
        p.mul_(t).add_(float(coefficient))
    p *= torch.sub(1.0, t, out=t).sqrt_()
    angle = torch.where(cosine < 0, torch.sub(1.0, p, out=t), p)
    angle[null_x] = 1.0
    angle[:, null_y] = 1.0
    angle[null_x[:, None] & null_y] = 0.0
    return angle


def _slices(frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Cut unit vectors into two slices whose products a float32 holds exactly, in whatever order they are summed.

    Matrix products round differently by device, library and shape; these have nothing to round (the scheme of Ozaki et
    al. 2012). The upper slice is in multiples of 2^-11, the lower one, at most 2^-12, in multiples of 2^-c with D ≤
    2^(48 - 2c). So, by Cauchy's inequality, any sum of products of upper slices is at most 4 · 2^22 of its units, of
    upper and lower or of lower slices 2^24. Slices are exact in TF32, too. Of 768 dimensions c is 19: the angle to any
    other vector is off by less than 2e-5 radians.

    Returns:
        The slices (F, D), and (F,) the squared length of their sum, rounded as the product of two such vectors.
    """
    largest = frames.abs().amax(dim=1, keepdim=True)
    units = frames / torch.where(largest > 0, largest, 1.0)
    units /= torch.where(largest > 0, _sum(units.square())[:, None], 1.0).sqrt()
    fine = 2.0 ** min(23, int(24 - log2(frames.shape[1]) / 2))
    high = units.mul(2.0**11).round_().mul_(2.0**-11)
    low = units.sub_(high).mul_(fine).round_().mul_(1 / fine)
    square = (high * high).sum(dim=1) + (low * low).sum(dim=1) + 2 * (high * low).sum(dim=1)
    return high, low, square


def align_pairs(matrix: Tensor, first: Tensor, m: Tensor, n: Tensor) -> tuple[Tensor, Tensor]:
    """Align P pairs of items by dynamic time warping.

    Args:
        matrix: (R, C) distances between frames.
        first: (P,) where the distance of the first frames of the two lies in the flat ``matrix``.
        m, n: (P,) how many frames the first and the second item of each pair have.

    Returns:
        The mean distance along the best path, (P,), from the first item to the second and from the second to the first:
        ties in the path prefer the diagonal, then the previous column, then the previous row.
    """
    flat, width = matrix.reshape(-1), matrix.shape[1]
    standing = m <= n  # The longer item lies along the anti-diagonals' columns, which are many.
    shorter, longer = torch.minimum(m, n), torch.maximum(m, n)
    down, across = torch.where(standing, width, 1), torch.where(standing, 1, width)
    # Together: pairs whose shorter items differ by less than a factor of two; those with the longest paths first.
    likeness = torch.log2(shorter.float()).ceil().long()
    total = shorter + longer
    order = torch.argsort(likeness * (total.max() + 1) + total, descending=True)
    kind, *sizes = torch.stack([likeness, shorter, longer])[:, order].cpu().numpy()
    lengths = np.stack(sizes)
    forth, back = (torch.empty(len(first), device=first.device) for _ in range(2))
    edges = [0, *(np.flatnonzero(np.diff(kind)) + 1).tolist(), len(kind)]
    for start, stop in pairwise(edges):
        at_once = max(1, MEMORY // 2 // CELL_BYTES // (int(lengths[0, start:stop].max()) + 1))
        for begin in range(start, stop, at_once):
            end = min(begin + at_once, stop)
            some = order[begin:end]
            forth[some], back[some] = _warp(flat, first[some], down[some], across[some], lengths[:, begin:end])
    return torch.where(standing, forth, back), torch.where(standing, back, forth)


def _warp(flat: Tensor, first: Tensor, down: Tensor, across: Tensor, lengths: Integers) -> tuple[Tensor, Tensor]:
    """Both directions of P pairs, sorted by descending sum of ``lengths`` (2, P): of their rows and their columns.

    The distance of row i to column j of a pair lies at ``first + i * down + j * across`` in ``flat``. Past the last row
    or column of a pair other items' distances are read, from which no path leads back into the pair.
    """
    rows, columns = lengths.max(axis=1).tolist()
    total = lengths.sum(axis=0)
    diagonals = int(total[0]) - 1
    active = np.searchsorted(-total, -np.arange(2, diagonals + 3), side="right").tolist()  # on each, at least as far
    (last_row,) = _upload([lengths[0]], flat.device)
    # The last three anti-diagonals, by row; row 0 is outside, as is whatever was never written.
    cost = torch.full((3, rows + 1, len(first)), torch.inf, device=flat.device)
    steps = torch.zeros((3, 2, rows + 1, len(first)), dtype=torch.int32, device=flat.device)
    forth, back = (torch.empty(len(first), device=flat.device) for _ in range(2))
    row = torch.arange(rows, device=flat.device)[:, None]
    corner = first + row * (down - across)
    cost[-2, 0] = 0.0  # before the first frames of both
    for k in range(diagonals):
        low, high, pairs = max(0, k - columns + 1), min(rows, k + 1), active[k]
        inside, above = (slice(low + 1, high + 1), slice(pairs)), (slice(low, high), slice(pairs))
        now, one, two = k % 3, (k - 1) % 3, (k - 2) % 3
        at = (corner[above] + k * across[:pairs]).clamp_(max=len(flat) - 1)
        diagonal, up, left = cost[two][above], cost[one][above], cost[one][inside]
        straight = (diagonal <= up) & (diagonal <= left)
        for way, leftwards in enumerate((left <= up, left < up)):  # The other direction's left is this one's up.
            side = torch.where(leftwards, steps[one, way][inside], steps[one, way][above])
            steps[now, way][inside] = torch.where(straight, steps[two, way][above], side).add_(1)
        cost[now][inside] = torch.minimum(diagonal, torch.minimum(up, left)).add_(flat.take(at))
        cost[-2, 0] = torch.inf
        done = slice(active[k + 1], pairs)
        if done.start < pairs:
            last = last_row[done], torch.arange(done.start, pairs, device=flat.device)
            forth[done], back[done] = (cost[now][last] / steps[now, way][last] for way in range(2))
    return forth, back
