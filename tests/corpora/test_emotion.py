"""Corpora of emotional speech, each as it is published, and what is held out of them."""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Mapping
from itertools import product
from pathlib import Path

import pytest
from loopback import Loopback
from omegaconf import OmegaConf
from trees import by_key, configured, grow, readable

from w2v_abx.clips import Clip
from w2v_abx.config import CONF
from w2v_abx.corpora.emotion import EMOTIONS, Emotion
from w2v_abx.errors import InputError
from w2v_abx.shards import prepare


def corpus(root: Path, addresses: Mapping[str, str] | None = None, **settings: object) -> Emotion:
    """The corpora of the shipped configuration, or of other addresses, by key (``tess.dataverse``)."""
    shipped = OmegaConf.load(CONF / "corpus" / "emotion.yaml")
    for key, value in (addresses or {}).items():
        OmegaConf.update(shipped.sources, key, value)
    given = {"corpora": list(shipped.corpora), "sources": OmegaConf.to_container(shipped.sources)}
    return Emotion(**{"root": root, **given, **settings})  # type: ignore[arg-type]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    files: dict[str, str | bytes | float] = {
        "ravdess/Actor_12/03-01-06-01-02-01-12.wav": 0.3,
        "ravdess/Actor_12/03-01-02-02-01-01-12.wav": 0.3,
        "ravdess/Actor_12/03-02-02-02-01-01-12.wav": 0.3,  # sung
        "ravdess/Actor_13/03-01-08-01-01-02-13.wav": 0.3,
        "crema_d/AudioWAV/1001_DFA_ANG_XX.wav": 0.3,
        "crema_d/AudioWAV/1002_IEO_HAP_HI.wav": 0.3,
        "crema_d/AudioWAV/1040_ITH_SAD_X.wav": 0.3,
        "crema_d/VideoDemographics.csv": "ActorID,Age,Sex,Race,Ethnicity\n1001,51,Male,Caucasian,Not Hispanic\n"
        "1002,21,Female,Caucasian,Not Hispanic\n1040,42,Female,Asian,Not Hispanic\n",
        "tess/OAF_angry/OAF_back_angry.wav": 0.3,
        "tess/OAF_neutral/OA_bite_neutral.wav": 0.3,
        "tess/YAF_pleasant_surprised/YAF_food_ps.wav": 0.3,
        "savee/AudioData/DC/a01.wav": 0.3,
        "savee/AudioData/DC/sa15.wav": 0.3,
        "savee/AudioData/JE/su03.wav": 0.3,
        "savee/AudioData/Info.txt": "",
    }
    return grow(tmp_path, files)


def test_clips_of_the_shipped_configuration(tree: Path) -> None:
    clips = by_key(configured("emotion", f"corpus.root={tree}").clips())
    found = {key: tuple(clip.labels[label] for label in ("emotion", "speaker", "sex")) for key, clip in clips.items()}
    assert found == {
        "crema_d/1001_DFA_ANG_XX": ("angry", "crema_d-1001", "male"),
        "crema_d/1002_IEO_HAP_HI": ("happy", "crema_d-1002", "female"),
        "crema_d/1040_ITH_SAD_X": ("sad", "crema_d-1040", "female"),
        "ravdess/03-01-02-02-01-01-12": ("calm", "ravdess-12", "female"),
        "ravdess/03-01-06-01-02-01-12": ("fearful", "ravdess-12", "female"),
        "ravdess/03-01-08-01-01-02-13": ("surprised", "ravdess-13", "male"),
        "savee/DC_a01": ("angry", "savee-DC", "male"),
        "savee/DC_sa15": ("sad", "savee-DC", "male"),
        "savee/JE_su03": ("surprised", "savee-JE", "male"),
        "tess/OAF_back_angry": ("angry", "tess-OAF", "female"),
        "tess/OAF_bite_neutral": ("neutral", "tess-OAF", "female"),
        "tess/YAF_food_ps": ("surprised", "tess-YAF", "female"),
    }
    assert clips["crema_d/1002_IEO_HAP_HI"].labels == {
        "labels": ["happy"],
        "emotion": "happy",
        "speaker": "crema_d-1002",
        "sex": "female",
        "language": "en",
        "corpus": "crema_d",
        "text": "it's eleven o'clock",
        "age": "21",
        "intensity": "high",
    }
    assert clips["ravdess/03-01-06-01-02-01-12"].labels["text"] == "dogs are sitting by the door"
    assert clips["tess/YAF_food_ps"].labels["text"] == "say the word food"
    readable(list(clips.values()))


