"""What an analysis is given, what it has to offer, and what it leaves on disk."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import polars as pl

from w2v_abx.errors import InputError
from w2v_abx.features.store import FeatureStore
from w2v_abx.items.items import Items
from w2v_abx.system.atomic import write_folder, write_json, write_parquet

if TYPE_CHECKING:  # they load torch
    from w2v_abx.abx.speech import Speech
    from w2v_abx.heads.readout import Readout
    from w2v_abx.models.extractor import Extractor

__all__ = ["RESULT", "Analysis", "AnalysisResult", "Model", "read_result"]

RESULT = "result.json"  # in analysis/<name>


@dataclass(frozen=True)
class Model:
    """One of the models that are analysed.

    Attributes:
        name: in tables and figures: "before", "after" or that of the run; "mfcc" and "random" for the baselines.
        store: its features of the speech.
        load: give the model itself, for what features do not tell (gradients).
        readouts: what its heads make of its frames or clips, by head; empty for one that was not trained here.
        tasks: the item columns that its heads were taught ("tone", "#phone"); empty for one that was not trained here.
        baseline: whether it is "mfcc" or "random", beside which the others are shown.
        rated: what its heads reach on held-out clips, by split and head (head.json); empty for one not trained here.
        extract: store all layers of another extractor, of the same files and in the same way as ``store``.
    """

    name: str
    store: FeatureStore
    load: Callable[[], "Extractor"]
    readouts: Mapping[str, "Readout"] = field(default_factory=dict)
    tasks: Sequence[str] = ()
    baseline: bool = False
    rated: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    extract: "Callable[[Extractor], FeatureStore] | None" = None

    def layers(self, asked: Sequence[int] | None) -> list[int]:
        """Those of its stored layers that an analysis asks for (None: all); MFCC has one, which always counts."""
        stored = self.store.layers
        return stored if asked is None or len(stored) == 1 else [layer for layer in stored if layer in asked]


@dataclass(frozen=True)
class AnalysisResult:
    """What an analysis has found, to be saved; figures are made from it by `w2v_abx.report`.

    Attributes:
        facts: JSON: what was asked, counts of what was taken, conventions, numbers that are no table's.
        tables: by name, each a parquet file.
        notes: sentences that the report gives beside the numbers: what was sampled, centred, normalised, left out.
        files: further files by name, such as a page.
    """

    facts: Mapping[str, Any]
    tables: Mapping[str, pl.DataFrame]
    notes: Sequence[str] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write everything to ``folder``, in place of what is there; nothing of it is ever half there."""

        def fill(unfinished: Path) -> None:
            for name, table in self.tables.items():
                write_parquet(unfinished / f"{name}.parquet", table)
            for name, content in self.files.items():
                (unfinished / name).write_bytes(content)
            write_json(unfinished / RESULT, {"facts": dict(self.facts), "notes": list(self.notes)})
            if folder.exists():
                shutil.rmtree(folder)

        write_folder(folder, fill)


class Analysis(Protocol):
    """Look inside models through their features of some speech.

    Implementations are frozen dataclasses of settings, made by Hydra from ``conf/analysis/NAME.yaml``, which check the
    values in ``__post_init__`` (keys named ``analysis.NAME.KEY``).

    Attributes:
        layers: those that are analysed; None: all. MFCC, which has one, is taken at that one.
    """

    @property
    def layers(self) -> Sequence[int] | None: ...

    def check(self, items: Items, models: Sequence[str]) -> None:
        """Raise InputError where these items, or the names of these models, do not do: before anything is computed."""
        ...

    def __call__(self, models: Mapping[str, Model], speech: "Speech", *, seed: int) -> AnalysisResult:
        """Analyse the models, which stand in the order in which they are shown: baselines last.

        The result is the same for any size of batch, and for a ``seed``.

        Raises:
            InputError: what the features have shown to be impossible.
        """
        ...


def read_result(folder: Path, name: str) -> AnalysisResult | None:
    """Read ``analysis/NAME`` of a run; None: there is none.

    Raises:
        InputError: it is damaged.
    """
    place = folder / "analysis" / name
    if not place.is_dir():
        return None
    try:
        read = json.loads((place / RESULT).read_text(encoding="utf-8"))
        tables = {path.stem: pl.read_parquet(path, glob=False) for path in sorted(place.glob("*.parquet"))}
        return AnalysisResult(read["facts"], tables, read["notes"])
    except (OSError, ValueError, KeyError, TypeError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{place} is damaged ({error}): remove it, and let w2v-abx analyze make it again") from error
