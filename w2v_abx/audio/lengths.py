"""How long clips are, without decoding them."""

from w2v_abx.audio.loading import info
from w2v_abx.clips import Clip

__all__ = ["clip_seconds"]


def clip_seconds(clip: Clip) -> float:
    """Find how long a clip is: as it says, else by its file's header. Raises AudioError for one that is damaged."""
    if clip.seconds is not None:
        return clip.seconds
    if clip.end is not None:
        return max(0.0, clip.end - clip.start)
    return info(clip.path)[0] - clip.start
