"""Phonological vector arithmetic: whether phones that differ alike differ by the same vector, layer by layer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import special

from w2v_abx.abx.speech import Speech
from w2v_abx.analysis.analysis import AnalysisResult, Model
from w2v_abx.analysis.directions.analogies import MEASURES, ROLES, analogies, contrasts, measure, random_offsets
from w2v_abx.analysis.points import Points, classes_of
from w2v_abx.corpora.espeak.ipa import ipa_of
from w2v_abx.errors import InputError
from w2v_abx.heads.phonology import passed_over, segments, to_ipa
from w2v_abx.items.items import Items
from w2v_abx.statistics.ratios import jackknife_reach
from w2v_abx.system.checks import choice, fail, whole

__all__ = ["ALL", "Vectors"]

Doubles = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

KEY = "analysis.vectors"
ESPEAK = "espeak/"  # and a language: its mnemonics
ALL = "all"  # the contrasts together
GROUPS = 20  # of speakers, each left out in turn for the interval
SURE = ("cosine", "accuracy")  # measures that have intervals


@dataclass(frozen=True)
class Vectors:
    """Measure phonological analogies among the centroids of phones: see `w2v_abx.analysis.directions.analogies`.

    Attributes:
        label: the item column of phones.
        alphabet: of the phones: "ipa", "timit" (ARPAbet in lower case), or "espeak/LANGUAGE" for its mnemonics.
        ipa: phones in the IPA that the alphabet has otherwise or not at all.
        layers: see `Analysis`.
        differing: features in which the phones of a pair differ, at most.
        min_count: items of a phone, from which on it has a centroid.
        min_quadruples: pairs of pairs that there have to be.
        limit: items that are drawn where there are more; None: all are taken.
    """

    label: str = "#phone"
    alphabet: str = "ipa"
    ipa: Mapping[str, str] = field(default_factory=dict)
    layers: Sequence[int] | None = None
    differing: int = 1
    min_count: int = 10
    min_quadruples: int = 3
    limit: int | None = 100_000

    def __post_init__(self) -> None:
        if not self.alphabet.startswith(ESPEAK):
            choice(f"{KEY}.alphabet", self.alphabet, ("ipa", "timit"), hint=f"or {ESPEAK} and a language")
        self._letters([])
        if not isinstance(self.ipa, Mapping):
            raise fail(f"{KEY}.ipa", self.ipa, "a mapping from phones to the IPA, such as {ph: pʰ}")
        whole(f"{KEY}.differing", self.differing, 1)
        whole(f"{KEY}.min_count", self.min_count, 1)
        whole(f"{KEY}.min_quadruples", self.min_quadruples, 1)
        whole(f"{KEY}.limit", self.limit, 2, optional="for all")

    def check(self, items: Items, models: Sequence[str]) -> None:
        choice(f"{KEY}.label", self.label, items.labels)
        found = classes_of(items, self.label)
        self._tasks(found.names, np.bincount(found.codes[found.codes >= 0], minlength=len(found.names)))

    def __call__(self, models: Mapping[str, Model], speech: Speech, *, seed: int) -> AnalysisResult:
        rates = [model.store.frequency for model in models.values()]
        points = Points.draw(speech.items, min(rates), "segments", self.limit, seed, max(rates))
        label = points.classes(self.label)
        counts = np.bincount(label.codes[label.codes >= 0], minlength=len(label.names))
        table = self._tasks(label.names, counts)
        phones = [name for name, count in zip(label.names, counts, strict=True) if count >= self.min_count]
        codes = np.array([phones.index(name) if name in phones else -1 for name in [*label.names, ""]])[label.codes]
        tasks = np.array([[phones.index(row[role]) for role in ROLES] for row in table.rows(named=True)])
        asked = _Asked(table["feature"].to_numpy(), tasks, random_offsets(tasks, len(phones), seed))
        groups = _groups(points.speakers.codes, seed)
        found = {
            (name, layer): asked.measure(*_sums(points.vectors(model.store, layer), groups, codes, len(phones)))
            for name, model in models.items()
            for layer in model.layers(self.layers)
        }
        speakers = len(np.unique(points.speakers.codes))
        facts = {
            "label": self.label,
            "phones": phones,
            "quadruples": table.height // len(ROLES),
            "chance": 1 / (len(phones) - 3),
            "speakers": speakers,
        }
        tables = {
            "scores": _scores(asked, found),
            "differences": _differences(models, found),
            "analogies": table.gather_every(len(ROLES)).rename(dict(zip(ROLES, "bacd", strict=True))),
        }
        rare = [name for name in label.names if name not in phones]
        return AnalysisResult(facts, tables, _notes(points, speakers, rare, self.min_count))

    def _letters(self, names: Sequence[str]) -> dict[str, str]:
        """Write phones in the IPA; "" where it is not known."""
        if self.alphabet.startswith(ESPEAK):
            known = ipa_of(f"{KEY}.alphabet", self.alphabet.removeprefix(ESPEAK))
            letters = {name: known.get(name, "") for name in names}
        else:
            letters = {name: to_ipa(name, self.alphabet) for name in names}  # type: ignore[arg-type]
        return letters | {name: self.ipa[name] for name in names if name in self.ipa}

    def _tasks(self, names: Sequence[str], counts: Integers) -> pl.DataFrame:
        """The analogies of phones that come often enough."""
        often = [name for name, count in zip(names, counts, strict=True) if count >= self.min_count]
        letters = self._letters(often)
        pairs = contrasts(letters, self.differing)
        tasks = analogies(pairs)
        if tasks.height < self.min_quadruples * len(ROLES):
            unknown = [name for name in often if passed_over(letters[name]) or not segments(letters[name])]
            why = (
                f"; the alphabet {self.alphabet} lacks {len(unknown)} of them ({', '.join(unknown[:10])}): give their "
            )
            why += f"{KEY}.alphabet, or what they are in the IPA with {KEY}.ipa"
            raise InputError(
                f"{KEY}: the {len(often)} phones of {self.min_count} items or more make {tasks.height // len(ROLES)} "
                f"pairs of pairs that differ alike, and {self.min_quadruples} are needed{why if unknown else ''}"
            )
        return tasks


class _Found(NamedTuple):
    """Measures of a contrast: ``value`` (6,), and what they are without each phone, and each group of speakers."""

    value: Doubles
    phones: Doubles
    speakers: Doubles

    def minus(self, other: "_Found") -> "_Found":
        return _Found(*(mine - its for mine, its in zip(self, other, strict=True)))

    def reach(self, name: str) -> float | None:
        """How far the 95 % interval of a measure reaches, over phones and speakers (Owen & Eckles, 2012)."""
        place = MEASURES.index(name)
        parts = [jackknife_reach(without[:, place]) for without in (self.phones, self.speakers)]
        known = [part for part in parts if part is not None]
        return float(np.hypot.reduce(known)) if known else None

    def interval(self, name: str) -> tuple[float, float] | tuple[None, None]:
        """Find its ends: of shares on the scale of log odds, of cosines within -1 and 1."""
        value, reach = float(self.value[MEASURES.index(name)]), self.reach(name)
        if reach is None or (name == "accuracy" and not 0 < value < 1):
            return None, None
        if name == "accuracy":
            low, high = special.expit(special.logit(value) + np.array([-reach, reach]) / (value * (1 - value)))
            return float(low), float(high)
        return max(value - reach, -1.0), min(value + reach, 1.0)


@dataclass(frozen=True)
class _Asked:
    """Analogies (Q): the ``feature`` of each, its ``tasks`` (Q, 4), and those with ``unrelated`` offsets."""

    feature: npt.NDArray[np.str_]
    tasks: Integers
    unrelated: Integers

    def measure(self, sums: Doubles, counts: Doubles) -> dict[str, _Found]:
        """Measure each contrast, and all together, from sums (G, P, D) of groups of speakers and phones."""
        total, number = sums.sum(0), counts.sum(0)
        whole = self._of(total, number)
        without = [self._of(total - a, number - n) for a, n in zip(sums, counts, strict=True)] if len(sums) > 1 else []
        found = {}
        for feature, rows in self.contrasts().items():
            left = [rows & (self.tasks != phone).all(1) for phone in np.unique(self.tasks[rows])]
            phones = [whole[kept].mean(0) for kept in left] if all(kept.any() for kept in left) else []
            speakers = [np.nanmean(each[rows], axis=0) for each in without if np.isfinite(each[rows]).any()]
            parts = [np.array(part).reshape(-1, len(MEASURES)) for part in (phones, speakers)]
            found[feature] = _Found(whole[rows].mean(0), *parts)
        return found

    def contrasts(self) -> dict[str, npt.NDArray[np.bool_]]:
        """Which analogies are of each contrast, and of all."""
        names = list(dict.fromkeys(self.feature.tolist()))
        return {ALL: np.ones(len(self.feature), dtype=bool), **{name: self.feature == name for name in names}}

    def _of(self, sums: Doubles, counts: Doubles) -> Doubles:
        there = counts[:, None] > 0
        centroids = np.divide(sums, counts[:, None], out=np.full_like(sums, np.nan), where=there)
        return measure(centroids, self.tasks, self.unrelated)


def _sums(vectors: npt.NDArray[np.float32], groups: Integers, codes: Integers, phones: int) -> tuple[Doubles, Doubles]:
    """Add up vectors (N, D) by group and phone: (G, P, D), and their numbers (G, P). A code of -1 is no phone."""
    there = codes >= 0
    places = (groups[there], codes[there])
    shape = int(groups.max()) + 1, phones
    sums, counts = np.zeros((*shape, vectors.shape[1])), np.zeros(shape)
    np.add.at(sums, places, vectors[there].astype(np.float64))
    np.add.at(counts, places, 1)
    return sums, counts


def _groups(speakers: Integers, seed: int) -> Integers:
    """Put speakers in at most `GROUPS` groups of like numbers: that of each point."""
    names, codes = np.unique(speakers, return_inverse=True)
    return (np.random.default_rng(seed).permutation(len(names)) % GROUPS)[codes].astype(np.int64)


def _scores(asked: _Asked, found: Mapping[tuple[str, int], Mapping[str, _Found]]) -> pl.DataFrame:
    rows = []
    for (model, layer), contrasts_ in found.items():
        for feature, of in asked.contrasts().items():
            one = contrasts_[feature]
            involved = len(np.unique(asked.tasks[of]))
            row = {"model": model, "layer": layer, "feature": feature, "quadruples": int(of.sum()) // len(ROLES)}
            row |= {"phones": involved, **dict(zip(MEASURES, one.value.tolist(), strict=True))}
            for name in SURE:
                low, high = one.interval(name)
                row |= {f"{name}_low": low, f"{name}_high": high}
            rows.append(row)
    ends = {f"{name}_{end}": pl.Float64 for name in SURE for end in ("low", "high")}
    return pl.DataFrame(rows, schema_overrides=ends, infer_schema_length=None)


def _differences(models: Mapping[str, Model], found: Mapping[tuple[str, int], Mapping[str, _Found]]) -> pl.DataFrame:
    """How much the measures of each trained model exceed those of the first one."""
    trained = [name for name, model in models.items() if not model.baseline]
    first = trained[0] if trained else ""
    rows = [
        {
            "model": name,
            "layer": layer,
            "feature": feature,
            "measure": measure_,
            "difference": float(change.value[MEASURES.index(measure_)]),
            "reach": change.reach(measure_),
        }
        for (name, layer), contrasts_ in found.items()
        if name in trained[1:] and (first, layer) in found
        for feature, one in contrasts_.items()
        for change in [one.minus(found[first, layer][feature])]
        for measure_ in SURE
    ]
    schema = {"model": pl.String, "layer": pl.Int64, "feature": pl.String, "measure": pl.String}
    return pl.DataFrame(rows, schema={**schema, "difference": pl.Float64, "reach": pl.Float64}, orient="row")


def _notes(points: Points, speakers: int, rare: Sequence[str], least: int) -> list[str]:
    over = "and speakers" if speakers > 1 else "not over speakers: there is one"
    drawn = f"{len(points):,} of {points.total:,}" if len(points) < points.total else f"all {len(points):,}"
    notes = [
        f"Phones are the means of {drawn} items, centred on the mean of all phones.",
        "An analogy's answer is sought among all phones but the other three.",
        f"95 % is over phones, which analogies share, {over}.",
    ]
    if rare:
        notes.append(f"Left out, of fewer than {least} items: {', '.join(rare)}.")
    return notes
