"""A segment of a video, fetched through yt-dlp and cut by ffmpeg."""

import errno
import io
import logging
import os
import re
import threading
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import imageio_ffmpeg

from w2v_abx.corpora.audioset.options import Fetching
from w2v_abx.corpora.audioset.source import FetchError, Recording, Segment, classify
from w2v_abx.system.children import run
from w2v_abx.system.extras import extra
from w2v_abx.system.web import retry_after

with extra("youtube"):
    from yt_dlp import YoutubeDL
    from yt_dlp.networking import Request
    from yt_dlp.networking.exceptions import HTTPError
    from yt_dlp.utils import YoutubeDLError

__all__ = ["Youtube"]

LEAD = 1.5  # s of decoding before the cut, so that codecs with a memory (Opus: 80 ms) have settled
MARGIN = 0.5  # s around the cut until the stream's own start time is known
SHORT_OF = 0.1  # s that may lack at the end of what was announced
LIMIT = 600.0  # s for one cut, whatever trickles in
SILENT = logging.Logger("yt-dlp", logging.CRITICAL)  # its errors are raised too


class Youtube:
    """Videos at ``url`` (``{id}`` stands for the video's), by whichever extractor of yt-dlp knows the address.

    Only the segment is fetched where the server takes byte ranges, and the whole audio, once, where it does not
    (``sections=False``: always) or where cookies go with it. The cut is of decoded samples, so that it starts where it
    would in the whole file: to the sample, or to the millisecond where the container's clock has no more (Matroska,
    WebM).
    """

    name = "youtube"

    def __init__(self, options: Fetching, stop: threading.Event) -> None:
        self.options, self.stop, self.cookies = options, stop, options.read_cookies()
        self.threads = threading.local()

    def copies(self, segment: Segment) -> Sequence[str]:
        """What there is of a segment: one recording, of which nothing tells whether it has changed."""
        return [""]

    def open(self, segment: Segment, scratch: Path, copy: int) -> Recording:
        """Fetch the segment to a file below ``scratch``, an empty folder; raises `FetchError`."""
        downloader = self._downloader()
        try:
            info = downloader.extract_info(self.options.url.replace("{id}", segment.video), download=False)
        except YoutubeDLError as error:
            raise _explained(error, page=True) from error
        if not info or info.get("entries") is not None or not info.get("url"):
            raise FetchError("no_audio", "the page holds no single recording")
        if info.get("is_live"):
            raise FetchError("not_yet", "the video is live")
        self._require_length(info.get("duration"), segment)
        try:
            return self._fetch(downloader, info, segment, scratch)
        except YoutubeDLError as error:
            raise _explained(error) from error

    def _require_length(self, length: float | None, segment: Segment) -> None:
        if length and length - segment.start < self.options.shortest:
            raise FetchError("too_short", f"the video ends after {length:g} s")

    def _fetch(self, downloader: YoutubeDL, info: dict[str, Any], segment: Segment, scratch: Path) -> Recording:
        # ffmpeg takes cookies as arguments only, which every user of the machine can read: yt-dlp brings those.
        secret = downloader.cookiejar.get_cookies_for_url(info["url"])
        if self.options.sections and not secret and self._takes_ranges(downloader, info):
            return self._cut(info["url"], segment, scratch, self._access(info))
        whole = scratch / f"whole.{info.get('ext') or 'audio'}"
        done, _ = downloader.dl(str(whole), info)
        if not done or not whole.is_file():
            raise FetchError("failed", "yt-dlp did not download the recording")
        return self._cut(f"file:{whole}", segment, scratch, ["-protocol_whitelist", "file,crypto,data"])

    def _downloader(self) -> YoutubeDL:
        """One for each thread: a YoutubeDL is not made to be shared."""
        if not hasattr(self.threads, "downloader"):
            options: dict[str, Any] = {
                "quiet": True,
                "noprogress": True,
                "logger": SILENT,
                "format": "bestaudio/best",
                "noplaylist": True,
                "overwrites": True,
                "fixup": "never",
                "socket_timeout": self.options.timeout,
                "retries": 0,  # tried again by whoever knows the pace
                "extractor_retries": 0,
                "fragment_retries": 3,
                "ffmpeg_location": imageio_ffmpeg.get_ffmpeg_exe(),
                "proxy": self.options.proxy,
                # A copy in memory: yt-dlp writes back what a site sets, and many would write one file.
                "cookiefile": io.StringIO(self.cookies) if self.cookies else None,
            }
            self.threads.downloader = YoutubeDL(options | dict(self.options.yt_dlp))
        return self.threads.downloader

    def _takes_ranges(self, downloader: YoutubeDL, info: dict[str, Any]) -> bool:
        """Asks for one byte, which tells that, and why not where the recording is refused (ffmpeg tells less)."""
        proxy = self._proxy(info["url"])
        if info.get("protocol") not in ("http", "https") or (proxy and not proxy.startswith("http://")):
            return False
        headers = dict(info.get("http_headers") or {}) | {"Range": "bytes=0-0"}
        with downloader.urlopen(Request(info["url"], headers=headers)) as answer:
            return answer.status == 206 and bool(answer.read(1))

    def _access(self, info: dict[str, Any]) -> list[str]:
        """ffmpeg's options to fetch what yt-dlp found, as yt-dlp would."""
        headers = "".join(f"{name}: {value}\r\n" for name, value in (info.get("http_headers") or {}).items())
        options = ["-protocol_whitelist", "http,https,tcp,tls,crypto,httpproxy"]
        options += ["-rw_timeout", str(round(self.options.timeout * 1e6))]
        return options + (["-headers", headers] if headers else [])

    def _proxy(self, url: str) -> str | None:
        if self.options.proxy is not None:
            return self.options.proxy or None
        parts = urlsplit(url)
        if urllib.request.proxy_bypass(parts.hostname or ""):
            return None
        return urllib.request.getproxies().get(parts.scheme)

    def _cut(self, source: str, segment: Segment, scratch: Path, access: list[str], origin: float = 0.0) -> Recording:
        """Decode the segment and a margin, and say where in that it lies. The stream begins at ``origin`` (s)."""
        target = scratch / "cut.wav"
        first = max(0.0, segment.start + origin - MARGIN)
        last = segment.end + origin + MARGIN
        seek = max(0.0, segment.start - MARGIN - LEAD)  # ffmpeg adds the origin
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-hide_banner", "-loglevel", "level+info", "-y"]
        command += [*access, *(["-ss", f"{seek:.6f}"] if seek else []), "-copyts", "-i", source]
        # Absolute times (copyts) and a cut after decoding: -ss alone starts up to a packet late in MP4, and in the
        # midst of a codec's memory.
        command += ["-map", "0:a:0", "-af", f"atrim=start={first:.6f}:end={last:.6f},asetpts=PTS-STARTPTS"]
        command += ["-c:a", "pcm_f32le", "-f", "wav", str(target)]
        code, log = self._run(command, None if source.startswith("file:") else self._proxy(source))
        problems = "\n".join(re.findall(r"\[(?:error|fatal|warning)\] (.*)", log))
        if "No space left on device" in problems:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        failure = FetchError(classify(problems), _sentence(problems) or f"ffmpeg ended with {code}")
        if code or failure.passing:  # ffmpeg takes a broken connection for the end of the file
            raise failure
        found = re.search(r"Duration: (?:(\d+):(\d+):([\d.]+)|N/A)(?:, start: (-?[\d.]+))?", log)
        # The whole file, decoded, begins there; what lies before 0 is a codec's delay, and dropped.
        begins = max(0.0, float(found[4])) if found and found[4] else 0.0
        if begins > MARGIN and not origin:
            return self._cut(source, segment, scratch, access, begins)
        begin = segment.start + begins - max(first, begins)
        end = begin + segment.end - segment.start
        if found and found[1] and "Estimating duration" not in log and "Video:" not in log:  # the audio's own length
            length = 3600 * int(found[1]) + 60 * int(found[2]) + float(found[3])
            self._require_length(length, segment)
            return Recording(target, begin, end, min(segment.end, length) - segment.start - SHORT_OF)
        return Recording(target, begin, end)

    def _run(self, command: list[str], proxy: str | None) -> tuple[int, str]:
        # The proxy, whose address may hold a password, goes by the environment: arguments are for all to see.
        environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        try:
            return run(
                command, stop=self.stop, limit=LIMIT, environment=environment | ({"http_proxy": proxy} if proxy else {})
            )
        except TimeoutError as error:
            raise FetchError("timed_out", str(error)) from error


def _explained(error: BaseException, *, page: bool = False) -> FetchError:
    """An error of yt-dlp, about a video's ``page`` or about its recording, with its status.

    The HTTP answer behind it may say how long to wait.
    """
    wait, message = None, str(error)
    if "[Errno 28]" in message:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
    link: Any = error
    for _ in range(10):
        if isinstance(link, HTTPError):
            wait = retry_after(link.response.headers.get("Retry-After"))
        found = getattr(link, "exc_info", None)
        link = (found[1] if found else None) or getattr(link, "cause", None) or link.__cause__ or link.__context__
        if link is None or isinstance(link, str):
            break
    status = classify(message)
    return FetchError(status, _sentence(message), wait=wait, site=page and status == "unreachable")


def _sentence(message: str) -> str:
    """The first lines of a message without colours and the plea to report it."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", message).removeprefix("ERROR: ")
    plain = re.split(r"; please report this issue|\. Set --|\(caused by", plain)[0]
    return " ".join(plain.split())[:300]
