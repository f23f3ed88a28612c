"""`w2v-abx prepare` with phone times: from a model, from TextGrids, to TextGrids and item files."""

import csv
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from small import ARCHITECTURE
from tiny_ctc import save_ctc

from w2v_abx import audio
from w2v_abx.abx import Items
from w2v_abx.clips import Clip
from w2v_abx.items.textgrids import read_tiers
from w2v_abx.models.encoder import Encoder

Command = Callable[..., str]

ALOUD = """
defaults: [folder]
name: aloud
root: {root}
table: said.csv
label_column: null
columns: {{speaker: speaker, text: text}}
"""


@pytest.fixture
def read_aloud(tmp_path: Path) -> tuple[str, ...]:
    """Six recordings of two speakers and a table of what they say: a corpus ``aloud`` in a folder of the user's."""
    rng = np.random.default_rng(0)
    rows = ["file,speaker,text"]
    for number, text in enumerate(("tak", "tik", "tak tik", "pak", "", "tik tak")):
        name = f"{'kim' if number % 2 else 'lee'}/{number}.wav"
        audio.save(tmp_path / "sounds" / name, (0.1 * rng.standard_normal(16_000)).astype(np.float32))
        rows.append(f"{name},{'kim' if number % 2 else 'lee'},{text}")
    (tmp_path / "sounds" / "said.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "mine" / "corpus").mkdir(parents=True)
    (tmp_path / "mine" / "corpus" / "aloud.yaml").write_text(ALOUD.format(root=tmp_path / "sounds"))
    return ("--config-dir", str(tmp_path / "mine"))


def test_times_from_a_model_to_items_and_textgrids_and_back(
    run: Command, read_aloud: tuple[str, ...], tmp_path: Path
) -> None:
    model = save_ctc(tmp_path / "ctc", "aikpt")
    items = ("items=phone", "items.min_duration=0", "items.max_gap=9")
    out = run("prepare", *read_aloud, "corpus=aloud", "align=ctc", f"align.model={model}", *items, "textgrids=grids")
    assert "align 5/5 clips, 0.00 h, 0 not aligned" in out
    assert "without phone times: 1 clips, no_text (named in data/shards/aloud/untimed.csv)" in out
    (made,) = re.findall(r"in (data/shards/aloud/phone-[0-9a-f]{8}\.item)", out)
    assert "TextGrids: 5, below grids" in out
    shards = tmp_path / "data" / "shards" / "aloud"
    with (shards / "untimed.csv").open(newline="") as file:
        assert [(row["key"], row["reason"]) for row in csv.DictReader(file)] == [("lee/4", "no_text")]
    written = Items.read(tmp_path / made)
    assert set(written.frame["#phone"]) == set("aikt")  # p begins its clip
    assert set(written.frame["speaker"]) == {"kim", "lee"}
    words = read_tiers(tmp_path / "grids" / "lee" / "2.TextGrid")["words"]
    assert [word for *_, word in words] == ["tak", "tik"]

    again = run("prepare", *read_aloud, "corpus=aloud", "align=ctc", f"align.model={model}", *items)
    assert "align 5/5" not in again
    bare = (tmp_path / made).read_bytes()
    anew = "prepare.replace=true"  # the labels differ: words, scores
    out = run("prepare", *read_aloud, "corpus=aloud", "align=textgrid", "align.folder=grids", anew, *items)
    assert "without phone times: 1 clips, no_textgrid" in out
    assert (tmp_path / made).read_bytes() == bare

    Encoder.random(ARCHITECTURE).save(tmp_path / "model")
    scored = run(
        "abx",
        *read_aloud,
        "abx=phones",
        "corpus@abx.speech.corpus=aloud",
        "align@abx.speech.align=textgrid",
        "abx.speech.align.folder=grids",
        "items@abx.speech.items=triphone",
        "abx.speech.items.max_gap=9",
        "abx.context=any",
        "abx.speaker=across",
        "abx.layers=[0]",
        "model=local",
        f"model.source={tmp_path / 'model'}",
    )
    assert '"error"' in scored


def test_what_cannot_be_is_one_line(
    run: Command, read_aloud: tuple[str, ...], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def wrong(*arguments: str) -> str:
        with pytest.raises(SystemExit) as stopped:
            run("prepare", *read_aloud, "corpus=aloud", *arguments)
        return stopped.value.code if isinstance(stopped.value.code, str) else capfd.readouterr().err

    assert "align.model is missing" in wrong("align=ctc")
    assert "align.model=./nowhere" in wrong("align=ctc", "align.model=./nowhere")
    assert "items.unit='word'" in wrong("items=phone", "items.unit=word")
    assert "none of the 6 clips has the label phones" in wrong("items=phone")
    assert "textgrid" in wrong("align=praat")
    assert "min_cout" in wrong("items=phone", "items.min_cout=2")
    model = save_ctc(tmp_path / "ctc", "aikt")
    assert "does not know 'p'" in wrong("align=ctc", f"align.model={model}")


def test_parts_and_their_merge_name_what_has_no_times(
    run: Command, read_aloud: tuple[str, ...], tmp_path: Path
) -> None:
    model = save_ctc(tmp_path / "ctc", "aikpt")
    arguments = ("prepare", *read_aloud, "corpus=aloud", "align=ctc", f"align.model={model}")
    for part in ("1/2", "2/2"):
        run(*arguments, f"prepare.part={part}")
    assert "without phone times: 1 clips, no_text" in run(*arguments, "prepare.part=merge")
    with (tmp_path / "data" / "shards" / "aloud" / "untimed.csv").open(newline="") as file:
        assert [(row["key"], row["reason"]) for row in csv.DictReader(file)] == [("lee/4", "no_text")]


def test_what_would_stop_the_end_stops_the_beginning(
    run: Command, read_aloud: tuple[str, ...], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    for arguments, message in (
        (("items=phone", "items.unit=bogus"), "items.unit='bogus'"),
        (("items=phone", "items.audio=file/in"), "items.audio=file/in cannot be made a folder"),
        (("textgrids=file",), "textgrids=file cannot be made a folder"),
        (("corpus=timit", "corpus.root=.", "corpus.fold=39", "items=phone"), "set the corpus's fold to 48 or 61"),
    ):
        with pytest.raises(SystemExit) as stopped:
            run("prepare", *read_aloud, "corpus=aloud", *arguments)
        assert message in (stopped.value.code if isinstance(stopped.value.code, str) else capfd.readouterr().err)
        assert not (tmp_path / "data").exists()


TIMES = {"one": (0.0, 0.5), "two": (0.5, 1.0)}  # s: spans of each file


@pytest.fixture
def spans(tmp_path: Path) -> tuple[str, ...]:
    """Two spans of each of two files, three phones in each: a corpus ``cut`` in a module of the user's."""
    rng = np.random.default_rng(0)
    for speaker in ("kim", "lee"):
        audio.save(tmp_path / "sounds" / f"{speaker}.wav", (0.1 * rng.standard_normal(16_000)).astype(np.float32))
    (tmp_path / "mine" / "corpus").mkdir(parents=True)
    (tmp_path / "mine" / "corpus" / "cut.yaml").write_text(
        f"_target_: cut_corpus.Cut\nname: cut\nroot: {tmp_path / 'sounds'}\n"
    )
    return ("--config-dir", str(tmp_path / "mine"), "corpus=cut")


class Cut:
    """Items a and i in one context, by each of two speakers."""

    def __init__(self, name: str, root: str) -> None:
        self.name, self.root = name, Path(root)

    def clips(self) -> list[Clip]:
        return [
            Clip(
                f"{speaker}/{part}.x y",
                self.root / f"{speaker}.wav",
                start,
                end,
                labels={
                    "speaker": speaker,
                    "phones": [[0, 0.1, "t"], [0.1, 0.3, "a" if part == "one" else "i"], [0.3, 0.5, "k"]],
                },
            )
            for speaker in ("kim", "lee")
            for part, (start, end) in TIMES.items()
        ]


def test_items_are_scored_on_the_audio_that_prepare_cuts(
    run: Command,
    spans: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "cut_corpus", SimpleNamespace(Cut=Cut))
    prepare = ("prepare", *spans, "items=phone", "items.audio=cut")
    assert "audio of the items: 4 clips written, 0 there already, below cut" in run(*prepare)
    for path in (tmp_path / "cut").rglob("*.*"):
        start, end = TIMES[path.stem.removesuffix(".x y")]
        whole = audio.load(tmp_path / "sounds" / f"{path.parent.name}.wav")
        assert np.array_equal(audio.load(path), whole[round(start * 16_000) : round(end * 16_000)])
    (tmp_path / "cut" / "kim" / "one.x y.flac").write_bytes(b"torn")
    assert "1 clips written, 3 there already" in run(*prepare)

    Encoder.random(ARCHITECTURE).save(tmp_path / "model")
    measure = ("abx.speaker=across", "abx.layers=[0]", "model=local", f"model.source={tmp_path / 'model'}")
    items = f"abx.items={tmp_path / 'data' / 'shards' / 'cut' / 'phone.item'}"
    assert '"error"' in run("abx", "abx=item_file", items, "abx.root=cut", *measure)

    for arguments, message in (
        (("items.audio=sounds",), "items.audio=sounds holds the corpus's own"),
        (("prepare.format=wav", "prepare.replace=true"), "in another format: remove it"),
    ):
        with pytest.raises(SystemExit):
            run(*prepare, *arguments)
        assert message in capfd.readouterr().err


@pytest.mark.parametrize(
    "settings",
    [
        ["items.min_duration=0.2"],
        ["items.columns=[speaker2]"],
        ["items.max_gap=9"],
        ["items.splits=[test]", "items.seed=1"],
    ],
)
def test_items_of_other_settings_lie_beside_each_other(
    run: Command, spans: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: list[str]
) -> None:
    def clips(corpus: Cut) -> list[Clip]:
        return [replace(clip, split="test", labels={**clip.labels, "speaker2": "x"}) for clip in CLIPS(corpus)]

    monkeypatch.setitem(sys.modules, "cut_corpus", SimpleNamespace(Cut=type("Cut", (Cut,), {"clips": clips})))
    folder = tmp_path / "data" / "shards" / "cut"
    run("prepare", *spans, "items=phone")
    usual = (folder / "phone.item").read_bytes()
    run("prepare", *spans, "items=phone", *settings)
    assert len(list(folder.glob("phone-*.item"))) == 1
    run("prepare", *spans, "items=triphone", "items.audio=cut")  # which changes no item
    assert (folder / "phone.item").read_bytes() == usual
    assert (folder / "triphone.item").exists()


def test_times_that_are_not_of_the_audio_are_counted(
    run: Command, spans: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A corpus's own, without align or items; those of the other clips go into the shards."""

    def clips(corpus: Cut) -> list[Clip]:
        first, *others = CLIPS(corpus)
        return [replace(first, labels={**first.labels, "phones": [[0.0, 0.9, "a"]]}), *others]

    monkeypatch.setitem(sys.modules, "cut_corpus", SimpleNamespace(Cut=type("Cut", (Cut,), {"clips": clips})))
    shards = "data/shards/cut"
    out = run("prepare", *spans)
    assert f"without phone times: 1 clips, labels_outside (named in {shards}/untimed.csv)" in out
    with (tmp_path / shards / "untimed.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["key"], row["reason"]) == ("kim/one.x y", "labels_outside")
    assert "run from 0 to 0.9 s, and the audio from 0 to 0.5 s" in row["message"]
    assert "1 clips, no phones" in run("prepare", *spans, "items=phone")


CLIPS = Cut.clips
