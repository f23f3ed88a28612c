"""What a run was asked, by which code it was done, and on which machine."""

from collections.abc import Iterator
from typing import Any

from w2v_abx.report.section import Listing, Section, Table, gap
from w2v_abx.report.summary import Summary

__all__ = ["render_configuration", "render_versions"]


def render_configuration(summary: Summary) -> Section:
    path = summary.folder / "config.yaml"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    part = Listing("config.yaml, resolved", text) if text else gap(path, "The configuration was not recorded")
    return Section("Configuration", [part])


def render_versions(summary: Summary) -> Section:
    title, rows = "Versions and hardware", [list(row) for row in _flat("", summary.facts)]
    if not rows:
        return Section(title, [gap(summary.folder / "run.json", "Versions and hardware were not recorded")])
    return Section(title, [Table("run.json", ["what", "value"], rows, wide=True)])


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    """Rows of a JSON value, nested keys joined by dots."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else str(key), inner)
    else:
        yield prefix, ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
