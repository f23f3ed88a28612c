"""The status of a fetched clip, by what a site or a file says."""

import re
from typing import Literal, NamedTuple

__all__ = ["AGAIN", "MEANING", "OK", "VERDICTS", "Again", "FetchError", "FetchStatus", "SiteUnreachable", "classify"]

OK = "ok"
Again = Literal["now", "later", "changed"]


class FetchStatus(NamedTuple):
    """What became of a clip.

    ``again``: worth another try now, in a later run, or only when something has changed: sources, the local copies of
    the clip, cookies, proxy, the version of yt-dlp.
    """

    name: str
    again: Again


class FetchError(Exception):
    """One source does not give a clip. ``wait``: seconds that it asks for before the next request."""

    def __init__(self, fate: FetchStatus, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.fate, self.wait = fate, wait


class SiteUnreachable(FetchError):
    """Not the clip's fault: no connection to the site itself."""


# The first pattern whose words are in the message decides. Phrases are those of yt-dlp 2026.10 for YouTube, of its
# HTTP layer (which the generic extractor shares), of urllib3 and of ffmpeg.
TABLE: tuple[tuple[str, FetchStatus], ...] = (
    (r"not a bot|rate.?limited|too many requests|HTTP error 429|returned 429", FetchStatus("rate_limited", "now")),
    (r"private video|video is private|user has made this video private", FetchStatus("private", "changed")),
    (r"confirm your age|age.?restricted|inappropriate for some users", FetchStatus("age_restricted", "changed")),
    (r"join this channel|members.?only|available to this channel's members|requires payment|rental|purchased?",
     FetchStatus("members_only", "changed")),
    (r"in your country|your (current )?(location|region)|geo.?restrict(ed|ion)|copyright grounds|HTTP error 451|"
     r"playback on other websites has been disabled", FetchStatus("blocked", "changed")),
    (r"HTTP error 403|returned 403|forbidden|login required|sign in|requested format|no video formats",
     FetchStatus("refused", "later")),
    (r"premieres? in|live event|live stream|is live|will begin|being processed|processing this video",
     FetchStatus("not_yet", "later")),
    (r"HTTP error 5\d\d|returned 5XX|5XX server error", FetchStatus("server_error", "now")),
    (r"name resolution|name or service not known|nodename nor servname|no address associated|failed to resolve|"
     r"getaddrinfo|network is unreachable|no route to host|connection refused|unable to connect to proxy|"
     r"cannot connect to proxy|proxyerror|tunnel connection failed", FetchStatus("unreachable", "now")),
    (r"timed out|time.?outs?", FetchStatus("timed_out", "now")),
    (r"ends prematurely|incomplete ?read|bytes read|connection (reset|aborted|broken)|broken pipe|"
     r"remote end closed|eof occurred|unexpected eof|input/output error", FetchStatus("broken_off", "now")),
    (r"unsupported url|drm|does not contain any stream|matches no streams|no audio",
     FetchStatus("no_audio", "changed")),
    (r"HTTP error (404|410)|returned 404|video (is )?unavailable|(been|was) removed|has been terminated|"
     r"no longer available|does not exist|not available|account .*closed", FetchStatus("removed", "changed")),
    (r"invalid data found|could not find codec|error while decoding|decoding error",
     FetchStatus("undecodable", "changed")),
)  # fmt: skip

# What a video or a file is called says nothing about it: "[extractor] id: ", addresses.
NAMES = re.compile(r"\[[^\]\s]+\] \S+: |\b(https?|file):\S+")

# What is so whoever asks; anything else that a site gives instead of a clip may be meant for the one who asks.
VERDICTS = {"removed", "private", "not_yet", "too_short", "silent"}

FAILED = FetchStatus("failed", "later")
MISSING = FetchStatus("missing", "changed")  # in none of the local copies
# What is found once the audio is there; another source may have it better.
TOO_SHORT, SILENT, UNDECODABLE = (FetchStatus(name, "changed") for name in ("too_short", "silent", "undecodable"))

AGAIN = {fate.name: fate.again for _, fate in TABLE} | {
    fate.name: fate.again for fate in (FAILED, MISSING, TOO_SHORT, SILENT, UNDECODABLE)
}

MEANING = {
    OK: "fetched",
    "removed": "deleted by its owner or the site",
    "private": "made private",
    "blocked": "not given to this country (a proxy may help)",
    "refused": "not given to this client: an old yt-dlp, or the address it asks from; tried again next time",
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


def classify(message: str) -> FetchStatus:
    """The status by an error's text; ``failed`` where no pattern of `TABLE` is in it."""
    text = NAMES.sub(" ", message.replace("’", "'"))
    return next((fate for pattern, fate in TABLE if re.search(rf"\b(?:{pattern})\b", text, re.IGNORECASE)), FAILED)
