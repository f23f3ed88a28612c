"""The governor on simulated devices of all kinds, and what it costs a training step.

    python benchmarks/thermal.py                  # minutes: both; writes docs/thermal.md and docs/thermal.png
    python benchmarks/thermal.py grid --folder .
    python benchmarks/thermal.py overhead
    python benchmarks/thermal.py --device cuda --minutes 5

grid: each device of a grid of ambients, coolings, heat capacities, lags and resolutions of the sensor, and durations of
a batch runs for half an hour (of its own time) governed and ungoverned, beside the best constant duty, found by search,
that stays below the same limit. overhead: one training whose blocks of steps run with and without the thermal callback
in alternation, at full duty and at a lower one, where it waits for the device (its rests are not counted); the time
spent in it and in its thread; and a reading and a decision by themselves.

With --device cuda, on a real card: its readings against nvidia-smi's, the overhead, and a low artificial limit held
for some minutes.
"""

import argparse
import itertools
import multiprocessing
import shutil
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import lightning
import matplotlib
import numpy as np
import polars as pl
import psutil
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from thermal_trial import best_constant, blindness, run
from torch import Tensor
from torch.utils.data import DataLoader

from w2v_abx.data.batch import Batch
from w2v_abx.models.encoder import Encoder
from w2v_abx.report.section import STYLE
from w2v_abx.system import atomic
from w2v_abx.thermal import (
    Decision,
    Governor,
    GovernorSettings,
    Nvml,
    Reading,
    Sensor,
    SensorError,
    Simulated,
    StepStats,
    ThermalCallback,
    auto_sensor,
)
from w2v_abx.training.microbatch import ElasticModule

Options = dict[str, float]

BATCH = 16  # clips
SECONDS, STEADY = 1800.0, 1000.0  # of a trial, and from when on it is steady
MARGIN = 5.0  # °C, the governor's default
GRID: dict[str, tuple[float, ...]] = {
    "ambient": (15.0, 30.0, 42.0),
    "cooling": (2.0, 3.0, 5.0),
    "capacity": (60.0, 120.0, 300.0, 800.0),
    "delay": (0.0, 2.0, 4.0, 8.0),
    "resolution": (0.0, 1.0),
    "clip_seconds": (0.02, 0.1, 0.4),
}
BLIND = 0.6  # largest share of the way from idle to the limit that is gone before anything can be known of it
LABELS = {  # names for the tables, units, and what a value is multiplied with to be shown
    "ambient": ("ambient", "°C", 1.0),
    "cooling": ("cooling", "W/°C", 1.0),
    "capacity": ("heat capacity", "J/°C", 1.0),
    "delay": ("lag of the sensor", "s", 1.0),
    "resolution": ("steps of the sensor", "°C", 1.0),
    "clip_seconds": (f"batch of {BATCH}, at once", "s", BATCH + 0.5),
}
SHOWN: tuple[tuple[str, Options], ...] = (
    ("A card in a warm room", {"ambient": 30, "cooling": 3, "capacity": 300, "delay": 2, "resolution": 1}),
    ("Little to heat, a lagging sensor", {"ambient": 30, "cooling": 3, "capacity": 120, "delay": 8, "resolution": 1}),
    ("A hot cupboard, poor cooling", {"ambient": 42, "cooling": 2, "capacity": 300, "delay": 4, "resolution": 1}),
    ("Long batches", {"ambient": 15, "cooling": 2, "capacity": 120, "delay": 2, "resolution": 1, "clip_seconds": 0.4}),
)
BLUE, RED, GREY = "#0072B2", "#D55E00", "#555555"


# The grid


