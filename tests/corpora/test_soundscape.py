import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from scipy import signal
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from w2v_abx import audio
from w2v_abx.clips import Clip
from w2v_abx.corpora.soundscape import CATEGORIES, Soundscape, synthesise
from w2v_abx.errors import InputError

RATE = 16_000
SEEDS = range(4)
CONF = Path(__file__).parents[2] / "conf" / "corpus" / "soundscape.yaml"


def sound(category: str, seed: int, seconds: float = 5.0) -> np.ndarray:
    return synthesise(category, seconds, np.random.default_rng(seed))


# What is measured here is written without any of the synthesisers' building blocks.


def spectrum(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return signal.welch(samples.astype(np.float64), RATE, nperseg=min(4096, len(samples)))


def centroid(samples: np.ndarray) -> float:
    frequency, power = spectrum(samples)
    return float((frequency * power).sum() / power.sum())


def share_below(samples: np.ndarray, corner: float) -> float:
    frequency, power = spectrum(samples)
    return float(power[frequency < corner].sum() / power.sum())


def flatness(samples: np.ndarray) -> float:
    """Of the loudest tenth of frames, between 100 Hz and 7 kHz: near 1 for noise, near 0 for tones."""
    frequency, _, power = signal.spectrogram(samples.astype(np.float64), RATE, nperseg=1024)
    power = power[(frequency > 100) & (frequency < 7000)]
    loudest = power[:, np.argsort(power.sum(axis=0))[-power.shape[1] // 10 :]] + 1e-14
    return float(np.median(np.exp(np.log(loudest).mean(axis=0)) / loudest.mean(axis=0)))


def peak_track(samples: np.ndarray, low: float, high: float, window: int = 1024) -> np.ndarray:
    """The strongest frequency between two, per frame of 64 ms; NaN where 25 dB weaker than the loudest."""
    frequency, _, power = signal.spectrogram(samples.astype(np.float64), RATE, nperseg=window, noverlap=window // 2)
    inside = (frequency >= low) & (frequency <= high)
    power, frequency = power[inside], frequency[inside]
    return np.where(power.max(axis=0) > power.max() / 300, frequency[power.argmax(axis=0)], np.nan)


def loudness(samples: np.ndarray, window: float) -> np.ndarray:
    width = int(window * RATE)
    return np.sqrt(np.mean(samples[: len(samples) // width * width].reshape(-1, width).astype(np.float64) ** 2, axis=1))


def envelope_rate(samples: np.ndarray, low: float, high: float) -> float:
    """The strongest modulation frequency of the envelope, between two."""
    step = loudness(samples, 0.002)
    frequency = np.fft.rfftfreq(8 * len(step), 0.002)
    power = np.abs(np.fft.rfft((step - step.mean()) * np.hanning(len(step)), 8 * len(step)))
    inside = (frequency >= low) & (frequency <= high)
    return float(frequency[inside][power[inside].argmax()])


def onsets(samples: np.ndarray, apart: float, threshold: float = 0.3) -> np.ndarray:
    """Times of the envelope's peaks, s."""
    step = loudness(samples, 0.005)
    peaks, _ = signal.find_peaks(np.r_[0, step, 0], height=threshold * step.max(), distance=int(apart / 0.005))
    return (peaks - 1) * 0.005


def pitch(samples: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """The lag of the autocorrelation's peak, as a frequency in Hz, and its height: 1 for a perfectly periodic sound."""
    piece = samples[: RATE // 2].astype(np.float64)
    correlation = signal.correlate(piece, piece)[len(piece) - 1 :]
    lags = np.arange(int(RATE / high), int(RATE / low) + 1)
    best = lags[correlation[lags].argmax()]
    return RATE / best, float(correlation[best] / correlation[0] * len(piece) / (len(piece) - best))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(CATEGORIES), st.integers(0, 10**6), st.floats(0.25, 3.0))
def test_every_sound_is_finite_audible_whole_and_seeded(category: str, seed: int, seconds: float) -> None:
    samples = sound(category, seed, seconds)
    assert samples.dtype == np.float32
    assert samples.shape == (round(seconds * RATE),)
    assert np.isfinite(samples).all()
    assert np.abs(samples).max() == pytest.approx(1.0)
    assert np.abs(samples[: int(0.15 * RATE)]).max() > 0.02  # it is there from its onset
    assert np.array_equal(samples, sound(category, seed, seconds))
    assert not np.array_equal(samples, sound(category, seed + 1, seconds))


def test_there_are_twenty_categories_and_an_unknown_one_is_refused_with_them() -> None:
    assert len(CATEGORIES) == len(set(CATEGORIES)) == 20
    with pytest.raises(InputError, match=r"'vacuum'.*rain.*wind"):
        sound("vacuum", 0)
    with pytest.raises(InputError, match="too short"):
        sound("rain", 0, 0.1)


@pytest.mark.parametrize(
    ("darker", "brighter"),
    [
        ("thunder", "waves"),
        ("wind", "waves"),
        ("waves", "rain"),
        ("hoot", "siren"),
        ("siren", "whistle"),
        ("whistle", "cricket"),
        ("helicopter", "buzz"),
        ("footsteps", "tick"),
        ("croak", "chirp"),
        ("engine", "rain"),
    ],
)
def test_sounds_are_as_dark_or_bright_as_their_names(darker: str, brighter: str) -> None:
    means = [np.mean([centroid(sound(category, seed)) for seed in SEEDS]) for category in (darker, brighter)]
    assert means[0] < 0.9 * means[1]


def test_noises_are_flat_and_calls_are_tonal() -> None:
    flat = {category: np.mean([flatness(sound(category, seed)) for seed in SEEDS]) for category in CATEGORIES}
    assert flat["rain"] > 0.4
    for tonal in ("alarm", "chirp", "cricket", "hoot", "siren", "whistle", "bell", "telephone"):
        assert flat[tonal] < 0.05 < min(flat["rain"], flat["crackle"])


@pytest.mark.parametrize("seed", SEEDS)
class TestCharacter:
    """What makes each sound what it is named after."""

    def test_rain_is_steady_and_waves_swell(self, seed: int) -> None:
        steady, swell = (loudness(sound(category, seed, 20), 0.1) for category in ("rain", "waves"))
        assert steady.std() / steady.mean() < 0.2
        assert swell.std() / swell.mean() > 0.3
        assert 0.15 < envelope_rate(sound("waves", seed, 40), 0.1, 10) < 0.5

    def test_wind_is_low_and_its_howl_moves(self, seed: int) -> None:
        samples = sound("wind", seed, 10)
        assert share_below(samples, 1000) > 0.8
        frequency, _, power = signal.spectrogram(samples.astype(np.float64), RATE, nperseg=4096)
        inside = (frequency > 200) & (frequency < 1500)
        whitened = power[inside] * frequency[inside, None] ** 2.5
        track = frequency[inside][signal.medfilt(whitened, (1, 5)).argmax(axis=0)]
        assert np.percentile(track, 90) / np.percentile(track, 10) > 1.3

    def test_thunder_cracks_and_then_rumbles(self, seed: int) -> None:
        samples = sound("thunder", seed)
        assert centroid(samples[: RATE // 4]) > 2 * centroid(samples[2 * RATE :])
        assert share_below(samples[3 * RATE :], 300) > 0.9
        level = loudness(samples, 0.25)
        assert level[:4].max() > 5 * level[-2]

    def test_crackle_is_sparse_and_heavy_tailed(self, seed: int) -> None:
        def kurtosis(category: str) -> float:
            x = signal.sosfilt(
                signal.butter(4, 800, "high", fs=RATE, output="sos"), sound(category, seed).astype(float)
            )
            return float(np.mean(x**4) / np.mean(x**2) ** 2)

        assert kurtosis("crackle") > 20
        assert kurtosis("rain") < 8  # 3 would be plain noise
        assert len(onsets(sound("crackle", seed, 10), 0.02, 0.05)) > 20

    def test_drips_are_short_and_rise(self, seed: int) -> None:
        samples = sound("drip", seed)
        at = onsets(samples, 0.25)
        assert 3 <= len(at) <= 16
        assert np.diff(at).std() > 0.02  # not a clock
        frequency, time, power = signal.spectrogram(samples.astype(np.float64), RATE, nperseg=256, noverlap=224)
        strongest = frequency[1:][power[1:].argmax(axis=0)]
        early = np.median([strongest[np.searchsorted(time, t + 0.01)] for t in at[:-1]])
        late = np.median([strongest[np.searchsorted(time, t + 0.06)] for t in at[:-1]])
        assert 600 < early < late < 6000

    def test_clock_ticks_regularly_and_alternates(self, seed: int) -> None:
        samples = sound("tick", seed, 8)
        intervals = np.diff(onsets(samples, 0.2))
        assert 1.85 < 1 / intervals.mean() < 3.05
        assert intervals.std() / intervals.mean() < 0.03
        at = (onsets(samples, 0.2)[:-1] * RATE).astype(int)
        colours = [centroid(samples[max(0, i - 100) : i + 500]) for i in at]
        assert min(np.mean(colours[::2]), np.mean(colours[1::2])) * 1.1 < max(
            np.mean(colours[::2]), np.mean(colours[1::2])
        )

    def test_footsteps_are_a_walk(self, seed: int) -> None:
        low = signal.sosfilt(signal.butter(4, 250, fs=RATE, output="sos"), sound("footsteps", seed, 8))
        intervals = np.diff(onsets(low, 0.3))
        assert 1.4 < 1 / intervals.mean() < 2.3
        assert 0.005 < intervals.std() / intervals.mean() < 0.12

    def test_bell_rings_on_with_a_bells_partials(self, seed: int) -> None:
        samples = sound("bell", seed, 4.0)
        first, second = onsets(samples, 0.8)[:2]
        stroke = samples[int(first * RATE) : int((first + min(1.0, second - first - 0.05)) * RATE)].astype(np.float64)
        level = loudness(stroke, 0.1)
        assert level[6] > level[0] / 10  # 0.6 s after the strike less than 20 dB down
        low, high = (
            signal.sosfilt(signal.butter(4, 900, kind, fs=RATE, output="sos"), stroke) for kind in ("low", "high")
        )
        assert loudness(high, 0.1)[6] / loudness(high, 0.1)[1] < loudness(low, 0.1)[6] / loudness(low, 0.1)[1]
        # A minor third above the prime, and an octave below and above it, which no harmonic series has.
        power = np.abs(np.fft.rfft(stroke * np.hanning(len(stroke)), 8 * RATE)) ** 2
        near = {ratio: [power[int(7.8 * p * ratio) : int(8.2 * p * ratio)].max() for p in range(290, 710, 2)]
                for ratio in (0.5, 1.0, 1.2, 2.0, 1.36)}  # fmt: skip
        fit = np.min([near[ratio] for ratio in (0.5, 1.0, 1.2, 2.0)], axis=0)
        best = int(fit.argmax())
        assert fit[best] > 30 * near[1.36][best]

    def test_engine_fires_periodically(self, seed: int) -> None:
        samples = sound("engine", seed)
        assert share_below(samples, 1000) > 0.7
        assert pitch(samples, 26, 90)[1] > 0.35

    def test_helicopter_chops(self, seed: int) -> None:
        samples = sound("helicopter", seed)
        assert 9.5 < envelope_rate(samples, 3, 60) < 16.6
        assert share_below(samples, 300) > 0.5

    def test_siren_sweeps_slowly_over_an_octave(self, seed: int) -> None:
        track = peak_track(sound("siren", seed, 6), 400, 1900)
        track = track[np.isfinite(track)]
        assert 450 < track.min() < 800
        assert 950 < track.max() < 1900
        assert np.median(np.abs(np.diff(np.log2(track)))) < 0.2  # gliding, not jumping
        turns = np.diff(np.sign(track - np.sqrt(track.min() * track.max())))
        assert 2 <= np.count_nonzero(turns) <= 6 * 2 * 3.6 + 2

    def test_alarm_beeps_in_fours(self, seed: int) -> None:
        samples = sound("alarm", seed)
        assert np.nanstd(peak_track(samples, 1000, 4000)) < 20
        gaps = np.diff(onsets(samples, 0.08, 0.5))
        long = np.flatnonzero(gaps > 1.8 * np.median(gaps))
        assert set(np.diff(long)) == {4}

    def test_telephone_rings_twice_and_pauses(self, seed: int) -> None:
        samples = sound("telephone", seed, 8)
        ringing = sound("telephone", seed, 0.38)
        assert 19 < envelope_rate(ringing, 14, 60) < 26
        loud = loudness(samples, 0.05) > 0.25 * loudness(samples, 0.05).max()
        rings = np.count_nonzero(np.diff(loud.astype(int)) == 1) + loud[0]
        assert 7 <= rings <= 11

    def test_whistle_trills(self, seed: int) -> None:
        samples = sound("whistle", seed)
        assert 2200 < np.nanmedian(peak_track(samples, 1000, 5000)) < 3400
        assert 27 < envelope_rate(samples[: int(0.34 * RATE)], 15, 100) < 54

    def test_chirps_sweep_high(self, seed: int) -> None:
        track = peak_track(sound("chirp", seed), 500, 8000, 256)
        track = track[np.isfinite(track)]
        assert track.min() > 1800
        assert track.max() / track.min() > 1.15

    def test_owl_hoots_softly_in_two_parts(self, seed: int) -> None:
        samples = sound("hoot", seed, 8)
        assert 270 < np.nanmedian(peak_track(samples, 100, 4000, 2048)) < 490
        loud = loudness(samples, 0.02) > 0.15 * loudness(samples, 0.02).max()
        edges = np.flatnonzero(np.diff(np.r_[0, loud.astype(int), 0]))
        lengths = (edges[1::2] - edges[::2])[:4] * 0.02
        assert lengths[1] > 1.1 * lengths[0]
        assert lengths[3] > 1.1 * lengths[2]
        attack = loudness(samples, 0.01)[:12]
        assert attack[1] < 0.3 * attack[-1]

    def test_cricket_chirps_in_pulses_of_one_pitch(self, seed: int) -> None:
        samples = sound("cricket", seed)
        assert 3900 < np.nanmedian(peak_track(samples, 1000, 8000)) < 5600
        assert 1.9 < envelope_rate(samples, 1.5, 3.5) < 3.4
        pulses = onsets(samples, 0.02, 0.3)
        assert 2.5 <= len(pulses) / len(onsets(samples, 0.2, 0.3)) <= 4.5

    def test_frog_croaks_in_pulse_trains(self, seed: int) -> None:
        call = sound("croak", seed, 0.3)[: int(0.22 * RATE)]
        assert 33 < envelope_rate(call, 20, 120) < 78
        assert 450 < np.nanmedian(peak_track(sound("croak", seed), 200, 3000)) < 1000

    def test_insect_buzzes_with_many_drifting_harmonics(self, seed: int) -> None:
        samples = sound("buzz", seed)
        beats = [pitch(samples[i : i + 1600], 110, 310) for i in range(0, 4 * RATE, 1600)]
        assert 125 < np.median([beat for beat, _ in beats]) < 285
        assert np.median([height for _, height in beats]) > 0.8
        assert np.std(np.log2([beat for beat, _ in beats])) > 0.005
        assert share_below(samples, 2500) < 0.999


def features(samples: np.ndarray) -> np.ndarray:
    frequency, _, power = signal.spectrogram(samples.astype(np.float64), RATE, nperseg=512, noverlap=256)
    edges = np.searchsorted(frequency, np.geomspace(60, 7900, 25))
    bands = np.log(np.add.reduceat(power, edges, axis=0)[:-1] + 1e-9)
    return np.concatenate([bands.mean(axis=1), bands.std(axis=1), np.abs(np.diff(bands)).mean(axis=1)])


def test_a_linear_classifier_tells_the_categories_apart() -> None:
    def draw(count: int, first: int) -> tuple[np.ndarray, list[str]]:
        drawn = [(category, seed) for category in CATEGORIES for seed in range(first, first + count)]
        return np.array([features(sound(*pair, 2.0)) for pair in drawn]), [category for category, _ in drawn]

    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.1).fit(*draw(10, 100))
    assert model.score(*draw(4, 900)) > 0.85  # chance is 0.05


# The corpus


def make(root: Path, **changed: object) -> Soundscape:
    return Soundscape(root, **{"n_train": 4, "n_valid": 2, "seconds": 2.0, "duration": (0.5, 1.5), **changed})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    return make(tmp_path_factory.mktemp("many"), n_train=100, n_valid=20, n_test=5).clips()


def test_clips_have_keys_splits_and_whole_files(many: list[Clip]) -> None:
    assert len({clip.key for clip in many}) == len(many) == 125
    assert [clip.key for clip in many] == sorted(clip.key for clip in many)
    assert Counter(clip.split for clip in many) == {"train": 100, "valid": 20, "test": 5}
    assert {clip.licence for clip in many} == {"CC0"}
    assert all("generated" in clip.source for clip in many)
    for clip in many[::20]:
        info = soundfile.info(clip.path)
        assert (info.format, info.samplerate, info.channels, info.frames) == ("FLAC", RATE, 1, 2 * RATE)
    assert len({clip.path.read_bytes() for clip in many}) == len(many)  # no clip is in two splits, or twice in one


def test_labels_are_the_events_heard(many: list[Clip]) -> None:
    for clip in many:
        events, masked = clip.labels["events"], clip.labels["masked"]
        assert clip.labels["labels"] == sorted({event[2] for event in events})
        everything = [*events, *masked]
        assert 1 <= len(everything) == len({event[2] for event in everything}) <= 3
        assert events == sorted(events)
        for onset, offset, category, level in everything:
            assert category in CATEGORIES
            assert 0 <= onset < offset <= 2.0
            assert 0.5 <= round(offset - onset, 4) <= 1.5
            assert -60.01 <= level <= 0
            assert 4.98 <= level - clip.labels["background"] <= 30.02
    assert {len(clip.labels["labels"]) for clip in many} >= {1, 2, 3}


def test_categories_and_numbers_at_once_are_balanced(many: list[Clip]) -> None:
    counts = Counter(
        event[2] for clip in many if clip.split == "train" for event in clip.labels["events"] + clip.labels["masked"]
    )
    assert set(counts) == set(CATEGORIES)
    # Five each from the turns, about five more by chance.
    assert min(counts.values()) >= 5
    assert max(counts.values()) <= 20
    at_once = Counter(len(clip.labels["events"] + clip.labels["masked"]) for clip in many)
    assert all(25 <= at_once[number] <= 60 for number in (1, 2, 3))


def loudest_125_ms(samples: np.ndarray) -> float:
    return 10 * math.log10(max(np.mean(samples[i : i + 2000] ** 2) for i in range(0, len(samples) - 1999, 50)))


def test_level_onset_and_offset_are_those_of_the_samples(tmp_path: Path) -> None:
    for clip in make(tmp_path, n_train=20, max_events=1, snr=(30, 50), background=(-78, -70)).clips():
        samples = audio.load(clip.path).astype(np.float64)
        ((onset, offset, _, level),) = clip.labels["events"]
        assert loudest_125_ms(samples) == pytest.approx(level, abs=0.2)
        outside = np.concatenate([samples[: round(onset * RATE)], samples[round(offset * RATE) :]])
        if len(outside) >= 8000:
            mean = 10 * math.log10(np.mean(outside**2))
            assert clip.labels["background"] - 4 < mean < clip.labels["background"] + 0.5
        inside = samples[round(onset * RATE) :][: int(0.15 * RATE)]
        assert np.abs(inside).max() > 3 * np.sqrt(np.mean(outside**2))


def test_what_the_background_masks_is_no_label(tmp_path: Path) -> None:
    quiet = make(tmp_path, n_train=20, max_events=1, snr=(-40, -40)).clips()
    assert all(
        clip.labels["labels"] == clip.labels["events"] == [] and len(clip.labels["masked"]) == 1 for clip in quiet
    )
    loud = make(tmp_path, n_train=20, max_events=1, snr=(30, 30)).clips()
    assert all(len(clip.labels["labels"]) == 1 and clip.labels["masked"] == [] for clip in loud)


def test_a_sound_far_below_another_of_its_kind_is_masked(tmp_path: Path) -> None:
    """Rain and waves, both noise and both as long as the clip: whether both are heard depends on their difference."""
    pair = make(
        tmp_path,
        categories=["rain", "waves"],
        max_events=2,
        duration=(2, 2),
        snr=(0, 60),
        background=(-80, -80),
        n_train=30,
    )
    both = [clip for clip in pair.clips() if len(clip.labels["events"] + clip.labels["masked"]) == 2]
    masked = {bool(clip.labels["masked"]): [] for clip in both}
    for clip in both:
        levels = [event[3] for event in clip.labels["events"] + clip.labels["masked"]]
        masked[bool(clip.labels["masked"])].append(abs(levels[0] - levels[1]))
    assert np.mean(masked[True]) > np.mean(masked[False]) + 10


def test_a_mixture_that_would_clip_is_turned_down_with_its_labels(tmp_path: Path) -> None:
    for clip in make(tmp_path, max_events=1, snr=(30, 30), background=(-20, -20)).clips():
        samples = audio.load(clip.path).astype(np.float64)
        assert np.abs(samples).max() == pytest.approx(0.98, abs=1e-3)
        ((_, _, _, level),) = clip.labels["events"]
        assert level - clip.labels["background"] == pytest.approx(30, abs=0.02)
        assert loudest_125_ms(samples) == pytest.approx(level, abs=0.6)


def contents(clips: list[Clip]) -> dict[str, tuple[bytes, object]]:
    return {clip.key: (clip.path.read_bytes(), clip.labels) for clip in clips}


def test_same_settings_same_files_and_more_clips_change_none(tmp_path: Path) -> None:
    few = contents(make(tmp_path / "a").clips())
    assert contents(make(tmp_path / "b").clips()) == few
    more = contents(make(tmp_path / "c", n_train=6, n_valid=3, n_test=1).clips())
    assert len(more) == 10
    assert {key: more[key] for key in few} == few
    other = contents(make(tmp_path / "d", seed=1).clips())
    assert not {bytes_ for bytes_, _ in few.values()} & {bytes_ for bytes_, _ in other.values()}


def test_made_once_then_reused_and_settings_do_not_mix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make(tmp_path).clips()
    assert make(tmp_path, seed=1).folder != make(tmp_path).folder
    monkeypatch.setattr(audio, "save", lambda *_: pytest.fail("made again"))
    assert make(tmp_path).clips() == first
    assert sorted(path.name for path in tmp_path.iterdir()) == [make(tmp_path).folder.name]


def test_an_interrupted_run_leaves_nothing_that_looks_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, samples: np.ndarray) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(audio, "save", full)
        with pytest.raises(OSError, match="No space"):
            make(tmp_path).clips()
    assert list(tmp_path.iterdir()) == []
    assert len(make(tmp_path).clips()) == 6


def test_a_clip_that_was_removed_is_named(tmp_path: Path) -> None:
    clips = make(tmp_path).clips()
    clips[2].path.unlink()
    with pytest.raises(InputError, match=rf"lacks 1 of its 6 clips, {clips[2].path.name}"):
        make(tmp_path).clips()


def test_a_root_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"root=.*file cannot be made"):
        make(tmp_path / "file").clips()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"categories": ["rain", "vacuum"]}, r"corpus.categories=.*bell.*wind.*'vacuum' is none of them"),
        ({"categories": "rain"}, "categories='rain' must be a list"),
        ({"categories": []}, r"categories=\[\] must be a list of some"),
        ({"categories": ["rain", "rain"]}, "categories=.*each once"),
        ({"categories": ["rain"]}, "max_events=3"),
        ({"n_train": 0, "n_valid": 0}, "all 0"),
        ({"n_train": -1}, "n_train=-1"),
        ({"n_valid": 1.5}, "n_valid=1.5"),
        ({"seconds": 0.1}, "seconds=0.1"),
        ({"seconds": math.nan}, "seconds=nan"),
        ({"seconds": "long"}, "seconds='long'"),
        ({"max_events": 0}, "max_events=0"),
        ({"duration": (0.1, 1.0)}, r"corpus.duration\[0\]=0.1 must be a number at least"),
        ({"duration": (1.5, 0.5)}, r"corpus.duration\[1\]=0.5 must be a number at least 1.5"),
        ({"duration": (0.5, 3.0)}, r"corpus.duration\[1\]=3.0 must be .* at most 2"),
        ({"duration": 1.0}, "two numbers"),
        ({"onset": (1.0, 1.5)}, "does not fit"),
        ({"onset": (-1.0, 1.0)}, r"corpus.onset\[0\]=-1.0 must"),
        ({"snr": (5, math.inf)}, r"corpus.snr\[1\]=inf must"),
        ({"background": (-120, -50)}, r"corpus.background\[0\]=-120 must"),
        ({"background": "quiet"}, "background='quiet'"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(tmp_path: Path, setting: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(tmp_path, **setting)
    assert list(tmp_path.iterdir()) == []


def test_the_shipped_configuration_builds_it(tmp_path: Path) -> None:
    config = OmegaConf.create({"corpus": OmegaConf.load(CONF), "seed": 3, "paths": {"data": str(tmp_path)}})
    config.corpus.merge_with({"n_train": 2, "n_valid": 1, "seconds": 5.0, "categories": ["rain", "bell", "hoot"]})
    corpus = instantiate(config.corpus)
    clips = corpus.clips()
    assert corpus.name == "soundscape"
    assert [clip.key for clip in clips] == [
        "soundscape-train-000000",
        "soundscape-train-000001",
        "soundscape-valid-000000",
    ]
    assert all(clip.path.is_relative_to(tmp_path) and clip.end == 5.0 for clip in clips)