def test_some_corpora_and_some_emotions(tree: Path) -> None:
    shutil.rmtree(tree / "savee")
    overrides = ("corpus.corpora=[ravdess,tess]", "corpus.emotions=[neutral,surprised]", "corpus.merge={calm: neutral}")
    clips = by_key(configured("emotion", f"corpus.root={tree}", *overrides).clips())
    assert {key: clip.labels["emotion"] for key, clip in clips.items()} == {
        "ravdess/03-01-02-02-01-01-12": "neutral",
        "ravdess/03-01-08-01-01-02-13": "surprised",
        "tess/OAF_bite_neutral": "neutral",
        "tess/YAF_food_ps": "surprised",
    }


def test_copies_count_once_and_files_may_lie_in_one_heap(tree: Path) -> None:
    before = {clip.key for clip in corpus(tree).clips()}
    grow(tree, {"ravdess/audio_speech_actors_01-24/Actor_12/03-01-06-01-02-01-12.wav": 0.3, "savee/DC_a01.wav": 0.3})
    assert {clip.key for clip in corpus(tree).clips()} == before


def many(root: Path) -> Path:
    """All of RAVDESS's and SAVEE's speakers, one recording each."""
    files: dict[str, str | bytes | float] = {
        f"ravdess/Actor_{actor:02d}/03-01-01-01-01-01-{actor:02d}.wav": 0.1 for actor in range(1, 25)
    }
    return grow(root, files | {f"savee/{speaker}_n01.wav": 0.1 for speaker in ("DC", "JE", "JK", "KL")})


def shares(clips: list[Clip], name: str) -> Counter[str]:
    return Counter(clip.split for clip in clips if clip.labels["corpus"] == name)


def test_speakers_are_held_out_by_corpus_and_sex(tmp_path: Path) -> None:
    clips = corpus(many(tmp_path), corpora=["ravdess", "savee"]).clips()
    assert shares(clips, "ravdess") == {"train": 16, "valid": 4, "test": 4}
    assert shares(clips, "savee") == {"train": 2, "valid": 1, "test": 1}
    for split in ("valid", "test"):
        held = [clip.labels["sex"] for clip in clips if clip.split == split and clip.labels["corpus"] == "ravdess"]
        assert sorted(held) == ["female"] * 2 + ["male"] * 2
    again = corpus(tmp_path, corpora=["ravdess", "savee"]).clips()
    other = corpus(tmp_path, corpora=["ravdess", "savee"], seed=1).clips()
    assert again == clips
    assert [clip.split for clip in other] != [clip.split for clip in clips]


def test_a_corpus_beside_others_does_not_change_its_speakers(tmp_path: Path) -> None:
    both = {clip.key: clip.split for clip in corpus(many(tmp_path), corpora=["ravdess", "savee"]).clips()}
    alone = {clip.key: clip.split for clip in corpus(tmp_path, corpora=["ravdess"], emotions=["neutral"]).clips()}
    assert {key: both[key] for key in alone} == alone


def test_two_speakers_are_one_to_train_and_one_to_validate(tree: Path) -> None:
    clips = corpus(tree, corpora=["tess"]).clips()
    assert {clip.split for clip in clips} == {"train", "valid"}
    assert len({(clip.labels["speaker"], clip.split) for clip in clips}) == 2


@pytest.mark.parametrize(("valid", "test"), [(0.45, 0.45), (0.3, 0.69), (0.9, 0.05)])
def test_someone_of_each_corpus_and_sex_is_left_to_train_on(tree: Path, valid: float, test: float) -> None:
    many(tree)
    clips = corpus(tree, valid=valid, test=test).clips()
    groups = {(clip.labels["corpus"], clip.labels["sex"]) for clip in clips}
    trained = {(clip.labels["corpus"], clip.labels["sex"]) for clip in clips if clip.split == "train"}
    assert trained == groups
    assert len(groups) == 6


def test_prepared(tree: Path, tmp_path: Path) -> None:
    (tree / "tess/OAF_angry/OAF_back_angry.wav").write_bytes(b"")
    manifest = prepare(corpus(tree), tmp_path / "shards")
    assert (manifest.clips, manifest.skipped) == (11, {"empty": 1})
    assert set(manifest.categories("emotion")) <= set(EMOTIONS)


