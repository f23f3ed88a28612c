"""What headers claim against what follows: too much is refused, too little or nothing is read to the end."""

import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from recordings import convert, ffmpeg, speechlike

from w2v_abx.audio import AudioError, headers, info, load

SECONDS = 3
SAMPLES = speechlike(16000, SECONDS)[:, 0]
# name: options of soundfile, and its field of the audio's size: what stands before it, and how it is written
PCM: dict[str, tuple[dict[str, str], bytes, str]] = {
    "a.wav": ({}, b"data", "<I"),
    "24.wav": ({"subtype": "PCM_24"}, b"data", "<I"),
    "float.wav": ({"subtype": "FLOAT"}, b"data", "<I"),
    "ulaw.wav": ({"subtype": "ULAW"}, b"data", "<I"),
    "extensible.wav": ({"format": "WAVEX"}, b"data", "<I"),
    "big.wav": ({"endian": "BIG"}, b"data", ">I"),
    "a.aiff": ({}, b"SSND", ">I"),
    "float.aifc": ({"format": "AIFF", "subtype": "FLOAT"}, b"SSND", ">I"),
    "a.svx": ({}, b"BODY", ">I"),
    "a.au": ({}, b".snd\0\0\0\x18", ">I"),
    "little.au": ({"endian": "LITTLE"}, b"dns.\x18\0\0\0", "<I"),
    "a.w64": ({}, b"data\xf3\xac\xd3\x11\x8c\xd1\0\xc0\x4f\x8e\xdb\x8a", "<Q"),
    "a.rf64": ({}, b"ds64\x1c\0\0\0........", "<Q"),
    "a.caf": ({}, b"data", ">q"),
    "a.sph": ({"format": "NIST"}, b"", ""),
}
AHEAD = {"a.aiff": 8, "float.aifc": 8, "a.caf": 4, "a.w64": 24}  # bytes of the header that the size counts in


