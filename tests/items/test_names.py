"""Names of files and symbols, in whatever form people's programs write them."""

from pathlib import Path
from unicodedata import normalize

import numpy as np
import polars as pl
import pytest
import soundfile as sf
from sounds import Fixed

from w2v_abx.abx import Items, Task, score
from w2v_abx.abx.speech import find_audio
from w2v_abx.alignment.annotations import Annotated
from w2v_abx.alignment.itemized import Itemized
from w2v_abx.clips import Clip
from w2v_abx.corpora.folder import Folder
from w2v_abx.errors import InputError
from w2v_abx.features.foreign import StoredFeatures
from w2v_abx.items.names import matched
from w2v_abx.items.textgrids import write_tiers
from w2v_abx.system.text import on_disk

FORMS = ("NFC", "NFD")
NAME = "zoé-ñandú"


def noise(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, 0.1 * np.random.default_rng(0).standard_normal(16_000), 16_000)
    return path


def items_of(file: str, *phones: str) -> Items:
    rows = [(file, str(k / 10), str((k + 1) / 10), phone) for k, phone in enumerate(phones)]
    return Items(pl.DataFrame(rows, schema=["#file", "onset", "offset", "#phone"], orient="row"))


@pytest.mark.parametrize("there", FORMS)
@pytest.mark.parametrize("wanted", FORMS)
def test_a_file_is_found_whichever_form_the_disk_has(tmp_path: Path, wanted: str, there: str) -> None:
    """By items, tables, lists, TextGrids, item files and names of features."""
    folder = tmp_path / "in" / normalize(there, "Löwe")
    path = noise(folder / normalize(there, f"{NAME}.wav"))
    name = normalize(wanted, NAME)
    assert find_audio(items_of(name, "a"), tmp_path / "in") == {normalize("NFC", NAME): path}

    (tmp_path / "in" / "said.csv").write_text(normalize(wanted, f"file,label\nLöwe/{NAME}.wav,Bär\n"))
    (tmp_path / "in" / "test.txt").write_text(normalize(wanted, f"Löwe/{NAME}.wav\n"))
    of_table = Folder("own", tmp_path / "in", table="said.csv", only={"labels": [normalize(wanted, "Bär")]})
    of_list = Folder("own", tmp_path / "in", split_lists={"test.txt": "test"})
    (clip,) = of_table.clips()
    assert (clip.key, clip.path, clip.labels) == (f"Löwe/{NAME}", path, {"labels": ["Bär"]})
    (clip,) = of_list.clips()
    assert (clip.key, clip.path, clip.split, clip.labels) == (f"Löwe/{NAME}", path, "test", {"labels": ["Löwe"]})
    pattern = normalize(wanted, "^(?P<speaker>zoé)-")
    (clip,) = Folder("own", tmp_path / "in", name_pattern=pattern, valid=None).clips()
    assert clip.labels["speaker"] == "zoé"

    write_tiers(tmp_path / "grids" / normalize(wanted, "Löwe") / f"{name}.TextGrid", {"phones": [[0, 1, "a"]]}, 1.0)
    assert Annotated(of_list, tmp_path / "grids").clips()[0].labels["phones"] == [[0, 1, "a"]]
    write_tiers(folder / f"{name}.TextGrid", {"phones": [[0, 1, "b"]]}, 1.0)
    assert Annotated(of_list).clips()[0].labels["phones"] == [[0, 1, "b"]]
    (tmp_path / "phone.item").write_text(f"#file\tonset\toffset\t#phone\n{name}.wav\t0\t1\tc\n")
    assert Itemized(of_list, tmp_path / "phone.item").clips()[0].labels["phones"] == [[0, 1, "c"]]

    np.save(tmp_path / normalize(there, f"{NAME}.npy"), np.random.default_rng(0).standard_normal((50, 4)).astype("f4"))
    stored = StoredFeatures(tmp_path)
    assert score(stored, items_of(name, "a", "b", "a"), Task("#phone"), frequency=50).triplets == 2


