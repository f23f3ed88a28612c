"""ABX while a model trains, so that forgetting is seen as it happens."""

import csv
import io
import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.utilities import move_data_to_device
from lightning.pytorch.utilities.seed import isolate_rng
from torch import nn

from w2v_abx.abx.evaluation import score_layers
from w2v_abx.abx.setting import AbxSetting, scorers
from w2v_abx.abx.speech import Speech
from w2v_abx.abx.subset import subset
from w2v_abx.analysis.isotropy import Isotropy, isotropy
from w2v_abx.distributed.collectives import DistributedRanks
from w2v_abx.errors import InputError
from w2v_abx.features.batches import SpeechBatches
from w2v_abx.features.extraction import extract_batch, preserve_training_mode
from w2v_abx.features.memory import LayerFeatures, NeededFrames, collecting
from w2v_abx.features.parts import extracting_in_parts
from w2v_abx.models.extractor import Extractor
from w2v_abx.system import atomic, checks

__all__ = ["AbxMonitor", "next_point"]

log = logging.getLogger(__name__)

BY_CONDITION = ("abx_error", "delta_mean", "delta_std", "delta_scale_free_std")
BY_LAYER = ("isotropy", "iso_score", "mean_cosine")
COLUMNS = ("step", "layer", "condition", *BY_CONDITION, *BY_LAYER)
ISOTROPY_FRAMES = 20_000

Row = dict[str, Any]


