"""What the terminal shows at the end of a run."""

import io
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from w2v_abx.report import Summary, print_summary, summarize
from w2v_abx.report.renderers import sections
from w2v_abx.report.section import Table


def printed(summary: Summary, width: int = 80) -> str:
    stream = io.StringIO()
    print_summary(summary, Console(file=stream, width=width))
    return stream.getvalue()


@pytest.fixture(scope="module")
def summary(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Summary:
    copy = Path(shutil.copytree(run_folder, tmp_path_factory.mktemp("terminal") / "run"))
    (copy / "report.html").touch()
    return summarize(copy)


def test_every_number_and_the_verdict_in_eighty_columns(summary: Summary) -> None:
    text = printed(summary)
    words = " ".join(text.split())
    assert summary.verdict in words
    *_, last = text.strip().splitlines()
    assert last == f"Report: {summary.folder / 'report.html'}"
    assert all(len(line) <= 80 for line in text.splitlines() if not line.startswith("Report:"))
    tables = [part for section in sections(summary) for part in section.terminal]
    assert len(tables) == 5  # two of errors, two of delta values, one of heads
    for table in tables:
        assert isinstance(table, Table)
        assert table.title in words
        for row in table.rows:
            # No cell is folded, cut or torn apart: every row stands on a line of its own.
            assert any(line.split() == " ".join(row).split() for line in text.splitlines()), row
    for row in ("mAP 0.606", "ROC-AUC (macro) 0.824", "mAP of a guess 0.145", "clips 100"):
        assert f"labels valid {row}" in words
    assert "The run had no test split." in words


def test_no_escape_codes_and_no_markup_in_a_file(summary: Summary) -> None:
    text = printed(summary)
    assert "\x1b" not in text
    assert "sound<scape> & rain" in text


def test_brackets_in_names_are_no_markup(run_folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run_folder, tmp_path / "[bold]run"))
    config = copy / "config.yaml"
    config.write_text(config.read_text().replace("sound<scape> & rain", "'[red]rain[/]'"))
    assert "After training on [red]rain[/]" in printed(summarize(copy), width=120)


def test_missing_parts_are_said(run_folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run_folder, tmp_path / "run"))
    (copy / "head.json").unlink()
    shutil.rmtree(copy / "abx" / "before")
    text = printed(summarize(copy))
    assert "No head was measured: there is no head.json in this folder." in text
    assert "Nothing was compared: this run has no abx/before." in text
    assert "Report:" not in text
    assert "fine-tuned" in text