def test_what_is_absent_is_downloaded_where_it_may_be(tree: Path) -> None:
    archive = Path(shutil.make_archive(str(tree / "speech"), "zip", tree / "ravdess", "."))
    table = (
        '"","FileName","VoiceVote"\n"1","1001_DFA_ANG_XX","A"\n"2","1040_ITH_SAD_XX","S"\n"3","1006_TIE_NEU_XX","N"\n'
    )
    wavs = sorted((tree / "tess").rglob("*.wav"))
    listed = [
        {"dataFile": {"id": number, "filename": path.name, "md5": hashlib.md5(path.read_bytes()).hexdigest()}}
        for number, path in enumerate(wavs)
    ]
    listed.append({"dataFile": {"id": 99, "filename": "readme.txt"}})
    grow(
        tree,
        {
            "crema_d/processedResults/summaryTable.csv": table,
            **{f"api/access/datafile/{number}": path.read_bytes() for number, path in enumerate(wavs)},
            "api/datasets/:persistentId": json.dumps({"data": {"latestVersion": {"files": listed}}}),
        },
    )
    with Loopback(tree) as server:
        md5 = hashlib.md5(archive.read_bytes()).hexdigest()
        addresses = {
            "ravdess.archives": [{"url": server.url("speech.zip"), "md5": md5}],
            "crema_d.listed.tables": server.url("crema_d/{name}"),
            "crema_d.listed.url": server.url("crema_d/AudioWAV/{name}.wav"),
            "tess.dataverse": server.url("api"),
        }
        here = tree / "here"
        (here / "ravdess").mkdir(parents=True)  # empty folders are no recordings
        (here / "crema_d").mkdir()
        with pytest.raises(InputError, match="crema_d holds no CREMA-D: give corpus.download=true"):
            corpus(here, corpora=["crema_d"]).clips()
        for _ in range(2):
            clips = corpus(here, addresses, corpora=["ravdess", "crema_d", "tess"], download=True).clips()
            assert shares(clips, "ravdess").total() == 3
        found = {name: [clip.key for clip in clips if clip.labels["corpus"] == name] for name in ("crema_d", "tess")}
        assert found == {
            "crema_d": ["crema_d/1001_DFA_ANG_XX", "crema_d/1040_ITH_SAD_X"],
            "tess": ["tess/OAF_back_angry", "tess/OAF_bite_neutral", "tess/YAF_food_ps"],
        }
        assert sorted(path.name for path in here.iterdir()) == ["crema_d", "ravdess", "tess"]
        assert server.count("crema_d/AudioWAV/1001_DFA_ANG_XX.wav") == 1


def test_a_download_that_broke_off_goes_on(tree: Path) -> None:
    (tree / "crema_d/AudioWAV/1040_ITH_SAD_X.wav").rename(tree / "later.wav")
    grow(tree, {"crema_d/processedResults/summaryTable.csv": "FileName\n1001_DFA_ANG_XX\n"})
    with Loopback(tree) as server:
        addresses = {
            "crema_d.listed.tables": server.url("crema_d/{name}"),
            "crema_d.listed.url": server.url("crema_d/AudioWAV/{name}.wav"),
        }
        with pytest.raises(InputError, match="1040_ITH_SAD_X.wav cannot be fetched: the server answers 404"):
            corpus(tree / "here", addresses, corpora=["crema_d"], download=True).clips()
        assert not (tree / "here/crema_d").exists()
        (tree / "later.wav").rename(tree / "crema_d/AudioWAV/1040_ITH_SAD_X.wav")
        assert len(corpus(tree / "here", addresses, corpora=["crema_d"], download=True).clips()) == 2
        assert server.count("crema_d/AudioWAV/1001_DFA_ANG_XX.wav") == 1


def test_a_fifth_corpus_is_a_description(tree: Path) -> None:
    grow(tree, {"mine/anna-joy.wav": 0.1})
    mine = {
        "title": "Mine",
        "licence": "CC0",
        "obtain": "my recordings",
        "pattern": r"(?P<speaker>[a-z]+)-(?P<emotion>joy|rage)",
        "example": "anna-joy.wav",
        "key": "{name}",
        "columns": {
            "speaker": "speaker",
            "sex": {"column": "speaker", "values": {"anna": "female"}},
            "emotion": {"column": "emotion", "values": {"joy": "happy", "rage": "angry"}},
        },
    }
    (clip,) = Emotion(tree, {"mine": mine}).clips()
    assert (clip.key, clip.labels["emotion"], clip.labels["speaker"]) == ("mine/anna-joy", "happy", "mine-anna")
    with pytest.raises(InputError, match="corpus.sources.mine is no description of a corpus .*'colour'"):
        Emotion(tree, {"mine": mine | {"colour": "red"}}).clips()
    with pytest.raises(InputError, match="Mine needs the columns speaker and emotion"):
        Emotion(tree, {"mine": mine | {"columns": {}}}).clips()


