"""The GPU's kernels: frame distances, dynamic time warping and counting, as the CPU's in `alignment` and `counting`.

Importing this module needs Triton, which PyTorch brings along on Linux for CUDA. Only :mod:`w2v_abx.abx.gpu` does so.

**Ties are ties.** A frame distance is one chain of float32 operations over the dimensions, in their order, run by one
thread. It depends neither on where the two frames lie in a tile nor on the tile's size, and stays the same bit for bit
when they change places. This is why products are not left to cuBLAS, which chooses other kernels and other splits for
other shapes, nor to tensor cores: TF32 keeps 10 bits, and what three TF32 products would restore costs the symmetry
(the two cross terms are added in the order of the operands). Nothing is added atomically.

No kernel takes a shape that is not a power of two, and none branches on a tensor of more than one element.
"""

# mypy: allow-untyped-defs
# The arguments of a kernel are tensors of Triton, which has no types to tell them apart.

import triton
import triton.language as tl

from w2v_abx.abx import alignment

__all__ = ["angle_tiles", "count_cells", "difference_tiles", "unit_frames", "warp_pairs"]

EUCLIDEAN, KL_SYMMETRIC = tl.constexpr(alignment.EUCLIDEAN), tl.constexpr(alignment.KL_SYMMETRIC)
P0, P1, P2, P3 = (tl.constexpr(float(p)) for p in (alignment.P0, alignment.P1, alignment.P2, alignment.P3))
P4, P5, P6, P7 = (tl.constexpr(float(p)) for p in (alignment.P4, alignment.P5, alignment.P6, alignment.P7))
INFINITY = tl.constexpr(float("inf"))

TILE_FIELDS = tl.constexpr(6)
STRIP = tl.constexpr(4)  # columns of a pair that `warp_pairs` keeps in registers: as many as it spells out
FORTH = tl.constexpr(0xFFFF)
BACK = tl.constexpr(~0xFFFF)
ONE_STEP = tl.constexpr(0x10001)


@triton.jit
def unit_frames(values, frames, width, out, out_width, null, BLOCK: tl.constexpr):
    """Copy frame ``frames[i]`` to row i of ``out``, of unit length and padded with zeros; ``null`` marks length zero.

    One program a frame, so that equal frames give equal rows; the length is a float64, as on the CPU.
    """
    row = tl.program_id(0).to(tl.int64)
    source = values + tl.load(frames + row) * width
    target = out + row * out_width
    lane = tl.arange(0, BLOCK)
    squares = tl.zeros([BLOCK], dtype=tl.float64)
    for k in range(0, width, BLOCK):
        value = tl.load(source + k + lane, mask=k + lane < width, other=0.0).to(tl.float64)
        squares += value * value
    square = tl.sum(squares, axis=0)
    empty = square == 0.0
    scale = 1.0 / tl.sqrt(tl.where(empty, 1.0, square))
    for k in range(0, out_width, BLOCK):
        value = tl.load(source + k + lane, mask=k + lane < width, other=0.0).to(tl.float64)
        tl.store(target + k + lane, (value * scale).to(tl.float32), mask=k + lane < out_width)
    tl.store(null + row, empty.to(tl.int8))


@triton.jit
def angle_tiles(units, null, width, tiles, out, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr):
    """Angles over π between unit vectors ``units`` (F, width), a tile of ROWS by COLUMNS a program.

    ``tiles`` (n, 6) int64: first row and the end of rows, the same of columns, where the tile begins in ``out`` and how
    far its rows lie apart. ``width`` is a multiple of DEPTH.
    """
    tile = tiles + tl.program_id(0).to(tl.int64) * TILE_FIELDS
    row_end, column_end = tl.load(tile + 1), tl.load(tile + 3)
    row = tl.load(tile) + tl.arange(0, ROWS)
    column = tl.load(tile + 2) + tl.arange(0, COLUMNS)
    # Past the end the last frame is read again, and what comes of it not stored.
    row_read, column_read = tl.minimum(row, row_end - 1), tl.minimum(column, column_end - 1)
    k = tl.arange(0, DEPTH)
    left = units + row_read[:, None] * width + k[None, :]
    right = units + column_read[None, :] * width + k[:, None]
    products = tl.zeros([ROWS, COLUMNS], dtype=tl.float32)
    for _ in range(0, width, DEPTH):
        # "ieee" means fused multiply-adds, one dimension after another: no TF32, no tensor core.
        products = tl.dot(tl.load(left), tl.load(right), products, input_precision="ieee")
        left += DEPTH
        right += DEPTH
    t = tl.minimum(tl.abs(products), 1.0)
    p = P0 + t * (P1 + t * (P2 + t * (P3 + t * (P4 + t * (P5 + t * (P6 + t * P7))))))
    angle = tl.sqrt_rn(1.0 - t) * p
    angle = tl.where(products >= 0.0, angle, 1.0 - angle)
    # A vector without direction is farthest from every other, and equal to another such.
    nulls = tl.load(null + row_read)[:, None].to(tl.int32) + tl.load(null + column_read)[None, :].to(tl.int32)
    angle = tl.where(nulls == 0, angle, tl.where(nulls == 1, 1.0, 0.0))
    _store_tile(angle, tile, row, row_end, column, column_end, out, ROWS, COLUMNS)


