"""ABX as a torchmetrics metric, against scoring the same features at once."""

import pickle
from pathlib import Path

import lightning
import pytest
import torch
from noises import batches, noises, unpadded
from small import quiet_trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics import MetricCollection

from w2v_abx.abx import AbxMetric, Items, Task, score
from w2v_abx.errors import InputError
from w2v_abx.features.memory import DeviceBudget, FileFrames, LayerFeatures, NeededFrames

ACROSS, WITHIN = Task.preset("across"), Task.preset("within")


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> Items:
    return noises(tmp_path_factory.mktemp("noises")).items


def filled(metric: AbxMetric, items: Items) -> AbxMetric:
    for batch in batches(items):
        metric.update(*batch)
    return metric


@pytest.mark.parametrize("task", [WITHIN, ACROSS], ids=["within", "across"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_equals_scoring_at_once(items: Items, task: Task, dtype: torch.dtype) -> None:
    metric = AbxMetric(items, task, frequency=50, distance="euclidean")
    for names, features, lengths in batches(items):
        metric.update(names, features.to(dtype), lengths)
    features = {name: value.to(dtype).float() for name, value in unpadded(batches(items)).items()}
    expected = score(features, items, task, frequency=50, distance="euclidean")
    assert metric.compute().item() == pytest.approx(expected.error(), abs=1e-7)
    assert metric.compute().shape == ()
    assert metric.scores is not None
    assert metric.scores.cells.equals(expected.cells)
    assert all(frames.dtype == dtype for frames in metric.frames)


def test_only_needed_frames_are_kept(items: Items) -> None:
    metric = filled(AbxMetric(items, ACROSS, frequency=50), items)
    starts, stops = items.spans(metric.scorer.frequency)
    assert sum(len(frames) for frames in metric.frames) == (stops - starts).sum()
    assert {name: len(value) for name, value in metric.features.items()} == {
        name: len(value) for name, value in unpadded(batches(items)).items()
    }


def test_repeated_and_unknown_files_change_nothing(items: Items) -> None:
    metric = filled(AbxMetric(items, ACROSS, frequency=50), items)
    error = metric.compute()
    names, features, lengths = batches(items, seed=1)[0]
    metric.update(names, features, lengths)
    metric.update(["stranger"] * len(names), features, lengths)
    metric.update([names[0], names[0]], features[:2], lengths[:2])
    assert metric.compute() == error
    assert len(metric.frames) == len(set(items.frame["#file"]))


def test_a_file_never_seen_is_named(items: Items) -> None:
    metric = AbxMetric(items, ACROSS, frequency=50)
    for batch in batches(items)[:-1]:
        metric.update(*batch)
    with pytest.raises(InputError, match="no features for the file 'bob2'"):
        metric.compute()
    metric.update(*batches(items)[-1])
    metric.compute()


def test_a_nan_is_told_with_its_frame_and_file(items: Items) -> None:
    metric = AbxMetric(items, ACROSS, frequency=50)
    made = batches(items)
    made[0][1][1, 17] = torch.nan  # no item needs this frame
    for batch in made:
        metric.update(*batch)
    with pytest.raises(InputError, match=r"'ann1' hold a NaN.*frame 17"):
        metric.compute()


def test_reset_keeps_the_last_scores(items: Items) -> None:
    metric = filled(AbxMetric(items, ACROSS, frequency=50), items)
    error = metric.compute()
    metric.reset()
    assert not metric.frames
    assert metric.scores is not None
    with pytest.warns(UserWarning, match="before the ``update``"), pytest.raises(InputError, match="no features"):
        metric.compute()
    assert filled(metric, items).compute() == error


def test_copies_and_pickles_go_on_where_the_metric_was(items: Items) -> None:
    metric = AbxMetric(items, ACROSS, frequency=50)
    first, *rest = batches(items)
    metric.update(*first)
    copies = [metric.clone(), pickle.loads(pickle.dumps(metric))]
    for one in (metric, *copies):
        for batch in rest:
            one.update(*batch)
    assert len({one.compute().item() for one in (metric, *copies)}) == 1
    assert pickle.loads(pickle.dumps(metric)).scores.error() == metric.scores.error()  # with what compute has left
    assert not AbxMetric(items, ACROSS, frequency=50).state_dict()
    metric.persistent(True)
    loaded = AbxMetric(items, ACROSS, frequency=50)
    loaded.load_state_dict(metric.state_dict())
    loaded._update_count = 1
    assert loaded.compute() == metric.compute()


def test_a_collection_shares_features_of_the_same_items_only(items: Items) -> None:
    fewer = Items(items.frame.filter(items.frame["#file"] != "bob5"))
    collection = MetricCollection(
        {
            "across": AbxMetric(items, ACROSS, frequency=50),
            "within": AbxMetric(items, WITHIN, frequency=50),
            "fewer": AbxMetric(fewer, ACROSS, frequency=50),
        }
    )
    for names, features, lengths in batches(items):
        collection.update(names=names, features=features, lengths=lengths)
    errors = collection.compute()
    features = unpadded(batches(items))
    for name, (which, task) in {"across": (items, ACROSS), "within": (items, WITHIN), "fewer": (fewer, ACROSS)}.items():
        assert errors[name].item() == pytest.approx(score(features, which, task, frequency=50).error(), abs=1e-7)
    assert sorted(map(sorted, collection.compute_groups.values())) == [["across", "within"], ["fewer"]]


def test_levels_and_weights(items: Items) -> None:
    metric = filled(AbxMetric(items, ACROSS, frequency=50, weighted=True), items)
    expected = score(unpadded(batches(items)), items, ACROSS, frequency=50)
    assert metric.compute().item() == pytest.approx(expected.error(weighted=True), abs=1e-7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda names, features, lengths: (names[1:], features, lengths), "3 names, 4 rows"),
        (lambda names, features, lengths: (names, features[0], lengths), "files, frames, width"),
        (lambda names, features, lengths: (names, features.int(), lengths), "floating point"),
        (lambda names, features, lengths: (names, features, lengths + 99), "frames of"),
        (lambda names, features, lengths: (names, features, lengths[None]), "lengths of shape"),
    ],
)
def test_batches_that_do_not_fit(items: Items, change, message: str) -> None:
    metric = AbxMetric(items, ACROSS, frequency=50)
    with pytest.raises(InputError, match=message):
        metric.update(*change(*batches(items)[0]))


