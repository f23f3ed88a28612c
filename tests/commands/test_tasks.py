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


def rows(out: str) -> list[tuple[str, int]]:
    return [(row["condition"], row["cells"]) for row in json.loads(out.splitlines()[-1])["scores"]]


def test_speakers_and_both_contexts_beside_phones(run: Command, spoken: tuple[Path, Path], tmp_path: Path) -> None:
    """Any speech takes them: here an item file, of two phones in one context by two speakers, three times each."""
    Encoder.random(ARCHITECTURE).save(tmp_path / "model")
    asked = ("abx=item_file", f"abx.items={spoken[0]}", f"abx.root={spoken[1]}", "abx.layers=[0]", "baselines=[]")
    model = ("model=local", "model.source=model")
    out = run("abx", *asked, *model, "abx.context=[within,any]", "abx.also=[speaker]", "hydra.run.dir=first")
    found = ["within", "across", "within_any", "across_any", "speaker", "speaker_any"]
    assert rows(out) == [(condition, 4) for condition in found]
    page = (tmp_path / "first" / "report.html").read_text()
    for table in ("across speakers", "across speakers in any context", "on speaker", "on speaker in any context"):
        assert f"ABX error {table} (%)" in page
    assert "1 speaker pair" in page
    # Of phones and of speakers a sentence each, and nothing of speakers decides.
    Encoder.random(ARCHITECTURE, seed=1).save(tmp_path / "model")
    asked = (*asked, *model, "abx.context=[within,any]")
    run("abx", *asked, "abx.also=[speaker]", "hydra.run.dir=second")
    run("compare", "before=first", "after=second", "hydra.run.dir=both")
    compared = json.loads((tmp_path / "both" / "comparisons.json").read_text())
    assert compared["primary"]["condition"] == "across"
    assert {(c["condition"], c["on"], c["family"]) for c in compared["comparisons"]} == {
        ("across", "#phone", 1), ("within", "#phone", 3), ("within_any", "#phone", 3), ("across_any", "#phone", 3),
        ("speaker", "speaker", 2), ("speaker_any", "speaker", 2),
    }  # fmt: skip
    assert " in telling phones apart" in compared["verdict"]
    assert " Telling speakers apart (exploratory, by Holm's correction over 2 comparisons): " in compared["verdict"]
    # Instead of phones: the same numbers, and the verdict is on them.
    alone = run("abx", *asked, "abx.task=speaker", "hydra.run.dir=alone")
    beside = json.loads((tmp_path / "second" / "abx" / "scores" / "summary.json").read_text())["scores"]
    errors = {row["condition"]: row["error"] for row in beside}
    assert {row["condition"]: row["error"] for row in json.loads(alone.splitlines()[-1])["scores"]} == {
        condition: errors[condition] for condition in ("speaker", "speaker_any")
    }
    run("abx", *asked, "abx.task=speaker", "abx.slicing=librilight", "hydra.run.dir=sliced")
    assert "abx.slicing=librilight" in (tmp_path / "sliced" / "report.html").read_text()
    with pytest.raises(SystemExit):
        run("compare", "before=alone", "after=sliced")


def test_tones_of_whole_files_and_of_syllables_in_speech(
    run: Command, syllables: tuple[str, ...], tmp_path: Path
) -> None:
    named = "abx.pattern='(?P<speaker>[^/]+)/(?P<syllable>[^/0-9]+)(?P<tone>[0-9])$'"
    asked = ("abx=words", "abx.root=syllables", named, "abx.task=tone", "abx.speaker=across", "abx.also=[speaker]")
    found = rows(run("abx", *syllables, *asked, "abx.on=tone"))
    # six syllables with two tones each, by two voices; then the voices, of each tone
    assert found == [("across", 6 * 2 * 2), ("speaker", 2 * 2)]
    few = [f"abx.speech.corpus.{key}" for key in ("speakers=3", "consonants=2", "vowels=2", "repetitions=4")]
    spoken = run("abx", *syllables, "abx=espeak_mandarin", *few, "abx.speaker=across", "paths.data=data")
    # three voices, two words of which each syllable has four tones: ordered pairs of voices and of tones
    assert rows(spoken) == [("across", 3 * 2 * 4 * 2 * 4 * 3)]


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
        ("abx.task=tone", "no column 'syllable', which the task needs (they have: speaker, initial, final, tone"),
        ("abx.also=[sex]", "abx.also='sex' must be one of speaker, tone"),
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