@pytest.fixture
def whole(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / request.param
    sf.write(path, SAMPLES, 16000, **PCM[path.name][0])
    return path


def claiming(path: Path, size: int) -> None:
    """Write a size over that of the audio, and over that of the whole file where it stands at byte 4."""
    _, before, code = PCM[path.name]
    content = bytearray(path.read_bytes())
    found = re.search(re.escape(before).replace(rb"\.\.\.\.\.\.\.\.", b"(?s:.{8})"), content)
    assert found
    struct.pack_into(code, content, found.end(), size)
    path.write_bytes(content)


@pytest.mark.parametrize("whole", PCM, indirect=True)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_what_breaks_off_is_refused_and_what_is_there_can_be_used(whole: Path, share: float) -> None:
    expected, content = load(whole), whole.read_bytes()
    whole.write_bytes(content[: int(len(content) * share)])
    for read in (load, info):
        with pytest.raises(
            AudioError, match=r"breaks off after [\d.]+ s of the (3|2.999) s that it announces$"
        ) as caught:
            read(whole)
        assert caught.value.reason == "unreadable"
    assert np.array_equal(load(whole, 0.05, 0.15), expected[800:2400])
    with pytest.raises(AudioError, match="breaks off"):
        load(whole, 0.1, 2.9)
    with pytest.raises(AudioError, match="does not lie inside|breaks off"):
        load(whole, 5, 6)


@pytest.mark.parametrize("whole", [name for name in PCM if name != "a.sph"], indirect=True)
@pytest.mark.parametrize("claim", [0, 1000, 1001, -1, 1 << 31, (1 << 31) - 4096, (1 << 32) - 36])
def test_what_claims_too_little_or_nothing_is_read_to_its_end(whole: Path, claim: int) -> None:
    _, _, code = PCM[whole.name]
    if claim > 2000 and struct.calcsize(code) == 8:
        pytest.skip("sizes of 64 bits are not cut to 32")
    expected = load(whole)
    claiming(whole, claim if claim >= 0 or code == ">q" else (1 << 8 * struct.calcsize(code)) - 1)
    assert np.array_equal(load(whole), expected)
    assert np.array_equal(load(whole, 1.5, 2.5), expected[24000:40000])
    assert info(whole) == (3.0, 16000)


def test_a_recorder_that_was_killed_wrote_no_length_at_all(tmp_path: Path) -> None:
    sf.write(tmp_path / "a.wav", SAMPLES, 16000)
    expected, content = load(tmp_path / "a.wav"), bytearray((tmp_path / "a.wav").read_bytes())
    for riff, data in [(0, 0), (36, 0), (0xFFFFFFFF, 0xFFFFFFFF), (0x7FFFF024, 0x7FFFF000), (2**32 - 1, 0)]:
        struct.pack_into("<I", content, 4, riff)
        struct.pack_into("<I", content, 40, data)
        for cut in (0, 1, 2, 1001):  # in the midst of a sample
            (tmp_path / "killed.wav").write_bytes(content[: len(content) - cut])
            assert np.array_equal(load(tmp_path / "killed.wav"), expected[: len(expected) - (cut + 1) // 2])
    (tmp_path / "piped.wav").write_bytes(ffmpeg("-i", tmp_path / "a.wav", "-f", "wav", "-"))
    (tmp_path / "piped.flac").write_bytes(ffmpeg("-i", tmp_path / "a.wav", "-f", "flac", "-"))
    (tmp_path / "piped.au").write_bytes(ffmpeg("-i", tmp_path / "a.wav", "-f", "au", "-"))
    (tmp_path / "piped.caf").write_bytes(ffmpeg("-i", tmp_path / "a.wav", "-f", "caf", "-"))
    (tmp_path / "piped.w64").write_bytes(ffmpeg("-i", tmp_path / "a.wav", "-f", "w64", "-"))
    for path in tmp_path.glob("piped.*"):
        assert np.abs(load(path) - expected).max() < 1e-4, path.name
        assert info(path) == (3.0, 16000), path.name
    struct.pack_into("<I", content, 40, 0)
    (tmp_path / "empty.wav").write_bytes(content[:44])
    (tmp_path / "noted.wav").write_bytes(content[:44] + b"LIST\xc8\0\0\0INFO" + bytes(196))
    for name in ("empty", "noted"):
        with pytest.raises(AudioError, match="no samples") as caught:
            load(tmp_path / f"{name}.wav")
        assert caught.value.reason == "empty"


@pytest.mark.parametrize(
    "behind",
    [
        b"LIST\x1a\0\0\0INFOISFT\x0e\0\0\0Lavf63.1.102\0\0",
        b"LIST\xff\xff\0\0INFO" + bytes(100),  # a chunk that breaks off: the audio does not
        b"id3 \x0a\0\0\0ID3\3\0\0\0\0\0\0" + b"bext\x64\1\0\0" + b"x" * 356,
        b"TAG" + b"title".ljust(125),
        b"ID3\4\0\0\0\0\x10\0" + bytes(2048),
        bytes(5000),
        b"\r\n",
        b"\0LIST\x1a\0\0\0INFOISFT\x0e\0\0\0Lavf63.1.102\0\0",  # padded though the size is even
    ],
)
@pytest.mark.parametrize("odd", [0, 1])
def test_what_follows_the_audio_is_not_read_as_audio(tmp_path: Path, behind: bytes, odd: int) -> None:
    path = tmp_path / "a.wav"
    sf.write(path, SAMPLES[: len(SAMPLES) - odd], 16000, subtype="ULAW")
    plain = len(load(path))
    path.write_bytes(path.read_bytes()[: 58 + plain + odd] + behind)
    assert len(load(path)) == plain == len(SAMPLES) - odd


def test_a_size_that_counts_its_header_in_is_no_loss(tmp_path: Path) -> None:
    for name in ("a.wav", "24.wav", "a.aiff", "a.caf", "a.au"):
        path = tmp_path / name
        sf.write(path, SAMPLES, 16000, **PCM[name][0])
        content = path.read_bytes()
        expected, size = load(path), len(content)
        header = size - len(SAMPLES) * (3 if name == "24.wav" else 2) - AHEAD.get(name, 0)
        if name == "a.caf":  # it ends with zeros
            header = content.index(b"data") + 12
            size = header + 4 + 2 * len(SAMPLES)
            content = content[:size]
        for extra in (1, header, header - 8):
            path.write_bytes(content)
            claiming(path, size - header + extra)
            assert np.array_equal(load(path), expected)
        for cut in (4, 100):
            path.write_bytes(content[:-cut])
            with pytest.raises(AudioError, match="breaks off"):
                load(path)


def half(total: int) -> int:
    return total // 2


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("claim", [lambda _: 0, half, lambda total: total - 1, lambda _: 4096])
def test_a_flac_is_as_long_as_its_frames(tmp_path: Path, claim: Callable[[int], int], largest: bool) -> None:
    path = tmp_path / "a.flac"
    for samples, rate in ((SAMPLES, 16000), (speechlike(44100, 2, 2), 44100), (SAMPLES[:5000], 22050)):
        sf.write(path, samples, rate)
        expected, content = load(path), bytearray(path.read_bytes())
        word = int.from_bytes(content[18:26])
        total = word & (2**36 - 1)
        assert total == len(samples)
        content[18:26] = (word - total + claim(total)).to_bytes(8)
        if not largest:
            content[15:18] = bytes(3)
        for behind in (b"", b"TAG" + bytes(125), b"APETAGEX" + bytes(50_000)):
            path.write_bytes(content + behind)
            assert np.array_equal(load(path), expected)
            assert np.abs(load(path, 0.1, 0.2) - expected[1600:3200]).max() < 1e-6
            assert info(path) == (len(samples) / rate, rate)
        content[18:26] = (word + total).to_bytes(8)
        path.write_bytes(content)
        for read in (load, info):
            with pytest.raises(AudioError, match="breaks off after") as caught:
                read(path)
            assert caught.value.reason == "unreadable"


def test_a_flac_of_unknown_length_before_a_large_tag(tmp_path: Path) -> None:
    sf.write(tmp_path / "a.flac", SAMPLES, 16000)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[21:26] = bytes([content[21] & 0xF0, 0, 0, 0, 0])
    (tmp_path / "b.flac").write_bytes(content + b"APETAGEX" + bytes(500_000))
    assert np.array_equal(load(tmp_path / "b.flac"), load(tmp_path / "a.flac"))
    (tmp_path / "c.flac").write_bytes(content[:100])
    with pytest.raises(AudioError, match="cannot be decoded"):  # in the midst of its first frame
        load(tmp_path / "c.flac")


def test_more_recordings_than_files_may_be_open(tmp_path: Path) -> None:
    sf.write(tmp_path / "a.wav", SAMPLES[:100], 16000)
    content = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "many.wav").write_bytes(content * 2000)
    assert len(load(tmp_path / "many.wav")) == 200_000
    assert info(tmp_path / "many.wav") == (12.5, 16000)


def test_a_flac_that_breaks_off_is_refused_without_decoding(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    sf.write(path, SAMPLES, 16000)
    content = path.read_bytes()
    for share in (0.2, 0.5, 0.8):
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(AudioError, match="breaks off after"):
            info(path)
    path.write_bytes(content[:-1])
    with pytest.raises(AudioError, match="cannot be decoded|breaks off"):
        load(path)


@pytest.mark.parametrize("ending", ["ogg", "opus", "oga", "flac", "wav", "aiff", "caf", "au", "w64", "sph", "mp3"])
def test_recordings_joined_end_to_end_are_read_in_turn(tmp_path: Path, ending: str) -> None:
    codec = {"ogg": ("-c:a", "libvorbis"), "oga": ("-c:a", "flac")}.get(ending, ())
    clips, content = [], b""
    for name, seconds in (("one", 1), ("two", 2), ("three", 1)):
        path = tmp_path / f"{name}.{ending}"
        if ending == "sph":
            sf.write(path, SAMPLES[: 16000 * seconds], 16000, format="NIST")
        else:
            convert(SAMPLES[: 16000 * seconds], 16000, path, *codec)
        clips.append(load(path))
        content += path.read_bytes()
    path = tmp_path / f"joined.{ending}"
    path.write_bytes(content)
    found, expected = load(path), np.concatenate(clips)
    if ending == "mp3":  # a player keeps the silence around each but the first
        assert 64000 <= len(found) < 64000 + 3 * 2000
    else:
        assert len(found) == len(expected)
        assert np.abs(found - expected).max() < 1e-4
    assert info(path)[0] * 16000 == pytest.approx(len(found), abs=1)
    for start, end in ((0.2, 0.9), (0.9, 1.2), (2.5, 3.9)):
        assert np.abs(load(path, start, end) - found[round(start * 16000) : round(end * 16000)]).max() < 1e-5
    path.write_bytes(content[: -len(content) // 8])
    if ending != "mp3":
        with pytest.raises(AudioError, match="breaks off|cannot be decoded"):
            load(path)


@pytest.mark.parametrize("ending", ["m4a", "mp4", "mov", "mkv", "webm", "voc", "wma", "flv", "tta"])
def test_joined_recordings_that_cannot_be_read_are_refused(tmp_path: Path, ending: str) -> None:
    codec = ("-c:a", "libmp3lame", "-ar", "22050") if ending == "flv" else ()
    content = convert(SAMPLES[:16000], 16000, tmp_path / f"a.{ending}", *codec).read_bytes()
    path = tmp_path / f"joined.{ending}"
    path.write_bytes(content * 2)
    with pytest.raises(AudioError, match="holds 2 recordings one after the other: split it") as caught:
        load(path)
    assert caught.value.reason == "unreadable"


@pytest.mark.parametrize("ending", ["flac", "ogg", "opus"])
def test_large_files_are_searched_where_their_end_is_another_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    monkeypatch.setattr(headers, "SEARCHED_BYTES", 1000)
    for name, seconds in (("a", 1), ("b", 2)):
        convert(SAMPLES[: 16000 * seconds], 16000, tmp_path / f"{name}.{ending}")
    joined = tmp_path / f"joined.{ending}"
    joined.write_bytes(b"".join((tmp_path / f"{name}.{ending}").read_bytes() for name in "ab"))
    assert len(load(joined)) == 48000
    asked: list[bytes] = []
    monkeypatch.setattr(headers, "_find", lambda *of: asked.append(of) or 0)
    assert len(load(tmp_path / f"b.{ending}")) == 32000
    assert not asked


def test_joined_recordings_of_two_rates_are_refused(tmp_path: Path) -> None:
    sf.write(tmp_path / "a.flac", SAMPLES, 16000)
    sf.write(tmp_path / "b.flac", SAMPLES, 8000)
    (tmp_path / "ab.flac").write_bytes((tmp_path / "a.flac").read_bytes() + (tmp_path / "b.flac").read_bytes())
    with pytest.raises(AudioError, match="8000 Hz in 1 channels and of 16000 Hz in 1 channels: split it"):
        load(tmp_path / "ab.flac")


@pytest.mark.parametrize("ending", ["ogg", "opus", "oga"])
def test_an_ogg_may_lack_its_last_page_but_no_part_of_a_page(tmp_path: Path, ending: str) -> None:
    codec = {"ogg": ("-c:a", "libvorbis"), "oga": ("-c:a", "flac")}.get(ending, ())
    path = convert(SAMPLES, 16000, tmp_path / f"a.{ending}", *codec, "-page_duration", "200000")
    expected, content = load(path), path.read_bytes()
    pages = [match.start() for match in re.finditer(b"OggS\0", content)]
    path.write_bytes(content[: pages[-1]])
    found = load(path)
    assert len(expected) * 0.8 < len(found) <= len(expected)
    assert np.abs(found[:-1000] - expected[: len(found) - 1000]).max() < 1e-5
    for cut in (len(content) - 1, pages[-1] + 10, pages[-1] + 2, pages[-1] - 1, pages[-2] + 40):
        path.write_bytes(content[:cut])
        with pytest.raises(AudioError, match="breaks off") as caught:
            load(path)
        assert caught.value.reason == "unreadable"


def test_codecs_in_which_libsndfile_cannot_seek_or_count(tmp_path: Path) -> None:
    sf.write(tmp_path / "gsm.wav", SAMPLES, 8000, subtype="GSM610")
    convert(SAMPLES, 16000, tmp_path / "mp3.wav", "-c:a", "libmp3lame", "-b:a", "32k")
    convert(SAMPLES, 16000, tmp_path / "a.voc")
    for name, seconds in (("gsm.wav", 6), ("mp3.wav", 3.1), ("a.voc", 3)):
        path = tmp_path / name
        clip = load(path)
        assert info(path)[0] == pytest.approx(seconds, abs=0.05)
        assert len(clip) == pytest.approx(16000 * seconds, abs=800)
        assert np.abs(load(path, 1, 2) - clip[16000:32000]).max() < 1e-5
        path.write_bytes(path.read_bytes()[:-5000])
        with pytest.raises(AudioError, match="breaks off|cannot be decoded"):
            load(path)