@dataclass(frozen=True)
class Outcome:
    """``excess``: °C above the limit at the most. ``share``: of the best constant duty's clips per second."""

    options: Options
    excess: float
    swing: float
    share: float
    ended: str | None
    ungoverned: str | None
    ungoverned_peak: float

    @property
    def kept(self) -> dict[str, bool]:
        """Which claims it bears out."""
        return {
            "within 1 °C of the limit": self.excess <= 1,
            "no end": self.ended is None,
            "swing within 2 °C": self.swing <= 2,
            "90 % of the best constant duty": self.share >= 0.9,
        }


def plants(grid: dict[str, tuple[float, ...]]) -> Iterator[Options]:
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def outcome(options: Options) -> Outcome:
    plant, free = Simulated(**options), Simulated(**options)
    limit = plant.slowdown - MARGIN
    governed, ungoverned = run(plant, Governor(), SECONDS, batch=BATCH), run(free, None, SECONDS, batch=BATCH)
    best = best_constant(plant, limit, BATCH).rate
    ended = governed.ended is not None
    return Outcome(
        options,
        governed.peak() - limit,
        np.inf if ended else governed.swing(STEADY),
        0.0 if ended else governed.rate(STEADY) / best,
        governed.ended,
        ungoverned.ended,
        ungoverned.peak(),
    )


def all_outcomes() -> list[Outcome]:
    with multiprocessing.get_context("spawn").Pool() as pool:
        return pool.map(outcome, plants(GRID), chunksize=8)


def inside(options: Options) -> bool:
    """Whether the claims are made for such a device."""
    plant = Simulated(**options)
    return blindness(plant, plant.slowdown - MARGIN, BATCH) <= BLIND


def row(outcomes: Sequence[Outcome]) -> str:
    """Cells of a table."""
    shares = [outcome.share for outcome in outcomes]
    return " | ".join(
        [
            str(len(outcomes)),
            str(sum(outcome.ungoverned == "shutdown" for outcome in outcomes)),
            str(sum(outcome.ended is not None for outcome in outcomes)),
            f"{max(outcome.excess for outcome in outcomes):+.1f}",
            f"{max(outcome.swing for outcome in outcomes):.1f}",
            f"{100 * min(shares):.0f} % | {100 * median(shares):.0f} %",
        ]
    )


HEAD = (
    "devices | shut down ungoverned | ended governed | most above the limit, °C | largest swing, °C | "
    "least share of the best constant duty | median share"
)


def table(title: str, groups: Iterable[tuple[str, Sequence[Outcome]]]) -> str:
    lines = [f"| {title} | {HEAD} |", "|---" * (HEAD.count("|") + 2) + "|"]
    return "\n".join([*lines, *(f"| {name} | {row(outcomes)} |" for name, outcomes in groups)])


def by(key: str, outcomes: Sequence[Outcome]) -> Iterator[tuple[str, list[Outcome]]]:
    _, unit, factor = LABELS[key]
    for value in sorted({outcome.options[key] for outcome in outcomes}):
        shown = "exact" if key == "resolution" and not value else f"{value * factor:.3g} {unit}"
        yield shown, [outcome for outcome in outcomes if outcome.options[key] == value]


