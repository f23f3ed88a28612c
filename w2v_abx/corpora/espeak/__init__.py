"""Speech with exact phone times, made by eSpeak NG's library."""

from w2v_abx.corpora.espeak.corpus import Espeak

__all__ = ["Espeak"]
