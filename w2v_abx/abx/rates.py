"""Whether features come at the rate they are said to, judged by how far the items of each file reach into them."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from w2v_abx.errors import InputError
from w2v_abx.items.items import FILE, Items

__all__ = ["LOST_FRAMES", "check_rate", "past_the_end"]

COMMON = (10.0, 12.5, 20.0, 25.0, 40.0, 50.0, 62.5, 75.0, 80.0, 100.0, 125.0, 160.0, 200.0)  # Hz, of published models
NEAR = 0.03  # of a common rate
SPREAD = 0.1  # of the factors of the files, where one rate explains them
SURE = 0.05  # likewise, where there can be no other reason
SILENCE = 1.15  # times as long as to its last item may a file be
TOO_LONG = 1.6
FEW = 3  # files; fewer agree by chance
LOST_FRAMES = 1  # a convolutional encoder without padding gives up to one frame fewer than its rate promises


@dataclass(frozen=True)
class Reach:
    """How far items reach into the features of each file.

    Attributes:
        rows: (F,) the last item of each file.
        stops: (F,) the frames that the items of a file need.
        available: (F,) the frames that there are.
    """

    rows: npt.NDArray[np.int64]
    stops: npt.NDArray[np.int64]
    available: npt.NDArray[np.int64]

    @property
    def ratio(self) -> npt.NDArray[np.float64]:
        return self.available / self.stops

    @property
    def factor(self) -> float:
        """The typical ratio, made up for the frame that models lose."""
        return float(np.median((self.available + LOST_FRAMES) / self.stops))

    @property
    def agree(self) -> bool:
        return _spread(self.ratio) <= SPREAD


def check_rate(items: Items, lengths: Mapping[str, int], frequency: Fraction) -> None:
    """Refuse features that are much longer than their items need, in every file by the same factor.

    They would be scored, wrongly and without a word: each item would be cut out of the beginning of its file. Items
    that cover a part of each file are fine, more here and less there, or alike in files of one length.

    Args:
        lengths: the frames of each file's features.

    Raises:
        InputError: at least three files, of different lengths, are all 1.6 times or more as long as their items need,
            and agree closely on a factor that makes the frequency a usual one. Where they agree less, it is a warning.
    """
    reach = _reach(items, lengths, frequency)
    if len(reach.rows) < FEW or reach.ratio.min() < TOO_LONG or not reach.agree:
        return
    # The lengths must follow the items: files of one length with items at one place agree on a factor at any rate.
    if _spread(reach.ratio) >= _spread(reach.available) / 2:
        return
    rate = float(frequency) * reach.factor
    row = int(reach.rows[0])
    sure = _spread(reach.ratio) <= SURE and any(abs(rate / common - 1) <= NEAR for common in COMMON)
    message = (
        f"{items.where(row)}: the items of '{items.frame[FILE][row]}' end at frame {reach.stops[0] - 1} with this one, "
        f"and there are {reach.available[0]}; in all {len(reach.rows)} files there are about "
        f"{np.median(reach.ratio):.2f} times as many frames as the items need. These look like features at "
        f"{_named(rate)}, not at {float(frequency):g} Hz: set the frequency to that of the features."
    )
    if sure:
        raise InputError(message)
    warnings.warn(message, stacklevel=4)


def past_the_end(items: Items, row: int, features: Mapping[str, Any], frequency: Fraction) -> str:
    """What is wrong where item ``row`` ends further outside its file's features than models lose frames."""
    name = items.frame[FILE][row]
    lengths = _lengths(features, items)
    stop, available = int(items.spans(frequency)[1][row]), lengths[name]
    begin = (
        f"{items.where(row)}: the item ends {stop - available} frames after the features of '{name}' do (it needs "
        f"frame {stop - 1} and there are {available}). "
    )
    return begin + _explanation(_reach(items, lengths, frequency), float(frequency))


def _explanation(reach: Reach, frequency: float) -> str:
    over = reach.stops - reach.available
    late, files = int((over > LOST_FRAMES).sum()), len(over)
    usual = "Models lose at most one last frame, because their convolutions are not padded"
    if files == 1:
        rate = _named(frequency * reach.factor)
        return (
            f"{usual}; more means another recording, or features that are not at {frequency:g} Hz ({rate} would fit)."
        )
    middle = float(np.median(reach.ratio))
    if files >= FEW and over.min() >= 0 and np.std(over) < np.std(reach.available - middle * reach.stops):
        return (
            f"{usual}, but the {files} files end early by {over.min()} to {over.max()} frames however long they are: "
            "the features, or the audio they were made from, were cut at the end."
        )
    if reach.agree and (late == files or np.quantile(reach.ratio, 0.9) < 1 - NEAR / 3):
        which = "All" if late == files else f"{late} of"
        return (
            f"{which} {files} files end early, and the files agree that there are about {middle:.2f} times the frames "
            f"that the items need. These look like features at {_named(frequency * reach.factor)}, not at "
            f"{frequency:g} Hz: set the frequency to that of the features."
        )
    if 2 * late >= files:
        which = "All" if late == files else f"{late} of"
        return (
            f"{which} {files} files end early, so these can hardly be features at {frequency:g} Hz; the typical file "
            f"would fit at {_named(frequency * reach.factor)}. Set the frequency to that of the features."
        )
    return (
        f"{usual}; {late} of {files} files end earlier than that and the others do not, so that it is hardly the "
        f"frequency of {frequency:g} Hz: these features, or these items, are of another recording."
    )


def _reach(items: Items, lengths: Mapping[str, int], frequency: Fraction) -> Reach:
    last = (
        items.frame.select(FILE)
        .with_columns(pl.Series("stop", items.spans(frequency)[1]))
        .with_row_index("row")
        .group_by(FILE, maintain_order=True)
        .agg(pl.col("row").get(pl.col("stop").arg_max()), pl.col("stop").max())
        .filter(pl.col(FILE).is_in(list(lengths)), pl.col("stop") > 0)
    )
    available = np.array([lengths[name] for name in last[FILE]], dtype=np.int64)
    return Reach(last["row"].cast(pl.Int64).to_numpy(), last["stop"].to_numpy(), available)


def _lengths(features: Mapping[str, Any], items: Items) -> dict[str, int]:
    lengths = {}
    for name in items.frame[FILE].unique(maintain_order=True):
        try:
            lengths[name] = len(features[name])
        except (InputError, KeyError, TypeError):
            continue  # A file that cannot be read tells nothing about the others.
    return lengths


def _spread(values: npt.NDArray[Any]) -> float:
    """How far the middle four fifths reach, as a share of the median."""
    low, middle, high = np.quantile(values, (0.1, 0.5, 0.9))
    return float((high - low) / middle) if middle else 0.0


def _named(rate: float) -> str:
    for common in COMMON:
        if abs(rate - common) <= NEAR * common:
            return f"about {common:g} Hz"
    # Recordings go on after their last item, so that the rate is rather less than it seems.
    less = [common for common in COMMON if common < rate <= SILENCE * common]
    return f"about {rate:.3g} Hz" + (f" or less, {less[-1]:g} Hz for instance" if less else "")