class Anyones(lightning.LightningModule):
    """A user's module that logs ABX as the docstring says."""

    def __init__(self, items: Items) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 5)
        self.abx = AbxMetric(items, ACROSS, frequency=50)

    def training_step(self, batch: tuple[list[str], Tensor, Tensor], index: int) -> Tensor:
        return self.layer(batch[1]).square().mean()

    def validation_step(self, batch: tuple[list[str], Tensor, Tensor], index: int) -> None:
        names, features, lengths = batch
        self.abx.update(names, self.layer(features), lengths)
        self.log("abx", self.abx, on_step=False, on_epoch=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def test_logged_by_a_module_each_epoch(items: Items, tmp_path: Path) -> None:
    module = Anyones(items)
    loader = DataLoader(batches(items), batch_size=None)
    trainer = quiet_trainer(tmp_path, max_epochs=2)
    trainer.fit(module, loader, loader)
    with torch.no_grad():
        features = {name: module.layer(value) for name, value in unpadded(batches(items)).items()}
    expected = score(features, items, ACROSS, frequency=50).error()
    assert trainer.callback_metrics["abx"].item() == pytest.approx(expected, abs=1e-7)
    assert not module.abx.frames  # Lightning resets it


def test_what_a_gpu_has_no_room_for_goes_to_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("w2v_abx.features.memory.free_bytes", lambda device: 200)
    moved: list[int] = []

    class OnGpu:
        device, nbytes = torch.device("cuda"), 40

        def cpu(self) -> None:
            moved.append(1)

    budget = DeviceBudget()
    placed = [budget.place(OnGpu()) for _ in range(4)]  # type: ignore[arg-type]
    assert [one is None for one in placed] == [False, False, True, True]  # half of 200 bytes hold two
    budget.clear()
    assert budget.place(OnGpu()) is not None  # type: ignore[arg-type]
    with pytest.raises(InputError, match="device_bytes"):
        DeviceBudget(-1)


def test_gathering_preserves_types_shapes_and_the_lowest_rank(items: Items) -> None:
    needed = NeededFrames(items, 50)
    first = {"ann0": FileFrames(3, torch.randn(3, 5).bfloat16()), "ann1": FileFrames(9, torch.randn(0, 5))}
    second = {"ann0": FileFrames(4, torch.randn(4, 5)), "Ünder": FileFrames(2, torch.randn(2, 7).double())}
    sent: list[list[Tensor]] = []

    def record(data: Tensor) -> list[Tensor]:
        sent.append([data])
        return [data]

    for stored in (first, second, {}):
        LayerFeatures(needed, stored).gather(record)
    answers = [[sent[i][0], sent[i + 2][0], sent[i + 4][0]] for i in (0, 1)]
    gathered = LayerFeatures(needed, first).gather(lambda data: answers.pop(0))
    assert list(gathered) == ["ann0", "ann1", "Ünder"]
    for name, expected in {**second, **first}.items():
        assert gathered.stored[name].length == expected.length
        assert gathered.stored[name].frames.dtype == expected.frames.dtype
        assert torch.equal(gathered.stored[name].frames, expected.frames)
