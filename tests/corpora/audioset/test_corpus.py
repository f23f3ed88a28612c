"""AudioSet as a corpus: its clips, its plan, and what it downloads."""

import csv
import json
from pathlib import Path

import hydra
import polars as pl
import pytest
from audioset_lists import BARK, DOG, HOWL, MUSIC, RAIN, SPEECH, corpus, ontology, segments, video
from loopback import Loopback
from omegaconf import OmegaConf

from w2v_abx.commands.phone_times import corpus_of
from w2v_abx.config import CONF
from w2v_abx.corpora.audioset import AudioSet, Choice
from w2v_abx.corpora.audioset.plan import cooccurrence
from w2v_abx.errors import InputError

ROWS = [
    (video(0), 0, 10, [DOG, BARK, MUSIC]),
    (video(1), 30, 40, [RAIN]),
    (video(2), 0, 10, [DOG, SPEECH]),
    (video(3), 0, 10, [BARK, RAIN]),
]
HELD = [(video(number), 10, 20, [RAIN]) for number in range(10, 30)]


def test_clips(tmp_path: Path) -> None:
    made = corpus(tmp_path, ROWS, HELD)
    clips = made.clips()
    assert [clip.key for clip in clips] == sorted(clip.key for clip in clips)
    assert len({clip.path for clip in clips}) == len(clips) == 23
    first = clips[0]
    assert (first.key, first.start, first.end, first.split) == (f"{video(0)}_0", 0.0, None, "train")
    assert first.labels == {"labels": ["Dog", "Bark"], "mids": [DOG, BARK, MUSIC]}
    assert first.source == f"https://www.youtube.com/watch?v={video(0)}"
    assert "CC BY 4.0" in first.licence
    # Known before the audio is there, so that shards are dealt the same before and after.
    assert {clip.seconds for clip in clips} == {10.0}
    splits = [clip.split for clip in clips[3:]]
    assert set(splits) == {"valid", "test"}
    assert corpus(tmp_path, ROWS, HELD).clips() == clips
    json.dumps([dict(clip.labels) for clip in clips])


def test_nothing_is_fetched_for_a_plan(tmp_path: Path) -> None:
    made = corpus(tmp_path, ROWS, HELD)
    text = made.plan(tmp_path / "shards")
    assert not (made.root / "clips").exists()
    assert "train: 3 clips, 0.01 hours" in text
    assert "left out: 1 segments, excluded category" in text
    assert "2 of 23 clips carry more than one of the 3 categories; most often:\n    1 Dog + Bark\n" in text
    assert "    1 Bark + Rain\n" in text
    folder = tmp_path / "shards" / "plan"
    with (folder / "categories.csv").open() as file:
        table = {row["name"]: row for row in csv.DictReader(file)}
    assert (table["Bark"]["mid"], table["Bark"]["available"], table["Bark"]["train"]) == (BARK, "2", "2")
    both = pl.read_csv(folder / "cooccurrence.csv")
    assert both.columns == ["name", "Dog", "Bark", "Rain"]
    assert both.rows() == [("Dog", 1, 1, 0), ("Bark", 1, 2, 1), ("Rain", 0, 1, 22)]
    clips = pl.read_csv(folder / "clips.csv")
    assert clips["labels"].to_list()[:2] == ["Dog|Bark", "Rain"]
    plan = json.loads((folder / "plan.json").read_text())
    assert plan["splits"]["train"]["clips"] == 3
    assert plan["left_out"]["excluded category"] == 1
    assert plan["settings"]["seed"] == 0


def test_cooccurrence_against_counting(tmp_path: Path) -> None:
    mids = [DOG, BARK, RAIN]
    rows = [
        (video(n), 0, 10, [mid for k, mid in enumerate(mids) if (n * 5 + k * 3) % 7 > 2] or [RAIN]) for n in range(50)
    ]
    matrix = cooccurrence(corpus(tmp_path, rows).selection)
    slow = [[sum(a in row[3] and b in row[3] for row in rows) for b in mids] for a in mids]
    assert matrix.tolist() == slow
    pairs = sorted(((slow[0][1], "Dog + Bark"), (slow[0][2], "Dog + Rain"), (slow[1][2], "Bark + Rain")), reverse=True)
    assert len({count for count, _ in pairs}) == 3
    text = corpus(tmp_path, rows).plan(tmp_path)
    assert "most often:\n" + "".join(f"    {count} {names}\n" for count, names in pairs) in text


def test_every_category_of_the_list_can_be_an_output(tmp_path: Path) -> None:
    made = corpus(tmp_path, [(video(0), 0, 10, [HOWL])], exclude=(), descendants=True)
    assert made.clips()[0].labels == {"labels": ["Dog"], "mids": [HOWL]}
    assert "no clip at all: Bark; Rain" in made.plan(tmp_path)


def test_lists_and_ontology_are_downloaded_once(tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    ontology(site / "o.json")
    segments(site / "t.csv", ROWS)
    segments(site / "e.csv", HELD)
    with Loopback(site) as server:
        settings = {
            "ontology": server.url("o.json"),
            "train": {"train.csv": server.url("t.csv")},
            "evaluation": {"eval.csv": server.url("e.csv")},
        }
        for _ in range(2):
            made = AudioSet("all", tmp_path / "root", choice=Choice(exclude=()), **settings)
            assert len(made.clips()) == 24
        assert [request.path for request in server.requests] == ["o.json", "t.csv", "e.csv"]
        with pytest.raises(InputError, match="ontology.json, from .* has the sha256"):
            AudioSet("all", tmp_path / "root", ontology_sha256="0" * 64, **settings).clips()


def test_nothing_left(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no segment of train.csv is left for mini"):
        corpus(tmp_path, [(video(0), 0, 10, [MUSIC])]).clips()


@pytest.mark.parametrize(("name", "size"), [("audioset_108", 108), ("audioset_182", 182), ("audioset_nonspeech", 590)])
def test_the_configurations(tmp_path: Path, shared_data: Path, name: str, size: int) -> None:
    with hydra.initialize_config_dir(str(CONF), version_base=None):
        config = hydra.compose("prepare", [f"corpus={name}", f"paths.data={tmp_path}"])
    root = tmp_path / "audio" / "audioset"
    root.mkdir(parents=True)
    (root / "ontology.json").write_bytes((shared_data / "audioset" / "ontology.json").read_bytes())
    rows = [(video(0), 0, 10, ["/m/05tny_"]), (video(1), 0, 10, ["/m/05tny_", "/m/09x0r"])]  # Bark; and Speech
    for file in [*config.corpus.train, *config.corpus.evaluation]:
        segments(root / file, rows if file.startswith("bal") else rows[1:])
    made = corpus_of(config)
    assert isinstance(made, AudioSet)
    assert OmegaConf.is_config(config.corpus.fetching)
    assert made.clips()[0].labels["labels"] == ["Bark"]
    assert [len(made.clips()), len(made.selection.wanted)] == [1, size]
