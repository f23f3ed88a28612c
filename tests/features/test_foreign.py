"""Features stored on disk."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from w2v_abx.abx import StoredFeatures
from w2v_abx.errors import InputError

VALUE = torch.arange(6.0).reshape(3, 2)


def test_reads_npy_pt_and_safetensors_alike(tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    np.save(tmp_path / "in" / "a.b.npy", VALUE.numpy())
    torch.save(VALUE, tmp_path / "in" / "deep" / "c.pt")
    (tmp_path / "in" / "notes.txt").write_text("not features", encoding="utf-8")
    save_file({"a.b": VALUE, "deep/c": VALUE.bfloat16()}, tmp_path / "all.safetensors")
    for path in (tmp_path / "in", tmp_path / "all.safetensors"):
        features = StoredFeatures(path)
        assert sorted(features) == ["a.b", "deep/c"]
        assert all(torch.as_tensor(features[name]).float().equal(VALUE) for name in features)
        assert "d" not in features


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    class Mischief:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "ran",))

    with (tmp_path / "a.pt").open("wb") as stream:
        pickle.dump(Mischief(), stream, protocol=2)
    np.save(tmp_path / "b.npy", np.array([Mischief()], dtype=object), allow_pickle=True)
    features = StoredFeatures(tmp_path)
    for name in ("a", "b"):
        with pytest.raises(InputError, match=f"{name}.* cannot be read"):
            features[name]
    assert not (tmp_path / "ran").exists()


def test_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no features at"):
        StoredFeatures(tmp_path)
    with pytest.raises(InputError, match="no features at"):
        StoredFeatures(tmp_path / "missing")
    (tmp_path / "bad.safetensors").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="not a readable safetensors"):
        StoredFeatures(tmp_path / "bad.safetensors")
    torch.save({"layer": VALUE}, tmp_path / "a.pt")
    with pytest.raises(InputError, match="holds a dict"):
        StoredFeatures(tmp_path)["a"]
    np.save(tmp_path / "a.npy", VALUE.numpy())
    with pytest.raises(InputError, match="both hold the features of 'a'"):
        StoredFeatures(tmp_path)