def test_a_download_takes_no_folder_of_other_things(tmp_path: Path) -> None:
    grow(tmp_path, {"ravdess/notes.txt": "mine"})
    with pytest.raises(InputError, match="ravdess holds other things than RAVDESS: move them away"):
        corpus(tmp_path, corpora=["ravdess"], download=True).clips()


# As published: in ASCII, UTF-16 and a Chinese encoding, and a line whose fields are spaced.
TEXTS = {
    "0011": b"0011_000001\tThe nine the eggs, I keep.\tNeutral\n0011_000351\tThe nine eggs, I keep.\tAngry\n",
    "0012": "0012_000001\tThe nine the eggs, I keep.\tNeutral\n0012_000352 I did go.\tAngry\n".encode("utf-16"),
    "0016": "0016_000702\tAll the happier\N{FULLWIDTH COMMA}the more sincere .\tHappy\n".encode("gb18030"),
}
TABLE = (
    "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID\n"
    '1,"Oh my God, he\N{RIGHT SINGLE QUOTATION MARK}s lost it.",Phoebe,sadness,negative,0,0\n'
    "2,What?,Joey and Ross,joy,positive,0,1\n3,...,Monica,surprise,neutral,110,7\n"
)


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """The three corpora of the combined set that a licence or an account guards."""
    names = ["0011/Neutral/0011_000001", "0011/Angry/train/0011_000351", "0012/Neutral/0012_000001"]
    names += ["0012/Angry/evaluation/0012_000352", "0016/Happy/0016_000702", "0001/Sad/0001_001051"]
    files: dict[str, str | bytes | float] = {f"esd/{name}.wav": 0.1 for name in names}
    files |= {f"esd/{speaker}/{speaker}.txt": text for speaker, text in TEXTS.items()}
    files |= {"esd/0001/0001.txt": "0001_001051\t\u6253\u8fdc\u4e00\u770b\t\u4f24\u5fc3\n".encode("gb18030")}
    files |= {
        "meld/MELD.Raw/train_sent_emo.csv": TABLE,
        "meld/MELD.Raw/test_sent_emo.csv": TABLE.replace("sadness", "anger").replace("Phoebe", "Rachel"),
        "meld/MELD.Raw/train/train_splits/dia0_utt0.wav": 0.1,
        "meld/MELD.Raw/train/train_splits/dia0_utt1.mp4": b"",
        "meld/MELD.Raw/train/train_splits/dia110_utt7.wav": 0.1,
        "meld/MELD.Raw/train/train_splits/dia0_utt2.wav": 0.1,  # in no table
        "meld/MELD.Raw/output_repeated_splits_test/dia0_utt0.wav": 0.1,
        "meld/MELD.Raw/output_repeated_splits_test/final_videos_testdia0_utt0.wav": 0.1,
        "jl/JL(wav+txt)/female1_angry_10a_1.wav": 0.1,
        "jl/JL(wav+txt)/female1_angry_10a_1.txt": "Water harms the new born boy.",
        "jl/JL(wav+txt)/male2_apologetic_15b_2.wav": 0.1,
        "jl/JL(wav+txt)/male2_excited_12a_1.wav": 0.1,
        "jl/JL(wav+txt)/male2_anxious_12a_1.wav": 0.1,
    }
    return grow(tmp_path, files)