@triton.jit(do_not_specialize=["width", "frames"])
def difference_tiles(
    left, right, width, frames, tiles, out, METRIC: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    """Distances that are no products: euclidean, symmetric KL (``right`` holds the logarithms) and identical.

    ``left`` and ``right`` (width, frames) are transposed, so that the frames of one dimension lie together. ``tiles``
    as for :func:`angle_tiles`. To be run without fusing multiplications into additions: the euclidean sum is then that
    of the CPU to the last bit.
    """
    tile = tiles + tl.program_id(0).to(tl.int64) * TILE_FIELDS
    row_end, column_end = tl.load(tile + 1), tl.load(tile + 3)
    row = tl.load(tile) + tl.arange(0, ROWS)
    column = tl.load(tile + 2) + tl.arange(0, COLUMNS)
    row_read, column_read = tl.minimum(row, row_end - 1), tl.minimum(column, column_end - 1)
    total = tl.zeros([ROWS, COLUMNS], dtype=tl.float32)
    for _ in range(0, width):
        p, q = tl.load(left + row_read)[:, None], tl.load(left + column_read)[None, :]
        if METRIC == EUCLIDEAN:
            difference = p - q
            total += difference * difference
        elif METRIC == KL_SYMMETRIC:
            log_p, log_q = tl.load(right + row_read)[:, None], tl.load(right + column_read)[None, :]
            total += (p - q) * (log_p - log_q)
            right += frames
        else:
            total = tl.where(p != q, 1.0, total)
        left += frames
    if METRIC == EUCLIDEAN:
        total = tl.sqrt_rn(total)
    elif METRIC == KL_SYMMETRIC:
        total = 0.5 * total
    _store_tile(total, tile, row, row_end, column, column_end, out, ROWS, COLUMNS)


@triton.jit
def _store_tile(values, tile, row, row_end, column, column_end, out, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    i, j = tl.arange(0, ROWS).to(tl.int64), tl.arange(0, COLUMNS)
    at = out + tl.load(tile + 4) + i[:, None] * tl.load(tile + 5) + j[None, :]
    tl.store(at, values, mask=(row < row_end)[:, None] & (column < column_end)[None, :])


@triton.jit
def _step(diagonal, diagonal_steps, left, left_steps, up, up_steps, distance):
    """One cell: its cost, and the steps of both directions' paths in the low and high half of an integer.

    The diagonal is preferred, then the left, then up. Left and up are each other's in the other direction, so the two
    paths part where they tie; costs are the same.
    """
    side = tl.where(left < up, left_steps, tl.where(up < left, up_steps, (left_steps & FORTH) | (up_steps & BACK)))
    straight = (diagonal <= up) & (diagonal <= left)
    cost = tl.minimum(tl.minimum(diagonal, up), left) + distance
    return cost, tl.where(straight, diagonal_steps, side) + ONE_STEP


@triton.jit(do_not_specialize=["pairs", "longest"])
def warp_pairs(  # noqa: PLR0915
    x,
    y,
    pairs,
    end,
    length,
    base,
    panel,
    row_base,
    pitch,
    frame_distances,
    edge_cost,
    edge_steps,
    longest,
    distances,
    LANES: tl.constexpr,
):
    """DTW distances of the pairs of items ``x`` and ``y`` (pairs,) int32, a pair a lane.

    Args:
        end, length: where each item's frames begin (in the batch), and how many there are.
        base, panel: the distance of item i to item j lies at ``base[i] + j``; it is that of j to i, too, where their
            panels are the same.
        row_base, pitch: the frame distances of x to y begin at ``row_base[x] + end[y]``, their rows
            ``pitch[x]`` apart.
        edge_cost, edge_steps: scratch of (programs, longest, LANES): the last column of the strip to the left.

    A strip of four columns at a time runs down the rows, its costs in registers. Outside the matrix costs are infinite,
    but zero before its first cell.
    """
    lane = tl.arange(0, LANES)
    edge = tl.program_id(0).to(tl.int64) * longest * LANES + lane
    edge_cost += edge
    edge_steps += edge
    for block in range(tl.program_id(0), tl.cdiv(pairs, LANES), tl.num_programs(0)):
        inside = block * LANES + lane < pairs
        row = tl.load(x + block * LANES + lane, mask=inside, other=0)
        column = tl.load(y + block * LANES + lane, mask=inside, other=0)
        # Of two items of one group only one order is aligned, and an item is never compared with itself.
        row_panel, column_panel = tl.load(panel + row), tl.load(panel + column)
        inside = inside & ((row_panel != column_panel) | (row < column))
        m = tl.where(inside, tl.load(length + row), 0).to(tl.int32)
        n = tl.where(inside, tl.load(length + column), 0).to(tl.int32)
        step = tl.load(pitch + row)
        corner = frame_distances + tl.load(row_base + row) + tl.load(end + column)
        rows, columns = tl.max(m, axis=0), tl.max(n, axis=0)
        cost = tl.zeros([LANES], dtype=tl.float32)
        steps = tl.full([LANES], ONE_STEP, dtype=tl.int32)
        for j in range(0, columns, STRIP):
            none = tl.zeros([LANES], dtype=tl.int32)
            c0 = tl.full([LANES], INFINITY, dtype=tl.float32)
            c1, c2, c3 = c0, c0, c0
            s0, s1, s2, s3 = none, none, none, none
            # What lies above the left edge: the corner of the whole matrix, or nothing.
            diagonal = tl.where(tl.zeros([LANES], dtype=tl.int32) + j == 0, 0.0, INFINITY)
            diagonal_steps = none
            at = corner + j
            for i in range(0, rows):
                live = i < m
                d0 = tl.load(at, mask=live & (j < n), other=0.0)
                d1 = tl.load(at + 1, mask=live & (j + 1 < n), other=0.0)
                d2 = tl.load(at + 2, mask=live & (j + 2 < n), other=0.0)
                d3 = tl.load(at + 3, mask=live & (j + 3 < n), other=0.0)
                has_left = live & (j > 0)
                left = tl.load(edge_cost + i * LANES, mask=has_left, other=INFINITY)
                left_steps = tl.load(edge_steps + i * LANES, mask=has_left, other=0)
                e0, t0 = _step(diagonal, diagonal_steps, left, left_steps, c0, s0, d0)
                e1, t1 = _step(c0, s0, e0, t0, c1, s1, d1)
                e2, t2 = _step(c1, s1, e1, t1, c2, s2, d2)
                e3, t3 = _step(c2, s2, e2, t2, c3, s3, d3)
                tl.store(edge_cost + i * LANES, e3, mask=live)
                tl.store(edge_steps + i * LANES, t3, mask=live)
                diagonal, diagonal_steps = left, left_steps
                c0, c1, c2, c3 = e0, e1, e2, e3
                s0, s1, s2, s3 = t0, t1, t2, t3
                last = i == m - 1
                cost = tl.where(last & (j == n - 1), c0, cost)
                steps = tl.where(last & (j == n - 1), s0, steps)
                cost = tl.where(last & (j + 1 == n - 1), c1, cost)
                steps = tl.where(last & (j + 1 == n - 1), s1, steps)
                cost = tl.where(last & (j + 2 == n - 1), c2, cost)
                steps = tl.where(last & (j + 2 == n - 1), s2, steps)
                cost = tl.where(last & (j + 3 == n - 1), c3, cost)
                steps = tl.where(last & (j + 3 == n - 1), s3, steps)
                at += step
        forth = tl.div_rn(cost, (steps & FORTH).to(tl.float32))
        back = tl.div_rn(cost, ((steps >> 16) & FORTH).to(tl.float32))
        tl.store(distances + tl.load(base + row) + column, forth, mask=inside)
        tl.store(distances + tl.load(base + column) + row, back, mask=inside & (row_panel == column_panel))


@triton.jit
def _position(values, size, target, active, halvings, INCLUSIVE: tl.constexpr):
    """How many of ``values`` (size,), ascending, lie below each target (INCLUSIVE: or equal it)."""
    low = tl.zeros_like(target).to(tl.int32)
    high = low + size
    for _ in range(0, halvings):
        searching = active & (low < high)
        middle = (low + high) // 2
        value = tl.load(values + middle, mask=searching, other=0.0)
        below = value <= target if INCLUSIVE else value < target
        low = tl.where(searching & below, middle + 1, low)
        high = tl.where(searching & (below == 0), middle, high)
    return low


@triton.jit(do_not_specialize=["halvings"])
def count_cells(
    distances,
    starts,
    base,
    a,
    b,
    x,
    cell,
    halvings,
    lost,
    delta_sum,
    delta_square_sum,
    distance_mean,
    LANES: tl.constexpr,
):
    """Count the triplets of a cell a program, from the sorted distances of its X to its A and to its B.

    ``starts`` (groups + 1,), ``base`` (items,) as for :func:`warp_pairs`. What is found goes to ``cell[k]`` of the last
    four. ``halvings`` is the number of bits of the largest group's size.
    """
    k = tl.program_id(0)
    group_a, group_b, group_x = tl.load(a + k), tl.load(b + k), tl.load(x + k)
    first_a, first_b = tl.load(starts + group_a), tl.load(starts + group_b)
    # Where A and X are one group, the last of the sorted distances is that of X to itself.
    na = (tl.load(starts + group_a + 1) - first_a - (group_a == group_x).to(tl.int64)).to(tl.int32)
    nb = (tl.load(starts + group_b + 1) - first_b).to(tl.int32)
    first_x, end_x = tl.load(starts + group_x), tl.load(starts + group_x + 1)
    lane = tl.arange(0, LANES)
    wrong = tl.zeros([LANES], dtype=tl.int64)
    delta = tl.zeros([1], dtype=tl.float64)
    square, distance = delta, delta
    for item in range(first_x, end_x):
        row = distances + tl.load(base + item)
        to_a, to_b = row + first_a, row + first_b
        sums_a, squares_a = tl.zeros([LANES], dtype=tl.float64), tl.zeros([LANES], dtype=tl.float64)
        sums_b, squares_b = tl.zeros([LANES], dtype=tl.float64), tl.zeros([LANES], dtype=tl.float64)
        for i in range(0, nb, LANES):
            value = tl.load(to_b + i + lane, mask=i + lane < nb, other=0.0).to(tl.float64)
            sums_b += value
            squares_b += value * value
        for i in range(0, na, LANES):
            active = i + lane < na
            single = tl.load(to_a + i + lane, mask=active, other=0.0)
            value = single.to(tl.float64)
            sums_a += value
            squares_a += value * value
            nearer = _position(to_b, nb, single, active, halvings, False)
            up_to = _position(to_b, nb, single, active, halvings, True)
            wrong += tl.where(active, nearer + up_to, 0).to(tl.int64)
        sum_a, square_a = tl.sum(sums_a, axis=0), tl.sum(squares_a, axis=0)
        sum_b, square_b = tl.sum(sums_b, axis=0), tl.sum(squares_b, axis=0)
        delta += na * sum_b - nb * sum_a
        square += na * square_b - 2.0 * sum_a * sum_b + nb * square_a
        distance += nb * sum_a + na * sum_b
    at = tl.load(cell + k)
    size = (end_x - first_x).to(tl.float64) * na * nb
    one = tl.arange(0, 1)
    tl.store(lost + at, tl.sum(wrong, axis=0))
    tl.store(delta_sum + at + one, delta)
    tl.store(delta_square_sum + at + one, tl.maximum(square, 0.0))
    tl.store(distance_mean + at + one, distance / (2.0 * size))
