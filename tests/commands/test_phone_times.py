"""`w2v-abx prepare` with phone times: from a model, from TextGrids, to TextGrids and item files."""

import csv
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small import ARCHITECTURE
from tiny_ctc import save_ctc

from w2v_abx import audio
from w2v_abx.__main__ import main
from w2v_abx.abx import Items
from w2v_abx.encoder import Encoder
from w2v_abx.phones.textgrids import read_tier

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
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Run a command in an empty folder; its standard output, its lines unbroken."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["w2v-abx", *arguments])
        main()
        return capfd.readouterr().out

    return run


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
    assert "in data/shards/aloud/phone.item" in out
    assert "TextGrids: 5, below grids" in out
    shards = tmp_path / "data" / "shards" / "aloud"
    with (shards / "untimed.csv").open(newline="") as file:
        assert [(row["key"], row["reason"]) for row in csv.DictReader(file)] == [("lee/4", "no_text")]
    written = Items.read(shards / "phone.item")
    assert set(written.frame["#phone"]) == set("aikt")  # p begins its clip
    assert set(written.frame["speaker"]) == {"kim", "lee"}
    words = read_tier(tmp_path / "grids" / "lee" / "2.TextGrid", "words")
    assert [word for *_, word in words] == ["tak", "tik"]

    again = run("prepare", *read_aloud, "corpus=aloud", "align=ctc", f"align.model={model}", *items)
    assert "align 5/5" not in again
    bare = (shards / "phone.item").read_bytes()
    out = run("prepare", *read_aloud, "corpus=aloud", "align=textgrid", "align.folder=grids", *items)
    assert "without phone times: 1 clips, no_textgrid" in out
    assert (shards / "phone.item").read_bytes() == bare

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
