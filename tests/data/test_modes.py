"""Mixing, balance and like lengths: the right clips, the same ones each time, and on from a checkpoint."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from batches import contents, fit, same
from loopback import Loopback
from small import ARCHITECTURE

from w2v_abx.data import Batch, ShardDataModule
from w2v_abx.errors import InputError
from w2v_abx.heads.multilabel import Multilabel
from w2v_abx.items.frames import FrameClock
from w2v_abx.models.encoder import Encoder
from w2v_abx.shards import read_shard
from w2v_abx.training.microbatch import MicroBatcher, MicroBatching

CLIPS = 23
TWINS = 9


def modes(root: Path) -> dict[str, dict[str, Any]]:
    common = {"folder": root / "sounds", "batch_size": 4, "crop_seconds": 0.2}
    return {
        "mix": common | {"mix": {"speech": {"folder": str(root / "speech"), "weight": 0.3, "crop_seconds": 0.1}}},
        "balance": common | {"balance": "labels"},
        "like_length": common | {"like_length": 3, "crop_seconds": None},
        "batch_seconds": common | {"batch_seconds": 1.5, "max_padding": 0.3, "crop_seconds": None},
        "mix_seconds": common
        | {
            "batch_seconds": 1.5,
            "max_padding": 0.3,
            "mix": {"speech": {"folder": str(root / "speech"), "weight": 0.3}},
        },
        "group": common | {"folder": root / "twins", "group": "pair"},
    }


MODES = ["mix", "balance", "like_length", "batch_seconds", "mix_seconds", "group"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_repeats_and_the_next_differs(root: Path, mode: str, workers: int) -> None:
    settings = modes(root)[mode] | {"num_workers": workers}
    loader = ShardDataModule(**settings).train_dataloader()
    first = contents(loader)
    assert len(first) == len(loader)
    again = contents(ShardDataModule(**settings).train_dataloader())
    assert all(map(same, first, again))
    loader.epoch = 1  # type: ignore[attr-defined]
    second = contents(loader)
    assert len(second) == len(first)
    assert not all(map(same, first, second))
    if mode not in ("balance", "group"):
        seen = Counter(
            key for keys, corpora, _, _ in second for key, of in zip(keys, corpora, strict=True) if of == "sounds"
        )
        assert set(seen) == {f"so{i:02d}" for i in range(CLIPS)}
        assert seen.total() == CLIPS


@pytest.mark.parametrize("mode", MODES)
def test_an_epoch_goes_on_anywhere_with_any_number_of_threads(root: Path, mode: str) -> None:
    settings = modes(root)[mode]
    whole = contents(ShardDataModule(**settings).train_dataloader())
    for workers in (0, 1, 3):
        for done in range(len(whole)):
            loader = ShardDataModule(**settings, num_workers=workers).train_dataloader()
            loader.batches = done  # type: ignore[attr-defined]
            assert all(map(same, contents(loader), whole[done:]))


@pytest.mark.parametrize("mode", MODES)
def test_a_resumed_run_equals_the_run_that_was_not_killed(root: Path, tmp_path: Path, mode: str) -> None:
    settings = modes(root)[mode]
    whole = fit(tmp_path / "whole", **settings)
    for step in (1, len(whole.seen) // 2, len(whole.seen) - 1):
        resumed = fit(tmp_path / "resumed", tmp_path / "whole" / f"step={step}.ckpt", **settings)
        assert resumed.seen == whole.seen[step:]
        assert torch.equal(resumed.weight, whole.weight)


@pytest.mark.parametrize(
    ("mode", "change", "message"),
    [
        (
            "mix",
            {"mix": {}},
            r"read with mix={'speech': \[0.3, 0.1, 17, 'train', False, .*\]}, which mix={} would read in another order",
        ),
        ("balance", {"balance_strength": 0.5}, "read with balance_strength=1.0, which balance_strength=0.5 would"),
        ("like_length", {"like_length": 2}, "read with like_length=3, which like_length=2 would"),
        ("batch_seconds", {"batch_seconds": 2.0}, "read with batch_seconds=1.5, which batch_seconds=2.0 would"),
        ("batch_seconds", {"max_padding": 0.2}, "read with max_padding=0.3, which max_padding=0.2 would"),
    ],
)
def test_resuming_in_another_order_is_refused(
    root: Path, tmp_path: Path, mode: str, change: dict[str, Any], message: str
) -> None:
    settings = modes(root)[mode]
    fit(tmp_path, **settings)
    with pytest.raises(InputError, match=message):
        fit(tmp_path, tmp_path / "step=2.ckpt", **(settings | change))


def test_a_batch_tells_where_each_clip_comes_from(root: Path) -> None:
    for batch in ShardDataModule(**modes(root)["mix"]).train_dataloader():
        for key, corpus, length in zip(batch.keys, batch.corpora, batch.lengths.tolist(), strict=True):
            assert key.startswith({"sounds": "so", "speech": "sp"}[corpus])
            assert length <= {"sounds": 3200, "speech": 1600}[corpus]
        (half, *_) = MicroBatcher(MicroBatching(2)).split(batch)
        assert half.corpora == batch.corpora[:2]


def head(data: ShardDataModule) -> Multilabel:
    return Multilabel(Encoder.random(ARCHITECTURE), data, "head")


class Kind:
    def target(self, labels: Mapping[str, Any], frames: int, clock: FrameClock) -> torch.Tensor:
        return torch.tensor(int(labels["labels"] == ["rare"]))


def test_mixed_in_clips_have_no_targets(root: Path) -> None:
    data = ShardDataModule(**modes(root)["mix"])
    data.ask({"head": head(data), "kind": Kind()})
    assert data.categories() == ["common", "rare"]
    rows = [
        (corpus, *row)
        for batch in data.train_dataloader()
        for corpus, *row in zip(
            batch.corpora,
            batch.targets["head"].values,
            batch.targets["kind"].values.tolist(),
            batch.targets["head"].present.tolist(),
            batch.targets["kind"].present.tolist(),
            strict=True,
        )
    ]
    assert {corpus for corpus, *_ in rows} == {"sounds", "speech"}
    for corpus, target, kind, *present in rows:
        assert target.shape == (2,)
        assert present == [corpus == "sounds"] * 2
        assert bool(target.isnan().all()) == bool(target.isnan().any()) == (corpus == "speech")
        assert (kind == -100) == (corpus == "speech")


def test_a_batch_without_the_main_corpus_has_no_target(root: Path) -> None:
    mix = {"speech": {"folder": str(root / "speech"), "weight": 0.9}}
    data = ShardDataModule(root / "sounds", batch_size=1, mix=mix)
    data.ask({"head": head(data)})
    batches = list(data.train_dataloader())
    assert batches[0].corpora == ["speech"]
    for batch in batches:
        values, _, present = batch.targets["head"]
        assert bool(present) == (batch.corpora == ["sounds"]) != bool(values.isnan().all())
        assert values.shape == ((1, 2) if present else (1,))


def test_labels_of_the_same_kind_are_targets(root: Path) -> None:
    mix = {"speech": {"folder": str(root / "speech"), "weight": 0.3, "targets": True}}
    data = ShardDataModule(root / "sounds", batch_size=4, mix=mix)
    assert data.categories() == ["common", "rare", "voice"]
    data.ask({"head": head(data)})
    for batch in data.train_dataloader():
        for corpus, target in zip(batch.corpora, batch.targets["head"].values.tolist(), strict=True):
            assert target == [0, 0, 1] if corpus == "speech" else target[2] == 0


def test_rare_categories_come_as_often(root: Path) -> None:
    data = ShardDataModule(**modes(root)["balance"])
    seen: Counter[str] = Counter()
    crops: dict[str, set[float]] = {}
    loader = data.train_dataloader()
    for epoch in range(8):
        loader.epoch = epoch  # type: ignore[attr-defined]
        for keys, _, waveforms, _ in contents(loader):
            seen.update(keys)
            for key, waveform in zip(keys, waveforms, strict=True):
                crops.setdefault(key, set()).add(float(waveform.sum()))
    rare = [f"so{i:02d}" for i in range(0, CLIPS, 8)]
    assert abs(sum(seen[key] for key in rare) / seen.total() - 0.5) < 0.02
    assert max(seen[key] for key in rare) - min(seen[key] for key in rare) <= 2
    # Each time another crop, but where the clip is hardly longer.
    longer = [key for key in rare if len(crops[key]) > 1]
    assert sum(len(crops[key]) for key in longer) > 0.7 * sum(seen[key] for key in longer) > 0


def test_balance_needs_a_label(root: Path) -> None:
    with pytest.raises(InputError, match="carries the label 'emotion'; the labels there are: labels"):
        ShardDataModule(root / "sounds", balance="emotion").train_dataloader()


def test_batches_of_seconds_hold_little_padding(root: Path) -> None:
    filled = padded = 0
    for _, _, waveforms, lengths in contents(ShardDataModule(**modes(root)["batch_seconds"]).train_dataloader()):
        filled, padded = filled + int(lengths.sum()), padded + waveforms.numel()
        assert waveforms.numel() <= 1.5 * 16000
    assert 1 - filled / padded < 0.3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_seconds": 0.3}, r"data\.batch_seconds=0\.3 does not hold a clip of 0\.\d+ s for each of 1 processes"),
        ({"batch_seconds": 2, "balance": "labels"}, r"data\.batch_seconds does not go with data\.balance"),
        ({"batch_seconds": 2, "drop_last": True}, r"data\.batch_seconds does not go with data\.drop_last"),
        (
            {"batch_seconds": 2, "max_padding": 1.0},
            r"data\.max_padding=1\.0 must be a number at least 0\.001 and below 1",
        ),
        ({"like_length": 1}, r"data\.like_length=1 must be a whole number from 2"),
        ({"balance_strength": 1.5}, r"data\.balance_strength=1\.5 must be a number at least 0 and at most 1"),
        ({"cache_gigabytes": -1}, r"data\.cache_gigabytes=-1 must be a number at least 0"),
        ({"mix": {"a": {"weight": 0.1}}}, r"data\.mix\.a\.folder is missing; give data\.mix\.a\.folder=…"),
        ({"mix": {"a": {"folder": "x"}}}, r"data\.mix\.a\.weight is missing"),
        ({"mix": {"a": {"folder": "x", "weight": 1}}}, r"data\.mix\.a\.weight=1 must be a number above 0 and below 1"),
        ({"mix": {"a": {"folder": "x", "weight": "y"}}}, r"data\.mix\.a\.weight='y' must be a number above 0"),
        ({"mix": {"a": {"folder": "x", "wieght": 0.1}}}, r"unknown key data\.mix\.a\.wieght; data\.mix\.a has folder"),
        ({"mix": {"a": "x"}}, r"data\.mix\.a=x must be a group with the keys folder and weight"),
        ({"mix": {"a": {"folder": "x", "weight": 0.1, "targets": "no"}}}, r"data\.mix\.a\.targets='no' must be true"),
        ({"mix": {"a": {"folder": "x", "weight": 0.1, "crop_seconds": 0}}}, r"data\.mix\.a\.crop_seconds=0 must be"),
        (
            {"mix": {n: {"folder": "x", "weight": 0.5} for n in "ab"}},
            r"the weights of data\.mix make 1 together: leave 0.001",
        ),
        ({"mix": {n: {"folder": "x", "weight": 0.1} for n in "abcdefghij"}}, r"make 1 together: leave 0.001 or more"),
        (
            {"mix": {"a": {"folder": "x", "weight": 0.5, "split": None}}},
            r"data\.mix\.a\.split=None must be the name of",
        ),
        ({"mix": {"a": {"folder": "/nowhere", "weight": 0.5}}}, r"/nowhere holds no manifest\.json"),
        ({"mix": {"sounds": {"folder": "x", "weight": 0.5}}}, r"data\.mix\.sounds has the name of the main corpus"),
    ],
)
def test_settings_that_cannot_work(root: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ShardDataModule(root / "sounds", **settings).train_dataloader()


class Broken:
    """A head of someone's own, of whose targets one cannot be made."""

    def __init__(self, error: Exception) -> None:
        self.error, self.calls = error, 0

    def target(self, labels: Mapping[str, Any], frames: int, clock: FrameClock) -> torch.Tensor:
        self.calls += 1
        if self.calls == 9:
            raise self.error
        return torch.zeros(())


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("error", [KeyError("phones"), StopIteration(), InputError("a clip has none")])
def test_a_target_that_cannot_be_made_names_its_clip(root: Path, error: Exception, workers: int) -> None:
    data = ShardDataModule(root / "sounds", batch_size=4, num_workers=workers)
    data.ask({"mine": Broken(error)})
    with pytest.raises(InputError, match=r"(a clip has none|objective\.heads\.mine: .*) \(target of the clip so\d+ of"):
        list(data.train_dataloader())


