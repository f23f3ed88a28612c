"""Common Voice: sentences read by volunteers, in many languages."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from w2v_abx.clips import Clip
from w2v_abx.corpora.tables import read_rows
from w2v_abx.errors import InputError

__all__ = ["CommonVoice"]

SPLITS = {"train": "train", "dev": "valid", "test": "test"}
SEXES = {"male": "male", "male_masculine": "male", "female": "female", "female_feminine": "female"}
GET_IT = (
    "Mozilla gives it out at datacollective.mozillafoundation.org once its terms are accepted: unpack it there "
    "(cv-corpus-…/{language}/train.tsv, dev.tsv, test.tsv and clips/*.mp3)"
)


class CommonVoice:
    """One language of Common Voice (Ardila et al. 2020), any release.

    Its layout is ``cv-corpus-RELEASE/LANGUAGE/`` with ``train.tsv``, ``dev.tsv``, ``test.tsv``, ``validated.tsv`` and
    ``clips/*.mp3``. The releases differ in their columns: ``client_id`` and ``path`` must be there, the others become
    labels where they are and say something: ``speaker``, ``text``, ``age``, ``sex`` (female or male, under their older
    and newer names; any other answer is left out), ``accent``, ``language``. The key is the file's name. The official
    splits share no speaker.

    Args:
        root: the folder of the language, or of the release, or one that holds the release.
        language: its code, as its folder is named (``fi``).
        validated: train also on what ``validated.tsv`` holds beyond the official splits (which keep one recording of
            each sentence), but for speakers of dev and test.

    Raises `InputError`, here or from `clips`, for what is absent or ambiguous and for a row that does not fit.
    """

    def __init__(self, root: str | Path, *, language: str, name: str = "common_voice", validated: bool = False) -> None:
        self.name, self.root, self.language, self.validated = name, Path(root).expanduser(), language, validated

    def clips(self) -> list[Clip]:
        folder = self._folder()
        clips: dict[str, Clip] = {}
        for table, split in SPLITS.items():
            for clip in self._read(folder, table, split):
                if clip.key in clips:
                    raise InputError(f"{folder}: {clip.path.name} is twice in train.tsv, dev.tsv and test.tsv")
                clips[clip.key] = clip
        if self.validated:
            held = {clip.labels["speaker"] for clip in clips.values() if clip.split != "train"}
            for clip in self._read(folder, "validated", "train"):
                if clip.key not in clips and clip.labels["speaker"] not in held:
                    clips[clip.key] = clip
        return sorted(clips.values(), key=lambda clip: clip.key)

    def _folder(self) -> Path:
        near = [self.root, self.root / self.language]
        releases = sorted(self.root.glob(f"cv-corpus-*/{self.language}"))
        found = [folder for folder in near if (folder / "train.tsv").is_file()][:1]
        found = found or [folder for folder in releases if (folder / "train.tsv").is_file()]
        if len(found) > 1:
            names = ", ".join(folder.parent.name for folder in found)
            raise InputError(f"corpus.root={self.root} holds several releases ({names}): give the folder of one")
        if found:
            return found[0]
        raise InputError(
            f"corpus.root={self.root} holds no train.tsv of corpus.language={self.language}; "
            + GET_IT.format(language=self.language)
        )

    def _read(self, folder: Path, table: str, split: str) -> Iterator[Clip]:
        for line, row in read_rows(folder / f"{table}.tsv", ["client_id", "path"], literal_quotes=True):
            file = row["path"]
            if not file or not row["client_id"] or Path(file).name != file:
                raise InputError(
                    f"{folder / table}.tsv, line {line}: needs a client_id and the name of a file in clips, "
                    f"not {file!r}"
                )
            if not Path(file).suffix:  # the first release leaves it out
                file += ".mp3"
            labels: dict[str, Any] = {
                "speaker": row["client_id"],
                "text": row.get("sentence"),
                "age": row.get("age"),
                "sex": SEXES.get(row.get("gender", "")),
                "accent": row.get("accents") or row.get("accent"),
                "language": row.get("locale") or self.language,
            }
            yield Clip(
                Path(file).stem,
                folder / "clips" / file,
                split=split,
                labels={label: value for label, value in labels.items() if value},
                source=f"Common Voice ({self.language})",
                licence="CC0 1.0",
            )
