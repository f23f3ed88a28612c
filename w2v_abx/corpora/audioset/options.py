"""Where AudioSet's clips come from, as the user sets it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from w2v_abx.errors import InputError
from w2v_abx.system.checks import number, several, whole
from w2v_abx.system.extras import extra

__all__ = ["Fetching"]

SOURCES = ("local", "youtube")


@dataclass(frozen=True)
class Fetching:
    """Where clips come from, and how politely; ``conf/corpus/audioset_108.yaml`` explains every setting."""

    sources: Sequence[str] = SOURCES
    local: str | Sequence[str] | None = None
    url: str = "https://www.youtube.com/watch?v={id}"
    workers: int = 4
    requests_per_minute: float | None = 60.0
    sections: bool = True
    timeout: float = 30.0
    attempts: int = 3
    backoff: float = 2.0
    longest_wait: float = 900.0
    refusals: int = 10
    shortest: float = 1.0
    cookies: str | None = None
    proxy: str | None = None
    yt_dlp: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        several("corpus.fetching.sources", self.sources, SOURCES)
        if not self.places and list(self.sources) == ["local"]:
            raise InputError("corpus.fetching has no source: give corpus.fetching.local=… or sources=[youtube]")
        if "youtube" in self.sources and "{id}" not in self.url:
            raise InputError(f"corpus.fetching.url={self.url!r} needs {{id}} where the video's id goes")
        for key in ("workers", "attempts", "refusals"):
            whole(f"corpus.fetching.{key}", getattr(self, key), 1)
        number("corpus.fetching.requests_per_minute", self.requests_per_minute, above=0, optional="for no limit")
        for key in ("timeout", "shortest"):
            number(f"corpus.fetching.{key}", getattr(self, key), above=0, unit="seconds")
        for key in ("backoff", "longest_wait"):
            number(f"corpus.fetching.{key}", getattr(self, key), low=0, unit="seconds")

    @property
    def places(self) -> list[Path]:
        """The local copies."""
        paths = [self.local] if isinstance(self.local, str) else list(self.local or ())
        return [Path(path).expanduser() for path in paths]

    def read_cookies(self) -> str | None:
        """The content of the file of cookies."""
        if self.cookies is None:
            return None
        try:
            return Path(self.cookies).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"corpus.fetching.cookies={self.cookies} cannot be read ({error})") from error

    @property
    def fingerprint(self) -> str:
        """Changes with whatever may change a clip's status."""
        places = [str(path) for path in self.places]
        deciding: list[Any] = [list(self.sources), places, self.url, self.proxy, dict(self.yt_dlp)]
        deciding += [self.read_cookies(), self.shortest]
        if "youtube" in self.sources:
            with extra("youtube"):
                from yt_dlp.version import __version__
            deciding.append(__version__)  # an outdated yt-dlp misses what a new one gets
        content = json.dumps(deciding, sort_keys=True, default=str)
        return hashlib.sha256(content.encode()).hexdigest()[:16]
