"""Acted emotional speech: RAVDESS, CREMA-D, TESS and SAVEE under one inventory of emotions."""

from w2v_abx.corpora.emotion.corpus import Emotion
from w2v_abx.corpora.emotion.inventory import EMOTIONS

__all__ = ["EMOTIONS", "Emotion"]
