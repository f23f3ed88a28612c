"""AudioSet: clips of YouTube videos with sound categories, chosen, planned and fetched."""

import sqlite3
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from w2v_abx.clips import Clip, Failure
from w2v_abx.config import CONF
from w2v_abx.corpora.audioset.fetching import Fetcher, cached
from w2v_abx.corpora.audioset.ledger import Ledger
from w2v_abx.corpora.audioset.local import Local
from w2v_abx.corpora.audioset.ontology import Ontology, read_labels
from w2v_abx.corpora.audioset.options import Fetching
from w2v_abx.corpora.audioset.plan import make_plan, report_text
from w2v_abx.corpora.audioset.selection import Choice, Selection, select
from w2v_abx.corpora.audioset.source import Segment
from w2v_abx.errors import InputError, NotWritten
from w2v_abx.system.downloads import download

if TYPE_CHECKING:
    from w2v_abx.corpora.audioset.fetching import Source

__all__ = ["AudioSet"]

LISTS = CONF / "corpus" / "labels"
LICENCE = "labels: CC BY 4.0 (AudioSet); audio: as its video"


@dataclass(eq=False)
class AudioSet:
    """Segments of AudioSet (Gemmeke et al., ICASSP 2017, https://research.google.com/audioset).

    Clips are ten seconds as a rule and carry ``labels`` (display names of the wanted categories) and ``mids`` (all that
    the segment was published with). The balanced and unbalanced training lists make the split train; the evaluation
    list makes valid and test. `clips` and `plan` only choose; `fetch` fetches the audio.
    ``conf/corpus/audioset_108.yaml`` explains every setting.

    Raises `InputError`, here or later, for a setting, list or file that does not fit, naming it.
    """

    name: str
    root: Path
    ontology: str
    train: Mapping[str, str]
    evaluation: Mapping[str, str]
    categories: str | Path | None = None
    choice: Choice = field(default_factory=Choice)
    fetching: Fetching = field(default_factory=Fetching)
    ontology_sha256: str | None = None
    ledger: Path | None = None

    def __post_init__(self) -> None:
        self.root = Path(self.root).expanduser()
        self.labels = None if self.categories is None else _list(self.categories)
        self.ledger_file = self.root / "ledger.sqlite" if self.ledger is None else Path(self.ledger).expanduser()
        self.stop = threading.Event()

    def clips(self) -> list[Clip]:
        """Every chosen clip, sorted by key. Lists and ontology are downloaded when absent; audio is not."""
        names = list(self.selection.wanted.values())
        labels: dict[tuple[tuple[int, ...], tuple[str, ...]], Mapping[str, list[str]]] = {}
        clips = []
        for key, video, start, end, split, mids, categories in self.selection.segments.iter_rows():
            # Shared between clips of the same labels: there are far fewer of those.
            carried = labels.setdefault(
                (tuple(categories), tuple(mids)), {"labels": [names[place] for place in categories], "mids": mids}
            )
            source = f"https://www.youtube.com/watch?v={video}"
            clips.append(
                Clip(
                    key,
                    cached(self.root, key),
                    split=split,
                    labels=carried,
                    source=source,
                    licence=LICENCE,
                    seconds=round(end - start, 3),
                )
            )
        return clips

    def plan(self, folder: Path) -> str:
        """Save hours, clips by category and their co-occurrence in ``folder/plan``; what to print of it."""
        place = Path(folder) / "plan"
        settings = asdict(self.choice) | {"corpus": self.name, "categories": len(self.selection.wanted)}
        return make_plan(self.name, self.selection, place, settings)

    def fetch(self, clips: Sequence[Clip]) -> Mapping[str, Failure]:
        """Fetch the audio of clips to their paths, as `Fetcher` does; the failures by key."""
        table = self.selection.segments.filter(pl.col("key").is_in([clip.key for clip in clips]))
        segments = [Segment(*row) for row in table.select("key", "video", "start", "end").iter_rows()]
        self.stop.clear()
        missing = any(not cached(self.root, segment.key).is_file() for segment in segments)
        sources = self.sources if missing else []
        try:
            with Ledger(self.ledger_file) as ledger:
                return Fetcher(self.root, sources, ledger, self.fetching, self.stop).fetch(segments)
        except sqlite3.Error as error:
            raise NotWritten(
                f"the ledger {self.ledger_file} cannot be written ({error}): make room, then run again"
            ) from error

    def report(self) -> str:
        """What became of the chosen clips so far: a table of statuses."""
        keys = self.selection.segments["key"].to_list()
        if not self.ledger_file.is_file():
            return report_text(self.name, {}, len(keys))
        with Ledger(self.ledger_file) as ledger:
            rows = ledger.rows(keys).values()
        return report_text(self.name, Counter((row["fate"], row["source"]) for row in rows), len(keys) - len(rows))

    @cached_property
    def selection(self) -> Selection:
        """What is chosen; made once."""
        ontology = Ontology.read(download(self.ontology, self.root / "ontology.json", sha256=self.ontology_sha256))
        wanted = None if self.labels is None else read_labels(self.labels, ontology)
        train = [download(url, self.root / name) for name, url in self.train.items()]
        evaluation = [download(url, self.root / name) for name, url in self.evaluation.items()]
        selection = select(self.choice, ontology, wanted, train, evaluation)
        if selection.segments.is_empty():
            raise InputError(
                f"no segment of {', '.join([*self.train, *self.evaluation])} is left for {self.name}: widen "
                "corpus.categories, or loosen corpus.choice"
            )
        return selection

    @cached_property
    def sources(self) -> "list[Source]":
        """In the order of preference; "local" is passed over where nothing is given for it."""
        sources: list[Source] = []
        for name in self.fetching.sources:
            if name == "local" and self.fetching.places:
                sources.append(Local(self.fetching.places, set(self.selection.segments["video"])))
            elif name == "youtube":
                from w2v_abx.corpora.audioset.youtube import Youtube  # which needs the extra

                sources.append(Youtube(self.fetching, self.stop))
        return sources


def _list(categories: str | Path) -> Path:
    """A list by its name among those shipped, or by its path."""
    shipped = LISTS / f"{categories}.csv"
    if shipped.is_file():
        return shipped
    path = Path(categories).expanduser()
    if not path.is_file():
        names = ", ".join(sorted(list.stem for list in LISTS.glob("*.csv")))
        raise InputError(f"corpus.categories={categories} is neither a CSV nor one of {names}")
    return path
