"""A feature store, read by clip, layer, frame and segment."""

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from w2v_abx.errors import InputError
from w2v_abx.features.foreign import StoredFeatures, stored_layers
from w2v_abx.features.store import FeatureStore, StoreIdentity, is_store
from w2v_abx.features.writing import StoreWriter
from w2v_abx.items.items import Items

LENGTHS = {"a": 5, "empty": 0, "b": 7, "c": 1, "none": 0}
LAYERS = (2, 11)


def identity(dtype: str = "float32", **changes: object) -> StoreIdentity:
    known = {"extractor": "e", "precision": "32-true", "frequency": 50.0, "dim": 3, "layers": LAYERS, "clips": "c"}
    return StoreIdentity(dtype=dtype, **(known | changes))  # type: ignore[arg-type]


@pytest.fixture
def features() -> dict[int, dict[str, torch.Tensor]]:
    made = torch.Generator().manual_seed(0)
    return {n: {key: torch.randn(count, 3, generator=made) for key, count in LENGTHS.items()} for n in LAYERS}


@pytest.fixture
def store(tmp_path: Path, features: dict) -> FeatureStore:
    with StoreWriter(tmp_path / "store", identity()) as writer:
        for key, count in LENGTHS.items():
            writer.add([key], [features[layer][key][None] for layer in LAYERS], torch.tensor([count]))
        return writer.finish()


def items(*rows: tuple[str, str, str]) -> Items:
    return Items(pl.DataFrame(rows, schema=["#file", "onset", "offset"], orient="row"))


def test_gives_back_what_was_written(store: FeatureStore, features: dict) -> None:
    assert (store.layers, store.keys, store.frequency) == ([2, 11], list(LENGTHS), 50.0)
    for layer in LAYERS:
        found = store.layer(layer)
        assert list(found) == list(LENGTHS)
        assert len(found) == 5
        assert ("a" in found, "d" in found) == (True, False)
        for key in LENGTHS:
            assert found[key].equal(features[layer][key])
            assert store.clip(layer, key).equal(features[layer][key])
    own = store.clip(2, "a")
    own += 1
    assert store.clip(2, "a").equal(features[2]["a"])


def test_its_files_are_what_anything_can_read(store: FeatureStore, features: dict) -> None:
    assert sorted(path.name for path in store.folder.iterdir()) == [
        "index.parquet", "layer_02.npy", "layer_11.npy", "store.json",
    ]  # fmt: skip
    assert np.array_equal(np.load(store.folder / "layer_02.npy"), torch.cat(list(features[2].values())))
    index = pl.read_parquet(store.folder / "index.parquet")
    assert index.rows() == [("a", 0, 5), ("empty", 5, 0), ("b", 5, 7), ("c", 12, 1), ("none", 13, 0)]
    assert json.loads((store.folder / "store.json").read_text())["layers"] == [2, 11]


def test_frames_are_a_seeded_sample_and_say_whose_they_are(store: FeatureStore, features: dict) -> None:
    values, whose = store.frames(11)
    assert values.shape == (13, 3)
    assert whose["key"].to_list() == ["a"] * 5 + ["b"] * 7 + ["c"]
    for limit in (1, 6):
        values, whose = store.frames(11, limit=limit, seed=3)
        assert len(whose.unique()) == len(values) == limit
        for row, (key, frame) in zip(values, whose.rows(), strict=True):
            assert np.array_equal(row, features[11][key][frame])
    assert whose.equals(store.frames(2, limit=6, seed=3)[1])
    assert not whose.equals(store.frames(2, limit=6, seed=4)[1])
    with pytest.raises(InputError, match="limit=0 must be"):
        store.frames(2, limit=0)


