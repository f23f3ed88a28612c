"""Reading a run's folder: what is compared, what is missing, what is refused."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from rich.console import Console

from w2v_abx.abx.averaging import average_error
from w2v_abx.errors import InputError
from w2v_abx.report import Summary, print_summary, summarize, write_report
from w2v_abx.report.renderers import sections
from w2v_abx.report.section import Listing
from w2v_abx.report.summary import few, read_log


def printed(summary: Summary, width: int = 100) -> str:
    stream = io.StringIO()
    print_summary(summary, Console(file=stream, width=width))
    return stream.getvalue()


@pytest.fixture
def copy(run_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run_folder, tmp_path / "run"))


def test_baseline_decides_and_comparisons_are_written(copy: Path) -> None:
    summary = summarize(copy)
    assert summary.primary is not None
    assert (summary.primary.layer, summary.primary.condition) == (2, "across")
    assert summary.verdict.startswith("After training on sound<scape> & rain the model is worse")
    written = json.loads((copy / "comparisons.json").read_text())
    assert written["verdict"] == summary.verdict
    assert written["primary"] == {"layer": 2, "condition": "across"}
    assert written["seed"] == 3
    assert [(c["condition"], c["layer"]) for c in written["comparisons"]] == [
        (condition, layer) for condition in ("across", "within") for layer in range(4)
    ]


def test_primary_layer_from_the_configuration_or_given(copy: Path) -> None:
    config = copy / "config.yaml"
    config.write_text(config.read_text().replace("primary_layer: null", "primary_layer: 1"))
    assert "at layer 1" in summarize(copy).verdict
    assert "at layer 3" in summarize(copy, primary_layer=3).verdict
    with pytest.raises(InputError, match="primary_layer=9 was not scored; this run has the layers 0, 1, 2, 3"):
        summarize(copy, primary_layer=9)


def test_a_run_that_only_scored(copy: Path) -> None:
    shutil.rmtree(copy / "abx" / "after")
    summary = summarize(copy)
    assert summary.comparisons == []
    assert summary.verdict == "Nothing was compared: this run has no abx/after."
    assert not (copy / "comparisons.json").exists()


def test_half_a_row_at_the_end_of_a_log(copy: Path) -> None:
    whole = len((copy / "thermal.csv").read_text().splitlines()) - 1
    with (copy / "thermal.csv").open("a") as file:
        file.write("605,121,79")
    assert read_log(copy / "thermal.csv").height == whole


def test_models_scored_on_other_cells(copy: Path) -> None:
    table = copy / "abx" / "after" / "cells.parquet"
    pl.read_parquet(table)[1:].write_parquet(table)
    with pytest.raises(InputError, match=r"1 of \d+ cells before are not among those after"):
        summarize(copy)


def test_cells_that_do_not_go_with_their_summary(copy: Path) -> None:
    table = copy / "abx" / "before" / "cells.parquet"
    pl.read_parquet(table).filter(layer=0).write_parquet(table)
    with pytest.raises(InputError, match=r"holds other layers and conditions than summary\.json"):
        summarize(copy)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("head.json", "{", "head.json is not JSON"),
        ("head.json", "[]", "holds a list, not an object"),
        ("config.yaml", "a: [", "config.yaml is not YAML"),
        ("abx/before/summary.json", "{}", "is not an ABX summary"),
        ("abx/before/cells.parquet", "no parquet", "cells.parquet cannot be read"),
    ],
)
def test_a_broken_file_is_named(copy: Path, name: str, text: str, says: str) -> None:
    (copy / name).write_text(text)
    with pytest.raises(InputError, match=says):
        write_report(summarize(copy))


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a run's folder"):
        summarize(tmp_path / "nowhere")


def test_words_and_digits_as_well_as_phones(make_run: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", layers=1, speakers=3, phones=["0", "1", "2", "3"])
    for tag in ("before", "after", "mfcc", "random"):
        where = folder / "abx" / tag
        table = pl.read_parquet(where / "cells.parquet").rename({"#phone": "digit", "#phone_b": "digit_b"})
        table.with_columns(pl.col("digit", "digit_b").cast(pl.Int64)).write_parquet(where / "cells.parquet")
        stored = json.loads((where / "summary.json").read_text())
        (where / "summary.json").write_text(json.dumps(stored | {"on": "digit"}))
    summary = summarize(folder)
    assert "telling digits apart" in summary.verdict
    write_report(summary)
    shown = [str(part) for section in sections(summary) for part in section.parts if not isinstance(part, Listing)]
    words = " ".join([(folder / "report.html").read_text(), *shown, printed(summary)])
    assert "digit pairs" in words
    assert "phone" not in words.replace("#phone", "")


def with_config(folder: Path, **changes: Any) -> Path:
    config = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump({**config, **changes}))
    return folder


def with_facts(folder: Path, **facts: Any) -> Path:
    known = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(known | facts))
    return folder


def test_what_could_not_change_does_not_decide(copy: Path) -> None:
    summary = summarize(with_facts(copy, trainable_layers=[3]))
    assert summary.primary is not None
    assert (summary.primary.layer, summary.primary.condition) == (3, "across")
    assert "Layers 0 to 2 cannot have changed: nothing trained there or below." in summary.verdict
    assert [c.p_holm is not None for c in summary.comparisons] == [False] * 7 + [True]
    assert "Nothing trained below layer 3." in printed(summary)
    assert json.loads((copy / "comparisons.json").read_text())["trainable_layers"] == [3]
    assert "nothing trained in it or below" in summarize(copy, primary_layer=1).verdict
    nothing = summarize(with_facts(copy, trainable_layers=[]))
    assert "nothing can have changed in telling phones apart: nothing trained in the layers scored" in nothing.verdict
    assert "Nothing trained in any layer." in printed(nothing)


@pytest.mark.parametrize(
    ("before", "after", "names"),
    [
        ("outputs/demo/A", "outputs/demo/B", ("A", "B")),
        ("outputs/demo/one", "outputs/esc/one", ("demo/one", "esc/one")),
        ("outputs/x/abx/before", "outputs/x/abx/after", ("before", "after")),
        ("outputs/x", "outputs/x", ("outputs/x", "outputs/x")),
        ("x", "outputs/x", ("x", "outputs/x")),
    ],
)
def test_two_models_that_are_compared_are_named(copy: Path, before: str, after: str, names: tuple[str, str]) -> None:
    shutil.rmtree(copy / "abx" / "mfcc")
    shutil.rmtree(copy / "abx" / "random")
    summary = summarize(with_config(copy, before=before, after=after))
    assert summary.verdict.startswith(
        f"{names[0]} tells phones apart better than {names[1]}: ABX error across speakers"
    )
    text = printed(summary, 200)
    for word in ("baseline", "fine-tuned", "training", "forg", "No head was measured", "None"):
        assert word not in text
    assert "difference" in text
    for name in names:
        assert text.count(name) >= 3


def test_the_page_of_two_models_names_them(copy: Path) -> None:
    shutil.rmtree(copy / "abx" / "mfcc")
    shutil.rmtree(copy / "abx" / "random")
    write_report(summarize(with_config(copy, before="outputs/demo/A", after="outputs/demo/B")))
    page = (copy / "report.html").read_text().split("</style>")[1]
    for word in ("baseline", "Baseline", "ine-tuned", "training", "forg", "No head was measured", "None"):
        assert word not in page
    assert 'class="verdict"' in page  # which is neither good nor bad
    assert "difference" in page


def measured(copy: Path) -> Path:
    """A run of `w2v-abx abx` with MFCC beside the model."""
    for tag in ("before", "random", "after"):
        (copy / "abx" / tag).rename(copy / "abx" / "scores") if tag == "after" else shutil.rmtree(copy / "abx" / tag)
    return with_config(copy, tag="scores")


def test_a_model_alone_has_counts_intervals_and_a_report(copy: Path) -> None:
    summary = summarize(measured(copy))
    assert summary.verdict.startswith("ABX error of after across speakers: ")
    text = printed(summary, 120)
    assert "[95 % interval]" in text
    assert "15 phone pairs, 3 speakers, chance is 50 %. Intervals: over phones and speakers." in text
    assert "Delta" not in text
    write_report(summary)
    page = (copy / "report.html").read_text()
    for nothing in ("Nothing was compared", "No head", "not logged", "not watched", "None"):
        assert nothing not in page
    assert "Delta value across speakers" in page
    assert not few(summary.models["scores"])


@pytest.mark.parametrize(
    ("phones", "speakers", "says"),
    [
        (["a", "b"], 4, "1 phone pair; read the interval, not the error alone"),
        (["a", "b", "c", "d"], 2, "6 phone pairs and 2 speakers; read the interval, not the error alone"),
        (["a", "b", "c"], 2, "192 triplets and 3 phone pairs and 2 speakers"),
    ],
)
def test_few_data_are_warned_of(
    phones: list[str], speakers: int, says: str, make_run: Callable[..., Path], tmp_path: Path
) -> None:
    folder = measured(make_run(tmp_path / "run", phones=phones, speakers=speakers, layers=1))
    for path in folder.glob("abx/*/summary.json"):
        stored = json.loads(path.read_text())
        stored["scores"] = [row for row in stored["scores"] if row["triplets"]]
        path.write_text(json.dumps(stored))
    summary = summarize(folder)
    assert says in summary.verdict
    assert says in " ".join(few(summary.models["scores"]))


@pytest.mark.parametrize(
    "setting", [{"weighted": True}, {"levels": ["speaker"]}, {"levels": [["next-phone", "speaker"]]}]
)
def test_table_change_and_verdict_are_of_one_average(copy: Path, setting: dict[str, Any]) -> None:
    for tag in ("before", "after", "mfcc", "random"):
        where = copy / "abx" / tag
        cells = pl.read_parquet(where / "cells.parquet")
        size = pl.int_range(pl.len()).over("layer", "condition") % 17 + 1
        cells = cells.filter(pl.int_range(pl.len()).over("layer", "condition") % 5 != 0).with_columns(size=size)
        cells.write_parquet(where / "cells.parquet")
        stored = json.loads((where / "summary.json").read_text()) | setting
        (where / "summary.json").write_text(json.dumps(stored))
    summary = summarize(copy)
    for c in summary.comparisons:
        assert c.layer is not None
        assert c.condition is not None
        for tag, error in (("before", c.error_before), ("after", c.error_after)):
            assert summary.models[tag].errors[c.layer, c.condition].value == pytest.approx(error)
            part = summary.models[tag].select(c.layer, c.condition)
            levels = setting.get("levels", [])
            columns = ["#phone", "prev-phone", "next-phone", "speaker", "#phone_b", "score", "size"]
            expected = average_error(part.select(columns), "#phone", levels, weighted=setting.get("weighted", False))
            assert error == pytest.approx(expected)
