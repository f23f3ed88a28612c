"""Tell features at another frequency than was set: by their audio, or by how far the items of files reach into them."""

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from w2v_abx import audio
from w2v_abx.errors import InputError
from w2v_abx.items.items import FILE, Items

__all__ = ["LOST_FRAMES", "check_clock", "check_rate"]

LOST_FRAMES = 1  # a convolutional encoder without padding gives up to one frame fewer than its rate promises
TOO_LONG = 1.6  # times the frames that its items need, a file
SPREAD = 0.1  # of these ratios, where one rate explains them
FEWEST_FILES = 3  # fewer agree by chance
UNUSED = 1.9  # times the frames that items need, in every file: features of twice the frequency have more
EDGE_FRAMES, DRIFT = 3, 0.01  # that features may be shorter or longer than their audio: frames, and a share of it
LOOKED_AT = 200  # recordings


def check_clock(
    items: Items, available: Mapping[str, int], frequency: Fraction, files: Mapping[str, Path] | None
) -> None:
    """Refuse a frequency, given for features made elsewhere, at which they are not as long as their audio.

    Without audio, one at which the items of three files or more all end about half-way, or before: chances are that
    there are twice the frames a second that were said, and all items would be cut out of the wrong places.

    Args:
        available: the frames of each file's features.
        files: the audio of each; None: it is not there.

    Raises:
        InputError: the frequency does not fit; the message says which would.
    """
    names, rate = sorted(available), float(frequency)
    if files is not None:
        looked_at = names[:: -(-len(names) // LOOKED_AT)]
        seconds = np.array([audio.info(files[name])[0] for name in looked_at])
        frames = np.array([available[name] for name in looked_at])
        off = np.abs(frames - rate * seconds) > EDGE_FRAMES + DRIFT * rate * seconds
        if off.any():
            first = int(off.argmax())
            fitting = np.median(frames / np.maximum(seconds, 1e-9))
            raise InputError(
                f"abx.frequency={rate:g}: the features of '{looked_at[first]}' have {frames[first]} frames, and its "
                f"audio of {seconds[first]:.2f} s would have about {rate * seconds[first]:.0f}; {off.sum()} of "
                f"{len(looked_at)} files do not fit, and about {fitting:.3g} Hz would: give the frequency of the "
                "features, and features of this audio"
            )
        return
    ends = items.frame.select(FILE).with_columns(stop=pl.Series(items.spans(frequency)[1])).group_by(FILE).max()
    ends = ends.filter(pl.col("stop") > 0, pl.col(FILE).is_in(names)).sort(FILE)
    ratio = np.array([available[name] for name in ends[FILE]]) / ends["stop"].to_numpy()
    if len(ratio) >= FEWEST_FILES and ratio.min() >= UNUSED:
        first, stop = ends.row(0)
        raise InputError(
            f"abx.frequency={rate:g}: the features of every file are at least {ratio.min():.2f} times as long as its "
            f"items reach, as if there were more frames a second ('{first}' has {available[first]}, and its last item "
            f"ends at frame {stop - 1}). Give the frequency of the features; if it is right, give the audio, too, with "
            "abx.root=FOLDER: then its length decides"
        )


def check_rate(items: Items, rows: npt.NDArray[np.int64], available: Mapping[str, int], frequency: Fraction) -> None:
    """Refuse features that are too short for the items at ``rows``, or in every file too long by the same factor.

    Features that are too long would be scored, wrongly and without a word: each item would be cut out of the beginning
    of its file. Items that cover a part of each file are fine, more here and less there, or alike in files of one
    length: the ratios must agree, and better than the lengths do.

    Args:
        available: the frames of each file's features.

    Raises:
        InputError: an item ends more than one frame after its features do; or at least three files are all 1.6 times
            or more as long as their items need, and agree on the factor. The message gives both numbers of frames.
    """
    needed = pl.DataFrame({"row": rows, FILE: items.frame[FILE][rows], "stop": items.spans(frequency)[1][rows]})
    last = needed.filter(pl.col("stop") > 0).sort("stop", maintain_order=True).unique(FILE, keep="last").sort("row")
    if not last.height:
        return
    stops, frames = last["stop"].to_numpy(), np.array([available[name] for name in last[FILE]])
    late, ratio = stops - frames > LOST_FRAMES, frames / stops
    first = int(late.argmax())
    where, name, stop, there = items.where(last["row"][first]), last[FILE][first], stops[first], frames[first]
    fitting = f"about {float(frequency) * np.median(ratio):.3g} Hz would fit, not {float(frequency):g} Hz"
    advice = f"{fitting}: set the frequency to that of the features, unless they are of another recording or were cut."
    if late.any():
        if 2 * late.sum() < len(late):
            advice = "the others do not: these features, or these items, are of another recording."
        raise InputError(
            f"{where}: the item ends {stop - there} frames after the features of '{name}' do (it needs frame "
            f"{stop - 1} and there are {there}). {late.sum()} of {len(late)} files end early; {advice}"
        )
    enough = len(ratio) >= FEWEST_FILES and ratio.min() >= TOO_LONG
    if enough and _spread(ratio) <= SPREAD and _spread(ratio) < _spread(frames) / 2:
        raise InputError(
            f"{where}: the items of '{name}' end at frame {stop - 1} with this one, and there are {there}. All "
            f"{len(ratio)} files are longer than their items by about the same factor; {advice}"
        )


def _spread(values: npt.NDArray[np.float64]) -> float:
    """How far the middle four fifths reach, as a share of the median."""
    low, middle, high = np.quantile(values, (0.1, 0.5, 0.9))
    return float((high - low) / middle) if middle else 0.0
