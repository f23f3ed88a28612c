"""TIMIT: phonetically rich English sentences with phone times set by hand."""

from w2v_abx.corpora.timit.corpus import Timit
from w2v_abx.corpora.timit.folding import fold

__all__ = ["Timit", "fold"]
