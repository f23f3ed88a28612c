"""How folders are searched, and what in them is audio."""

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile as sf
from recordings import convert, sine

from w2v_abx.abx.speech import find_audio
from w2v_abx.alignment.annotations import Annotated
from w2v_abx.audio import AudioError, load
from w2v_abx.audio.walking import AUDIO_ENDINGS, counted, recordings, walk
from w2v_abx.corpora.folder import Folder
from w2v_abx.errors import InputError
from w2v_abx.features.foreign import StoredFeatures
from w2v_abx.items.items import Items
from w2v_abx.items.textgrids import write_tiers

TONE = 0.1 * sine(440, 16000)


def names(root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in walk(root)]


def test_linked_folders_are_followed_and_loops_end(tmp_path: Path) -> None:
    root, disk = tmp_path / "root", tmp_path / "disk"
    for folder in (root / "b", disk / "deep" / "er", root / ".hidden"):
        folder.mkdir(parents=True)
        (folder / "x.wav").touch()
    (root / "a").symlink_to(disk)
    (root / "c").symlink_to("a/deep")  # there already
    (disk / "up").symlink_to(root)  # loops: to above, to itself, through each other
    (root / "b" / "self").symlink_to(".")
    (root / "b" / "other").symlink_to(disk / "deep" / "back")
    (disk / "deep" / "back").symlink_to(root / "b")
    (root / "file.wav").symlink_to(disk / "deep" / "er" / "x.wav")
    (root / "nowhere.wav").symlink_to(tmp_path / "none")
    assert names(root) == ["file.wav", "nowhere.wav", "a/deep/back/x.wav", "a/deep/er/x.wav"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list everything")
def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.raises(InputError, match="closed cannot be listed .*abx.root"):
        list(walk(tmp_path, "abx.root"))


def test_every_reader_follows_links_and_knows_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    disk = tmp_path / "disk" / "s1"
    disk.mkdir(parents=True)
    for take in ("u0", "u1"):
        sf.write(disk / f"{take}.wav", TONE, 16000)
        np.save(disk / f"{take}.npy", np.ones((50, 4), np.float32))
        write_tiers(disk / f"{take}.TextGrid", {"phones": [(0.0, 0.5, "a"), (0.5, 1.0, "b")]}, 1.0)
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "s1").symlink_to(disk)
    (disk / "loop").symlink_to(tmp_path / "root")
    columns = {"#file": ["u0", "s1/u1"], "onset": ["0", "0"], "offset": ["1", "1"], "#phone": ["a", "b"]}
    for root in (str(tmp_path / "root"), "~/root"):
        corpus = Folder("own", root)
        assert [clip.key for clip in corpus.clips()] == ["s1/u0", "s1/u1"]
        assert set(find_audio(Items(pl.DataFrame(columns)), root)) == {"u0", "s1/u1"}
        assert all("phones" in clip.labels for clip in Annotated(corpus, root).clips())
        assert set(StoredFeatures(root)) == {"s1/u0", "s1/u1"}


def test_audio_is_what_decodes(tmp_path: Path) -> None:
    known = (".wav", ".au", ".caf", ".w64", ".wv", ".mp2", ".mka", ".mp4", ".aifc", ".snd", ".ac3", ".voc", ".opus")
    for ending in known:
        if ending in (".aifc", ".snd", ".caf", ".w64"):
            format = {".aifc": "AIFF", ".snd": "AU"}.get(ending, ending[1:].upper())
            sf.write(tmp_path / f"a{ending}", TONE, 16000, format=format)
        else:
            convert(TONE, 16000, tmp_path / f"a{ending}")
    sf.write(tmp_path / "b.WAV", TONE, 16000)
    sf.write(tmp_path / "take.001", TONE, 16000, format="WAV")
    sf.write(tmp_path / "c.unheard-of", TONE, 16000, format="FLAC")
    convert(TONE, 16000, tmp_path / "d.ts").rename(tmp_path / "d.broadcast")
    expected = sorted([*(f"a{ending}" for ending in known), "b.WAV", "take.001", "c.unheard-of", "d.broadcast"])
    (tmp_path / "notes.txt").write_text("a text\n" * 100)
    (tmp_path / "list.csv").write_text("file,label\na.wav,x\n")
    (tmp_path / "noise.bin").write_bytes(np.random.default_rng(0).bytes(10_000))
    (tmp_path / "README").write_text("read me")
    os.mkfifo(tmp_path / "pipe.fifo")
    np.save(tmp_path / "x.npy", np.zeros(1000))
    found, passed_over = recordings(tmp_path)
    assert sorted(path.name for path in found) == expected
    assert passed_over == {".txt": 1, ".csv": 1, ".bin": 1, "": 1, ".fifo": 1, ".npy": 1}
    assert {ending for ending in (path.suffix.lower() for path in found) if ending in AUDIO_ENDINGS} == set(known)
    corpus = Folder("own", tmp_path)
    assert sorted(clip.path.name for clip in corpus.clips()) == expected
    assert corpus.passed_over == passed_over


def test_what_was_passed_over_is_said_in_one_line(tmp_path: Path) -> None:
    assert counted({".txt": 2, "": 1}) == "3 files are not audio (2 .txt, 1 without ending)"
    assert counted({f".{n:03}": 1 for n in range(100)}).endswith("1 .009, 90 others)")
    for n in range(30):
        (tmp_path / f"text.{n:03}").write_text("text")  # endings that are numbers
    with pytest.raises(InputError, match=r"holds no audio: 30 files are not audio \(1 \.000, .*, 20 others\)$"):
        Folder("own", tmp_path).clips()


def test_a_pipe_or_device_named_like_audio_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.wav")
    for path in (tmp_path / "a.wav", Path("/dev/null")):
        with pytest.raises(AudioError, match="neither a file nor") as caught:
            load(path)
        assert caught.value.reason == "unreadable"
