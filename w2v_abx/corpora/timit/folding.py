"""TIMIT's 61 phone symbols, and the smaller sets that results are reported on."""

__all__ = ["SIZES", "SYMBOLS", "fold"]

SIZES = (61, 48, 39)

# Lee & Hon (1989), "Speaker-independent phone recognition using hidden Markov models", tables 1 and 3: what each symbol
# becomes among 48, and what those become among 39. Symbols that keep their name are left out.
TO_48 = {
    "ax-h": "ax",
    "axr": "er",
    "bcl": "vcl",
    "dcl": "vcl",
    "gcl": "vcl",
    "em": "m",
    "eng": "ng",
    "h#": "sil",
    "hv": "hh",
    "kcl": "cl",
    "nx": "n",
    "pau": "sil",
    "pcl": "cl",
    "tcl": "cl",
    "ux": "uw",
}
TO_39 = {
    "ao": "aa",
    "ax": "ah",
    "cl": "sil",
    "el": "l",
    "en": "n",
    "epi": "sil",
    "ix": "ih",
    "vcl": "sil",
    "zh": "sh",
}
SYMBOLS = """
    aa ae ah ao aw ax ax-h axr ay b bcl ch d dcl dh dx eh el em en eng epi er ey f g gcl h# hh hv ih ix iy jh k kcl l
    m n ng nx ow oy p pau pcl q r s sh t tcl th uh uw ux v w y z zh
""".split()  # noqa: SIM905


def fold(symbol: str, size: int) -> str | None:
    """One of ``SYMBOLS`` in the set of 61, 48 or 39; ``None`` for ``q``, a glottal stop, which the smaller drop."""
    if size == 61:
        return symbol
    if symbol == "q":
        return None
    folded = TO_48.get(symbol, symbol)
    return folded if size == 48 else TO_39.get(folded, folded)
