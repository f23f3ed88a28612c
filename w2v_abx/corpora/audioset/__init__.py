"""AudioSet's clips: chosen by category, planned, fetched from local copies or YouTube."""

from w2v_abx.corpora.audioset.corpus import AudioSet
from w2v_abx.corpora.audioset.options import Fetching
from w2v_abx.corpora.audioset.selection import Choice

__all__ = ["AudioSet", "Choice", "Fetching"]
