"""Emotional speech of several corpora under one inventory of emotions."""

from w2v_abx.corpora.emotion.corpus import Emotion
from w2v_abx.corpora.emotion.source import EMOTIONS

__all__ = ["EMOTIONS", "Emotion"]