def test_an_epoch_that_another_version_began_is_not_gone_on_with(root: Path) -> None:
    loader = ShardDataModule(root / "sounds").train_dataloader()
    state = loader.state_dict()
    order = {name: value for name, value in state["order"].items() if name not in ("order_version", "group")}
    loader.load_state_dict({**state, "order": order})
    with pytest.raises(InputError, match="by another version of w2v-abx, in another order"):
        loader.load_state_dict({**state, "batches": 1, "order": order | {"num_workers": 0}})


# Groups


def groups_of(batch: Batch) -> list[str]:
    return [key.rstrip("ab") for key in batch.keys]


@pytest.mark.parametrize("batch", [{"batch_size": 4}, {"batch_seconds": 2.5, "max_padding": 0.5}])
def test_clips_of_a_group_share_a_batch(root: Path, batch: dict[str, Any]) -> None:
    data = ShardDataModule(root / "twins", group="pair", num_workers=2, **batch)
    for ranks in (1, 2):
        seen: Counter[str] = Counter()
        for rank in range(ranks):
            data.trainer = SimpleNamespace(  # type: ignore[assignment]
                global_rank=rank,
                world_size=ranks,
                current_epoch=0,
                strategy=SimpleNamespace(root_device=torch.device("cpu")),
            )
            loader = data.train_dataloader()
            loader.trainer = None
            for each in loader:
                groups = Counter(groups_of(each))
                assert set(groups.values()) == {2}
                seen.update(groups)
        assert len(seen) == TWINS
        assert sum(seen.values()) - 2 * TWINS <= 2 * (ranks - 1)
    data.trainer = None
    held_out = [group for each in data.val_dataloader() for group in groups_of(each)]
    assert held_out[::2] == held_out[1::2]
    assert len(held_out) == 4


