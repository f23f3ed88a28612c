"""Procedural non-speech sound: rain to whistles, several at once, known exactly."""

from w2v_abx.corpora.soundscape.corpus import Soundscape
from w2v_abx.corpora.soundscape.sounds import CATEGORIES, synthesise

__all__ = ["CATEGORIES", "Soundscape", "synthesise"]
