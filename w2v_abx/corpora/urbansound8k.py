"""UrbanSound8K: 8,732 city sounds of up to 4 s in 10 categories."""

from collections.abc import Sequence
from pathlib import Path

from w2v_abx.clips import Clip
from w2v_abx.corpora.published import Archive, locate
from w2v_abx.corpora.splits import by_fold
from w2v_abx.corpora.tables import plain_name, read_rows

__all__ = ["UrbanSound8K"]

ARCHIVE = Archive(  # checksum as soundata verifies it
    "https://zenodo.org/records/1203745/files/UrbanSound8K.tar.gz", md5="9aa69802bbf37fb986f71ec1483a196e"
)
TABLE = "metadata/UrbanSound8K.csv"
SALIENCE = {"1": "foreground", "2": "background"}


class UrbanSound8K:
    """UrbanSound8K (Salamon, Jacoby & Bello 2014) as https://zenodo.org/records/1203745 publishes it.

    Its layout is ``audio/foldN/*.wav`` with ``metadata/UrbanSound8K.csv``. Clips have the labels ``labels`` (the
    category), ``fold`` (1 to 10), ``recording`` (the Freesound clip that it was cut from: no recording is in two folds)
    and ``salience`` (foreground or background); the key is the file's name.

    Args:
        root: the folder of ``audio`` and ``metadata``, or the one that holds it as ``UrbanSound8K``.
        valid_folds, test_folds: folds of these splits; the others are train. The published protocol takes each of the
            ten as the test in turn, never a split of one's own.
        download: fetch it from Zenodo when absent, 6 GB.

    Raises `InputError`, here or from `clips`, for what is absent, and for a table that lacks a column or names a file
    elsewhere.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        name: str = "urbansound8k",
        valid_folds: Sequence[int | str] | None = (9,),
        test_folds: Sequence[int | str] | None = (10,),
        download: bool = False,
    ) -> None:
        self.name, self.root, self.download = name, Path(root).expanduser(), download
        self.valid_folds, self.test_folds = valid_folds, test_folds

    def clips(self) -> list[Clip]:
        tree = locate(
            self.root,
            TABLE,
            ["UrbanSound8K"],
            [ARCHIVE],
            download=self.download,
            layout="audio/foldN/*.wav and metadata/UrbanSound8K.csv, 6 GB",
        )
        table = tree / TABLE
        rows = list(read_rows(table, ["slice_file_name", "fsID", "salience", "fold", "class"]))
        splits = by_fold((row["fold"] for _, row in rows), self.valid_folds, self.test_folds)
        clips = [
            Clip(
                Path(row["slice_file_name"]).stem,
                tree
                / "audio"
                / plain_name(f"fold{row['fold']}", table, line)
                / plain_name(row["slice_file_name"], table, line),
                split=splits[row["fold"]],
                labels={
                    "labels": [row["class"]],
                    "fold": row["fold"],
                    "recording": row["fsID"],
                    "salience": SALIENCE.get(row["salience"], row["salience"]),
                },
                source="UrbanSound8K",
                licence="CC BY-NC 4.0",
            )
            for line, row in rows
        ]
        return sorted(clips, key=lambda clip: clip.key)