def test_the_rest_of_the_published_combined_set(published: Path, caplog: pytest.LogCaptureFixture) -> None:
    clips = by_key(configured("emotion", f"corpus.root={published}", "corpus.corpora=[esd,meld,jl]").clips())
    found = {
        key: tuple(clip.labels.get(label) for label in ("emotion", "speaker", "sex", "text"))
        for key, clip in clips.items()
    }
    assert found == {
        "esd/0011_000001": ("neutral", "esd-0011", "male", "the nine the eggs i keep"),
        "esd/0011_000351": ("angry", "esd-0011", "male", "the nine eggs i keep"),
        "esd/0012_000001": ("neutral", "esd-0012", "male", "the nine the eggs i keep"),
        "esd/0012_000352": ("angry", "esd-0012", "male", "i did go"),
        "esd/0016_000702": ("happy", "esd-0016", "female", "all the happier the more sincere"),
        "jl/female1_angry_10a_1": ("angry", "jl-female1", "female", "water harms the new born boy"),
        "jl/male2_anxious_12a_1": ("anxious", "jl-male2", "male", "we were away a year ago"),
        "jl/male2_apologetic_15b_2": ("apologetic", "jl-male2", "male", "forgive me but i must leave now"),
        "jl/male2_excited_12a_1": ("excited", "jl-male2", "male", "work hard or you lose"),
        "meld/test_dia0_utt0": ("angry", "meld-Rachel", None, "oh my god he's lost it"),
        "meld/train_dia0_utt0": ("sad", "meld-Phoebe", None, "oh my god he's lost it"),
        "meld/train_dia0_utt1": ("happy", "meld-Joey and Ross", None, "what"),
        "meld/train_dia110_utt7": ("surprised", "meld-Monica", None, None),
    }
    assert [clips[f"esd/{name}"].labels["sentence"] for name in ("0011_000001", "0011_000351", "0016_000702")] == [
        "1",
        "1",
        "2",
    ]
    assert {clip.labels["emotion"] for clip in clips.values()} <= set(EMOTIONS)
    assert "1 of 6 recordings of ESD have no emotion that counts here, and are left out: 0001_001051.wav" in caplog.text
    assert "2 of 6 recordings of MELD have no emotion" in caplog.text


def test_tables_that_are_missing_or_say_other_things(published: Path) -> None:
    (published / "meld/MELD.Raw/test_sent_emo.csv").unlink()
    with pytest.raises(
        InputError, match=r"meld/\*\*/test_sent_emo.csv does not exist: MELD is the clips of MELD.Raw.tar.gz"
    ):
        corpus(published, corpora=["meld"]).clips()
    grow(published, {"meld/test_sent_emo.csv": TABLE.replace("sadness", "boredom")})
    with pytest.raises(InputError, match="dia0_utt0.wav of MELD: emotion='boredom' must be one of neutral, calm"):
        corpus(published, corpora=["meld"]).clips()
    (published / "esd/0016/0016.txt").write_bytes(b"Chapter one\nChapter two\n")
    with pytest.raises(InputError, match="0016.txt, line 1: 'Chapter one' does not fit"):
        corpus(published, corpora=["esd"]).clips()


def test_no_sentence_is_on_two_sides(published: Path) -> None:
    numbers = [
        (speaker, sentence + 350 * block)
        for speaker in range(11, 15)
        for sentence in range(1, 21)
        for block in range(5)
    ]
    emotions = ("Neutral", "Angry", "Happy", "Sad", "Surprise")
    files: dict[str, str | bytes | float] = {}
    for speaker, number in numbers:
        files[f"esd/00{speaker}/{emotions[number // 350]}/00{speaker}_{number:06d}.wav"] = b""
    for speaker in range(11, 15):
        lines = [
            f"00{speaker}_{number:06d}\tsentence {number % 350} as said by {speaker % 2}"
            for who, number in numbers
            if who == speaker
        ]
        files[f"esd/00{speaker}/00{speaker}.txt"] = "\n".join(lines)
    clips = corpus(grow(published, files), corpora=["esd", "jl", "meld"], split="text").clips()
    for name in ("text", "sentence"):
        sides = {
            (clip.labels[name], clip.split) for clip in clips if name in clip.labels and clip.labels["corpus"] == "esd"
        }
        assert len({value for value, _ in sides}) == len(sides)
    held = Counter(
        clip.labels["sentence"] for clip in clips if clip.labels["corpus"] == "esd" and clip.split != "train"
    )
    assert len(held) == 6  # 15 % of 20 sentences, twice
    said = {(clip.labels["text"], clip.split) for clip in clips if "text" in clip.labels}
    assert len({text for text, _ in said}) == len(said)
    with pytest.raises(InputError, match="corpus.split=text: SAVEE has no text; leave savee out of corpus.corpora"):
        corpus(published, corpora=["esd", "savee"], split="text").clips()


