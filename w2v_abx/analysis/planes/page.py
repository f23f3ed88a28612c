"""Make a page on which each point of a projection can be looked at and heard, and which needs nothing beside it."""

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from w2v_abx import audio
from w2v_abx.analysis.points import NONE, Points
from w2v_abx.items.items import FILE, OFFSET, ONSET

__all__ = ["excerpts", "points_page", "square"]

LONGEST = 2.0  # seconds of an item that can be heard
AROUND = 0.15  # seconds before and after it
STEPS = 32_000  # from the middle of a plane to its edge


def excerpts(points: Points, paths: Mapping[str, Path], limit: int, seed: int) -> dict[int, bytes]:
    """Cut out the sound of at most ``limit`` short items, drawn with ``seed``: FLAC by the item's row."""
    rows = points.items.frame.select(FILE, pl.col(ONSET, OFFSET).cast(pl.Float64))
    short = np.flatnonzero((rows[OFFSET] - rows[ONSET]).to_numpy() <= LONGEST)
    drawn = np.sort(np.random.default_rng(seed).permutation(short)[:limit])
    found = {}
    for item in drawn.tolist():
        name, onset, offset = rows.row(item)
        seconds, _ = audio.info(paths[name])
        samples = audio.load(paths[name], max(0.0, onset - AROUND), min(seconds, offset + AROUND))
        found[item] = audio.encode(samples)
    return found


def square(places: pl.DataFrame) -> tuple[float, float, float]:
    """Find the centre of the square that holds all points, and half its side: one scale on both axes."""
    xy = places.select("x", "y").to_numpy()
    low, high = xy.min(axis=0), xy.max(axis=0)
    middle = (low + high) / 2
    return float(middle[0]), float(middle[1]), float((high - low).max() / 2) or 1.0


def points_page(
    points: pl.DataFrame,
    places: pl.DataFrame,
    axes: Sequence[Sequence[str]],
    errors: pl.DataFrame,
    sounds: Mapping[int, bytes],
    notes: Sequence[str],
) -> bytes:
    """Make the page.

    Args:
        points: a row each: "point", "time", "item", the file and times of the item, then its labels.
        places: x and y of each point by model, layer and method.
        axes: the models that have their axes in common.
        errors: what the models' heads take the points for.
        sounds: by item, see `excerpts`.
        notes: sentences below the figures.
    """
    labels = points.drop("point", "time", "item", FILE, ONSET, OFFSET)
    colourings = {name: _numbered(labels[name]) for name in labels.columns}
    for (model, head), rows in errors.group_by("model", "head", maintain_order=True):
        colourings[f"errors: {head}, {model}"] = _numbered(rows["outcome"])
        colourings[f"predicted: {head}, {model}"] = _numbered(rows["predicted"].replace("", "blank"))
    data = {
        "models": [name for members in axes for name in members],
        "planes": [plane for members in axes for plane in _planes(places, members)],
        "files": _numbered(points[FILE]),
        "times": [points[name].round(4).to_list() for name in ("time", ONSET, OFFSET)],
        "items": points["item"].to_list(),
        "colourings": colourings,
        "sounds": {item: b64encode(sound).decode() for item, sound in sounds.items()},
        "notes": list(notes),
    }
    # "<" would end the script, were it in a label.
    plain = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    page = resources("w2v_abx.analysis.planes").joinpath("points.html").read_text(encoding="utf-8")
    return page.replace("DATA", plain).encode()


def _numbered(values: pl.Series) -> dict[str, Any]:
    """Number the values: the names of all but none, sorted, and each point's, -1 for none."""
    names = sorted(set(values.to_list()) - set(NONE))
    numbers = {name: number for number, name in enumerate(names)}
    return {"names": names, "codes": [numbers.get(value, -1) for value in values.to_list()]}


def _planes(places: pl.DataFrame, members: Sequence[str]) -> list[dict[str, Any]]:
    """Give the coordinates of models with common axes as 16-bit whole numbers, from edge to edge."""
    found = []
    of_members = places.filter(pl.col("model").is_in(members))
    for (layer, method), shared in of_members.group_by("layer", "method", maintain_order=True):
        x, y, half = square(shared)
        for (model,), own in shared.group_by("model", maintain_order=True):
            steps = np.rint((own.select("x", "y").to_numpy() - (x, y)) / half * STEPS).astype("<i2")
            coordinates = b64encode(steps.tobytes()).decode()
            found.append({"model": model, "layer": layer, "method": method, "xy": coordinates})
    return found
