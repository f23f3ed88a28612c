"""Where the last frame of a FLAC ends, which its header may not know."""

import re

__all__ = ["last_frame"]


def last_frame(tail: bytes, block: int) -> int:
    """The sample at which the last frame of a FLAC ends, by its header; 0 where none is found.

    A header counts where its checksum is right and another frame ends where it begins, or it is the first.
    """
    later: list[tuple[int, int]] = []
    for match in reversed([*re.finditer(rb"\xff[\xf8\xf9](?=[^\0-\x0f])", tail)]):
        frame = _frame(tail[match.start() : match.start() + 16], block)
        if frame is None:
            continue
        for first, end in later:
            if first == frame[1]:
                return end
        later.append(frame)
    return later[-1][1] if later and later[-1][0] == 0 else 0


def _frame(head: bytes, block: int) -> tuple[int, int] | None:
    """The first sample of a FLAC frame of ``block`` samples, and that after its last; None where this is no header."""
    if len(head) < 7:
        return None
    ones = min(8 - (~head[4] & 255).bit_length(), 7)  # the number is coded as UTF-8 codes a character
    number = head[4] & (1 << (7 - ones)) - 1
    for byte in head[5 : 4 + max(1, ones)]:
        number = number << 6 | byte & 63
    place, kind = 4 + max(1, ones), head[2] >> 4
    wide = {6: 1, 7: 2}.get(kind, 0)
    if wide:
        length = int.from_bytes(head[place : place + wide]) + 1
    else:
        length = 256 << (kind - 8) if kind > 7 else 192 if kind == 1 else 576 << (kind - 2)
    place += wide + {12: 1, 13: 2, 14: 2}.get(head[2] & 15, 0)
    if place >= len(head) or _checksum(head[:place]) != head[place]:
        return None
    first = number if head[1] & 1 else number * block
    return first, first + length


def _checksum(head: bytes) -> int:
    """CRC-8 with the polynomial x⁸ + x² + x + 1, as FLAC has it."""
    value = 0
    for byte in head:
        value ^= byte
        for _ in range(8):
            value = value << 1 ^ (0x107 if value & 128 else 0)
    return value
