"""The page: whole, self-contained, safe, and honest about what is missing."""

import html
import io
import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from matplotlib.figure import Figure
from rich.console import Console

from w2v_abx.heads.head import HeadResult
from w2v_abx.report import Summary, print_summary, renderers, summarize, write_report
from w2v_abx.report.section import Drawing, Section, Table

FIGURES = ["curves_labels", "deltas", "head_labels", "layers", "pairs", "training"]


class Page(HTMLParser):
    """Tags, attributes, text, and the text of every table row."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.rows: list[list[str]] = []
        self.open: list[str] = []
        self.words = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data
        if self.open and self.open[-1] != "style":
            self.words += data.replace("\N{NO-BREAK SPACE}", " ")


@pytest.fixture
def copy(run_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run_folder, tmp_path / "outputs" / "run"))


@pytest.fixture(scope="module")
def whole(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = Path(shutil.copytree(run_folder, tmp_path_factory.mktemp("html") / "run"))
    assert write_report(summarize(copy)) == copy / "report.html"
    return copy


@pytest.fixture(scope="module")
def summary(whole: Path) -> Summary:
    return summarize(whole)


def read(folder: Path) -> Page:
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def test_every_table_value_and_the_verdict_are_there(whole: Path, summary: Summary) -> None:
    page = read(whole)
    assert page.open == []
    tables = [part for section in renderers.sections(summary) for part in section.parts if isinstance(part, Table)]
    assert [table.title for table in tables] == [
        *("ABX error across speakers (%)", "ABX error within speaker (%)", "Tests of the change"),
        "Pairs of phones that changed most surely: ABX error (%)",
        *("Delta value across speakers", "Delta value within speaker"),
        *("Scores of labels", "Categories of labels", "run.json"),
    ]
    for table in tables:
        assert list(table.columns) in page.rows
        for row in table.rows:
            assert list(row) in page.rows
    assert summary.verdict in page.words
    assert (whole / "config.yaml").read_text() in page.words


def test_nothing_from_outside_and_no_script(whole: Path) -> None:
    page = read(whole)
    assert not {"script", "link", "iframe", "object", "embed", "base"} & set(page.tags)
    for tag, name, value in page.attributes:
        if name in ("src", "href", "srcset", "action", "data", "poster"):
            assert (tag, name) == ("img", "src")
            assert value.startswith("data:image/png;base64,")
        assert not name.startswith("on")
    text = (whole / "report.html").read_text(encoding="utf-8")
    assert "@import" not in text
    assert "url(" not in text
    assert "http" not in text
    assert (whole / "report.html").stat().st_size < 2_000_000


def test_figures_are_saved_too_and_described(whole: Path) -> None:
    for ending, start in ((".png", b"\x89PNG"), (".svg", b"<?xml")):
        paths = sorted((whole / "figures").glob(f"*{ending}"))
        assert [path.stem for path in paths] == FIGURES
        assert all(path.read_bytes().startswith(start) for path in paths)
    texts = [value for tag, name, value in read(whole).attributes if (tag, name) == ("img", "alt")]
    assert len(texts) == len(FIGURES)
    assert all(texts)


def test_a_heads_confusion_is_drawn(copy: Path) -> None:
    heads = json.loads((copy / "head.json").read_text())
    confused = HeadResult({"accuracy": 0.875}, labels=["sit", "<b>"], confusion=[[3, 1], [0, 4]])
    (copy / "head.json").write_text(json.dumps({"valid": heads["valid"] | {"word": confused.plain()}}))
    write_report(summarize(copy))
    assert (copy / "figures" / "confusion_word.png").read_bytes().startswith(b"\x89PNG")
    page = read(copy)
    assert ["word", "accuracy", "0.875"] in page.rows
    assert any(name == "alt" and '"word"' in value for _, name, value in page.attributes)


def test_names_with_special_characters_are_shown_not_run(whole: Path) -> None:
    text = (whole / "report.html").read_text(encoding="utf-8")
    assert "sound<scape>" not in text
    assert html.escape("sound<scape> & rain") in text
    assert "<bell>" not in text
    assert ["cost $5 $", "-", "0.000", "-", "0"] in read(whole).rows


def test_missing_parts_are_said(copy: Path) -> None:
    for name in ("metrics.csv", "thermal.csv", "head.json", "config.yaml", "run.json"):
        (copy / name).unlink()
    shutil.rmtree(copy / "abx" / "after")
    write_report(summarize(copy))
    words = read(copy).words
    for sentence in (
        "The loss was not logged: there is no metrics.csv in this folder.",
        "Temperature was not watched: there is no thermal.csv in this folder.",
        "No head was measured: there is no head.json in this folder.",
        "The configuration was not recorded: there is no config.yaml in this folder.",
        "Versions and hardware were not recorded: there is no run.json in this folder.",
    ):
        assert sentence in words
    # On top, and where the pairs and the delta values would be drawn.
    assert words.count("Nothing was compared: this run has no abx/after.") == 3


def test_an_empty_folder_still_gives_a_page(tmp_path: Path) -> None:
    write_report(summarize(tmp_path))
    assert "No model was scored" in read(tmp_path).words


def test_a_machine_without_a_sensor(copy: Path) -> None:
    thermal = pl.read_csv(copy / "thermal.csv").with_columns(temperature=pl.lit(None), power=pl.lit(None))
    thermal.write_csv(copy / "thermal.csv")
    shutil.rmtree(copy / "abx")
    summary = summarize(copy)
    write_report(summary)
    assert "thermal.csv holds no temperature." in read(copy).words
    assert [axes.get_title("left") for axes in figures(summary)["training"].axes] == ["Loss", "Micro-batch"]


def figures(summary: Summary) -> dict[str, Figure]:
    parts = [part for section in renderers.sections(summary) for part in section.parts]
    return {part.name: part.figure() for part in parts if isinstance(part, Drawing)}


@pytest.fixture(scope="module")
def drawn(summary: Summary) -> dict[str, Figure]:
    return figures(summary)


def test_axes_have_labels_and_lines_hold_the_numbers(summary: Summary, drawn: dict[str, Figure]) -> None:
    layers = drawn["layers"].axes
    assert [axes.get_xlabel() for axes in layers] == ["layer", "layer"]
    assert layers[0].get_ylabel() == "ABX error (%)"
    lines = {line.get_label(): line for line in layers[0].lines}
    assert lines["MFCC"].get_ydata()[0] == pytest.approx(100 * summary.models["mfcc"].errors[0, "across"].value)
    heights = {c.get_label(): c.lines[0].get_ydata() for c in layers[0].containers}
    expected = [100 * summary.models["after"].errors[layer, "across"].value for layer in range(4)]
    assert heights["fine-tuned"] == pytest.approx(expected)
    pairs = drawn["pairs"].axes
    before, after, change = (axes.images[0].get_array() for axes in pairs[:3])
    assert np.allclose(after - before, change, equal_nan=True)
    assert pairs[0].get_xlabel() == "phone B"
    for axes in [*layers, *drawn["training"].axes, *drawn["deltas"].axes]:
        assert axes.get_title("left")


def test_loss_stands_over_the_minutes_of_its_steps(drawn: dict[str, Figure]) -> None:
    loss, temperature, _ = drawn["training"].axes
    # Step s was done at 5·s seconds.
    valid = next(line for line in loss.lines if line.get_label() == "valid/loss")
    assert valid.get_xdata() == pytest.approx(np.array([39, 79, 119]) * 5 / 60)
    assert temperature.get_ylabel() == "°C"


def test_two_phones_one_layer_one_speaker(copy: Path) -> None:
    for tag in ("before", "after", "mfcc", "random"):
        where = copy / "abx" / tag
        table = pl.read_parquet(where / "cells.parquet")
        few = table.filter(pl.col("layer") == 0, pl.col("condition") == "within", pl.col("speaker") == "s0")
        few = few.filter(pl.col("#phone").is_in(["p", "t"]), pl.col("#phone_b").is_in(["p", "t"]))
        few.write_parquet(where / "cells.parquet")
        stored = json.loads((where / "summary.json").read_text())
        stored["scores"] = [s for s in stored["scores"] if (s["layer"], s["condition"]) == (0, "within")]
        (where / "summary.json").write_text(json.dumps(stored))
    write_report(summarize(copy))
    assert "no interval" in read(copy).words


def test_a_new_kind_of_result_is_a_name_in_the_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pitch(summary: Summary) -> Section | None:
        path = summary.folder / "pitch.txt"
        if not path.is_file():
            return None
        table = Table("Pitch in Hz", ["layer", "error"], [["0", path.read_text()]])
        return Section("Pitch", [table], terminal=[table])

    monkeypatch.setattr(renderers, "RENDERERS", (pitch,))

    def shown() -> tuple[bool, bool]:
        summary, stream = summarize(tmp_path), io.StringIO()
        write_report(summary)
        print_summary(summary, Console(file=stream))
        return ["0", "12.5"] in read(tmp_path).rows, "Pitch in Hz" in stream.getvalue()

    assert shown() == (False, False)
    (tmp_path / "pitch.txt").write_text("12.5")
    assert shown() == (True, True)
