"""The sections of the heads: scores, curves, confusions and transcripts."""

import base64
import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import soundfile as sf
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from rich.console import Console

from w2v_abx.audio.encoding import save
from w2v_abx.heads.head import HeadResult, ResultTable
from w2v_abx.report import print_summary, summarize, write_report
from w2v_abx.report.categories import MAX_BARS, MAX_LABELS, confusions
from w2v_abx.report.heads import render
from w2v_abx.report.section import Drawing, Section, Table, Transcripts
from w2v_abx.report.transcripts import clip_path

ODD_KEY = 'a<b>&"c" é/..\u4f60 ' + "long" * 60


@pytest.fixture
def run(run_folder: Path, tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(run_folder, tmp_path / "run"))
    shutil.rmtree(folder / "abx")
    return folder


def write(folder: Path, **splits: dict[str, HeadResult]) -> None:
    plain = {split: {name: head.plain() for name, head in heads.items()} for split, heads in splits.items()}
    (folder / "head.json").write_text(json.dumps(plain))


def sections(folder: Path) -> dict[str, Section]:
    return {section.title: section for section in render(summarize(folder))}


def tables(section: Section) -> dict[str, Table]:
    return {part.title: part for part in section.parts if isinstance(part, Table)}


def figures(section: Section) -> dict[str, Figure]:
    return {part.name: part.figure() for part in section.parts if isinstance(part, Drawing)}


def confused(labels: Sequence[str], counts: Any, **options: Any) -> HeadResult:
    counts = np.asarray(counts)
    rows = [
        {"category": label, "recall": n / max(1, total)}
        for label, n, total in zip(labels, counts.diagonal(), counts.sum(1), strict=True)
    ]
    return HeadResult({"accuracy": 0.5}, rows, drawn="recall", labels=labels, confusion=counts.tolist(), **options)


def printed(folder: Path) -> str:
    stream = io.StringIO()
    print_summary(summarize(folder), Console(file=stream, width=80))
    return " ".join(stream.getvalue().split())


def test_splits_stand_beside_each_other_with_their_intervals(run: Path) -> None:
    titles = {"per": "PER, folded to 39"}
    valid = HeadResult({"per": 0.2, "clips": 1234}, intervals={"per": (0.15, 0.25)}, over="50 speakers", titles=titles)
    test = HeadResult(
        {"per": 0.3, "clips": 99},
        intervals={"per": (0.2, 0.4)},
        over="24 speakers",
        titles=titles,
        notes=["sil counts."],
    )
    only_valid = HeadResult({"accuracy": 0.75, "nothing": None})
    write(run, valid={"phones": valid, "sex": only_valid}, test={"phones": test})
    found = sections(run)
    assert list(found) == ["Heads", 'Head "phones"', 'Head "sex"']
    scores = tables(found['Head "phones"'])["Scores of phones"]
    assert list(scores.columns) == ["metric", "valid", "test"]
    assert scores.rows == [
        ["PER, folded to 39", "0.200 [0.150, 0.250]", "0.300 [0.200, 0.400]"],
        ["clips", "1,234", "99"],
    ]
    assert "over 50 speakers (valid) and 24 speakers (test)" in scores.note
    assert scores.note.endswith("sil counts.")
    beside = tables(found["Heads"])["Heads on held-out clips"]
    assert [row[:2] for row in beside.rows] == [["phones", "PER, folded to 39"], ["sex", "accuracy"]]
    assert beside.rows[1][2:] == ["0.750", "-"]
    text = printed(run)
    assert "phones test PER, folded to 39 0.300 [0.200, 0.400]" in text  # on the terminal what decides alone
    assert "sex valid accuracy 0.750" in text
    assert "0.150" not in text
    assert "1,234" not in text
    assert "phones over 24 speakers" in text
    assert "no test split" not in text


def test_a_run_without_a_test_split_says_so(run: Path) -> None:
    write(run, valid={"sex": HeadResult({"accuracy": 0.75})})
    assert any(isinstance(part, str) and "no test split" in part for part in sections(run)['Head "sex"'].parts)
    assert "The run had no test split." in printed(run)


def test_scores_in_noise_say_so(run: Path) -> None:
    head = HeadResult({"per": 0.3})
    write(run, valid={"phones": head}, test={"phones": head})
    said = "Clips of valid and test had noise in them, at 5, 10 dB (noise.snr)."
    settings = (run / "config.yaml").read_text()
    for splits, there in ((["train", "valid", "test"], True), (["train"], False)):
        (run / "config.yaml").write_text(f"{settings}noise: {{snr: [5, 10], splits: {splits}}}\n")
        assert (said in printed(run)) == there
        assert (said in tables(sections(run)['Head "phones"'])["Scores of phones"].note) == there


