"""What the heads reach on held-out clips: a section for all of them, and one for each."""

from collections.abc import Container, Mapping
from dataclasses import replace
from typing import Any

from w2v_abx.report import categories, curves, transcripts
from w2v_abx.report.section import NONE, Drawing, Section, Table, Transcripts, gap, number
from w2v_abx.report.summary import Summary, read_json

__all__ = ["render", "scores"]

FILE = "head.json"  # results by split, "valid" or "test", and head
OPEN_ROWS = 12  # a longer table is folded

Results = Mapping[str, Mapping[str, Mapping[str, Any]]]


def render(summary: Summary) -> list[Section]:
    """Make a section that has the heads beside each other, where there are several, and each head's own."""
    if summary.command != "train":
        return []
    results, logged = _results(summary), curves.read(summary)
    names = list(dict.fromkeys([*(name for heads in results.values() for name in heads), *logged]))
    table = scores(summary) or gap(summary.folder / FILE, "No head was measured")
    first: list[Table | Drawing | str] = [table] if isinstance(table, str) else []
    if len(names) > 1:
        first = [*(first or [_beside(results)]), *curves.compared(logged)]
    sections = [Section(f'Head "{name}"', _of_head(summary, results, logged, name)) for name in names]
    sections = [Section("Heads", first)] * bool(first) + sections
    return [replace(sections[0], terminal=[table]), *sections[1:]]


def scores(summary: Summary) -> Table | None:
    """Tabulate the heads' decisive metrics on the split that decides: test, or valid where there is no test; None: no
    head was measured."""
    parts = {name: (split, part) for split, heads in _results(summary).items() for name, part in heads.items()}
    if not parts:
        return None
    rows = [
        [name, split, part["titles"].get(metric, metric), _score(part, metric)]
        for name, (split, part) in parts.items()
        for metric in _decisive(part)
    ]
    over = [f"{name} over {part['over']}" for name, (_, part) in parts.items() if part["intervals"] and part["over"]]
    note = [f"In brackets: 95 % intervals, of {', '.join(over)}."] * bool(over)
    note += _noise(summary)
    note += ["The run had no test split."] * all(split == "valid" for split, _ in parts.values())
    return Table("Heads on held-out clips", ["head", "split", "metric", "value"], rows, " ".join(note))


def _noise(summary: Summary) -> list[str]:
    """Say that held-out clips had noise, where they had."""
    noise = summary.config.get("noise") or {}
    splits = [split for split in noise.get("splits", []) if split != "train"]
    if not splits:
        return []
    levels = noise["snr"] if isinstance(noise["snr"], list) else [noise["snr"]]
    return [f"Clips of {' and '.join(splits)} had noise in them, at {', '.join(map(str, levels))} dB (noise.snr)."]


def _decisive(part: Mapping[str, Any]) -> list[str]:
    """Choose the metrics with an interval or, where there are none of these, all that have a value."""
    there = [metric for metric, value in part["metrics"].items() if value is not None]
    return [metric for metric in there if metric in part["intervals"]] or there


def _beside(results: Results) -> Table:
    """The decisive metrics of all heads, the splits beside each other."""
    rows = []
    for name in dict.fromkeys(name for heads in results.values() for name in heads):
        parts = {split: heads[name] for split, heads in results.items() if name in heads}
        decisive = {metric for part in parts.values() for metric in _decisive(part)}
        rows += [[name, *row] for row in _scores(results, parts, decisive)]
    note = "What the intervals are over stands in each head's section." if any(" [" in row[-1] for row in rows) else ""
    return Table("Heads on held-out clips", ["head", "metric", *results], rows, note)


def _results(summary: Summary) -> Results:
    """Read the results by split; one without any is left out."""
    return {split: heads for split, heads in read_json(summary.folder / FILE).items() if heads}


def _scores(results: Results, parts: Mapping[str, Mapping[str, Any]], chosen: Container[str]) -> list[list[str]]:
    """A row for each metric that is ``chosen``; a column for each split."""
    titles = _titles(parts)
    metrics = dict.fromkeys(metric for part in parts.values() for metric in part["metrics"])
    return [
        [titles.get(metric, metric), *(_score(parts.get(split, {}), metric) for split in results)]
        for metric in metrics
        if metric in chosen
    ]


def _titles(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    return {metric: title for part in parts.values() for metric, title in part["titles"].items()}


def _score(part: Mapping[str, Any], metric: str) -> str:
    """A metric with its interval, where it has one."""
    text = _cell(part.get("metrics", {}).get(metric))
    if bounds := part.get("intervals", {}).get(metric):
        low, high = (number(bound, ".3f") for bound in bounds)
        return f"{text} [{low}, {high}]"
    return text


def _over(parts: Mapping[str, Mapping[str, Any]]) -> str:
    """Say what the intervals of a head are over."""
    over = {split: part["over"] for split, part in parts.items() if part["intervals"] and part["over"]}
    texts = [f"{units} ({split})" if len(over) > 1 else units for split, units in over.items()]
    return f"In brackets: 95 % intervals over {' and '.join(texts)}." if texts else ""


def _of_head(
    summary: Summary, results: Results, logged: curves.Logged, name: str
) -> list[Table | Drawing | Transcripts | str]:
    parts = {split: heads[name] for split, heads in results.items() if name in heads}
    found: list[Table | Drawing | Transcripts | str] = []
    if parts:
        notes = dict.fromkeys([*_noise(summary), *(note for part in parts.values() for note in part["notes"])])
        measured = {m for part in parts.values() for m, value in part["metrics"].items() if value is not None}
        rows = _scores(results, parts, measured)
        found.append(Table(f"Scores of {name}", ["metric", *results], rows, " ".join([_over(parts), *notes]).strip()))
        if "test" not in results:
            found.append("The run had no test split: its numbers are those of the validation clips.")
    else:
        found.append(f"{name} was trained and not rated.")
    found += curves.of_head(logged, name, _titles(parts))
    found += categories.drawings(name, parts)
    for split, part in parts.items():
        where = f" on {split}" if len(parts) > 1 else ""
        if part["rows"]:
            found.append(_category_table(name, where, part))
        if part["confusion"]:
            found.append(categories.confusions(name, where, part))
        found += [_further(where, table) for table in part["tables"]]
        if part["transcripts"]:
            found.append(transcripts.part(summary.folder, name, where, part["transcripts"]))
    return found


def _category_table(name: str, where: str, part: Mapping[str, Any]) -> Table:
    """What is known of each category of one head."""
    columns = list(part["rows"][0])
    rows = [[_cell(row[column]) for column in columns] for row in part["rows"]]
    titles = [part["titles"].get(column, column) for column in columns]
    dash = "A dash: no held-out clip tells (precision: none was taken for the category)."
    note = dash if any(NONE in row for row in rows) else ""
    return Table(f"Categories of {name}{where}", titles, rows, note, folded=f"Numbers for {name}{where}")


def _further(where: str, table: Mapping[str, Any]) -> Table:
    rows = [[_cell(value) for value in row] for row in table["rows"]]
    title = f"{table['title']}{where}"
    return Table(title, table["columns"], rows, folded=title if len(rows) > OPEN_ROWS else "")


def _cell(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return number(value, ".3f") if isinstance(value, float | None) else str(value)