def page(outcomes: Sequence[Outcome], outside: Sequence[Outcome], cost: str | None) -> str:
    """docs/thermal.md."""
    failures = [outcome for outcome in outcomes if not all(outcome.kept.values())]
    verdict = "All of them hold on every device of the grid."
    if failures:
        names = [name for name in failures[0].kept if any(not outcome.kept[name] for outcome in failures)]
        verdict = f"{len(failures)} of {len(outcomes)} devices miss one ({', '.join(names)})."
    beyond = [outcome for outcome in outside if not all(outcome.kept.values())]
    missed = {name: sum(not outcome.kept[name] for outcome in outside) for name in outside[0].kept}
    shut = sum(outcome.ungoverned == "shutdown" for outcome in outside)
    ends = sum(outcome.ended == "shutdown" for outcome in outside)
    parts = [
        "# Holding a temperature",
        "Made by `python benchmarks/thermal.py`; not to be edited.",
        "![Temperatures over time, and the grid](thermal.png)",
        "Each simulated device (`w2v_abx.thermal.Simulated`: heat capacity · dT/dt = power − cooling · (T − ambient); "
        "40 W idle, 300 W at work; throttles at 90 °C, shuts down at 95 °C) runs for half an hour of its own time. The "
        f"governor (`thermal=default`) takes {90 - MARGIN:.0f} °C for its limit. Beside it: the same device "
        "ungoverned, and at the constant duty and micro-batch, found by search, that does the most clips per second "
        "without passing the same limit, which needs to know the device and its room beforehand.",
        "Claims: never above the limit by more than 1 °C; no shutdown; from "
        f"{STEADY:.0f} s on a swing within 2 °C and at least 90 % of the best constant duty's clips per second. They "
        "are made for devices whose sensor's lag and batch together take no more than "
        f"{100 * BLIND:.0f} % of the time from idle to the limit at full power. {verdict}",
        table("all", [("all", outcomes)]),
        *(table(LABELS[key][0], by(key, outcomes)) for key in GRID),
        "## Outside of the claims",
        f"The other {len(outside)} devices of the grid warm by 2.2 or 4.3 °C/s at full power and see it late: in one "
        "batch and the lag of the sensor most of the way to the limit is gone before anything can be known of it. "
        f"{shut} of them shut down ungoverned and {ends} governed; {len(beyond)} miss a claim ("
        + ", ".join(f"{name}: {number}" for name, number in missed.items() if number)
        + "). Small micro-batches from the start (`microbatch.clips`) help where batches are long.",
        table(LABELS["capacity"][0], by("capacity", outside)),
        table(LABELS["delay"][0], by("delay", outside)),
        table(LABELS["clip_seconds"][0], by("clip_seconds", outside)),
        "A limit that lies close above the idle temperature leaves little to work with: the target lies 1.5 °C below "
        "it, which is a tenth of the room at 15 °C.",
        "A real chip is not of first order: its core jumps by some degrees within a second of work, and falls as fast. "
        "The governor then shortens the micro-batches, so that the core follows their mean, and cannot where a single "
        "clip takes long.",
    ]
    if cost is not None:
        parts += ["## What it costs", "```text\n" + cost + "\n```"]
    return "\n\n".join(parts) + "\n"


# The figure


def picture(outcomes: Sequence[Outcome], path: Path) -> None:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(13.5, 9.2), layout="constrained")
        upper, lower = figure.subfigures(2, 1, squeeze=False, height_ratios=(1, 1.25))[:, 0]
        panels = upper.subplots(1, len(SHOWN), sharey=True, squeeze=False)[0]
        for axes, (title, options) in zip(panels, SHOWN, strict=True):
            show(axes, title, options)
        panels[0].set_ylabel("temperature, °C")
        handles, labels = panels[0].get_legend_handles_labels()
        upper.legend(handles, labels, loc="outside lower center", ncols=len(labels))
        maps: list[tuple[str, Callable[[Outcome], float], Callable[..., float], str, tuple[float, float]]] = [
            ("Highest temperature above the limit, °C", lambda o: o.excess, max, "{:+.1f}", (-2, 1)),
            ("Swing when steady, °C", lambda o: o.swing, max, "{:.1f}", (0, 2)),
            ("Share of the best constant duty, %", lambda o: 100 * o.share, min, "{:.0f}", (90, 100)),
        ]
        for axes, (title, value, worst, form, bounds) in zip(
            lower.subplots(1, 3, sharey=True, squeeze=False)[0], maps, strict=True
        ):
            heatmap(axes, outcomes, title, value, worst, form, bounds)
        lower.suptitle(
            "The worst of each kind of device, over steps of the sensor (exact, 1 °C) and batches of 0.3, 1.7 and "
            "6.6 s; light is good, the ends of the scales are the claims; · none for which they are made",
            fontsize=10,
        )
        atomic.write(path, lambda temporary: figure.savefig(temporary, dpi=110, format="png"))