def test_the_published_split_is_over_clips(tmp_path: Path) -> None:
    takes = product(range(1, 9), (1, 2), (1, 2), range(1, 25))
    names = [f"03-01-0{emotion}-01-0{text}-0{take}-{actor:02d}" for emotion, text, take, actor in takes]
    grow(tmp_path, {f"ravdess/{name}.wav": b"" for name in names})
    clips = corpus(tmp_path, corpora=["ravdess"], split="published", valid=4 / 30, test=4 / 30).clips()
    assert shares(clips, "ravdess") == {"train": 564, "valid": 102, "test": 102}  # of 768, as 22, 4 and 4 hours of 30
    assert {clip.labels["speaker"] for clip in clips if clip.split == "test"} <= {
        clip.labels["speaker"] for clip in clips if clip.split == "train"
    }
    assert corpus(tmp_path, corpora=["ravdess"], split="published", valid=4 / 30, test=4 / 30).clips() == clips
    assert corpus(tmp_path, corpora=["ravdess"], split="published", seed=1).clips() != clips


def test_what_cannot_be_split_is_named(published: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert shares(corpus(published, corpora=["jl", "esd"]).clips(), "jl") == {"train": 4}
    assert (
        "corpus.split=speaker: jl has too few speakers, so that none of its 4 clips is for valid or test" in caplog.text
    )


def test_clips_that_are_too_short_are_counted(published: Path, caplog: pytest.LogCaptureFixture) -> None:
    grow(published, {"jl/JL(wav+txt)/male1_sad_1a_1.wav": 2.1, "jl/JL(wav+txt)/male1_sad_2a_1.wav": b""})
    clips = corpus(published, corpora=["jl"], shortest=2.0).clips()
    assert [clip.key for clip in clips] == ["jl/male1_sad_1a_1", "jl/male1_sad_2a_1"]  # the damaged one is prepare's
    assert "4 of 6 clips are shorter than 2 s, and left out" in caplog.text


@pytest.mark.parametrize(
    ("files", "settings", "message"),
    [
        (
            {},
            {"corpora": ["iemocap"]},
            "corpus.corpora=.* some of ravdess, crema_d, tess, savee, .*'iemocap' is none of them",
        ),
        ({}, {"split": "random"}, "corpus.split='random' must be one of speaker, text, published"),
        ({}, {"shortest": 0}, "corpus.shortest=0 must be a number of seconds above 0, or null for any length"),
        ({}, {"emotions": ["joy"]}, "corpus.emotions=.* some of neutral, calm.*'joy' is none of them"),
        ({}, {"merge": {"calm": "bored"}}, "corpus.merge='bored' must be one of neutral"),
        ({}, {"valid": 0.6, "test": 0.5}, "corpus.test=0.5 must be a number at least 0 and below 0.4; some clips"),
        ({}, {"root": "nowhere"}, "nowhere/ravdess holds no RAVDESS: give corpus.download=true, or put there Audio_Sp"),
        ({}, {"root": "nowhere", "corpora": ["savee"]}, "nowhere/savee holds no SAVEE: put there kahlan.*registration"),
        (
            {},
            {"root": "nowhere", "corpora": ["crema_d"]},
            "crema_d holds no CREMA-D: give corpus.download=true, or put there what `git lfs clone",
        ),
        ({"ravdess/x.wav": 0.1}, {}, r"x.wav is not named as RAVDESS is"),
        ({"crema_d/AudioWAV/1001_DFA_JOY_XX.wav": 0.1}, {}, r"JOY_XX.wav is not named as CREMA-D is"),
        (
            {"crema_d/AudioWAV/1001_DFA_ANG_XX.wav": "version https://git-lfs.github.com/spec/v1\noid sha256:0\n"},
            {},
            "1001_DFA_ANG_XX.wav only points to its audio: run `git lfs pull`",
        ),
        ({"crema_d/AudioWAV/1003_DFA_SAD_XX.wav": 0.1}, {}, "VideoDemographics.csv does not give the sex of 1003"),
        ({"tess/OAF_back_joy.wav": 0.1}, {}, r"OAF_back_joy.wav is not named as TESS is"),
        ({"savee/a01.wav": 0.1}, {}, r"a01.wav is not named as SAVEE is"),
    ],
)
def test_what_does_not_fit(
    tree: Path, files: dict[str, str | bytes | float], settings: dict[str, object], message: str
) -> None:
    grow(tree, files)
    with pytest.raises(InputError, match=message) as caught:
        corpus(**{"root": tree, **settings}).clips()
    assert "\n" not in str(caught.value)