def next_point(step: int, points_per_decade: int | None, every: int | None) -> float:
    """The first step after ``step`` that is measured: of the rounded powers 10^(k/n), and of the multiples of
    ``every``; infinite where both are None."""
    points: list[float] = []
    if points_per_decade is not None:
        power = max(0, math.floor(points_per_decade * math.log10(max(step, 1))) - 1)
        while round(10 ** (power / points_per_decade)) <= step:
            power += 1
        points.append(round(10 ** (power / points_per_decade)))
    if every is not None:
        points.append((step // every + 1) * every)
    return min(points, default=math.inf)


class AbxMonitor(lightning.Callback):
    """Evaluates a seeded subset of the speech before training and at log-spaced optimiser steps of it.

    At each point, for each layer: the ABX error and the spread of the delta values in each condition, and the isotropy
    of the frames (see `w2v_abx.analysis.isotropy`). They go to the module's loggers under ``monitor/…`` and to
    ``monitor.csv`` in the run's folder, a row per point, layer and condition.

    Before each batch it pauses by the module's ``paced``, which thermal control sets. Training is the same to the last
    bit with the monitor and without: the modes of all modules, the random states (of torch, numpy and Python) and the
    gradients are as they were. Distributed, each rank reads its share of the files and scores its share of the cells,
    so every rank knows the values, and they stop together. A checkpoint holds the points so far: a resumed run neither
    repeats nor skips one.

    Args:
        speech, setting: what is measured; `attach` may give them later.
        points_per_decade: so many points from each power of ten to the next, from step 1 on; None: none.
        every: further points at all multiples of this step; None: none.
        max_files: take so many files of the speech, chosen so that cells of all conditions remain; None: all.
        max_size_group, max_x_across: caps of the cells, see `Scorer`; None: the setting's.
        layers: the layers to measure; None: the setting's.
        stop_above: stop training once the error of the watched layer, in any condition but those of the setting's
            ``also``, is more than this above its value before training (0.02 is two percent of the triplets); None:
            never.
        watch_layer: the layer that may stop training; None: the one that was best before training.
        seed: of the subset, and of the frames whose isotropy is computed.
        average: measure with the averaged weights in place, by the module's ``averaged`` (see
            `w2v_abx.training.callbacks.Ema`), instead of with those that train.
        folder: of the run, where ``monitor.csv`` goes; None: the trainer's ``default_root_dir``.

    Raises:
        InputError: a value out of range; when the fit starts, the module has no ``encoder``, or not these layers, or
            the speech makes no cells.
    """

    def __init__(
        self,
        speech: Speech | None = None,
        setting: AbxSetting | None = None,
        *,
        points_per_decade: int | None = 4,
        every: int | None = None,
        max_files: int | None = 100,
        max_size_group: int | None = None,
        max_x_across: int | None = None,
        layers: Sequence[int] | None = None,
        stop_above: float | None = None,
        watch_layer: int | None = None,
        seed: int = 0,
        average: bool = False,
        folder: str | Path | None = None,
    ) -> None:
        checks.whole("callbacks.monitor.points_per_decade", points_per_decade, 1, optional="for none")
        checks.whole("callbacks.monitor.every", every, 1, optional="for none")
        checks.whole("callbacks.monitor.max_files", max_files, 1, optional="for all")
        checks.number("callbacks.monitor.stop_above", stop_above, low=0, below=1, optional="for never")
        if points_per_decade is None and every is None:
            raise InputError(
                "callbacks.monitor.points_per_decade and callbacks.monitor.every are both null: there is nothing to "
                "measure"
            )
        self.speech, self.setting = speech, setting
        self.points_per_decade, self.every, self.max_files = points_per_decade, every, max_files
        self.caps = {"max_size_group": max_size_group, "max_x_across": max_x_across}
        self.layers, self.stop_above, self.watch_layer = layers, stop_above, watch_layer
        self.seed, self.folder = seed, None if folder is None else Path(folder)
        self.average = average
        self.rows: list[Row] = []  # all points so far

    def attach(self, speech: Speech, setting: AbxSetting) -> None:
        """Set what is measured, where the constructor was not given it."""
        self.speech = self.speech or speech
        self.setting = self.setting or setting

    # Lightning's hooks, in the order of a run

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Choose the subset and build its cells, so that what cannot be measured shows before training."""
        extractor: Any = getattr(pl_module, "encoder", None)
        if not hasattr(extractor, "n_layers") or not hasattr(extractor, "frequency"):
            raise InputError(f"AbxMonitor measures a module's `encoder`, and {type(pl_module).__name__} has none")
        if self.speech is None or self.setting is None:
            raise InputError("AbxMonitor has no speech and setting: give both, or call attach before fit")
        caps = {name: cap for name, cap in self.caps.items() if cap is not None}
        layers = self.setting.layers if self.layers is None else self.layers
        self._setting = replace(self.setting, layers=layers, **caps)  # type: ignore[arg-type]
        self._layers = self._setting.layers_of(extractor)
        if self.average and not hasattr(pl_module, "averaged"):
            raise InputError(
                "callbacks.monitor.average=true measures averaged weights; add them: callbacks=[monitor,ema]"
            )
        if self.watch_layer is not None:
            checks.choice("callbacks.monitor.watch_layer", self.watch_layer, self._layers)
        items, frequency = self.speech.items, extractor.frequency
        if self.max_files is not None:
            asked = self._setting.conditions().values()
            items = subset(items, asked, frequency, self.max_files, self.seed, self._setting.slicing)
        self._needed = NeededFrames(items, frequency)
        self._scorers = scorers(items, self._setting, frequency)
        self._files = {name: self.speech.files[name] for name in self._needed.files if name in self.speech.files}

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """The value before training, unless a checkpoint has it."""
        # At step 0 this is a run of its own, whatever this callback has measured before.
        self.rows = [row for row in self.rows if 0 < trainer.global_step >= row["step"]]
        if self.rows:
            self._write(trainer)  # without what a run that was killed had measured after this checkpoint
        else:
            self._measure(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measure, where a point has been reached."""
        last = self.rows[-1]["step"]
        if trainer.global_step >= next_point(last, self.points_per_decade, self.every):
            self._measure(trainer, pl_module)
            self._judge(trainer)

    def state_dict(self) -> dict[str, Any]:
        """All points so far, as plain values."""
        return {"rows": list(self.rows)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the points of a checkpoint."""
        self.rows = list(state_dict["rows"])

    # The work

    def _measure(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        encoder: Any = pl_module.encoder
        ranks = DistributedRanks() if trainer.world_size > 1 else None
        with _aside(pl_module), pl_module.averaged() if self.average else nullcontext():  # type: ignore[operator]
            extracted = self._extract(trainer, pl_module, encoder, ranks)
            even: dict[int, Isotropy] = {}

            def look(layer: int, features: LayerFeatures) -> None:
                even[layer] = isotropy(features.frames(), ISOTROPY_FRAMES, self.seed)

            scores = score_layers(self._scorers, extracted, ranks, look=look)
        step = trainer.global_step
        for (layer, condition), found in scores.items():
            self.rows.append(
                {
                    "step": step,
                    "layer": layer,
                    "condition": condition,
                    "abx_error": found.error(self._setting.levels_of(condition), self._setting.weighted),
                    "delta_mean": found.delta.mean,
                    "delta_std": found.delta.std,
                    "delta_scale_free_std": found.delta.scale_free_std,
                    "isotropy": even[layer].partition_ratio,
                    "iso_score": even[layer].iso_score,
                    "mean_cosine": even[layer].mean_cosine,
                }
            )
        self._write(trainer)
        metrics: dict[str, float] = {}
        for row in self._at(step):
            place = f"layer{row['layer']}"
            metrics |= {f"monitor/{name}/{row['condition']}/{place}": row[name] for name in BY_CONDITION}
            metrics |= {f"monitor/{name}/{place}": row[name] for name in BY_LAYER}
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=step)

    def _extract(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, encoder: Extractor, ranks: Any
    ) -> dict[int, LayerFeatures]:
        extracted, add = collecting(self._layers, self._needed)
        paced: Any = getattr(module, "paced", lambda: nullcontext(lambda clips: None))
        failure = None
        rank, size = trainer.global_rank, trainer.world_size
        try:
            with paced() as pause, extracting_in_parts() as in_parts:
                for batch in SpeechBatches(self._files, self._setting.batch_seconds, rank, size):
                    if batch.get("keys"):
                        pause(len(batch["keys"]))
                    moved = move_data_to_device(batch, module.device)
                    with trainer.precision_plugin.forward_context():
                        extract_batch(encoder, moved, self._layers, in_parts, add)
        except Exception as error:
            failure = error
        if ranks is not None:
            ranks.agree(failure)
        elif failure is not None:
            raise failure
        return extracted

    def _at(self, step: int) -> Iterator[Row]:
        return (row for row in self.rows if row["step"] == step)

    def _judge(self, trainer: lightning.Trainer) -> None:
        """Stop where the watched layer has become too much worse."""
        if self.stop_above is None:
            return
        judged = self._setting.main
        rows = [row for row in self._at(self.rows[0]["step"]) if row["condition"] in judged]
        before = {(row["layer"], row["condition"]): row["abx_error"] for row in rows}
        layer = self.watch_layer
        if layer is None:
            total: dict[int, float] = {}
            for (number, _), error in before.items():
                total[number] = total.get(number, 0.0) + error
            layer = min(total, key=lambda number: (total[number], number))
        for row in self._at(trainer.global_step):
            error, start = row["abx_error"], before.get((row["layer"], row["condition"]), math.inf)
            if row["layer"] == layer and error - start > self.stop_above:
                log.warning(
                    "AbxMonitor stops training after step %d: the ABX error of layer %d %s speakers has risen from "
                    "%.2f %% to %.2f %%, by more than stop_above=%g.",
                    trainer.global_step, layer, row["condition"], 100 * start, 100 * error, self.stop_above,
                )  # fmt: skip
                trainer.should_stop = True

    def _write(self, trainer: lightning.Trainer) -> None:
        if trainer.is_global_zero:
            text = io.StringIO(newline="")
            writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)
            path = (self.folder or Path(trainer.default_root_dir)) / "monitor.csv"
            with atomic.written(path):
                atomic.write_text(path, text.getvalue())


@contextmanager
def _aside(module: nn.Module) -> Iterator[None]:
    """Evaluation mode, without gradients; afterwards all modes and random states are as before."""
    # Not inference_mode: what a module caches while it lasts could not be trained with later.
    with preserve_training_mode(module), isolate_rng(), torch.no_grad():
        module.eval()
        yield
