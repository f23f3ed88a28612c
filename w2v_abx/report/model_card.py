"""Write the model card beside a trained encoder: command, curve, its ABX beside the baselines, what its heads reach."""

import math
from pathlib import Path

import jinja2
import polars as pl
from safetensors import safe_open

from w2v_abx.report.heads import scores
from w2v_abx.report.section import Table, p_value, percent
from w2v_abx.report.summary import Summary, read_log
from w2v_abx.statistics.paired import Comparison, compare
from w2v_abx.statistics.verdict import in_words, noun, points
from w2v_abx.system import atomic

__all__ = ["write_model_card"]

BASELINES = {"mfcc": "MFCC", "random": "random", "before": "before training"}
SMOOTHED = 20  # steps


def write_model_card(summary: Summary, encoder: Path) -> Path:
    """Write ``README.md`` and ``loss.png`` into the folder of the run's ``encoder``.

    Every layer is compared with every baseline of the run on the same cells: difference with its interval, and p by the
    same rule after Holm's correction over all comparisons of a table, see `w2v_abx.statistics.paired.Comparison`.

    Raises:
        InputError: the run and a baseline share no cells.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("w2v_abx.report", "."), trim_blocks=True, keep_trailing_newline=True
    )
    card = environment.get_template("model_card.md.j2").render(
        name=summary.config.get("name", "A trained encoder"),
        facts=summary.facts,
        parameters=_parameters(encoder / "model.safetensors"),
        drawn=_draw_loss(summary, encoder / "loss.png"),
        tables=[*(_table(summary, condition) for condition in summary.conditions), *filter(None, [scores(summary)])],
    )
    atomic.write_text(encoder / "README.md", card)
    return encoder / "README.md"


def _parameters(weights: Path) -> int:
    with safe_open(weights, framework="numpy") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118


def _table(summary: Summary, condition: str) -> Table:
    """One condition: a row per layer, a pair of columns per baseline."""
    model, config = summary.models["after"], summary.config
    names = dict(BASELINES)
    if str(config.get("model", {}).get("_target_", "")).endswith(".random"):
        names["before"] = "random initialisation"
    present = [tag for tag in BASELINES if tag in summary.models]
    layers = summary.layers(condition)
    compared = {(layer, tag): _compare(summary, tag, layer, condition) for layer in layers for tag in present}
    rows = []
    for layer in layers:
        row = [str(layer), percent(model.scores[layer, condition]["error"])]
        for tag in present:
            c = compared[layer, tag]
            interval = f" [{points(c.ci_low)}, {points(c.ci_high)}]" if math.isfinite(c.ci_low) else ""
            change = f"{points(c.difference)}{interval}, {p_value(c.p)}"
            row += [percent(c.error_before), change]
        rows.append(row)
    columns = ["layer", "this model", *(name for tag in present for name in (names[tag], "difference [95 %], p"))]
    triplets = max(score["triplets"] for (_, c), score in model.scores.items() if c == condition)
    context = config.get("abx", {}).get("context", "some")
    context = context if isinstance(context, str) else "any" if condition.endswith("any") else "within"
    note = f"{model.distance} distance, {context} context, {triplets:,} triplets"
    if compared:
        first = next(iter(compared.values()))
        note += f", {first.n_pairs} pairs of {noun(first.on)}s, {first.n_speakers} speakers; p is not corrected"
    return Table(f"ABX error {in_words(condition)} (%)", columns, rows, f"{note}.")


def _compare(summary: Summary, tag: str, layer: int, condition: str) -> Comparison:
    """A baseline against this model, on the cells that both have: short items have frames at 100 Hz and not at 50."""
    model = summary.models["after"]
    on = model.averaging[condition]["on"]
    before, after = summary.models[tag].select(0 if tag == "mfcc" else layer, condition), model.select(layer, condition)
    keys = [c for c in after.columns if c in before.columns and (c == on or after[c].dtype == pl.String)]
    ours = after.join(before, on=keys, how="semi", nulls_equal=True)
    theirs = before.join(after, on=keys, how="semi", nulls_equal=True)
    return compare(theirs, ours, **model.averaging[condition], seed=int(summary.facts.get("seed", 0)))


def _draw_loss(summary: Summary, path: Path) -> bool:
    """The training loss by step, smoothed; whether there was one."""
    from matplotlib.figure import Figure

    metrics = read_log(summary.folder / "metrics.csv")
    if "train/loss" not in metrics.columns:
        return False
    logged = metrics.select(pl.col("step", "train/loss").cast(pl.Float64, strict=False)).drop_nulls()
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
