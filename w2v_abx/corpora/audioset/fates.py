"""What becomes of a clip, told from what a site or a file says."""

import re
from typing import Literal, NamedTuple

__all__ = ["AGAIN", "MEANING", "OK", "Again", "Fate", "FetchError", "SiteUnreachable", "classify"]

OK = "ok"
Again = Literal["now", "later", "changed"]


class Fate(NamedTuple):
    """``again``: worth another try now, in a later run, or only when sources, cookies or proxy have changed."""

    name: str
    again: Again


class FetchError(Exception):
    """One source does not give a clip. ``wait``: seconds that it asks for before the next request."""

    def __init__(self, fate: Fate, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.fate, self.wait = fate, wait


class SiteUnreachable(FetchError):
    """Not the clip's fault: no connection to the site itself."""


# The first pattern found in the message decides. Phrases are those of yt-dlp 2026.10 for YouTube, of its HTTP layer
# (which the generic extractor shares), of urllib3 and of ffmpeg.
TABLE: tuple[tuple[str, Fate], ...] = (
    (r"not a bot|rate.?limited|too many requests|HTTP error 429|returned 429", Fate("rate_limited", "now")),
    (r"private video|video is private|user has made this video private", Fate("private", "changed")),
    (r"confirm your age|age.?restricted|inappropriate for some users", Fate("age_restricted", "changed")),
    (r"join this channel|members.?only|available to this channel's members|requires payment|rental|purchase",
     Fate("members_only", "changed")),
    (r"in your country|your (current )?(location|region)|geo.?restrict|copyright grounds|HTTP error (403|451)|"
     r"returned 403|forbidden|login required|sign in", Fate("blocked", "changed")),
    (r"premieres? in|live event|live stream|is live|will begin|being processed", Fate("not_yet", "later")),
    (r"HTTP error 5\d\d|returned 5XX|5XX server error", Fate("server_error", "now")),
    (r"name resolution|name or service not known|nodename nor servname|no address associated|failed to resolve|"
     r"getaddrinfo|network is unreachable|no route to host|connection refused|unable to connect to proxy|"
     r"cannot connect to proxy|proxyerror|tunnel connection failed", Fate("unreachable", "now")),
    (r"timed out|time.?out", Fate("timed_out", "now")),
    (r"ends prematurely|incomplete ?read|bytes read|connection (reset|aborted|broken)|broken pipe|"
     r"remote end closed|eof occurred|unexpected eof|input/output error", Fate("broken_off", "now")),
    (r"requested format|no video formats|unsupported url|drm|does not contain any stream|matches no streams|"
     r"no audio", Fate("no_audio", "changed")),
    (r"HTTP error (404|410)|returned 404|video unavailable|(been|was) removed|has been terminated|no longer available|"
     r"does not exist|not available|account .*closed", Fate("removed", "changed")),
    (r"invalid data found|could not find codec|error while decoding|decoding error", Fate("undecodable", "changed")),
)  # fmt: skip

FAILED = Fate("failed", "later")
MISSING = Fate("missing", "changed")  # in none of the local copies
# What is found once the audio is there; another source may have it better.
TOO_SHORT, SILENT, UNDECODABLE = (Fate(name, "changed") for name in ("too_short", "silent", "undecodable"))

AGAIN = {fate.name: fate.again for _, fate in TABLE} | {
    fate.name: fate.again for fate in (FAILED, MISSING, TOO_SHORT, SILENT, UNDECODABLE)
}

MEANING = {
    OK: "fetched",
    "removed": "deleted by its owner or the site",
    "private": "made private",
    "blocked": "not given to this country or this client (a proxy or cookies may help)",
    "age_restricted": "asks to sign in (cookies may help)",
    "members_only": "for paying members",
    "rate_limited": "refused for too many requests: tried again next time",
    "not_yet": "a live stream or not published yet: tried again next time",
    "no_audio": "has no audio to download",
    "server_error": "the server failed: tried again next time",
    "timed_out": "the server fell silent: tried again next time",
    "broken_off": "broke off: tried again next time",
    "unreachable": "its server could not be reached: tried again next time",
    "missing": "in none of the local copies",
    "too_short": "the video ends before, or soon after, the segment's start",
    "silent": "silent",
    "undecodable": "arrived, but cannot be decoded",
    "failed": "failed otherwise (see the ledger's message): tried again next time",
}


def classify(message: str) -> Fate:
    """The fate that an error's text tells of; ``failed`` where no pattern of `TABLE` is in it."""
    text = message.replace("’", "'")
    return next((fate for pattern, fate in TABLE if re.search(pattern, text, re.IGNORECASE)), FAILED)
