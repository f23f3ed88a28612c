"""One span of a file in, one clip out: decoded, averaged over channels, resampled, cleaned."""

import math
from pathlib import Path

import numpy as np
import soxr

from w2v_abx.audio.cleaning import Cleaning, check_clipping, clean
from w2v_abx.audio.encoding import SAMPLE_RATE
from w2v_abx.audio.error import AudioError
from w2v_abx.audio.recording import open_recording

__all__ = ["info", "load"]

MIN_SECONDS = 0.025  # s: wav2vec 2.0 needs 400 samples for its first frame
MAX_OVERRUN_SECONDS = 0.01  # s: label files round their times
UNTOUCHED = Cleaning()
MARGIN_SAMPLES = 320  # output samples (20 ms), more than half the length of soxr's VHQ filter


def info(path: Path | str) -> tuple[float, int]:
    """Length in seconds and sample rate in Hz; raises `AudioError` as `load` does.

    A container's announcement is not trusted: of m4a, webm and the like the last second is decoded.
    """
    with open_recording(Path(path)) as recording:
        return recording.length() / recording.rate, recording.rate


def load(path: Path | str, start: float = 0.0, end: float | None = None, cleaning: Cleaning = UNTOUCHED) -> np.ndarray:
    """The span from ``start`` to ``end`` (seconds; ``None``: the file's end) as float32 (T,) mono at 16 kHz.

    Wav, flac, ogg, opus, mp3, sphere and what else libsndfile knows, at 1 kHz to 1 MHz and with any number of channels;
    anything else through ffmpeg (`w2v_abx.audio.ffmpeg` says what time 0 is there). Only the span is decoded, and
    20 ms or more around it so that resampling (soxr, VHQ) sees the same neighbours as in the whole file: sample
    ``round(16000 · start)`` of the whole file is the first, whatever its rate. Channels are averaged. 16-bit mono
    recordings at 16 kHz pass unchanged unless ``cleaning`` asks otherwise.

    A header that claims more audio than follows is refused, as far as the span reaches beyond it; where it claims less
    or nothing, and where recordings are joined end to end, all is read (`w2v_abx.audio.headers`).

    Raises `AudioError` with the reason missing, folder, empty, not_audio (no known format), no_audio (a video without
    sound), compressed (SPHERE with shorten), unreadable (damaged), timeout (ffmpeg hangs), outside (a span outside
    the file), too_short (under 25 ms), not_finite, clipped, silent or over_range (peak above 4).
    """
    path = Path(path)
    with open_recording(path) as recording:
        rate = recording.rate
        _check_inside(path, start, end, recording.frames / rate if recording.exact else None)
        first = round(start * SAMPLE_RATE)
        last = None if end is None else round(end * SAMPLE_RATE)
        # Where both grids have a sample, so that the cut resamples on the very grid of the whole file.
        period = SAMPLE_RATE // math.gcd(rate, SAMPLE_RATE)
        margin = MARGIN_SAMPLES if rate != SAMPLE_RATE else 0
        origin = max(0, first - margin) // period * period
        begin = origin * rate // SAMPLE_RATE
        until = None if last is None else -(-(last + margin) * rate // SAMPLE_RATE)
        samples = recording.read(begin, until)
        ended = until is None or len(samples) < until - begin
        if ended:
            frames = begin + len(samples) if len(samples) else recording.length()
    if ended:
        _check_inside(path, start, end, frames / rate)
        last = _at_16k(frames, rate) if last is None else min(last, _at_16k(frames, rate))
    assert last is not None
    if last - first < MIN_SECONDS * SAMPLE_RATE:
        length = max(0, last - first) * 1000 / SAMPLE_RATE
        raise AudioError(path, "too_short", f"{length:g} ms are fewer than {MIN_SECONDS * 1000:g} ms")
    mono = _mixed(samples)
    if not np.isfinite(mono).all():
        raise AudioError(path, "not_finite", "has samples that are NaN or infinite")
    check_clipping(samples[first * rate // SAMPLE_RATE - begin : last * rate // SAMPLE_RATE - begin], path, cleaning)
    if rate != SAMPLE_RATE:
        mono = soxr.resample(mono, rate, SAMPLE_RATE, "VHQ")
    clip = mono[first - origin : last - origin]
    if len(clip) < last - first:  # soxr may round the last sample away
        clip = np.pad(clip, (0, last - first - len(clip)))
    return clean(clip, path, cleaning)


def _check_inside(path: Path, start: float, end: float | None, seconds: float | None) -> None:
    """Of a file of ``seconds``; None: not known before it is decoded."""
    limit = math.inf if seconds is None else seconds
    stop = limit if end is None else end
    if not (0 <= start < stop <= limit + MAX_OVERRUN_SECONDS and math.isfinite(start) and end != math.inf):
        length = "audio" if seconds is None else f"{seconds:g} s of audio"
        until = "end" if stop == math.inf else f"{stop:g} s"
        raise AudioError(path, "outside", f"the stretch {start:g}–{until} does not lie inside its {length}")


def _mixed(samples: np.ndarray) -> np.ndarray:
    """The mean over channels of (T, C), channel by channel: many times faster than along the short axis."""
    channels = samples.T
    if len(channels) == 1:
        return channels[0]
    mono = channels[0] + channels[1]
    for channel in channels[2:]:
        mono += channel
    mono /= len(channels)
    return mono


def _at_16k(frames: int, rate: int) -> int:
    """Samples at 16 kHz of so many frames at ``rate``: rounded, halves up."""
    return (2 * frames * SAMPLE_RATE + rate) // (2 * rate)