def show(axes: Axes, title: str, options: Options) -> None:
    """Governed and ungoverned over time."""
    plant = Simulated(**options)
    governed, free = (run(Simulated(**options), governor, 900, batch=BATCH) for governor in (Governor(), None))
    for course, colour, name in ((free, RED, "ungoverned"), (governed, BLUE, "governed")):
        times, temperatures = zip(*course.trace, strict=True)
        axes.plot(np.array(times) / 60, temperatures, color=colour, linewidth=1.3, label=name)
        if course.ended is not None:
            axes.plot(
                times[-1] / 60, temperatures[-1], "X", color=colour, markersize=9, label="shut down", linestyle=""
            )
    lines = (("limit", plant.slowdown - MARGIN, "-"), ("throttles", plant.slowdown, "--"), ("off", plant.shutdown, ":"))
    for name, level, style in lines:
        axes.axhline(level, color=GREY, linewidth=0.9, linestyle=style, label=name)
    axes.set(xlabel="minutes", ylim=(25, 99), xlim=(0, 15))
    shown = ("ambient", "cooling", "capacity", "delay")
    facts = ", ".join(f"{options[key]:g} {LABELS[key][1]}" for key in shown)
    axes.set_title(f"{title}\n", fontsize=11)
    axes.text(
        0, 1.02, f"{facts} lag" if options["delay"] else facts, transform=axes.transAxes, fontsize=8.5, color=GREY
    )


def heatmap(
    axes: Axes,
    outcomes: Sequence[Outcome],
    title: str,
    value: Callable[[Outcome], float],
    worst: Callable[..., float],
    form: str,
    bounds: tuple[float, float],
) -> None:
    rows = list(itertools.product(GRID["ambient"], GRID["cooling"]))
    columns = list(itertools.product(GRID["capacity"], GRID["delay"]))
    cells = np.full((len(rows), len(columns)), np.nan)
    for (i, (ambient, cooling)), (j, (capacity, delay)) in itertools.product(enumerate(rows), enumerate(columns)):
        wanted = {"ambient": ambient, "cooling": cooling, "capacity": capacity, "delay": delay}
        cells[i, j] = worst((value(o) for o in outcomes if wanted.items() <= o.options.items()), default=np.nan)
    good_is_high = worst is min
    axes.imshow(cells, cmap="Blues_r" if good_is_high else "Blues", vmin=bounds[0], vmax=bounds[1], aspect="auto")
    for (i, j), number in np.ndenumerate(cells):
        dark = (number - bounds[0]) / (bounds[1] - bounds[0])
        dark = 1 - dark if good_is_high else dark
        shown = (form if abs(number) < 10 else "{:.0f}").format(number) if np.isfinite(number) else "·"
        axes.text(j, i, shown, ha="center", va="center", fontsize=7, color="w" if dark > 0.6 else "k")
    axes.set_title(title)
    axes.grid(visible=False)
    axes.set_xticks(range(len(columns)), [f"{delay:g}" for _, delay in columns])
    for k, capacity in enumerate(GRID["capacity"]):
        middle = (k + 0.5) * len(GRID["delay"]) - 0.5
        axes.text(middle, len(rows) + 0.35, f"{capacity:g} J/°C", ha="center", fontsize=9)
        if k:
            axes.axvline(k * len(GRID["delay"]) - 0.5, color="w", linewidth=3)
    axes.set_xlabel("lag of the sensor in s, and heat capacity", labelpad=16)
    axes.set_yticks(range(len(rows)), [f"{ambient:g} °C, {cooling:g} W/°C" for ambient, cooling in rows])


# What it costs


