"""What the heads reach on held-out clips."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from w2v_abx.report.section import COLOURS, NONE, Drawing, Section, Table, gap, number
from w2v_abx.report.summary import Summary, read_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["render"]


def render(summary: Summary) -> Section | None:
    if summary.command != "train":
        return None
    path = summary.folder / "head.json"
    heads = read_json(path).get("valid", {})
    rated = [
        [name, head["titles"].get(metric, metric), number(value, ".3f") if isinstance(value, float) else str(value)]
        for name, head in heads.items()
        for metric, value in head["metrics"].items()
        if value is not None
    ]
    first = Table("Heads on held-out clips", ["head", "metric", "value"], rated) if rated else None
    shown: list[Table | str] = [first or gap(path, "No head was measured")]
    parts: list[Table | Drawing | str] = list(shown)
    for name, head in heads.items():
        if head["drawn"]:
            parts.append(_categories(name, head))
        if head["confusion"]:
            parts.append(_confusion(name, head))
        if head["rows"]:
            parts.append(_category_table(name, head))
    return Section("Head", parts, terminal=shown)


def _category_table(name: str, head: Mapping[str, Any]) -> Table:
    """What is known of each category of one head."""
    columns = list(head["rows"][0])
    values = [[row[column] for column in columns] for row in head["rows"]]
    rows = [[number(v, ".3f") if isinstance(v, float | None) else str(v) for v in row] for row in values]
    titles = [head["titles"].get(column, column) for column in columns]
    note = "A dash: no held-out clip tells." if any(NONE in row for row in rows) else ""
    return Table(f"Categories of {name}", titles, rows, note, folded=f"Numbers for {name}")


def _categories(name: str, head: Mapping[str, Any]) -> Drawing:
    """What a head reaches in each category, beside what a guess would give."""
    column = head["drawn"]
    title = head["titles"].get(column, column)
    rated = [row for row in head["rows"] if row[column] is not None]
    rated.sort(key=lambda row: (row[column], row["category"]))

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        y = np.arange(len(rated))
        axes.barh(y, [row[column] for row in rated], color=COLOURS["before"], height=0.7)
        if rated and "guess" in rated[0]:
            guess = [row["guess"] for row in rated]
            axes.plot(guess, y, "|", color="black", markersize=11, markeredgewidth=2, label="a guess")
            axes.legend(loc="lower right")
        axes.set_yticks(y, [row["category"] for row in rated])
        axes.set(title=f'Head "{name}" on held-out clips', xlabel=title, xlim=(0, 1), ylim=(-0.6, len(rated) - 0.4))
        axes.grid(axis="y", visible=False)

    text = f'{title[0].upper()}{title[1:]} of the head "{name}" for each category.'
    return Drawing(f"head_{name}", text, (8.5, 1.2 + 0.26 * max(len(rated), 3)), draw)


def _confusion(name: str, head: Mapping[str, Any]) -> Drawing:
    """How often each category was taken for each, as a proportion of its clips."""
    labels, counts = head["labels"], np.array(head["confusion"], dtype=float)

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        proportions = counts / np.maximum(1, counts.sum(1, keepdims=True))
        image = axes.imshow(proportions, vmin=0, vmax=1, cmap="Blues")
        figure.colorbar(image, ax=axes, label="proportion of the category")
        axes.set_xticks(range(len(labels)), labels, rotation=90)
        axes.set_yticks(range(len(labels)), labels)
        axes.set(title=f'Head "{name}" on held-out clips', xlabel="taken for", ylabel="category")
        axes.grid(visible=False)

    side = 2.5 + 0.32 * len(labels)
    return Drawing(f"confusion_{name}", f'What the head "{name}" took each category for.', (side + 1, side), draw)
