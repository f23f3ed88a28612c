"""What must not change when the code does: training steps, orders of clips, ABX errors, prepared folders.

A difference that is meant is stored anew as `support.golden` says.
"""

import hashlib
import io
import json
import tarfile
from pathlib import Path

import golden
import numpy as np
import pytest
import soundfile as sf
from golden import OBJECTIVES, ORDERS, STEP_CLIPS, Waves, data_of, keys_of, stored

from w2v_abx import shards


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Sounds for steps, and speech to mix in."""
    root = tmp_path_factory.mktemp("steps")
    labelled, speech = STEP_CLIPS
    shards.prepare(Waves(root / "audio", {"train": labelled, "valid": 1}), root / "waves")
    shards.prepare(Waves(root / "audio", {"train": speech}, "speech"), root / "speech")
    return root / "waves", root / "speech"


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """More and shorter clips, for orders."""
    root = tmp_path_factory.mktemp("orders")
    for corpus in (
        Waves(root / "audio", {"train": 31, "valid": 9}, "w", 700),
        Waves(root / "audio", {"train": 11}, "s", 700),
    ):
        shards.prepare(corpus, root / corpus.name, clips_per_shard=8)
    return root / "w", root / "s"


# Training


@pytest.mark.parametrize("microbatch", [None, 4], ids=["whole", "split"])
@pytest.mark.parametrize("kind", OBJECTIVES)
def test_training_steps(kind: str, microbatch: int | None, folders: tuple[Path, Path]) -> None:
    found = golden.train_steps(kind, *folders, microbatch)
    expected = stored("steps", kind, found, write=microbatch is None)
    assert (found["parameters"], found["encoder"]) == (expected["parameters"], expected["encoder"])
    assert_projections(found["weights"], expected["weights"], 1e-5)
    assert found["gradient_norms"] == pytest.approx(expected["gradient_norms"], rel=2e-4)
    assert len(found["logged"]) == len(expected["logged"])
    for step, reference in zip(found["logged"], expected["logged"], strict=True):
        assert step == pytest.approx(reference, rel=1e-4, abs=1e-6)
    assert_projections(found["update"], expected["update"], 1e-3)


def assert_projections(found: dict, expected: dict, tolerance: float) -> None:
    """Compare fingerprints; a sum under random signs is about as large as the norm."""
    assert found["norm"] == pytest.approx(expected["norm"], rel=tolerance)
    assert found["sums"] == pytest.approx(expected["sums"], abs=tolerance * expected["norm"])


# Orders


@pytest.mark.parametrize("kind", ORDERS)
def test_order_of_two_epochs(kind: str, many: tuple[Path, Path]) -> None:
    loader = data_of(kind, *many).train_dataloader()
    found = [[" ".join(keys) for keys in keys_of(loader, epoch)] for epoch in (0, 1)]
    assert found == stored("order", kind, found)


@pytest.mark.parametrize("kind", ORDERS)
def test_every_clip_comes_once(kind: str, many: tuple[Path, Path]) -> None:
    loader = data_of(kind, *many).train_dataloader()
    for epoch in (0, 1):
        batches = list(keys_of(loader, epoch))
        assert len(batches) == len(loader)
        keys = [key for batch in batches for key in batch]
        main = [key for key in keys if key.startswith("w-")]
        assert len(main) == (28 if kind == "drop_last" else 31)
        if kind != "balance":
            assert len(set(main)) == len(main)
        assert len(keys) - len(main) == pytest.approx(31 * 3 / 7 if "mix" in kind else 0, abs=1)


@pytest.mark.parametrize("kind", ORDERS)
def test_a_seed_is_an_order(kind: str, many: tuple[Path, Path]) -> None:
    one, same, other = (list(keys_of(data_of(kind, *many, seed).train_dataloader(), 1)) for seed in (3, 3, 4))
    assert one == same
    assert one != other
    assert one != list(keys_of(data_of(kind, *many, 3).train_dataloader(), 0))


@pytest.mark.parametrize("kind", ORDERS)
def test_an_epoch_goes_on_where_it_stopped(kind: str, many: tuple[Path, Path]) -> None:
    loader = data_of(kind, *many).train_dataloader()
    whole = list(keys_of(loader, 1))
    begun = data_of(kind, *many).train_dataloader()
    batches = keys_of(begun, 1)
    for done in range(1, len(whole)):
        assert next(batches) == whole[done - 1]
        if done not in (1, 2, 5, len(whole) - 1):
            continue
        resumed = data_of(kind, *many).train_dataloader()
        resumed.load_state_dict(begun.state_dict())
        assert [list(batch.keys) for batch in resumed] == whole[done:]


def test_validation_takes_each_clip_once_in_the_order_of_the_shards(many: tuple[Path, Path]) -> None:
    found = [" ".join(batch.keys) for batch in data_of("plain", *many).val_dataloader()]
    assert found == stored("order", "validation", found)
    assert sorted(" ".join(found).split()) == [f"w-valid{number:02d}" for number in range(9)]


# ABX


def test_abx_of_the_shipped_model(tmp_path: Path) -> None:
    found = golden.cells_of(golden.abx_of(tmp_path))
    expected = {key: stored("abx", key, found[key]) for key in found}
    assert len(found) == 10
    for key, reference in expected.items():
        assert found[key]["cells"] == reference["cells"]
        # Rounding may decide a near tie, of two distances or of two paths of an alignment: one triplet in 648.
        assert found[key]["error"] == pytest.approx(reference["error"], abs=2e-3), key
        for name, tolerance in (("score", 1e-4), ("distance", 1e-4), ("delta", 1e-4)):
            apart = np.abs(np.subtract(found[key][name], reference[name])) > tolerance
            assert apart.sum() <= 1, (key, name)


# Prepared folders


@pytest.mark.parametrize("form", ["wav", "flac"])
def test_bytes_of_a_prepared_folder(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # skipped.csv names the file
    corpus = Waves(Path("audio"), {"train": 9, "valid": 4, "test": 2})
    clips = corpus.clips()
    sf.write("audio/silent.wav", np.zeros(4_000, dtype=np.int16), 16_000)
    clips.append(type(clips[0])("waves-silent", Path("audio/silent.wav"), labels={"labels": ["low"]}))
    corpus.clips = lambda: clips  # type: ignore[method-assign]
    shards.prepare(corpus, form, clips_per_shard=4, format=form)  # type: ignore[arg-type]
    files = [*sorted(Path(form).glob("*.tar")), Path(form, "manifest.json"), Path(form, "skipped.csv")]
    found = {path.name: content(path) for path in files}
    assert found == stored("prepared", form, found)


def content(path: Path) -> str | list[str]:
    """The SHA-256 of a file; of a shard with FLAC, whose encoder rounds as the processor does, those of its members'
    bytes and samples; and of a manifest what does not rest on those."""
    if path.suffix == ".tar":
        with tarfile.open(path) as tar:
            names = tar.getnames()
            read = {name: tar.extractfile(name).read() for name in names}  # type: ignore[union-attr]
        if any(name.endswith(".flac") for name in names):
            for name in names:
                if name.endswith(".flac"):
                    samples, rate = sf.read(io.BytesIO(read[name]), dtype="int16")
                    assert (rate, samples.ndim) == (16_000, 1)
                    read[name] = samples.tobytes()
            return [f"{name} {hashlib.sha256(read[name]).hexdigest()}" for name in names]
    if path.name == "manifest.json" and json.loads(path.read_text())["format"] == "flac":
        manifest = json.loads(path.read_text())
        for shard in manifest["shards"]:
            del shard["bytes"], shard["sha256"]
        return json.dumps(manifest, sort_keys=True)
    return hashlib.sha256(path.read_bytes()).hexdigest()
