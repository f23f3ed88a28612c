"""AISHELL-1 as openslr.org publishes it."""

import hashlib
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from loopback import Loopback
from trees import by_key, configured, grow, measured, readable, textgrid

from w2v_abx.corpora import aishell1
from w2v_abx.corpora.aishell1 import Aishell1, pinyin, split_tone
from w2v_abx.corpora.published import Archive
from w2v_abx.errors import InputError
from w2v_abx.shards import prepare

TRANSCRIPT = "data_aishell/transcript/aishell_transcript_v0.8.txt"
TEXT = """\
BAC009S0002W0122 而 对 楼市 成交 抑制 作用
BAC009S0724W0121 广州市 房地产 中介 协会
BAC009S0764W0121 甚至 出现 交易 几乎 停滞 的 情况
BAC009S0764W0122 一二 线 城市
BAC009S0999W0122 没有 文件 夹
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    files: dict[str, str | bytes | float] = {
        TRANSCRIPT: TEXT,
        "resource_aishell/speaker.info": "0002 F\n0724 M\nS0764 M\n",
        "resource_aishell/lexicon.txt": "SIL sil\n",
    }
    for name in ("train/S0002/BAC009S0002W0122", "dev/S0724/BAC009S0724W0121", "test/S0764/BAC009S0764W0121"):
        files[f"data_aishell/wav/{name}.wav"] = 0.5
    files["data_aishell/wav/train/S0002/BAC009S0002W0123.wav"] = 0.5
    return grow(tmp_path, files)


def test_clips_of_the_shipped_configuration(tree: Path) -> None:
    clips = by_key(configured("aishell1", f"corpus.root={tree}").clips())
    assert {key: clip.split for key, clip in clips.items()} == {
        "BAC009S0002W0122": "train",
        "BAC009S0002W0123": "train",
        "BAC009S0724W0121": "valid",
        "BAC009S0764W0121": "test",
        "BAC009S0764W0122": "test",
    }
    assert clips["BAC009S0002W0122"].labels == {
        "speaker": "S0002",
        "language": "zh",
        "sex": "female",
        "text": "而对楼市成交抑制作用",
        "pinyin": ["er2", "dui4", "lou2", "shi4", "cheng2", "jiao1", "yi4", "zhi4", "zuo4", "yong4"],
    }
    assert clips["BAC009S0764W0121"].labels["sex"] == "male"
    assert "text" not in clips["BAC009S0002W0123"].labels  # as of a few hundred in the corpus
    readable([clip for key, clip in clips.items() if key != "BAC009S0764W0122"])


def test_recordings_that_the_disk_lacks_are_counted_by_prepare(tree: Path, tmp_path: Path) -> None:
    manifest = prepare(Aishell1(tree, subsets=["test"]), tmp_path / "shards")
    assert (manifest.clips, manifest.skipped) == (1, {"missing": 1})
    assert manifest.labels["test"]["pinyin"]["zhi4"] == 1


def test_words_decide_readings_and_sandhi_is_not_applied() -> None:
    assert pinyin(["银行", "行走"]) == ["yin2", "hang2", "xing2", "zou3"]
    assert pinyin(["你好"]) == ["ni3", "hao3"]  # spoken ni2 hao3
    assert pinyin(["女儿", "的", "T", "恤"]) == ["nv3", "er2", "de5", "T", "xu4"]


@pytest.mark.parametrize(
    ("phone", "divided"),
    [
        ("ang4", ("ang", "4")),
        ("e5", ("e", "5")),
        ("a˥˩", ("a", "4")),
        ("i˥˥", ("i", "1")),
        ("aj˧˥", ("aj", "2")),
        ("o˨˩˦", ("o", "3")),
        ("ə˩", ("ə", "5")),
        ("zh", ("zh", None)),
        ("sil", ("sil", None)),
        ("5", ("5", None)),
    ],
)
def test_tones_of_phones(phone: str, divided: tuple[str, str | None]) -> None:
    assert split_tone(phone) == divided


def test_phones_and_tones_from_textgrids(tree: Path) -> None:
    phones = [(0, 0.1, ""), (0.1, 0.2, "sh"), (0.2, 0.3, "en4"), (0.3, 0.4, "zh"), (0.4, 0.5, "iii4")]
    grid = textgrid(words=[(0, 0.1, ""), (0.1, 0.5, "甚至")], phones=phones)
    grow(tree / "times", {"test/S0764/BAC009S0764W0121.TextGrid": grid})
    clips = by_key(configured("aishell1", f"corpus.root={tree}", f"corpus.alignments={tree}/times").clips())
    assert clips["BAC009S0764W0121"].labels | {"text": "", "pinyin": []} == {
        "speaker": "S0764",
        "language": "zh",
        "sex": "male",
        "text": "",
        "pinyin": [],
        "phones": [[0.1, 0.2, "sh"], [0.2, 0.3, "en"], [0.3, 0.4, "zh"], [0.4, 0.5, "iii"]],
        "tones": [[0.2, 0.3, "4"], [0.4, 0.5, "4"]],
        "words": [[0.1, 0.5, "甚至"]],
    }
    assert "phones" not in clips["BAC009S0002W0122"].labels
    speech = measured("aishell1", f"abx.speech.corpus.root={tree}", f"abx.speech.corpus.alignments={tree}/times")
    assert [tuple(row) for row in speech.items.frame.select("#phone", "prev-phone", "tone").iter_rows()] == [
        ("en", "sh", "4"),
        ("zh", "en", "-"),
    ]


def test_the_archive_of_archives_is_unpacked(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wav = tree / "data_aishell" / "wav"
    for folder in sorted(wav.glob("*/*")):
        with tarfile.open(wav / f"{folder.name}.tar.gz", "w:gz") as tar:
            tar.add(folder, f"{folder.parent.name}/{folder.name}")
    archives = []
    for name in ("resource", "data"):
        with tarfile.open(tree / f"{name}_aishell.tgz", "w:gz") as tar:
            for path in sorted((tree / f"{name}_aishell").rglob("*")):
                if path.is_file() and path.suffix != ".wav":
                    tar.add(path, path.relative_to(tree))
        archives.append(tree / f"{name}_aishell.tgz")
    with Loopback(tree) as server:
        md5 = [hashlib.md5(path.read_bytes()).hexdigest() for path in archives]
        published = [Archive(server.url(path.name), md5=sum_) for path, sum_ in zip(archives, md5, strict=True)]
        monkeypatch.setattr(aishell1, "ARCHIVES", published)
        here = tree / "here"
        several = [configured("aishell1", f"corpus.root={here}", "corpus.download=true") for _ in range(4)]
        with ThreadPoolExecutor(3) as pool:  # at the same time, and once more
            for clips in pool.map(Aishell1.clips, several):
                assert sum(clip.path.is_file() for clip in clips) == 4
        assert clips[0].labels["sex"] == "female"
        assert server.count("data_aishell.tgz") == 1
        assert not list(here.rglob("*gz"))


@pytest.mark.parametrize(
    ("files", "settings", "message"),
    [
        ({}, {"subsets": ["valid"]}, "corpus.subsets=.* some of train, dev, test, .*'valid' is none of them"),
        ({}, {"root": "nowhere"}, "corpus.root=nowhere holds no transcript/aishell_tran.*give corpus.download=true"),
        ({}, {"alignments": "nowhere"}, "corpus.alignments=nowhere holds no TextGrid"),
        ({TRANSCRIPT: "BAC009S0002W0122\n"}, {}, "line 1: 'BAC009S0002W0122' is not an utterance and its words"),
        (
            {"resource_aishell/speaker.info": "0002 X\n"},
            {},
            "speaker.info, line 1: '0002 X' is not a speaker and F or M",
        ),
        ({"data_aishell/wav/test/S0764/x.wav": 0.1}, {}, r"x.wav is not named BAC009SnnnnWnnnn.wav"),
    ],
)
def test_what_does_not_fit(
    tree: Path, files: dict[str, str | bytes | float], settings: dict[str, object], message: str
) -> None:
    grow(tree, files)
    with pytest.raises(InputError, match=message) as caught:
        Aishell1(**{"root": tree, **settings}).clips()  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_archives_that_were_not_unpacked_are_named(tree: Path) -> None:
    for path in (tree / "data_aishell/wav/test").rglob("*.wav"):
        path.unlink()
    with pytest.raises(InputError, match=r"wav/test holds no SPEAKER/\*.wav: unpack the archives"):
        Aishell1(tree).clips()