class Model(ElasticModule):
    """An encoder of random weights, trained towards nothing: what a step costs does not depend on what for."""

    def __init__(self, architecture: dict[str, Any]) -> None:
        super().__init__()
        self.encoder = Encoder.random(architecture)

    def loss(self, micro: Batch, totals: Mapping[str, float]) -> dict[str, Tensor]:
        hidden = self.encoder(micro.waveforms, micro.lengths).layers[-1]
        return {"loss": hidden.float().square().mean((1, 2)).sum() / totals["clips"]}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), 1e-5, fused=True)


class Timed:
    """A sensor, and the processor's time that its thread spends in it."""

    def __init__(self, sensor: Sensor) -> None:
        self.sensor, self.spent = sensor, 0.0

    def read(self, time_: float) -> Reading:
        began = time.thread_time()
        try:
            return self.sensor.read(time_)
        finally:
            self.spent += time.thread_time() - began


class StandIn:
    """Asks the system what a CPU's sensor would, on a machine that has none."""

    def read(self, time_: float) -> Reading:
        getattr(psutil, "sensors_temperatures", dict)()
        return Reading(time_, 50.0, utilisation=psutil.cpu_percent(None) / 100, slowdown=90.0)


class Throttled(Governor):
    """Holds a duty below 1 whatever it reads, and leaves out the rest that goes with it."""

    duty = 0.5

    def decide(self, time: float, readings: Sequence[Reading], stats: StepStats) -> Decision:
        return replace(super().decide(time, readings, stats), action="run", rest_seconds=0.0)


class Alternating(lightning.Callback):
    """The thermal callback in every other block of steps; what steps take, and what is spent in its hooks."""

    def __init__(self, thermal: ThermalCallback, block: int) -> None:
        self.thermal, self.block = thermal, block
        self.steps: dict[bool, list[float]] = {True: [], False: []}
        self.spent, self.at = 0.0, 0.0

    def _timed(self, hook: Callable[..., Any], *arguments: Any) -> None:
        began = time.thread_time()
        hook(*arguments)
        self.spent += time.thread_time() - began

    def _on(self, index: int) -> bool:
        return (index // self.block) % 2 == 1

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, index: int) -> None:
        if self._on(index) and index % self.block == 0:
            self.thermal.on_fit_start(trainer, module)
            hooks = module.microbatches.hooks
            act = hooks.pop()
            hooks.append(lambda: self._timed(act))
        synchronize()
        self.at = time.perf_counter()
        if self._on(index):
            self._timed(self.thermal.on_train_batch_start, trainer, module, batch, index)

    def on_after_backward(self, trainer: Any, module: Any) -> None:
        if module.microbatches.hooks:
            self._timed(self.thermal.on_after_backward, trainer, module)

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
        if self._on(index):
            self._timed(self.thermal.on_train_batch_end, trainer, module, outputs, batch, index)
        synchronize()
        if index >= self.block:  # the first ones warm up
            self.steps[self._on(index)].append(time.perf_counter() - self.at)
        if self._on(index) and index % self.block == self.block - 1:
            module.microbatches.hooks.clear()
            self.thermal.teardown(trainer, module, "fit")


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def setup(device: str) -> tuple[dict[str, Any], int, int]:
    """Architecture, clips in a batch, and samples in a clip."""
    base: dict[str, Any] = {"model_type": "wav2vec2"}
    if device == "cuda":
        return base, 32, 160_000
    small = {"hidden_size": 192, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 768}
    return base | small | {"conv_dim": [64] * 7}, 4, 32_000


def fit(device: str, folder: Path, *callbacks: lightning.Callback, **limits: Any) -> None:
    architecture, clips, samples = setup(device)
    batch = Batch(
        keys=[str(number) for number in range(clips)],
        corpora=["noise"] * clips,
        waveforms=torch.randn(clips, samples, generator=torch.Generator().manual_seed(0)),
        lengths=torch.full((clips,), samples),
    )
    lightning.Trainer(
        accelerator="gpu" if device == "cuda" else "cpu",
        devices=1,
        precision="bf16-mixed" if device == "cuda" else "32-true",
        callbacks=list(callbacks),
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"max_epochs": 1} | limits,
    ).fit(Model(architecture), DataLoader([batch] * 1_000_000, batch_size=None))  # type: ignore[arg-type]