def test_the_matrix_is_ordered_by_group_with_lines_between(run: Path) -> None:
    labels, groups = ["i", "t", "a", "s", "k"], ["vowel", "stop", "vowel", "fricative", "stop"]
    counts = np.arange(25).reshape(5, 5)
    write(run, valid={"phones": confused(labels, counts, groups=groups)})
    axes = figures(sections(run)['Head "phones"'])["confusion_phones"].axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["i", "a", "t", "k", "s"]
    order = [0, 2, 1, 4, 3]
    expected = counts[np.ix_(order, order)] / counts.sum(1)[order][:, None]
    assert np.allclose(axes.images[0].get_array(), expected)
    assert sorted({line.get_ydata()[0] for line in axes.lines if len(set(line.get_ydata())) == 1}) == [1.5, 3.5]
    (right,) = axes.child_axes
    assert [label.get_text() for label in right.get_yticklabels()] == ["vowel", "stop", "fricative"]


@given(
    st.integers(2, 6).flatmap(
        lambda n: st.lists(st.lists(st.integers(0, 3), min_size=n, max_size=n), min_size=n, max_size=n)
    )
)
def test_the_most_frequent_confusions_are_those(counts: list[list[int]]) -> None:
    labels = [f"c{number}" for number in range(len(counts))]
    wrong = [(n, i, j) for i, row in enumerate(counts) for j, n in enumerate(row) if n and i != j]
    expected = [
        [f"c{i}", f"c{j}", str(n), f"{n / sum(counts[i]):.3f}"]
        for n, i, j in sorted(wrong, key=lambda w: (-w[0], w[1:]))
    ]
    table = confusions("x", "", {"labels": labels, "confusion": counts})
    assert list(table.rows) == expected[: len(table.rows)]
    assert len(table.rows) == min(20, len(wrong))


def test_hundreds_of_categories_stay_readable(run: Path) -> None:
    speakers = [f"s{number:03d}" for number in range(389)]
    counts = np.eye(389, dtype=int) * 9
    counts[7, 8] = 5
    by_speaker = ResultTable("By speaker", ["speaker", "PER"], [[speaker, 0.25] for speaker in speakers])
    write(run, valid={"speaker": confused(speakers, counts, tables=[by_speaker])})
    section = sections(run)['Head "speaker"']
    drawn = {part.name: part for part in section.parts if isinstance(part, Drawing)}
    assert len(speakers) > MAX_LABELS
    assert "confusion_speaker" not in drawn
    assert drawn["head_speaker"].size[1] < 15
    assert f"The lowest {MAX_BARS}; {389 - MAX_BARS} more are in the table." in drawn["head_speaker"].text
    found = tables(section)
    assert found["Most frequent confusions of speaker"].rows == [["s007", "s008", "5", "0.357"]]
    assert all(found[title].folded for title in ("Categories of speaker", "By speaker"))


def test_curves_go_to_the_head_whose_name_is_longest(run: Path) -> None:
    heads = {name: HeadResult({"accuracy": 0.5}) for name in ("tones", "tones_sex")}
    write(run, valid=heads)
    steps = np.arange(0, 60, 20)
    logged = {"step": steps, "train/loss": 1.0}
    for name, first in (("tones", 4.0), ("tones_sex", 2.0)):
        logged |= {f"{phase}/{name}_loss": first * 0.5 ** (steps / 20) for phase in ("train", "valid")}
        logged |= {f"train/{name}_weight": np.linspace(1, first, 3), f"valid/{name}_accuracy": steps / 60}
    pl.DataFrame(logged).write_csv(run / "metrics.csv")
    found = sections(run)
    for name, first in (("tones", 4.0), ("tones_sex", 2.0)):
        loss, accuracy = figures(found[f'Head "{name}"'])[f"curves_{name}"].axes[:2]
        assert [axes.get_title("left") for axes in (loss, accuracy)] == ["loss", "accuracy"]
        assert [line.get_label() for line in loss.lines] == ["train", "valid"]
        assert loss.lines[1].get_ydata() == pytest.approx([first, first / 2, first / 4])
        assert loss.lines[1].get_xdata() == pytest.approx(steps)
    convergence, weights = figures(found["Heads"])["heads"].axes
    assert [line.get_ydata() for line in convergence.lines] == [pytest.approx([1, 0.5, 0.25])] * 2
    assert [line.get_ydata()[-1] for line in weights.lines] == [4.0, 2.0]


