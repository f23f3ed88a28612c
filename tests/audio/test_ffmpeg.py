"""Containers that only ffmpeg decodes: exact stretches, and nothing read that was not asked for."""

import re
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from recordings import convert, decoded, ffmpeg, sine, speechlike

from w2v_abx.audio import AudioError, info, load
from w2v_abx.audio import ffmpeg as ffmpeg_module
from w2v_abx.audio.recording import open_recording
from w2v_abx.errors import InputError

# Without noise substitution, whose noise depends on where decoding starts.
AAC = ("-c:a", "aac", "-aac_coder", "fast", "-aac_pns", "0")
SECONDS = 8.0  # longer than a cluster of Matroska
# name: (rate in, options, seconds that the format adds at either end because it does not declare the encoder's delay)
FORMATS: dict[str, tuple[int, tuple[str, ...], float]] = {
    "aac.m4a": (44100, AAC, 0),
    "aac48.mp4": (48000, AAC, 0),
    "aac8.m4a": (8000, AAC, 0),
    "alac.m4a": (44100, ("-c:a", "alac"), 0),
    "opus.mp4": (48000, ("-c:a", "libopus"), 0.02),
    "fragments.mp4": (44100, (*AAC, "-movflags", "frag_keyframe+empty_moov", "-frag_duration", "2000000"), 0.05),
    "opus.webm": (48000, ("-c:a", "libopus"), 0),
    "opus60.webm": (48000, ("-c:a", "libopus", "-frame_duration", "60"), 0),
    "live.webm": (48000, ("-c:a", "libopus", "-live", "1"), 0),
    "vorbis.webm": (44100, ("-c:a", "libvorbis"), 0),
    "vorbis16.webm": (16000, ("-c:a", "libvorbis"), 0),
    "aac.mkv": (44100, AAC, 0.05),
    "mp3.mkv": (22050, ("-c:a", "libmp3lame"), 0.06),
    "flac.mkv": (48000, ("-c:a", "flac"), 0),
    "pcm.mkv": (16000, ("-c:a", "pcm_s16le"), 0),
    "a.wma": (44100, (), 0.1),
    "a.flv": (44100, ("-c:a", "libmp3lame"), 0.06),
    "a.avi": (44100, ("-c:a", "libmp3lame"), 0.06),
    "a.ts": (44100, AAC, 0.05),  # not seekable, as a.ac3: decoded from its start
    "a.aac": (44100, AAC, 0.05),
    "a.ac3": (44100, (), 0.05),
    "a.wv": (44100, (), 0),
    "a.mov": (96000, ("-c:a", "pcm_s24le"), 0),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("containers")


@pytest.fixture(params=FORMATS)
def made(request: pytest.FixtureRequest, folder: Path) -> SimpleNamespace:
    rate, options, added = FORMATS[request.param]
    path = folder / request.param
    if not path.exists():
        convert(speechlike(rate, SECONDS, 2), rate, path, *options)
    return SimpleNamespace(path=path, rate=rate, added=added)


def test_frames_are_those_of_the_whole_file(made: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """And none is reached by decoding all that comes before it."""
    whole = decoded(made.path, 2)
    from_start = ffmpeg_module.FfmpegRecording._decode_from_start

    def near_the_start(recording: ffmpeg_module.FfmpegRecording, begin: int, until: int | None) -> np.ndarray:
        assert begin < made.rate or made.path.suffix in (".ac3", ".ts")
        return from_start(recording, begin, until)

    monkeypatch.setattr(ffmpeg_module.FfmpegRecording, "_decode_from_start", near_the_start)
    with open_recording(made.path) as recording:
        assert recording.rate == made.rate
        assert recording.length() == len(whole)
        for seconds in (0, 0.52, 3.3, 5.771, SECONDS - 0.15):
            begin = round(seconds * made.rate)
            samples = recording.read(begin, begin + made.rate // 10)
            assert samples.shape == (made.rate // 10, 2)
            assert np.abs(samples - whole[begin : begin + made.rate // 10]).max() < 1e-5
        begin = len(whole) - made.rate
        assert np.abs(recording.read(begin, None) - whole[begin:]).max() < 1e-5


def test_a_stretch_is_the_slice_of_the_whole(made: SimpleNamespace) -> None:
    whole = load(made.path)
    seconds, rate = info(made.path)
    assert rate == made.rate
    assert len(whole) == pytest.approx(seconds * 16000, abs=0.51)
    assert -1e-9 <= seconds - SECONDS <= made.added or made.path.suffix == ".wma"
    for start, end in [(0.0, 0.1), (2.2001, 3.9), (7.5, min(SECONDS, seconds))]:
        clip = load(made.path, start, end)
        expected = whole[round(start * 16000) : round(end * 16000)]
        assert clip.shape == expected.shape
        assert np.abs(clip - expected).max() < 1e-5


@pytest.mark.parametrize("name", ["aac.m4a", "opus.webm", "alac.m4a", "flac.mkv"])
def test_time_zero_is_that_of_the_original(name: str, tmp_path: Path) -> None:
    rate, options, _ = FORMATS[name]
    original = speechlike(rate, 2.0)[:, 0]
    path = convert(original, rate, tmp_path / name, *options)
    assert info(path) == (2.0, rate)
    with open_recording(path) as recording:
        samples = recording.read(0, None)[:, 0]
    lags = np.fft.irfft(np.conj(np.fft.rfft(original, 2**18)) * np.fft.rfft(samples, 2**18))
    assert lags.argmax() == 0


def test_only_the_stretch_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of five minutes with a picture, two seconds: counted by ffmpeg itself."""
    sound = ("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=16000:duration=300")
    picture = ("-f", "lavfi", "-i", "color=size=16x16:rate=1:duration=300")  # with a key frame every 250 s
    ffmpeg(*sound, *picture, "-c:a", "libmp3lame", tmp_path / "a.mp4")
    answers: list[str] = []
    sizes: list[int] = []
    run = subprocess.run

    def verbose(command: list[str], **options: Any) -> Any:
        command[command.index("-loglevel") + 1] = "level+verbose"
        done = run(command, **options)
        answers.append(done.stderr.decode())
        sizes.append(len(done.stdout))
        return done

    monkeypatch.setattr(ffmpeg_module.subprocess, "run", verbose)
    assert len(load(tmp_path / "a.mp4", 200, 202)) == 32000
    info(tmp_path / "a.mp4")
    counted = [int(count) for log in answers for count in re.findall(r"(\d+) frames decoded", log)]
    assert counted
    assert sum(counted) * 576 < 15 * 16000  # both calls: 2 s and 1 s, what settles the codec, and what is read ahead
    assert sum(sizes) < 6 * 16000 * 4


def test_sound_that_ends_before_its_picture_is_whole(tmp_path: Path) -> None:
    sound = convert(speechlike(16000, 3), 16000, tmp_path / "sound.m4a", *AAC)
    for ending in ("mp4", "mkv"):
        path = tmp_path / f"a.{ending}"
        ffmpeg("-i", sound, "-f", "lavfi", "-i", "testsrc=duration=20:size=64x64:rate=5", "-c:a", "copy", path)
        seconds, _ = info(path)
        assert seconds == pytest.approx(3, abs=0.07)
        assert len(load(path)) == pytest.approx(seconds * 16000, abs=1)
        assert len(load(path, 2.5, 2.9)) == 6400
        with pytest.raises(AudioError, match="does not lie inside its 3") as caught:
            load(path, 8, 9)
        assert caught.value.reason == "outside"


def test_a_video_s_sound_is_read_and_the_first_of_two(tmp_path: Path) -> None:
    first = convert(0.5 * sine(440, 16000), 16000, tmp_path / "first.m4a", *AAC)
    second = convert(0.5 * sine(880, 16000), 16000, tmp_path / "second.m4a", *AAC)
    picture = ("-f", "lavfi", "-i", "testsrc=duration=1:size=64x64")
    maps = ("-map", "0:v", "-map", "1:a", "-map", "2:a", "-c:a", "copy")
    ffmpeg(*picture, "-i", first, "-i", second, *maps, tmp_path / "a.mkv")
    spectrum = np.abs(np.fft.rfft(load(tmp_path / "a.mkv", 0, 1)))
    assert spectrum.argmax() == 440


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_a_broken_m4a_is_unreadable(tmp_path: Path, share: float) -> None:
    for name, options in (("front", ("-movflags", "+faststart")), ("back", ())):
        whole = convert(speechlike(16000, 10), 16000, tmp_path / f"{name}.m4a", *AAC, *options).read_bytes()
        path = tmp_path / f"{name}_cut.m4a"
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(AudioError, match=r"moov atom not found|breaks off after|cannot be decoded") as caught:
            load(path)
        assert caught.value.reason == "unreadable"
        assert "\n" not in str(caught.value)
        if name == "front" and share > 0.3:
            assert len(load(path, 1, 2)) == 16000  # what is there can be used
            with pytest.raises(AudioError, match=r"breaks off after|corrupt") as caught:
                load(path, 9.5, 10)
            assert caught.value.reason == "unreadable"


def test_damage_inside_the_stretch_is_not_papered_over(tmp_path: Path) -> None:
    whole = bytearray(convert(speechlike(16000, 10), 16000, tmp_path / "a.m4a", *AAC).read_bytes())
    middle = len(whole) // 2
    whole[middle : middle + 2000] = np.random.default_rng(0).bytes(2000)
    path = tmp_path / "damaged.m4a"
    path.write_bytes(whole)
    for start, end in [(0, None), (0, 8), (3, 8)]:
        with pytest.raises(AudioError, match="cannot be decoded") as caught:
            load(path, start, end)
        assert caught.value.reason == "unreadable"
    assert np.array_equal(load(path, 7, 8), load(tmp_path / "a.m4a", 7, 8))


def test_a_stretch_outside_is_told_from_a_file_that_breaks_off(tmp_path: Path) -> None:
    path = convert(speechlike(16000, 3), 16000, tmp_path / "a.m4a", *AAC)
    for start, end in [(2.5, 3.5), (7.0, 8.0), (3.0, None), (-1.0, 2.0), (2.0, 1.0)]:
        with pytest.raises(AudioError, match="does not lie inside its") as caught:
            load(path, start, end)
        assert caught.value.reason == "outside"
    assert len(load(path, 2.5, 3.009)) == 8000  # an end rounded up
    with pytest.raises(AudioError) as caught:
        load(path, 2.99, 3.0)
    assert caught.value.reason == "too_short"
    ffmpeg("-i", path, "-t", "0", "-c:a", "copy", tmp_path / "none.mkv")
    with pytest.raises(AudioError) as caught:
        load(tmp_path / "none.mkv")
    assert caught.value.reason in ("empty", "no_audio")


@pytest.mark.parametrize(
    "playlist",
    [
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{secret}\n#EXT-X-ENDLIST\n",
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n",
        '<?xml version="1.0" encoding="utf-8"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" minBufferTime="PT1.0S" '
        'type="static" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011" mediaPresentationDuration="PT1.0S">'
        '<Period><AdaptationSet mimeType="audio/mp4" contentType="audio"><Representation id="0" bandwidth="64000" '
        'codecs="mp4a.40.2" audioSamplingRate="16000"><BaseURL>file://{secret}</BaseURL></Representation>'
        "</AdaptationSet></Period></MPD>",
        "ffconcat version 1.0\nfile secret.m4a\n",
        "ffconcat version 1.0\nfile 'file:{secret}'\n",
    ],
)
@pytest.mark.parametrize("ending", ["wav", "m3u8"])
def test_a_playlist_opens_no_other_file(tmp_path: Path, playlist: str, ending: str) -> None:
    secret = convert(sine(440, 16000), 16000, tmp_path / "secret.m4a", "-movflags", "frag_keyframe+empty_moov+dash")
    path = tmp_path / f"list.{ending}"
    path.write_text(playlist.format(secret=secret))
    with pytest.raises(AudioError) as caught:
        load(path)
    assert caught.value.reason in ("not_audio", "unreadable")


def test_names_are_no_options_and_no_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = convert(sine(440, 16000), 16000, tmp_path / "made.m4a")
    monkeypatch.chdir(tmp_path)
    for name in ("-i.m4a", "a b;touch x.m4a", "$(touch x).m4a", "é漢:字.m4a", "http:a.m4a"):
        Path(name).write_bytes(made.read_bytes())
        assert len(load(name)) == 16000
    assert not (tmp_path / "x").exists()


def test_ffmpeg_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = convert(sine(440, 16000), 16000, tmp_path / "a.m4a")
    script = tmp_path / "hangs"
    script.write_text("#!/bin/sh\nexec sleep 60\n")
    script.chmod(0o755)
    monkeypatch.setattr(ffmpeg_module, "_executable", lambda: str(script))
    monkeypatch.setattr(ffmpeg_module, "TIMEOUT_SECONDS", 0.2)
    with pytest.raises(AudioError, match="still decoding it after") as caught:
        load(path)
    assert caught.value.reason == "timeout"


def test_no_ffmpeg_is_said_once_and_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of the installation, not of a clip: it must not be counted 200,000 times."""
    path = convert(sine(440, 16000), 16000, tmp_path / "a.m4a")
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "none"))
    ffmpeg_module._executable.cache_clear()
    try:
        with pytest.raises(InputError, match="IMAGEIO_FFMPEG_EXE") as caught:
            load(path)
        assert not isinstance(caught.value, AudioError)
    finally:
        ffmpeg_module._executable.cache_clear()