def overhead(device: str, steps: int) -> str:
    """In lines: the same training with and without."""
    where = torch.device(device, 0) if device == "cuda" else torch.device("cpu")
    try:
        found: Sensor = auto_sensor(where)
        kind = type(found).__name__
    except SensorError as error:
        found, kind = StandIn(), f"a stand-in, as there is none here ({error})"
    lines = [f"device {device}, sensor: {kind}"]
    settings = GovernorSettings(limit=140)
    for name, kind_of_governor in (("at full duty", Governor), ("at a lower duty", Throttled)):
        sensor = Timed(found)
        with tempfile.TemporaryDirectory() as folder:
            thermal = ThermalCallback(sensor, settings, folder=folder)
            thermal.governor = kind_of_governor(settings)
            alternating = Alternating(thermal, block=10)
            fit(device, Path(folder), alternating, max_steps=steps)
        lines += [f"{name}:", *(f"  {line}" for line in cost_of(alternating, sensor))]
    reading = each(lambda: found.read(0.0), 200)
    governor = Governor(GovernorSettings(limit=80))
    clock = itertools.count()

    def decide() -> None:
        now = float(next(clock))
        governor.decide(now, [Reading(now, 78.0 + now % 2)], StepStats(0.3, 0.1, 0.3, 16, 16))

    deciding = each(decide, 2000)
    return "\n".join(
        [*lines, f"one reading: {1e6 * reading:.0f} µs; one decision with a new reading: {1e6 * deciding:.0f} µs"]
    )


def cost_of(alternating: Alternating, sensor: Timed) -> list[str]:
    """What the blocks with the callback took longer than those without."""
    off, on = alternating.steps[False], alternating.steps[True]
    step = median(off)
    blocks = min(len(off), len(on)) // 10
    differences = [median(on[10 * k : 10 * k + 10]) - median(off[10 * k : 10 * k + 10]) for k in range(blocks)]
    error = stdev(differences) / blocks**0.5
    spent = alternating.spent / len(on)
    threads = sensor.spent / len(on)
    return [
        f"steps of {1e3 * step:.0f} ms (median of {len(off)} without)",
        f"with less without, alternating in one run: {1e6 * mean(differences):+.0f} µs ± {1e6 * error:.0f} µs a step "
        f"({100 * mean(differences) / step:+.3f} % ± {100 * error / step:.3f} %)",
        f"processor's time in the callback: {1e6 * spent:.0f} µs a step ({100 * spent / step:.3f} %)",
        f"processor's time in its thread: {1e6 * threads:.0f} µs a step ({100 * threads / step:.3f} %)",
    ]


def each(work: Callable[[], object], times: int) -> float:
    began = time.thread_time()
    for _ in range(times):
        work()
    return (time.thread_time() - began) / times


# A real card


