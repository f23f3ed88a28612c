"""The audio of the clips that have items, out of shards: files that `abx=item_file` finds."""

from collections.abc import Mapping
from pathlib import Path

from w2v_abx.clips import Clip
from w2v_abx.errors import InputError, NotWritten
from w2v_abx.shards import Manifest, Sample, read_shard
from w2v_abx.system import atomic

__all__ = ["extract"]

FORMATS = ("flac", "wav")


def extract(manifest: Manifest, clips: Mapping[str, Clip], folder: Path | str) -> int:
    """Write ``clips``, by their name in prepared shards, as ``FOLDER/KEY.flac`` or ``.wav``, each whole or not at all.

    A file is a clip as it is in its shard, so that times from the clip's start are the file's, for spans of files too.
    One that holds the same bytes already stays.

    Returns:
        How many files had to be written.

    Raises:
        InputError: a key leads out of ``folder``, the corpus's own audio lies below it, a clip is not in the shards,
            its file is there in another format, or cannot be written; names it.
    """
    folder = Path(folder).expanduser()
    missing = {name: _path(folder, clip, manifest.format) for name, clip in clips.items()}
    written = 0
    for shard in manifest.shards:
        if not missing:
            break
        for sample in read_shard(manifest.folder / shard.name, shard.clips):
            if path := missing.pop(sample.key, None):
                written += _write(path, sample)
    if missing:
        raise InputError(
            f"{manifest.folder} lacks {len(missing)} clips that have items, the first being "
            f"{clips[min(missing)].key!r}: run `w2v-abx prepare` again"
        )
    return written


def _path(folder: Path, clip: Clip, format: str) -> Path:
    there = folder.resolve()
    if clip.path.resolve().is_relative_to(there):
        raise InputError(f"items.audio={folder} holds the corpus's own {clip.path}: choose a folder for items alone")
    if not clip.key or not (there / clip.key).resolve().is_relative_to(there):
        raise InputError(f"the key {clip.key!r} of {clip.path} leads out of items.audio={folder}")
    path = folder / f"{clip.key}.{format}"
    for other in FORMATS:
        if other != format and (old := folder / f"{clip.key}.{other}").exists():
            raise InputError(
                f"{old} is the clip {clip.key} in another format: remove it, or choose another items.audio"
            )
    return path


def _write(path: Path, sample: Sample) -> bool:
    """Whether it had to be written."""
    try:
        if path.is_file() and path.read_bytes() == sample.audio:
            return False
        atomic.write(path, lambda partial: partial.write_bytes(sample.audio))
    except OSError as error:
        raise NotWritten(f"{path} cannot be written ({error.strerror or error}): see items.audio") from error
    return True
