"""Speech from eSpeak NG: what its labels say is what its audio holds."""

import importlib.util
import json
import sys
from collections import Counter, defaultdict
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from w2v_abx import audio
from w2v_abx.clips import SPLITS, Clip
from w2v_abx.corpora.espeak import Espeak
from w2v_abx.corpora.espeak import voices as shipped_voices
from w2v_abx.corpora.espeak.library import Synthesiser
from w2v_abx.corpora.espeak.voices import select, sex_of
from w2v_abx.corpora.espeak.words import FILE, Skew, balanced, free, inventory
from w2v_abx.errors import InputError

RATE = audio.SAMPLE_RATE
VOWELS = {"I", "E", "a", "i:", "oU", "eI", "aI", "i"}
VOICELESS_STOPS = {"k", "p"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("espeak")


@pytest.fixture(scope="module")
def english(root: Path) -> Espeak:
    corpus = Espeak(root, voices="evaluation", speakers=4, split="test")
    corpus.clips()
    return corpus


@pytest.fixture(scope="module")
def mandarin(root: Path) -> Espeak:
    corpus = Espeak(
        root, language="cmn", voices=["f1", "m3"], consonants=6, vowels=4, repetitions=4, words_per_utterance=3
    )
    corpus.clips()
    return corpus


def tool(name: str) -> Any:
    """A script of ``tools/`` as a module."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).resolve().parents[2] / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for their module
    spec.loader.exec_module(module)
    return module


def heard(corpus: Espeak) -> list[tuple[Clip, np.ndarray]]:
    return [(clip, audio.load(clip.path)) for clip in corpus.clips()]


def cut(samples: np.ndarray, onset: float, offset: float) -> np.ndarray:
    return samples[round(onset * RATE) : round(offset * RATE)]


def level(samples: np.ndarray) -> float:
    """dB."""
    return float(10 * np.log10(np.mean(np.square(samples, dtype=np.float64)) + 1e-12))


def centroid(samples: np.ndarray) -> float:
    """Hz."""
    power = np.square(np.abs(np.fft.rfft(samples * np.hanning(len(samples)))))
    return float(np.sum(power * np.fft.rfftfreq(len(samples), 1 / RATE)) / np.sum(power))


def fundamental(samples: np.ndarray) -> float:
    """Hz, by the highest autocorrelation."""
    frame = samples - samples.mean()
    products = np.correlate(frame, frame, "full")[len(frame) - 1 :]
    lags = np.arange(RATE // 400, RATE // 50)
    return RATE / lags[np.argmax(products[lags] / (len(frame) - lags))]


def items(corpus: Espeak) -> list[dict[str, str]]:
    header, *lines = corpus.item_file.read_text().splitlines()
    return [dict(zip(header.split(), line.split(), strict=True)) for line in lines]


def test_phones_are_in_order_and_tile_each_word(english: Espeak) -> None:
    for clip, samples in heard(english):
        phones = clip.labels["phones"]
        assert phones[0][0] >= 0.1
        assert phones[-1][1] <= len(samples) / RATE - 0.1
        assert all(onset < offset for onset, offset, _ in phones)
        gaps = [after[0] - before[1] for before, after in pairwise(phones)]
        assert min(gaps) >= 0
        words = clip.labels["text"].split(" ")
        assert len(phones) == 4 * len(words)
        assert max(gap for place, gap in enumerate(gaps) if place % 4 != 3) < 1e-5


def test_ends_are_silent(english: Espeak) -> None:
    for _, samples in heard(english):
        speech = level(samples)
        assert level(samples[: round(0.095 * RATE)]) < speech - 40
        assert level(samples[-round(0.095 * RATE) :]) < speech - 40


def test_energy_lies_in_the_vowels_and_closures_in_the_stops(english: Espeak) -> None:
    closures, vowels_before, higher, pairs = [], [], 0, 0
    for clip, samples in heard(english):
        for before, phone in pairwise(clip.labels["phones"]):
            if before[2] in VOWELS and phone[2] in VOICELESS_STOPS:
                closures.append(level(cut(samples, phone[0], phone[0] + 0.015)))
                vowels_before.append(level(cut(samples, *before[:2])))
                pairs += 1
                higher += vowels_before[-1] > level(cut(samples, *phone[:2]))
    assert pairs > 150
    assert higher > 0.97 * pairs
    depths = np.subtract(vowels_before, closures)
    assert np.median(depths) > 25
    assert np.quantile(depths, 0.05) > 15  # some voices echo a little


def test_s_hisses_and_vowels_do_not(english: Espeak) -> None:
    by_symbol = defaultdict(list)
    for clip, samples in heard(english):
        for onset, offset, symbol in clip.labels["phones"]:
            by_symbol[symbol].append(centroid(cut(samples, onset, offset)))
    highest_vowel = max(float(np.quantile(by_symbol[vowel], 0.9)) for vowel in ("a", "i:", "oU"))
    assert np.quantile(by_symbol["s"], 0.1) > highest_vowel + 1000


def test_vowels_begin_when_the_labels_say(english: Espeak) -> None:
    """After [s], voicing sets in: the moment when the band below 1 kHz rises half-way lies at the label."""
    delays = []
    for clip, samples in heard(english):
        for before, phone in pairwise(clip.labels["phones"]):
            if before[2] == "s" and phone[2] in ("a", "E", "I"):
                onset = phone[0]
                starts = np.arange(onset - 0.05, onset + 0.05, 0.002)
                low = []
                for start in starts:
                    frame = cut(samples, start - 0.008, start + 0.008)
                    spectrum = np.abs(np.fft.rfft(frame * np.hanning(len(frame)), 512))[:32]
                    low.append(10 * np.log10(np.mean(np.square(spectrum)) + 1e-9))
                half = (np.median(low[:5]) + np.median(low[-5:])) / 2
                delays.append(starts[np.argmax(np.array(low) > half)] - onset)
    assert len(delays) > 20
    assert abs(np.median(delays)) < 0.012
    assert np.quantile(np.abs(delays), 0.9) < 0.03


def test_every_phone_meets_every_other_in_shared_contexts(english: Espeak) -> None:
    contexts: dict[str, dict[str, Counter[tuple[str, str]]]] = defaultdict(lambda: defaultdict(Counter))
    for item in items(english):
        contexts[item["speaker"]][item["#phone"]][item["prev-phone"], item["next-phone"]] += 1
    assert len(contexts) == 4
    words = balanced("en-us", 12, 7)
    consonants = {word.syllables[1][0] for word in words}
    vowels = {word.syllables[0][1] for word in words}
    assert (len(consonants), len(vowels)) == (12, 7)
    for phones in contexts.values():
        assert set(phones) == consonants | vowels
        for group, shared in ((consonants, 7), (vowels, 12)):
            for one, other in combinations(sorted(group), 2):
                common = phones[one].keys() & phones[other].keys()
                assert len(common) == shared
                assert all(phones[one][context] == phones[other][context] == 2 for context in common)


def test_items_are_phones_of_the_clips(english: Espeak) -> None:
    clips = {clip.key: clip for clip in english.clips()}
    for item in items(english):
        clip = clips[item["#file"]]
        symbols = [symbol for *_, symbol in clip.labels["phones"]]
        place = clip.labels["phones"].index([float(item["onset"]), float(item["offset"]), item["#phone"]])
        assert symbols[place - 1 : place + 2] == [item["prev-phone"], item["#phone"], item["next-phone"]]
        assert item["speaker"] == clip.labels["speaker"]


def test_clips_have_their_labels(english: Espeak) -> None:
    clips = english.clips()
    assert [clip.key for clip in clips] == sorted({clip.key for clip in clips})
    assert all(clip.path.is_file() and clip.split == "test" and clip.licence for clip in clips)
    assert Counter(sex for _, sex in {(clip.labels["speaker"], clip.labels["sex"]) for clip in clips}) == {
        "female": 2,
        "male": 2,
    }


def test_sexes_differ_in_pitch() -> None:
    pitch = defaultdict(list)
    for voice in select("evaluation", None, 0):
        samples = Synthesiser().speak(f"en-us+{voice}", "m|'a|m|a m|'a|m|a").samples.astype(np.float64)
        middles = [samples[place - 882 : place + 882] for place in range(4000, len(samples) - 4000, 2000)]
        pitch[sex_of(voice)].append(np.median([fundamental(part) for part in middles]) * 22_050 / RATE)
    assert np.median(pitch["female"]) > 1.3 * np.median(pitch["male"])


def test_train_and_evaluation_voices_are_strangers() -> None:
    train, evaluation = select("train", None, 0), select("evaluation", None, 0)
    assert Counter(map(sex_of, evaluation)) == {"female": 6, "male": 6}
    family = tool("espeak_voices").family
    assert not set(map(family, train)) & set(map(family, evaluation))
    assert {"female", "male"} <= set(map(sex_of, train))
    assert len(train) >= 40
    assert select("train", 10, 1) != select("train", 10, 2)
    assert select("train", 10, 1) == select("train", 10, 1)


def test_voices_that_whisper_or_echo_are_not_used() -> None:
    folds = tool("espeak_voices").folds()
    assert folds == json.loads(shipped_voices.FILE.read_text("utf-8"))
    names = {name for fold in folds.values() for name in fold}
    assert {"f1", "f2", "m1", "m3"} <= names
    assert not names & {"whisper", "whisperf", "RicishayMax", "robosoft8", "klatt"}


def test_the_same_settings_give_the_same_files(tmp_path: Path) -> None:
    def make(folder: str, **settings: object) -> Espeak:
        corpus = Espeak(tmp_path / folder, words="free", utterances=3, **{"voices": ["f1", "m3"], **settings})
        corpus.clips()
        return corpus

    first, second = make("a"), make("b")
    files = sorted(path.relative_to(first.folder) for path in first.folder.rglob("*") if path.is_file())
    assert len(files) == 2 * 3 + 3
    assert all((first.folder / file).read_bytes() == (second.folder / file).read_bytes() for file in files)
    # A speaker says the same in whatever company.
    alone = make("c", voices=["m3"])
    for clip in alone.clips():
        assert clip.path.read_bytes() == (first.folder / "clips" / clip.path.name).read_bytes()
    assert make("a", seed=1).folder != first.folder
    assert sorted(path.name for path in (tmp_path / "a").iterdir() if path.name.startswith(".")) == []


def test_clips_are_made_once(tmp_path: Path) -> None:
    settings = {"voices": ["m3"], "words": "free", "utterances": 2}
    first = Espeak(tmp_path, **settings).clips()
    times = [clip.path.stat().st_mtime_ns for clip in first]
    again = Espeak(tmp_path, **settings).clips()
    assert again == first
    assert [clip.path.stat().st_mtime_ns for clip in again] == times


def test_speakers_can_be_held_out(tmp_path: Path) -> None:
    clips = Espeak(tmp_path, words="free", speakers=3, utterances=1, valid_speakers=1).clips()
    assert Counter(clip.split for clip in clips) == {"train": 2, "valid": 1}


def test_skew_draws_which_phones_are_common_and_leaves_held_out_speakers_alone(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "language": "fi", "words": "free", "speakers": 3, "utterances": 6, "words_per_utterance": 12,
        "valid_speakers": 1,
    }  # fmt: skip
    made = [Espeak(tmp_path, **settings)]
    made += [Espeak(tmp_path, skew={"slope": 2.0, "seed": seed}, **settings) for seed in (1, 2)]
    assert len({corpus.folder for corpus in made}) == 3
    said, common = [], []
    for corpus in made:
        texts = {split: [clip.labels["text"] for clip in corpus.clips() if clip.split == split] for split in SPLITS}
        symbols = Counter(
            symbol for clip in corpus.clips() if clip.split == "train" for *_, symbol in clip.labels["phones"]
        )
        said.append(texts)
        common.append([symbol for symbol, _ in symbols.most_common(4)])
    assert said[0]["valid"] == said[1]["valid"] == said[2]["valid"]
    assert len({*map(str, common)}) == 3
    assert len({text["train"][0] for text in said}) == 3
    # Who is held out is part of what is said, and another choice lies elsewhere.
    fewer = Espeak(tmp_path, skew={"slope": 2.0, "seed": 1}, **(settings | {"valid_speakers": 0}))
    assert fewer.folder != made[1].folder


def test_probabilities_fall_with_the_rank_by_the_slope() -> None:
    generator = np.random.default_rng(0)
    onsets = Counter(
        onset for word in free("fi", 6000, generator, Skew(1.5, 3)) for onset, *_ in word.syllables
    )  # fmt: skip
    order = Skew(1.5, 3).order(inventory("fi").onsets)
    share = np.arange(1, len(order) + 1) ** -1.5
    assert [onsets[symbol] / onsets.total() for symbol in order] == pytest.approx(share / share.sum(), abs=0.015)


STYLES = {
    "sad": {"rate": 0.8, "pitch": -15, "range": 10, "volume": 50},
    "happy": {"rate": 1.2, "pitch": 25, "range": 90, "volume": 120},
    "neutral": {},
}


def test_styles_change_how_words_are_spoken_and_nothing_else(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"voices": ["f1", "m3"], "words": "free", "utterances": 9, "words_per_utterance": 3}
    plain = Espeak(tmp_path, **settings)
    acted = Espeak(tmp_path, styles=STYLES, **settings)
    pairs = list(zip(heard(plain), heard(acted), strict=True))
    assert Counter(clip.labels["emotion"] for _, (clip, _) in pairs) == dict.fromkeys(STYLES, 6)
    lasts, levels, pitches = defaultdict(list), defaultdict(list), defaultdict(list)
    for (before, samples), (clip, other) in pairs:
        assert clip.labels["text"] == before.labels["text"]
        assert clip.labels["speaker"] == before.labels["speaker"]
        emotion = clip.labels["emotion"]
        if emotion == "neutral":
            assert abs(len(other) - len(samples)) < 0.01 * len(samples)  # a synthesiser's state moves it a little
        lasts[emotion].append(len(other) / len(samples))
        levels[emotion].append(level(other) - level(samples))
        vowels = [phone for phone in clip.labels["phones"] if phone[2] in VOWELS and phone[1] - phone[0] > 0.06]
        pitches[emotion] += [fundamental(cut(other, *phone[:2])) for phone in vowels]
    assert np.median(lasts["sad"]) > 1.15
    assert np.median(lasts["happy"]) < 0.9
    assert np.median(levels["sad"]) < -4
    assert np.median(levels["happy"]) > 1
    assert np.mean(pitches["happy"]) > 1.2 * np.mean(pitches["sad"])


def test_words_of_the_language_are_spelt(tmp_path: Path) -> None:
    lexicon = ["seven", "o'clock", "fish"]
    corpus = Espeak(tmp_path, voices=["f1"], words="lexicon", lexicon=lexicon, utterances=4, words_per_utterance=3)
    spoken = {"seven": list("sEv@n"), "o'clock": ["@", "k", "l", "0", "k"], "fish": ["f", "I", "S"]}
    for clip in corpus.clips():
        words = clip.labels["text"].split()
        assert len(words) == 3
        assert set(words) <= set(lexicon)
        assert [symbol for *_, symbol in clip.labels["phones"]] == [phone for word in words for phone in spoken[word]]


def test_some_clips_of_each_speaker_are_held_out(tmp_path: Path) -> None:
    corpus = Espeak(tmp_path, voices=["f1", "m3"], words="free", utterances=5, valid_utterances=2)
    assert Counter((clip.labels["speaker"], clip.split) for clip in corpus.clips()) == {
        ("f1", "train"): 3, ("f1", "valid"): 2, ("m3", "train"): 3, ("m3", "valid"): 2,
    }  # fmt: skip


def test_free_words_use_the_whole_language(tmp_path: Path) -> None:
    corpus = Espeak(tmp_path, words="free", voices=["f1", "m3"], utterances=40)
    symbols = {symbol for clip in corpus.clips() for *_, symbol in clip.labels["phones"]}
    phones = inventory("en-us")
    assert len(symbols & set(phones.consonants)) >= 20
    assert len(symbols & set(phones.vowels)) >= 15


@pytest.mark.parametrize(
    ("language", "consonants", "vowels"),
    [
        ("en-us", {"p", "t", "k", "s", "S", "T", "D", "N", "m", "l"}, {"i:", "a", "u:", "aI", "V"}),
        ("fi", {"p", "t", "k", "s", "h", "v", "r"}, {"a", "e", "i", "o", "u", "y", "&"}),
        ("cmn", {"ts.h", "tS;", "S;", "X", "ph", "N"}, {"i", "y", "A", "uei", "ong"}),
    ],
)
def test_inventories_are_those_of_the_languages(language: str, consonants: set[str], vowels: set[str]) -> None:
    phones = inventory(language)
    assert consonants <= set(phones.consonants)
    assert vowels <= set(phones.vowels)
    assert not set(phones.consonants) & set(phones.vowels + phones.reduced)


@pytest.mark.parametrize("language", ["fi", "en-us"])
def test_the_shipped_phones_are_those_of_the_installed_espeak(language: str) -> None:
    script = tool("espeak_phones")
    assert script.phones_of(language) == inventory(language)
    assert json.loads(FILE.read_text("utf-8")).keys() < script.languages().keys()
    assert FILE.stat().st_size < 200 << 10


def test_endings_are_those_of_the_language() -> None:
    assert inventory("cmn").codas == ("n", "N")
    assert "N" not in inventory("en-us").onsets


def test_tones_move_as_they_should(mandarin: Espeak) -> None:
    """F0 late in the vowel over F0 early in it."""
    ratios = defaultdict(list)
    for clip, samples in heard(mandarin):
        for onset, offset, tone in clip.labels["tones"]:
            _, (start, end, _) = [phone for phone in clip.labels["phones"] if onset <= phone[0] < offset]
            vowel = cut(samples, start, end)
            if len(vowel) > 0.11 * RATE:
                part = round(0.05 * RATE)
                ratios[tone].append(fundamental(vowel[-part:]) / fundamental(vowel[:part]))
    assert set(ratios) == {"1", "2", "3", "4"}
    middle = {tone: np.median(values) for tone, values in ratios.items()}
    assert middle["2"] > 1.05
    assert middle["4"] < 0.9
    assert 0.96 < middle["1"] < 1.04


def test_each_mandarin_word_has_every_tone(mandarin: Espeak) -> None:
    found = defaultdict(set)
    for item in items(mandarin):
        found[item["#phone"], item["prev-phone"], item["next-phone"], item["speaker"]].add(item["tone"])
    assert len(found) == 2 * 2 * 6 * 4
    assert all(tones == {"1", "2", "3", "4"} for tones in found.values())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"language": "klingon"}, "language='klingon' must be one of.*en-us"),
        ({"language": "grc"}, "language='grc' must be one of.*of no other language"),
        ({"voices": "everyone"}, "voices='everyone'.*evaluation"),
        ({"voices": ["f1", "nobody"]}, "voices=.*f1.*'nobody' is none of them"),
        ({"voices": ["f1", "f1"]}, "voices=.*each once"),
        ({"voices": ["f1"], "speakers": 2}, "speakers=2"),
        ({"voices": "evaluation", "speakers": 13}, "speakers=13.*1 to 12"),
        ({"words": "poetry"}, "words='poetry'.*balanced, free"),
        ({"split": "dev"}, "split='dev'.*train, valid, test"),
        ({"repetitions": 0}, "repetitions=0"),
        ({"seed": -1}, "seed=-1"),
        ({"valid_speakers": 99}, "valid_speakers=99"),
        ({"valid_utterances": 1}, "valid_utterances=1.*from 0 to 0; words=balanced"),
        ({"words": "free", "utterances": 3, "valid_utterances": 3}, "valid_utterances=3.*from 0 to 2"),
        ({"words": "lexicon"}, "lexicon=None must be a list of words with corpus.words=lexicon"),
        ({"lexicon": ["seven"]}, "lexicon=.*else null"),
        ({"words": "lexicon", "lexicon": ["ma"], "language": "cmn"}, "words='lexicon'.*where tones are labelled"),
        ({"skew": {"slope": 1.0}}, "skew=.*null with other than corpus.words=free"),
        ({"skew": 2, "words": "free"}, "skew=2 must be a mapping of slope and seed"),
        ({"skew": {"rank": 2}, "words": "free"}, "skew=.*a mapping of slope and seed"),
        ({"skew": {"slope": -1.0}, "words": "free"}, "skew.slope=-1.0 must be a number at least 0"),
        ({"skew": {"seed": 0.5}, "words": "free"}, "skew.seed=0.5 must be a whole number"),
        ({"styles": ["sad"]}, "styles=.*a mapping of styles by name"),
        ({"styles": {"sad": {"speed": 2}}}, "styles.sad=.*a mapping of some of rate, pitch, range, volume"),
        ({"styles": {"sad": {"volume": 151}}}, "styles.sad.volume=151 must be a whole number from 1 to 150; louder"),
        ({"styles": {"sad": {"rate": 3}}}, "styles.sad.rate=3 must be a number at least 0.5 and at most 2"),
        ({"consonants": 400}, "consonants=400.*2 to"),
        ({"vowels": 1}, "vowels=1.*2 to"),
    ],
)
def test_bad_settings_are_named(tmp_path: Path, settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Espeak(tmp_path, **settings).clips()
    assert not any(tmp_path.iterdir())
