"""A run's folder with made-up numbers."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from w2v_abx.heads.head import HeadResult
from w2v_abx.heads.multilabel import TITLES

PHONES = ["p", "t", "s", "i", "a", "<ŋ&>"]


def cells(
    phones: list[str], speakers: int, seed: int, *, shift: float = 0.0, across: bool = True, contexts: int = 2
) -> pl.DataFrame:
    """Cells of one layer and condition; the same seed gives the same phone pairs and speakers their difficulty."""
    rng, noise = np.random.default_rng(seed), np.random.default_rng([seed, round(1000 * abs(shift))])
    hard, voice = rng.uniform(0.02, 0.35, (len(phones), len(phones))), rng.normal(0, 0.02, speakers)
    rows = []
    for a, first in enumerate(phones):
        for b, second in enumerate(phones):
            for s in range(speakers):
                for x in [x for x in range(speakers) if x != s] if across else [s]:
                    for context in range(contexts):
                        score = hard[min(a, b), max(a, b)] + voice[s] + shift + noise.normal(0, 0.03)
                        row = {
                            "#phone": first,
                            "prev-phone": f"c{context}",
                            "next-phone": "n",
                            "speaker": f"s{s}",
                            "#phone_b": second,
                        }
                        row |= {"speaker_x": f"s{x}"} if across else {}
                        if a != b:
                            rows.append(row | {"score": float(np.clip(score, 0, 1)), "size": 8})
    return pl.DataFrame(rows)


def delta(center: float, spread: float) -> dict[str, Any]:
    edges = np.linspace(-1, 1, 65)
    middle = (edges[1:] + edges[:-1]) / 2
    counts = [
        np.round(1e4 * np.exp(-(((middle - c) / s) ** 2) / 2)).astype(int).tolist()
        for c, s in ((center, spread), (4 * center, 4 * spread))
    ]
    return {
        "mean": center,
        "std": spread,
        "scale_free_mean": 4 * center,
        "scale_free_std": 4 * spread,
        "distance_mean": 0.25,
        "edges": edges.tolist(),
        "counts": counts[0],
        "scale_free_edges": edges.tolist(),
        "scale_free_counts": counts[1],
    }


def write_model(folder: Path, tag: str, errors: dict[int, float], phones: list[str], speakers: int) -> None:
    """``abx/<tag>``; ``errors`` shifts each layer's error."""
    tables, rows = [], []
    for layer, shift in errors.items():
        for condition in ("within", "across"):
            table = cells(phones, speakers, seed=7, shift=shift, across=condition == "across")
            tables.append(table.with_columns(layer=pl.lit(layer), condition=pl.lit(condition)))
            rows.append(
                {
                    "layer": layer,
                    "condition": condition,
                    "error": table["score"].mean(),
                    "cells": table.height,
                    "triplets": 8 * table.height,
                    "delta": delta(0.04 - shift / 5, 0.05),
                }
            )
    where = folder / "abx" / tag
    where.mkdir(parents=True)
    pl.concat(tables, how="diagonal").write_parquet(where / "cells.parquet")
    stored = {"tag": tag, "model": tag, "frequency": 50.0, "distance": "angular", "on": "#phone", "scores": rows}
    (where / "summary.json").write_text(json.dumps(stored))


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Path]:
    """Write a whole run's folder; ``forgets`` is what training adds to the error of layer 2."""

    def make(
        folder: Path, *, forgets: float = 0.06, phones: list[str] = PHONES, speakers: int = 3, layers: int = 4
    ) -> Path:
        folder.mkdir(parents=True)
        before = {layer: 0.02 * abs(layer - 2) for layer in range(layers)}
        write_model(folder, "before", before, phones, speakers)
        write_model(folder, "after", {k: v + forgets * k / 2 for k, v in before.items()}, phones, speakers)
        write_model(folder, "random", dict.fromkeys(before, 0.15), phones, speakers)
        write_model(folder, "mfcc", {0: 0.05}, phones, speakers)
        (folder / "config.yaml").write_text(
            "name: demo\nseed: 3\ncorpus:\n  name: sound<scape> & rain\nprimary_layer: null\n"
        )
        facts = {"w2v_abx": "0.1.0", "seed": 3, "packages": {"torch": "2.11.0"}, "hardware": {"cores": 2, "gpus": []}}
        (folder / "run.json").write_text(json.dumps(facts))
        rows = [
            {"category": "rain", "ap": 0.8125, "guess": 0.2, "auc": 0.9375, "positives": 20},
            {"category": "<bell>", "ap": 0.4, "guess": 0.09, "auc": 0.71, "positives": 9},
            {"category": "cost $5 $", "ap": None, "guess": 0.0, "auc": None, "positives": 0},
        ]
        metrics = {"map": 0.606, "macro_auc": 0.824, "chance": 0.145, "clips": 100}
        head = HeadResult(metrics, rows, drawn="ap", titles=TITLES)
        (folder / "head.json").write_text(json.dumps({"valid": {"labels": head.plain()}}))
        with (folder / "metrics.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            losses = [f"{phase}/{name}" for phase in ("train", "valid") for name in ("loss", "labels_loss")]
            writer.writerow(["epoch", "step", *losses, "valid/labels_map"])
            for step in range(120):
                writer.writerow([step // 40, step, *[0.3 + 0.4 * np.exp(-step / 30)] * 2, "", "", ""])
                if step % 40 == 39:
                    valid = 0.35 + 0.4 * np.exp(-step / 30)
                    writer.writerow([step // 40, step, "", "", valid, valid, 0.6 - valid / 3])
        with (folder / "thermal.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["time", "step", "temperature", "power", "microbatch", "rest_share", "action", "reason"])
            for second in range(0, 600, 5):
                hot = 80 - 40 * np.exp(-second / 100)
                writer.writerow([second, second // 5, round(hot, 1), 60, 8 if second < 300 else 4, 0.0, "run", "cool"])
        return folder

    return make


@pytest.fixture(scope="session")
def run_folder(make_run: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run's folder; tests that change it copy it first."""
    return make_run(tmp_path_factory.mktemp("outputs") / "demo" / "2030-01-02_03-04-05")
