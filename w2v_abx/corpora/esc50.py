"""ESC-50: 2,000 environmental sounds of 5 s in 50 categories."""

from collections.abc import Sequence
from pathlib import Path

from w2v_abx.clips import Clip
from w2v_abx.corpora.published import Archive, locate
from w2v_abx.corpora.splits import by_fold
from w2v_abx.corpora.tables import plain_name, read_rows

__all__ = ["Esc50"]

# The branch's archive: GitHub packs it on demand, so that no checksum is published.
ARCHIVE = Archive("https://github.com/karolpiczak/ESC-50/archive/master.zip")
TABLE = "meta/esc50.csv"


class Esc50:
    """ESC-50 (Piczak 2015) as https://github.com/karolpiczak/ESC-50 publishes it.

    Its layout is ``audio/*.wav`` with ``meta/esc50.csv``. Clips have the labels ``labels`` (the category), ``fold`` (1
    to 5) and ``recording`` (the Freesound clip that it was cut from: none is in two folds); the key is the file's name.

    Args:
        root: the folder of ``audio`` and ``meta``, or the one that holds it as ``ESC-50-master``.
        esc10: only the ten categories of ESC-10.
        valid_folds, test_folds: folds of these splits; the others are train. The published protocol takes each of the
            five as the test in turn.
        download: fetch it from GitHub when absent, 650 MB.

    Raises `InputError`, here or from `clips`, for what is absent, and for a table that lacks a column or names a file
    elsewhere.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        name: str = "esc50",
        esc10: bool = False,
        valid_folds: Sequence[int | str] | None = (4,),
        test_folds: Sequence[int | str] | None = (5,),
        download: bool = False,
    ) -> None:
        self.name, self.root, self.esc10, self.download = name, Path(root).expanduser(), esc10, download
        self.valid_folds, self.test_folds = valid_folds, test_folds

    def clips(self) -> list[Clip]:
        tree = locate(
            self.root,
            TABLE,
            ["ESC-50*"],
            [ARCHIVE],
            download=self.download,
            layout="audio/*.wav and meta/esc50.csv, 650 MB",
        )
        columns = ["filename", "fold", "category", "esc10", "src_file"]
        rows = list(read_rows(tree / TABLE, columns))
        splits = by_fold((row["fold"] for _, row in rows), self.valid_folds, self.test_folds)
        clips = [
            Clip(
                Path(row["filename"]).stem,
                tree / "audio" / plain_name(row["filename"], tree / TABLE, line),
                split=splits[row["fold"]],
                labels={"labels": [row["category"]], "fold": row["fold"], "recording": row["src_file"]},
                source="ESC-50 (K. J. Piczak)",
                licence="CC BY" if row["esc10"] == "True" else "CC BY-NC",
            )
            for line, row in rows
            if row["esc10"] == "True" or not self.esc10
        ]
        return sorted(clips, key=lambda clip: clip.key)