def test_clips_of_a_group_lie_side_by_side_in_one_shard(root: Path) -> None:
    for shard in sorted((root / "twins").glob("train-*.tar")):
        keys = [sample.key for sample in read_shard(shard)]
        assert [key[:-1] for key in keys[::2]] == [key[:-1] for key in keys[1::2]]


def test_clips_of_a_group_that_lie_apart_in_a_folder_elsewhere_are_warned_of(root: Path) -> None:
    with Loopback(root) as server:
        data = ShardDataModule(server.url("twins"), batch_size=6, group="take")
        with pytest.warns(UserWarning, match="lie apart in .* prepare them with prepare.group=take, or set data.cache"):
            loader = data.train_dataloader()
        for batch in loader:
            takes = Counter(f"{int(key[1:3]) % 3}{key[3]}" for key in batch.keys)
            assert set(takes.values()) == {3}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"folder": "sounds", "group": "labels"},
            r"data\.group=labels: .*sounds has a group of \d+, clips that share '\w+'",
        ),
        (
            {"folder": "twins", "group": "grp"},
            r"no clip in .*twins carries the label 'grp'; the labels there are: own, pair, take",
        ),
        ({"folder": "twins", "group": "own"}, r"data\.group=own: no two clips in .*twins share a value of this label"),
        (
            {"folder": "twins", "max_clips": 5},
            r"has a group of 1, clips that share 't\d+', where .* of 2: .*data\.max_clips has cut one",
        ),
        (
            {"folder": "twins", "batch_size": 3},
            r"data\.batch_size=3 must be a multiple of 2, for 1 processes with 2 clips",
        ),
        ({"folder": "twins", "batch_seconds": 0.3}, r"data\.batch_seconds=0\.3 does not hold 2 clips of 0\.\d+ s"),
        (
            {
                "folder": "twins",
                "group": "take",
                "batch_size": 6,
                "mix": {"pairs": {"folder": "pairs", "weight": 0.5}},
            },
            r"groups of .*pairs have 2 clips where those of .*twins have 3",
        ),
    ],
)
def test_groups_that_cannot_work(root: Path, settings: dict[str, Any], message: str) -> None:
    for mixed in settings.get("mix", {}).values():
        mixed["folder"] = str(root / "pairs")
    options = {"batch_size": 4, "group": "pair"} | settings | {"folder": root / settings["folder"]}
    with pytest.raises(InputError, match=message):
        ShardDataModule(**options).train_dataloader()