def test_segments_pool_the_frames_of_items(store: FeatureStore, features: dict) -> None:
    asked = items(("b", "0.02", "0.08"), ("a", "0", "0.12"), ("c", "0.001", "0.002"), ("b", "0.04", "0.06"))
    b, a = features[2]["b"][1:4], features[2]["a"]
    for pool, first, second in (
        ("mean", b.mean(0), a.mean(0)), ("max", b.amax(0), a.amax(0)), ("middle", b[1], a[2]),
    ):  # fmt: skip
        found = store.segments(2, asked, pool)
        assert found.shape == (4, 3)
        np.testing.assert_allclose(found[0], first, rtol=1e-6)
        np.testing.assert_allclose(found[1], second, rtol=1e-6)  # its sixth frame is lost
        assert np.isnan(found[2]).all()
        np.testing.assert_allclose(found[3], features[2]["b"][2], rtol=1e-6)
    for rows, message in (
        ([("d", "0", "0.1")], "no features of 'd'"), ([("a", "0", "0.14")], "ends at frame 7.* has 5 of 'a'"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            store.segments(2, items(*rows))
    with pytest.raises(InputError, match="pool='sum' must be one of mean, max, middle"):
        store.segments(2, asked, "sum")


def test_a_store_without_a_frame(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "store", identity()) as writer:
        writer.add(["a"], [torch.zeros(1, 0, 3)] * 2, torch.tensor([0]))
        store = writer.finish()
    assert store.clip(2, "a").shape == (0, 3)
    assert store.frames(2, limit=5)[0].shape == (0, 3)
    with StoreWriter(tmp_path / "nothing", identity()) as writer:
        assert writer.finish().keys == []


def test_damage_is_one_clear_error(store: FeatureStore, tmp_path: Path) -> None:
    def broken(name: str, content: bytes | None) -> str:
        folder = tmp_path / "broken"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(store.folder, folder)
        if content is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(content)
        assert is_store(folder)
        with pytest.raises(InputError, match=r"broken is damaged \(.*\): remove it") as error:
            FeatureStore(folder)
        return str(error.value)

    layer = (store.folder / "layer_11.npy").read_bytes()
    index = (store.folder / "index.parquet").read_bytes()
    plain = json.loads((store.folder / "store.json").read_text())
    for content in (
        None,
        b"",
        layer[:-1],
        layer[:50],
        b"x" * len(layer),
        (store.folder / "index.parquet").read_bytes(),
    ):
        broken("layer_11.npy", content)
    for content in (None, b"", index[:-9], b"x" * len(index)):
        broken("index.parquet", content)
    pl.read_parquet(index).reverse().write_parquet(tmp_path / "turned")
    assert "do not follow" in broken("index.parquet", (tmp_path / "turned").read_bytes())
    assert "float32 (13, 3), not float16" in broken("store.json", json.dumps({**plain, "dtype": "float16"}).encode())
    for content in ({**plain, "format": 2}, {**plain, "layers": None}, {**plain, "other": 1}, [], {"format": 1}):
        broken("store.json", json.dumps(content).encode())
    broken("store.json", b"{")
    (store.folder / "store.json").unlink()
    with pytest.raises(InputError, match="is no feature store"):
        FeatureStore(store.folder)


def test_stored_layers_read_a_store_and_what_was_made_elsewhere(
    store: FeatureStore, features: dict, tmp_path: Path
) -> None:
    layers, frequency = stored_layers(store.folder, None, None)
    found = dict(layers)
    assert (list(found), frequency) == ([2, 11], 50.0)
    assert found[11]["b"].equal(features[11]["b"])
    assert [layer for layer, _ in stored_layers(store.folder, "50.0", [11])[0]] == [11]
    with pytest.raises(InputError, match="abx.layers=3 must be one of 2, 11"):
        stored_layers(store.folder, 50, [3])
    with pytest.raises(InputError, match="abx.frequency=100 is not that of the features in .*, 50: leave it out"):
        stored_layers(store.folder, 100, None)
    (tmp_path / "own").mkdir()
    np.save(tmp_path / "own" / "a.npy", np.zeros((4, 2), np.float32))
    ((layer, own),), frequency = stored_layers(tmp_path / "own", "49.95", None)
    assert isinstance(own, StoredFeatures)
    with pytest.raises(InputError, match="abx.frequency is missing: give the frames per second of the features in"):
        stored_layers(tmp_path / "own", None, None)
    assert (layer, list(own), frequency) == (0, ["a"], 49.95)