@pytest.mark.parametrize("form", FORMS)
def test_a_phone_in_both_forms_is_one(form: str) -> None:
    items = items_of("f", "ã", "b", normalize("NFD", "ã"), normalize(form, "ç"))
    assert items.frame["#phone"].to_list() == ["ã", "b", "ã", "ç"]
    features = {"f": np.random.default_rng(0).standard_normal((20, 4)).astype("f4")}
    assert score(features, items, Task("#phone"), frequency=50).cells["#phone"].unique().to_list() == ["ã"]


def test_names_that_differ_in_more_than_their_form_stay_two(tmp_path: Path) -> None:
    noise(tmp_path / normalize("NFD", "é.wav"))
    noise(tmp_path / "e.wav")
    assert {path.name for path in find_audio(items_of("e", "a"), tmp_path).values()} == {"e.wav"}
    noise(tmp_path / "é.wav")
    with pytest.raises(InputError, match="share a name; the items cannot tell them apart"):
        find_audio(items_of("é", "a"), tmp_path)


def test_a_path_is_spelt_as_the_disk_does_and_stays_where_there_is_none(tmp_path: Path) -> None:
    mixed = "é" + normalize("NFD", "ö") + ".txt"  # neither form alone
    (tmp_path / normalize("NFD", "ä")).mkdir()
    (tmp_path / normalize("NFD", "ä") / mixed).touch()
    assert on_disk(tmp_path / "ä" / "éö.txt").exists()
    assert on_disk(tmp_path / "ä" / "éü.txt") == tmp_path / "ä" / "éü.txt"
    (tmp_path / normalize("NFD", "ä") / normalize("NFD", "éü.txt")).touch()  # a folder that has changed is read anew
    assert on_disk(tmp_path / "ä" / "éü.txt").exists()


@pytest.mark.parametrize(
    ("audio", "file", "found"),
    [
        (["a.wav"], "a.wav", "a.wav"),
        (["a.flac"], "a.wav", "a.flac"),  # of another format, and no other is called so
        (["a.flac", "a.wav"], "a.wav", "a.wav"),
        (["sub/a.wav"], "sub/a.wav", "sub/a.wav"),
        (["sub/a.wav"], "a.wav", "sub/a.wav"),
        (["a.b.wav"], "a.b", "a.b.wav"),
        (["a.b.wav"], "a.b.wav", "a.b.wav"),
        (["a.wav.flac"], "a.wav", "a.wav.flac"),
        (["A.WAV"], "A.WAV", "A.WAV"),
        (["a.flac", "a.ogg"], "a.wav", None),
        (["a.wav", "sub/a.wav"], "a.wav", None),
        (["x/a.wav", "y/a.wav"], "a.wav", None),
    ],
)
def test_items_may_name_audio_with_its_ending(tmp_path: Path, audio: list[str], file: str, found: str | None) -> None:
    for name in audio:
        noise(tmp_path / name) if name.endswith((".wav", ".WAV")) else (tmp_path / name).touch()
    if found is None:
        with pytest.raises(InputError, match="share a name"):
            find_audio(items_of(file, "a"), tmp_path)
    else:
        assert find_audio(items_of(file, "a"), tmp_path) == {file: tmp_path / found}


def test_features_and_items_may_differ_in_an_ending() -> None:
    there = ["a", "b.wav", "c.wav", "c.flac", "d"]
    assert matched(["a.wav", "b", "c", "c.flac", "d", "e"], there) == {
        "a.wav": "a",
        "b": "b.wav",
        "c.flac": "c.flac",
        "d": "d",
    }
    features = {"f": np.random.default_rng(0).standard_normal((30, 4)).astype("f4")}
    assert score(features, items_of("f.wav", "a", "b", "a"), Task("#phone"), frequency=50).triplets == 2
    with pytest.raises(InputError, match=r"no features for the file 'g\.wav'; .* the features name 'f'"):
        score(features, items_of("g.wav", "a", "b", "a"), Task("#phone"), frequency=50)


def test_a_clip_is_timed_by_items_of_either_name(tmp_path: Path) -> None:
    corpus = Fixed([Clip("k/a", noise(tmp_path / "a.wav"))])
    for file in ("k/a", "k/a.wav", "a", "a.wav"):
        (tmp_path / "x.item").write_text(f"#file onset offset #phone\n{file} 0 0.5 b\n")
        assert Itemized(corpus, tmp_path / "x.item").clips()[0].labels["phones"] == [[0, 0.5, "b"]]
