"""The model card beside a trained encoder: the command, the curve, and its ABX beside the baselines."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import yaml  # type: ignore[import-untyped]
from matplotlib.figure import Figure
from safetensors.numpy import load_file

from w2v_abx.report.summary import CONDITIONS, Summary
from w2v_abx.report.tables import p_value, percent
from w2v_abx.statistics.paired import Comparison, compare, holm
from w2v_abx.system import atomic

__all__ = ["write_model_card"]

BASELINES = {"mfcc": "MFCC", "random": "random", "before": "before training"}
SMOOTHED = 20  # steps


def write_model_card(summary: Summary, encoder: Path) -> Path:
    """Write ``README.md`` and ``loss.png`` into the folder of the run's ``encoder``.

    Every layer is compared with every baseline of the run on the same cells: difference with its bootstrap interval
    over phone pairs and speakers, and sign-flip p-value with Holm's correction over all comparisons of a table.

    Raises:
        InputError: the run and a baseline share no cells.
    """
    facts = summary.facts
    lines = [
        "---",
        "library_name: transformers",
        "tags: [speech, abx, w2v-abx]",
        "---",
        "",
        f"# {(yaml.safe_load(summary.config) or {}).get('name', 'A trained encoder')}",
        "",
        "```sh",
        str(facts.get("command", "w2v-abx train …")),
        "```",
        "",
        f"{_parameters(encoder)} parameters, {facts.get('steps', '?')} steps in {_minutes(facts)} on "
        f"{facts.get('hardware', {}).get('cores', '?')} cores "
        f"(w2v-abx {facts.get('w2v_abx', '?')}, commit {str(facts.get('commit'))[:12]}, seed {facts.get('seed')}).",
        "",
    ]
    if _draw_loss(summary, encoder / "loss.png"):
        lines += ["![Training loss by step](loss.png)", ""]
    for condition in summary.conditions:
        lines += _table(summary, condition)
    atomic.write_text(encoder / "README.md", "\n".join(lines))
    return encoder / "README.md"


def _parameters(encoder: Path) -> str:
    return f"{sum(array.size for array in load_file(encoder / 'model.safetensors').values()):,}"


def _minutes(facts: Mapping[str, Any]) -> str:
    seconds = facts.get("wall_seconds")
    return f"{seconds / 60:.0f} minutes, ABX included," if seconds else "a run"


def _table(summary: Summary, condition: str) -> list[str]:
    """One condition as a Markdown table: a row per layer, a pair of columns per baseline."""
    model = summary.models["after"]
    names = dict(BASELINES)
    config = yaml.safe_load(summary.config) or {}
    if str(config.get("model", {}).get("_target_", "")).endswith(".random"):
        names["before"] = "random initialisation"
    present = [tag for tag in BASELINES if tag in summary.models]
    rows: list[tuple[int, list[Comparison]]] = []
    for layer in summary.layers(condition):
        rows.append((layer, [_compare(summary, tag, layer, condition) for tag in present]))
    corrected = iter(holm([comparison.p_permutation for _, row in rows for comparison in row]))
    triplets = max(score["triplets"] for key, score in model.scores.items() if key[1] == condition)
    first = rows[0][1][0] if present else None
    lines = [
        f"## ABX error {CONDITIONS.get(condition, condition)} (%)",
        "",
        f"{model.distance} distance, {config.get('abx', {}).get('context', 'some')} context, {triplets:,} triplets"
        + (f", {first.n_pairs} pairs of {model.on.lstrip('#')}s, {first.n_speakers} speakers." if first else "."),
        "",
        "| layer | this model | " + " | ".join(f"{names[tag]} | difference [95 %], p" for tag in present) + " |",
        "|---|---|" + "---|---|" * len(present),
    ]
    for layer, comparisons in rows:
        error = model.scores[layer, condition]["error"]
        cells = [str(layer), percent(error)]
        for comparison in comparisons:
            low, high = 100 * comparison.ci_low, 100 * comparison.ci_high
            interval = f" [{low:+.1f}, {high:+.1f}]" if math.isfinite(low) else ""
            change = f"{100 * comparison.difference:+.1f}{interval}, {p_value(next(corrected))}"
            cells += [percent(comparison.error_before), change]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def _compare(summary: Summary, tag: str, layer: int, condition: str) -> Comparison:
    """A baseline against this model, on the cells that both have: short items have frames at 100 Hz and not at 50."""
    model = summary.models["after"]
    before, after = summary.models[tag].select(0 if tag == "mfcc" else layer, condition), model.select(layer, condition)
    keys = [c for c in after.columns if c in before.columns and (c == model.on or after[c].dtype == pl.String)]
    ours = after.join(before, on=keys, how="semi", nulls_equal=True)
    theirs = before.join(after, on=keys, how="semi", nulls_equal=True)
    return compare(theirs, ours, on=model.on, speaker=model.speaker, seed=int(summary.facts.get("seed", 0)))


def _draw_loss(summary: Summary, path: Path) -> bool:
    """The training loss by step, smoothed; whether there was one."""
    if "train/loss" not in summary.metrics.columns:
        return False
    logged = summary.metrics.select(pl.col("step", "train/loss").cast(pl.Float64, strict=False)).drop_nulls()
    if logged.is_empty():
        return False
    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(logged["step"], logged["train/loss"], color="0.8", label="each step")
    smooth = logged["train/loss"].rolling_mean(SMOOTHED, min_samples=1)
    axes.plot(logged["step"], smooth, color="#0072B2", label=f"mean of {SMOOTHED} steps")
    axes.set(xlabel="step", ylabel="training loss")
    axes.legend(frameon=False)
    atomic.write(path, lambda temporary: figure.savefig(temporary, dpi=110, format="png", metadata={"Software": None}))
    return True