def compare(sensor: Nvml) -> str:
    """The readings beside nvidia-smi's of the same card, and whether they are the same: one after the other."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return "nvidia-smi is not there to compare with"
    uuid = torch.cuda.get_device_properties(0).uuid
    asked = "temperature.gpu,temperature.memory,power.draw,utilization.gpu"
    command = [program, f"--id=GPU-{uuid}", f"--query-gpu={asked}", "--format=csv,noheader,nounits"]
    shown = subprocess.run(command, check=False, capture_output=True, text=True)
    if shown.returncode:
        return f"nvidia-smi knows no card GPU-{uuid}: an instance of a divided one is not compared"
    seen = sensor.read(0.0)
    values = (seen.temperature, seen.memory, seen.power, None if seen.utilisation is None else 100 * seen.utilisation)
    lines = []
    for name, text, value, most in zip(asked.split(","), shown.stdout.split(","), values, (1, 1, 5, None), strict=True):
        known = text.strip().replace(".", "", 1).isdecimal()
        if most is None:  # of different moments
            verdict = "not compared"
        else:
            same = known and value is not None and abs(float(text) - value) <= most
            verdict = "ok" if same or (not known and value is None) else "differs"
        lines.append(f"{name}: nvidia-smi {text.strip()}, here {value}: {verdict}")
    lines.append(
        f"slows down at {seen.slowdown} °C, shuts down at {seen.shutdown} °C, memory at {seen.memory_slowdown} °C; "
        f"throttled by: {', '.join(seen.throttle or ()) or 'nothing'}"
    )
    return "\n".join(lines)


class Steps(lightning.Callback):
    """When steps ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        synchronize()
        self.ends.append(time.monotonic())

    def rate(self) -> float:
        """Steps per second in the second half of the time."""
        late = [end for end in self.ends if end >= (self.ends[0] + self.ends[-1]) / 2]
        return (len(late) - 1) / (late[-1] - late[0])


def held(sensor: Nvml, limit: float, minutes: float) -> tuple[str, float]:
    """Train below a limit; what came of it, and the highest temperature."""
    steps = Steps()
    with tempfile.TemporaryDirectory() as name:
        thermal = ThermalCallback(sensor, GovernorSettings(limit=limit), folder=name)
        fit("cuda", Path(name), thermal, steps, max_time={"seconds": round(60 * minutes)}, max_epochs=-1)
        seen = pl.read_csv(Path(name) / "thermal.csv").drop_nulls("temperature")
    late = seen.filter(pl.col("time") > pl.col("time").max() / 2)
    low, high, peak = late["temperature"].min(), late["temperature"].max(), seen["temperature"].max()
    assert isinstance(peak, float)
    shown = f"peak {peak} °C, second half {low!s} to {high!s} °C, {steps.rate():.2f} steps/s"
    return f"{shown}, rested for {late['rest_share'].mean()!s:.4} of the time", peak


def hold(minutes: float) -> str:
    """A limit two thirds of the way from the card's present temperature to that of full work."""
    sensor = Nvml.of(torch.device("cuda", 0))
    cool = sensor.read(0.0).temperature
    free, peak = held(sensor, 140.0, minutes / 2)
    limit = round(cool + 2 / 3 * (peak - cool))
    kept, most = held(sensor, limit, minutes)
    return f"at rest: {cool:.0f} °C\nfree: {free}\nlimit of {limit} °C ({most - limit:+.0f} °C): {kept}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=["grid", "overhead", []], help="default: both")
    parser.add_argument(
        "--folder", type=Path, default=Path(__file__).parents[1] / "docs", help="of the page and figure"
    )
    parser.add_argument("--steps", type=int, default=200, help="of the overhead's training")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--minutes", type=float, default=5.0, help="to hold the low limit on a card")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", ".*(num_workers|litlogger|tensorboard).*")
    parts = arguments.parts or ["grid", "overhead"]
    if arguments.device == "cuda":
        if not torch.cuda.is_available():
            raise SystemExit("there is no CUDA device here")
        print(compare(Nvml.of(torch.device("cuda", 0))))
        print(overhead("cuda", arguments.steps))
        print(hold(arguments.minutes))
        return
    cost = None
    if "overhead" in parts:
        cost = overhead("cpu", arguments.steps)
        print(cost)
    if "grid" in parts:
        found = all_outcomes()
        outcomes, outside = ([o for o in found if inside(o.options) == wanted] for wanted in (True, False))
        picture(outcomes, arguments.folder / "thermal.png")
        text = page(outcomes, outside, cost)
        atomic.write_text(arguments.folder / "thermal.md", text)
        print(text)


if __name__ == "__main__":
    main()
