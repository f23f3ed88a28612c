"""Save the audio of the utterances whose transcripts a report shows."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from w2v_abx.audio.encoding import SAMPLE_RATE, save
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
    seconds = min(
        MAX_SECONDS, data.settings.eval_crop_seconds or MAX_SECONDS
    )  # of a cropped clip a part was transcribed
    for split, heads in rated.items():
        asked = {
            name: [(transcript["corpus"], transcript["key"]) for transcript in head["transcripts"]]
            for name, head in heads.items()
            if head["transcripts"]
        }
        if not asked:
            continue
        wanted = {clip for clips in asked.values() for clip in clips}
        found = {(corpus, sample.key): sample for corpus, sample in data.samples(split, wanted)}
        for name, clips in asked.items():
            short = [clip for clip in clips if found[clip].length <= seconds * SAMPLE_RATE]
            for clip in short[:MAX_CLIPS]:
                saved.append(clip_path(folder, name, *clip))
                save(saved[-1], found[clip].decode())
    return saved
