"""TextGrids become labels, and labels TextGrids."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sounds import Fixed

from w2v_abx import audio
from w2v_abx.alignment.annotations import Annotated, write_textgrids
from w2v_abx.clips import Clip
from w2v_abx.corpora.folder import Folder
from w2v_abx.errors import InputError
from w2v_abx.items.textgrids import read_tiers, write_tiers


def grid(path: Path, *symbols: str, tier: str = "phones", **tiers: Any) -> Path:
    """Phones of 100 ms one after the other."""
    phones = [[n / 10, (n + 1) / 10, symbol] for n, symbol in enumerate(symbols)]
    write_tiers(path, {tier: phones, **tiers}, len(symbols) / 10)
    return path


def phones(corpus: Annotated) -> dict[str, str]:
    return {
        clip.key: " ".join(symbol for *_, symbol in clip.labels["phones"])
        for clip in corpus.clips()
        if "phones" in clip.labels
    }


def test_a_folder_laid_out_like_the_audio(tmp_path: Path) -> None:
    sounds, grids = tmp_path / "sounds", tmp_path / "aligned"
    for name in ("kim/1.wav", "kim/2.flac", "lee/1.wav", "lee/3.wav"):
        (sounds / name).parent.mkdir(parents=True, exist_ok=True)
        (sounds / name).touch()
    grid(grids / "kim" / "1.TextGrid", "a", words=[[0, 0.1, "ah"]], tones=[[0, 0.1, "4"]])
    grid(grids / "kim" / "2.TextGrid", "b")
    grid(grids / "lee" / "1.TextGrid", "c")
    corpus = Annotated(Folder("own", sounds), grids)
    assert phones(corpus) == {"kim/1": "a", "kim/2": "b", "lee/1": "c"}
    first = corpus.clips()[0].labels
    assert (first["words"], first["tones"], first["labels"]) == ([[0, 0.1, "ah"]], [[0, 0.1, "4"]], ["kim"])
    assert {key: why.reason for key, why in corpus.untimed.items()} == {"lee/3": "no_textgrid"}
    (grids / "lee" / "1.TextGrid").unlink()
    assert phones(Annotated(Folder("own", sounds), grids)) == {"kim/1": "a", "kim/2": "b"}
    with pytest.raises(InputError, match=r"kim/1\.TextGrid fits both .*kim/1\.wav and .*lee/1\.wav"):
        Annotated(Folder("own", sounds), grids / "kim").clips()


def test_textgrids_beside_the_audio_and_other_tiers(tmp_path: Path) -> None:
    grid(tmp_path / "a.TextGrid", "x", tier="segments")
    grid(tmp_path / "b.textgrid", "y", tier="kim - phones")
    clips = [Clip(key, tmp_path / f"{key}.wav") for key in "abc"]
    tiers = {"phones": ["phones", "segments"], "words": None}
    corpus = Annotated(Fixed(clips), tiers=tiers)
    assert phones(corpus) == {"a": "x", "b": "y"}
    assert corpus.untimed["c"].message == "c has no TextGrid beside its audio"


def test_a_stretch_has_the_intervals_inside_it(tmp_path: Path) -> None:
    grid(tmp_path / "long.TextGrid", *"abcdefgh")
    stretch = Clip("middle", tmp_path / "long.wav", 0.2, 0.55, labels={"phones": [[0, 1, "old"]]})
    assert Annotated(Fixed([stretch])).clips()[0].labels["phones"] == [
        [0.0, 0.1, "c"],
        [0.1, 0.2, "d"],
        [0.2, 0.3, "e"],
    ]
    grid(tmp_path / "keys" / "middle.TextGrid", *"xyz")
    assert phones(Annotated(Fixed([stretch]), tmp_path / "keys")) == {"middle": "x y z"}


def test_textgrids_that_cannot_be_used(tmp_path: Path) -> None:
    grid(tmp_path / "good.TextGrid", "a")
    grid(tmp_path / "other.TextGrid", "a", tier="pitch")
    (tmp_path / "torn.TextGrid").write_text("torn")
    clips = [Clip(key, tmp_path / f"{key}.wav") for key in ("good", "other", "torn")]
    corpus = Annotated(Fixed(clips))
    assert phones(corpus) == {"good": "a"}
    assert {key: why.reason for key, why in corpus.untimed.items()} == {"other": "bad_textgrid", "torn": "bad_textgrid"}
    assert "no tier 'phones' of intervals (align.tiers.phones); its tiers are: pitch" in corpus.untimed["other"].message
    with pytest.raises(InputError, match=r"no clip of fixed has a TextGrid that can be used.*torn\.TextGrid"):
        Annotated(Fixed([clips[2]])).clips()
    with pytest.raises(InputError, match="align.folder=.*nowhere is not a folder"):
        Annotated(Fixed(clips), tmp_path / "nowhere")
    with pytest.raises(InputError, match="align.tiers lacks phones"):
        Annotated(Fixed(clips), tiers={"words": "words", "phones": None})


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "sounds" / "a.wav"
    audio.save(path, 0.1 * np.random.default_rng(0).standard_normal(16_000).astype(np.float32))
    labels = {"phones": [[0.1, 0.2, "ɑ"], [0.200001, 0.3, "t"]], "words": [[0.1, 0.3, "at"]], "tones": []}
    clips = [
        Clip("in/a", path, labels=labels),
        Clip("in/b", path, 0.5, 0.9, labels=labels),
        Clip("dumb", path),
        Clip("gone", tmp_path / "gone.wav", labels=labels),
    ]
    assert write_textgrids(clips, tmp_path / "grids") == (3, 0, 0)
    assert [str(file.relative_to(tmp_path / "grids")) for file in sorted((tmp_path / "grids").rglob("*.TextGrid"))] == [
        "gone.TextGrid",
        "in/a.TextGrid",
        "in/b.TextGrid",
    ]
    assert "xmax = 1\n" in (tmp_path / "grids" / "in" / "a.TextGrid").read_text()
    assert list(read_tiers(tmp_path / "grids" / "in" / "a.TextGrid")) == ["words", "phones"]
    corpus = Annotated(Fixed([Clip("in/a", path), Clip("in/b", path, 0.5, 0.9)]), tmp_path / "grids")
    for clip in corpus.clips():
        assert clip.labels == {"phones": [[0.1, 0.2, "ɑ"], [0.2, 0.3, "t"]], "words": [[0.1, 0.3, "at"]]}
    with pytest.raises(InputError, match=r"key '\.\./a' of .* leads out of textgrids="):
        write_textgrids([Clip("../a", path, labels=labels)], tmp_path / "grids")
    with pytest.raises(InputError, match="no clip has phones, words or tones"):
        write_textgrids([Clip("a", path)], tmp_path / "grids")


def test_overlaps_are_cut_and_empty_intervals_left_out(tmp_path: Path) -> None:
    words = [[0.0, 0.3, "did"], [0.25, 0.5, "you"], [0.5, 0.5, "uh"], [0.6, 0.9, "eat"], [0.6, 0.7, "it"]]
    clips = [
        Clip("a", tmp_path / "a.wav", labels={"words": words}),
        Clip("b", tmp_path / "b.wav", labels={"phones": [[0.1, 0.1, "q"]]}),
    ]
    assert write_textgrids(clips, tmp_path / "grids") == (1, 1, 3)
    assert read_tiers(tmp_path / "grids" / "a.TextGrid") == {
        "words": [[0.0, 0.25, "did"], [0.25, 0.5, "you"], [0.6, 0.7, "it"]]
    }


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60), st.sampled_from("ab")), min_size=1, max_size=8))
def test_any_intervals_in_order_become_a_textgrid(
    tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[int, int, str]]
) -> None:
    """Bounds in multiples of 10 µs, close together; nothing goes uncounted."""
    rows = [[onset / 1e5, (onset + length) / 1e5, symbol] for onset, length, symbol in sorted(parts)]
    rows.append([0.5, 0.75, "last"])
    folder = tmp_path_factory.mktemp("grids")
    _, _, dropped = write_textgrids([Clip("a", folder / "a.wav", labels={"phones": rows})], folder)
    read = read_tiers(folder / "a.TextGrid")["phones"]
    assert len(read) == len(rows) - dropped
    assert all(before[1] <= after[0] for before, after in pairwise(read))
