"""Decode, downmix, resample to 16 kHz, clean: one span of a file in, one clip out.

Importing it, and loading what libsndfile decodes, neither imports torch nor starts a process.
"""

from w2v_abx.audio.cleaning import Cleaning, Level
from w2v_abx.audio.encoding import SAMPLE_RATE, Format, decode, encode, save
from w2v_abx.audio.error import AudioError
from w2v_abx.audio.loading import info, load

__all__ = ["SAMPLE_RATE", "AudioError", "Cleaning", "Format", "Level", "decode", "encode", "info", "load", "save"]
