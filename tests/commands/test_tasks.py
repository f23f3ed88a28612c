"""ON, BY and ACROSS over any labels, and whole files as items, from YAML and the command line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from small import ARCHITECTURE

from w2v_abx import audio
from w2v_abx.abx import Items
from w2v_abx.models.encoder import Encoder

Command = Callable[..., str]

TONES = """
defaults: [words]
root: syllables
pattern: '(?P<speaker>[^/]+)/(?P<initial>[bdm])?(?P<final>[^/0-9]+)(?P<tone>[0-9])$'
"on": tone
"""


@pytest.fixture
def syllables(tmp_path: Path) -> tuple[str, ...]:
    """Two voices that say two finals with two tones, after two initials or none; and a preset ``tones``."""
    rng = np.random.default_rng(0)
    for voice in ("ann", "bob"):
        for name in (f"{initial}{final}{tone}" for initial in ("b", "d", "") for final in ("ā", "i") for tone in "14"):
            samples = (0.1 * rng.standard_normal(6_400)).astype(np.float32)
            audio.save(tmp_path / "syllables" / voice / f"{name}.wav", samples)
    (tmp_path / "mine" / "abx").mkdir(parents=True)
    (tmp_path / "mine" / "abx" / "tones.yaml").write_text(TONES, encoding="utf-8")
    Encoder.random(ARCHITECTURE).save(tmp_path / "model")
    return "--config-dir", "mine", "abx.layers=[0]", "model=local", "model.source=model"


def scored(out: str) -> dict[str, Any]:
    (row,) = json.loads(out.splitlines()[-1])["scores"]
    return row


@pytest.mark.parametrize(
    ("asked", "condition", "cells", "triplets"),
    [
        # (tone, other tone) of a final and voice, X of the other voice; three initials each
        (["abx.by=[final]", "abx.across=[speaker]"], "by final across speaker", 2 * 2 * 2, 8 * 27),
        (["abx.by=[initial,final]", "abx.across=[speaker]"], "by initial, final across speaker", 3 * 2 * 2 * 2, 24),
        (["abx.by=final", "abx.across=speaker"], "by final across speaker", 8, 8 * 27),
        (["abx.by=[final,speaker]", "abx.across=[initial]"], "by final, speaker across initial", 2 * 2 * 2 * 6, 48),
        # within a voice, and of one voice alone
        (["abx.by=[final,speaker]"], "by final, speaker", 2 * 2 * 2, 8 * 3 * 2 * 3),
        (
            ["abx.root=syllables/ann", "abx.by=[final]", "abx.pattern='(?P<final>.)(?P<tone>[14])$'"],
            "by final",
            4,
            4 * 18,
        ),
        # no BY and no ACROSS: all tokens of a tone, whatever they are
        ([], "over all items", 2, 2 * 12 * 11 * 12),
        (["abx.on=final", "abx.across=[speaker,tone]"], "across speaker, tone", 2 * 2 * 2, 8 * 27),
        # the other way round: as speaker and context say
        (["abx.by=null", "abx.across=null", "abx.context=any", "abx.speaker=across"], "across", 4, 4 * 6**3),
    ],
)
def test_any_task_over_whole_files(
    run: Command, syllables: tuple[str, ...], asked: list[str], condition: str, cells: int, triplets: int
) -> None:
    found = scored(run("abx", *syllables, "abx=tones", *asked))
    assert (found["condition"], found["cells"], found["triplets"]) == (condition, cells, triplets)


def test_labels_of_a_table(run: Command, syllables: tuple[str, ...], tmp_path: Path) -> None:
    paths = sorted((tmp_path / "syllables").rglob("*.wav"))
    rows = [f"{path.relative_to(tmp_path / 'syllables')};{path.stem[-1]};{path.parent.name}\n" for path in paths]
    (tmp_path / "syllables" / "said.csv").write_text("file;said;who\n" + "".join(rows), encoding="utf-8")
    asked = ("abx=words", "abx.root=syllables", "abx.table=said.csv", "abx.columns={tone: said, speaker: who}")
    found = scored(run("abx", *syllables, *asked, "abx.on=tone", "abx.across=[speaker]"))
    assert (found["cells"], found["triplets"]) == (4, 4 * 6**3)


def test_columns_of_an_item_file(run: Command, spoken: tuple[Path, Path], syllables: tuple[str, ...]) -> None:
    items = Items.read(spoken[0]).frame.with_columns(pl.Series("take", ["x", "y", "x"] * 4))
    Items(items).write(spoken[0])
    asked = ("abx=item_file", f"abx.items={spoken[0]}", f"abx.root={spoken[1]}")
    found = scored(run("abx", *syllables, *asked, "abx.by=[take]", "abx.across=[speaker]"))
    assert (found["condition"], found["cells"]) == ("by take across speaker", 8)
    found = scored(run("abx", *syllables, *asked, 'abx.by=["#phone"]', "abx.on=speaker"))
    assert (found["condition"], found["cells"]) == ("by #phone", 4)


def test_a_report_of_such_a_task(run: Command, syllables: tuple[str, ...], tmp_path: Path) -> None:
    """Runs are compared, and pages written, whatever the condition is called; without speakers, too."""
    for tag, seed in (("one", 0), ("two", 1)):
        Encoder.random(ARCHITECTURE, seed=seed).save(tmp_path / "model")
        run("abx", *syllables, "abx=tones", "abx.on=final", "abx.by=[tone]", f"hydra.run.dir=runs/{tag}")
        assert not (tmp_path / "runs" / tag / "abx" / "scores" / "speakers.csv").exists()
        assert (tmp_path / "runs" / tag / "abx" / "scores" / "pairs.csv").exists()
    assert "by tone" in run("compare", "before=runs/one", "after=runs/two")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            "abx.by=[vowel]",
            "The items have no column 'vowel', which the task needs (they have: speaker, initial, final, tone",
        ),
        ("abx.by=[tone]", "The task names the column 'tone' twice"),
        ("abx.across=[onset]", "The column 'onset' cannot be part of a task"),
        ("abx.root=???", "abx.root is missing; give abx.root="),
        ("abx.pattern=null", "the files of words have no labels: give abx.pattern"),
        (
            "abx.on=speaker abx.by=[final,initial,tone]",
            "two values of speaker that share final, initial, tone, one of them with two items",
        ),
    ],
)
def test_a_task_that_cannot_be_is_one_line(
    run: Command, syllables: tuple[str, ...], capfd: pytest.CaptureFixture[str], asked: str, message: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        run("abx", *syllables, "abx=tones", "abx.by=[final]", *asked.split())
    assert message in (stopped.value.code if isinstance(stopped.value.code, str) else capfd.readouterr().err)