# Validation


def test_validation_reads_every_corpus_that_has_the_split(root: Path) -> None:
    mix = {"speech": {"folder": str(root / "speech"), "weight": 0.3, "crop_seconds": 0.1, "targets": True}}
    data = ShardDataModule(root / "sounds", batch_size=4, mix=mix, eval_crop_seconds=0.2)
    data.ask({"head": head(data)})
    seen = [
        (corpus, key, length, present)
        for batch in data.val_dataloader()
        for corpus, key, length, present in zip(
            batch.corpora, batch.keys, batch.lengths.tolist(), batch.targets["head"].present.tolist(), strict=True
        )
    ]
    assert [corpus for corpus, *_ in seen] == ["sounds"] * 3 + ["speech"] * 3
    assert len({key for _, key, *_ in seen}) == 6
    assert max(length for *_, length, _ in seen) == 3200
    assert all(present for *_, present in seen)
    assert data.categories(split="valid") == ["common", "rare", "voice"]
    mix["speech"] |= {"split": "valid", "targets": False}  # it is trained on, so not held out
    data = ShardDataModule(root / "sounds", mix=mix)
    assert {corpus for batch in data.val_dataloader() for corpus in batch.corpora} == {"sounds"}
    assert data.categories(split="valid") == ["common", "rare"]


def test_dropping_the_last_counts_the_clips_that_are_mixed_in(root: Path) -> None:
    mix = {"speech": {"folder": str(root / "speech"), "weight": 0.5}}
    data = ShardDataModule(root / "sounds", batch_size=40, drop_last=True, mix=mix)
    assert [len(keys) for keys, *_ in contents(data.train_dataloader())] == [40]
    with pytest.raises(InputError, match=r"data\.drop_last leaves nothing of the 23 clips"):
        ShardDataModule(root / "sounds", batch_size=48, drop_last=True, mix=mix).train_dataloader()
