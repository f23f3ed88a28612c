"""What a place that clips are taken from gives: the span of a file, or the status of a clip that it does not have."""

import re
from pathlib import Path
from typing import Literal, NamedTuple

__all__ = ["BEGUN", "OK", "STATUSES", "VERDICTS", "FetchError", "FetchStatus", "Recording", "Segment", "classify"]

OK = "ok"
BEGUN = "begun"  # its audio may or may not be there: the process ended in between


class Segment(NamedTuple):
    """Seconds ``start`` to ``end`` of a video."""

    key: str
    video: str
    start: float
    end: float


class Recording(NamedTuple):
    """The span of a file that holds a segment; less than ``at_least`` seconds of it mean that it broke off."""

    path: Path
    start: float
    end: float
    at_least: float = 0.0


class FetchStatus(NamedTuple):
    """What became of a clip.

    ``again``: worth another try now, in a later run, or only when something has changed: sources, the local copies of
    the clip, cookies, proxy, the version of yt-dlp. ``pattern``: what messages of this kind hold.
    """

    again: Literal["now", "later", "changed"]
    meaning: str
    pattern: str = ""


# The first whose pattern is in a message is its status. Phrases are those of yt-dlp 2026.10 for YouTube, of its HTTP
# layer (which the generic extractor shares), of urllib3 and of ffmpeg.
STATUSES = {
    OK: FetchStatus("now", "fetched"),  # again where its file is gone
    "rate_limited": FetchStatus("now", "refused for too many requests: tried again next time",
        r"not a bot|rate.?limited|too many requests|HTTP error 429|returned 429"),
    "private": FetchStatus("changed", "made private",
        r"private video|video is private|user has made this video private"),
    "age_restricted": FetchStatus("changed", "asks to sign in (cookies may help)",
        r"confirm your age|age.?restricted|inappropriate for some users"),
    "members_only": FetchStatus("changed", "for paying members",
        r"join this channel|members.?only|available to this channel's members|requires payment|rental|purchased?"),
    "blocked": FetchStatus("changed", "not given to this country (a proxy may help)",
        r"in your country|your (current )?(location|region)|geo.?restrict(ed|ion)|copyright grounds|HTTP error 451|"
        r"playback on other websites has been disabled"),
    "refused": FetchStatus("later",
        "not given to this client: an old yt-dlp, or the address it asks from; tried again next time",
        r"HTTP error 403|returned 403|forbidden|login required|sign in|requested format|no video formats"),
    "not_yet": FetchStatus("later", "a live stream or not published yet: tried again next time",
        r"premieres? in|live event|live stream|is live|will begin|being processed|processing this video"),
    "server_error": FetchStatus("now", "the server failed: tried again next time",
        r"HTTP error 5\d\d|returned 5XX|5XX server error"),
    "unreachable": FetchStatus("now", "its server could not be reached: tried again next time",
        r"name resolution|name or service not known|nodename nor servname|no address associated|failed to resolve|"
        r"getaddrinfo|network is unreachable|no route to host|connection refused|unable to connect to proxy|"
        r"cannot connect to proxy|proxyerror|tunnel connection failed"),
    "timed_out": FetchStatus("now", "the server fell silent: tried again next time", r"timed out|time.?outs?"),
    "broken_off": FetchStatus("now", "broke off: tried again next time",
        r"ends prematurely|incomplete ?read|bytes read|connection (reset|aborted|broken)|broken pipe|"
        r"remote end closed|eof occurred|unexpected eof|input/output error"),
    "no_audio": FetchStatus("changed", "has no audio to download",
        r"unsupported url|drm|does not contain any stream|matches no streams|no audio"),
    "removed": FetchStatus("changed", "deleted by its owner or the site",
        r"HTTP error (404|410)|returned 404|video (is )?unavailable|(been|was) removed|has been terminated|"
        r"no longer available|does not exist|not available|account .*closed"),
    "undecodable": FetchStatus("changed", "arrived, but cannot be decoded",
        r"invalid data found|could not find codec|error while decoding|decoding error"),
    # What is found once the audio is there; another source may have it better.
    "too_short": FetchStatus("changed", "the video ends before, or soon after, the segment's start"),
    "silent": FetchStatus("changed", "silent"),
    "missing": FetchStatus("changed", "in none of the local copies"),
    "failed": FetchStatus("later", "failed otherwise (see the ledger's message): tried again next time"),
}  # fmt: skip

# What is so whoever asks; anything else that a site gives instead of a clip may be meant for the one who asks.
VERDICTS = {"removed", "private", "not_yet", "too_short", "silent"}

# What a video or a file is called says nothing about it: "[extractor] id: ", addresses.
NAMES = re.compile(r"\[[^\]\s]+\] \S+: |\b(https?|file):\S+")


class FetchError(Exception):
    """A source does not give a clip.

    ``status`` is one of `STATUSES`, ``wait`` the seconds that the source asks for before the next request, ``site``
    whether no clip of the source could be had: there is no connection to the site itself.
    """

    def __init__(self, status: str, message: str, *, wait: float | None = None, site: bool = False) -> None:
        super().__init__(message)
        self.status, self.wait, self.site = status, wait, site

    @property
    def passing(self) -> bool:
        """Whether the next try may succeed."""
        return STATUSES[self.status].again == "now"


def classify(message: str) -> str:
    """The status by an error's text; "failed" where no pattern is in it."""
    text = NAMES.sub(" ", message.replace("’", "'"))
    for name, status in STATUSES.items():
        if status.pattern and re.search(rf"\b(?:{status.pattern})\b", text, re.IGNORECASE):
            return name
    return "failed"
