"""Save the audio of the utterances whose transcripts a report shows."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from w2v_abx.audio.encoding import save
from w2v_abx.data.module import ShardDataModule
from w2v_abx.report.transcripts import MAX_CLIPS, MAX_SECONDS, clip_path

__all__ = ["save_excerpts"]


def save_excerpts(
    folder: Path, data: ShardDataModule, rated: Mapping[str, Mapping[str, Mapping[str, Any]]]
) -> list[Path]:
    """Copy the short clips among the heads' transcripts from the prepared shards into a run's folder, as FLAC.

    Args:
        folder: of the run.
        data: the prepared corpus.
        rated: results by split and head, as in ``head.json``.

    Returns:
        The files, at most ``MAX_CLIPS`` of each head and split.
    """
    saved: list[Path] = []
    for split, heads in rated.items():
        asked = {
            name: [(transcript["corpus"], transcript["key"]) for transcript in head["transcripts"]]
            for name, head in heads.items()
            if head["transcripts"]
        }
        if not asked:
            continue
        found = dict(data.waveforms(split, {clip for clips in asked.values() for clip in clips}, MAX_SECONDS))
        for name, clips in asked.items():
            for clip in [clip for clip in clips if clip in found][:MAX_CLIPS]:
                saved.append(clip_path(folder, name, *clip))
                save(saved[-1], found[clip])
    return saved