def test_each_quantity_has_a_plot_and_no_plot_is_empty(run: Path) -> None:
    title = "accuracy of segments (majority of their frames, silent ones left out)"
    write(run, valid={"tones": HeadResult({"accuracy": 0.5}, titles={"d": title})})
    steps = np.arange(3)
    pl.DataFrame({"step": steps} | {f"valid/tones_{what}": steps for what in ("loss", "a", "b", "c", "d")}).write_csv(
        run / "metrics.csv"
    )
    axes = figures(sections(run)['Head "tones"'])["curves_tones"].axes
    assert [one.get_title("left").replace("\n", " ") for one in axes if one.axison] == ["loss", "a", "b", "c", title]
    assert all(len(line) < 40 for one in axes for line in one.get_title("left").splitlines())
    assert all(one.lines for one in axes if one.axison)


def test_a_head_that_is_not_rated_has_its_curve(run: Path) -> None:
    (run / "head.json").unlink()
    (run / "config.yaml").write_text("name: x\nobjective:\n  heads:\n    labels: {layers: 1}\n    none: null\n")
    found = sections(run)
    assert list(found) == ["Heads", 'Head "labels"']
    assert "labels was trained and not rated." in found['Head "labels"'].parts
    assert "curves_labels" in figures(found['Head "labels"'])


def transcript(key: str, reference: list[str], hypothesis: list[str], errors: int) -> dict[str, Any]:
    said = {"reference": reference, "hypothesis": hypothesis, "errors": errors, "symbols": len(reference)}
    return {"key": key, "corpus": "c", "speaker": "s1", "which": "worst", **said}


def test_transcripts_are_aligned_and_short_ones_are_heard(run: Path) -> None:
    said = [
        transcript(ODD_KEY, ["dh", "ax", " ", "<k>"], ["dh", "k", "ax", "<k>"], 2),
        transcript("unheard", ["a"], [], 1),
    ]
    write(run, valid={"phones": HeadResult({"per": 0.5}, transcripts=said)})
    sound = np.random.default_rng(0).uniform(-0.1, 0.1, 1600).astype(np.float32)
    save(clip_path(run, "phones", "c", ODD_KEY), sound)
    (part,) = [part for part in sections(run)['Head "phones"'].parts if isinstance(part, Transcripts)]
    assert part.title == "Transcripts of phones: 2 worst"
    for shown, given_ in zip(part.transcripts, said, strict=True):
        assert [reference for reference, _ in shown.pairs if reference] == given_["reference"]
        assert [hypothesis for _, hypothesis in shown.pairs if hypothesis] == given_["hypothesis"]
        assert sum(reference != hypothesis for reference, hypothesis in shown.pairs) == given_["errors"]
    moved = run.rename(run.with_name("moved"))  # the folder alone is enough
    write_report(summarize(moved))
    page = (moved / "report.html").read_text(encoding="utf-8")
    (address,) = [part.split('"')[0] for part in page.split('<audio controls preload="none" src="')[1:]]
    kind, _, data = address.partition(",")
    assert kind == "data:audio/flac;base64"
    heard, rate = sf.read(io.BytesIO(base64.b64decode(data)))
    assert rate == 16000
    assert heard == pytest.approx(sound, abs=1e-4)
    assert page.count('class="differs"') == 3
    assert "<i>&lt;k&gt;</i>" in page
    assert "a<b>" not in page


TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=200)


@given(TEXTS, TEXTS)
def test_any_key_has_a_file_name_of_its_own(key: str, corpus: str) -> None:
    path = clip_path(Path("run"), "head", corpus, key)
    assert path.parent == Path("run/heads/head")
    assert path.name.isascii()
    assert len(path.name) <= 100
    assert path != clip_path(Path("run"), "head", corpus, f"{key}.")


def test_a_validation_that_repeats_the_last_one_is_no_second_point(run: Path) -> None:
    write(run, valid={"tones": HeadResult({"accuracy": 0.5})})
    logged = {"step": [0.0, 9.0, 9.0, 10.0], "valid/tones_loss": [None, None, 2.0, 2.0]}
    pl.DataFrame(logged | {"train/tones_loss": [4.0, 3.0, None, None]}).write_csv(run / "metrics.csv")
    loss = figures(sections(run)['Head "tones"'])["curves_tones"].axes[0]
    assert loss.lines[1].get_xdata() == pytest.approx([9])
