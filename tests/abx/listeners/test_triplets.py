"""Listener triplets: the published layouts, and delta values against nested loops."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from w2v_abx.abx.listeners.scoring import TripletScores, score_triplets
from w2v_abx.abx.listeners.triplets import ListenerTriplets
from w2v_abx.errors import InputError

# As WorldVowels and the pilot of July 2018 are published.
WHOLE = (
    "file_TGT,onset_TGT,offset_TGT,phone_TGT,file_OTH,onset_OTH,offset_OTH,phone_OTH,file_X,onset_X,offset_X,tripletid"
)
# As the Interspeech 2020 set is: numbers of each language's own, and tabs in a .csv.
PUBLISHED = {
    "french": """index	#file	onset	offset	#phone	prev-phone	next-phone	speaker
12	10858	0.1	0.3	a	i	k	F06_O
13	5050	0.20	0.5	e	i	k	F06_O
14	4449	0	0.25	a	i	k	M07_O
""",
    "english": """index	#file	onset	offset	#phone	prev-phone	next-phone	speaker
12	5050	0.3	0.6	ɑ	p	s	3347
13	4449	0.1	0.4	æ	p	s	3347
99	512	0.2	0.6	ɑ	p	s	8824
""",
    "triplets": """filename	TGT	OTH	prev_phone	next_phone	TGT_item	OTH_item	X_item	TGT_first
FR1	a	e	i	k	12	13	14	True
FR2	a	e	i	k	12	13	14	False
EN7	ɑ	æ	p	s	12	13	99	True
""",
    "responses": """individual,language,filename,TGT_item,OTH_item,X_item,binarized_answer
0,english,FR2,12,13,14,1
0,english,EN7,12,13,99,-1
1,english,FR2,12,13,14,1
""",
}


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def published(tmp_path: Path) -> dict[str, Path]:
    return {name: write(tmp_path, f"{name}.csv", text) for name, text in PUBLISHED.items()}


def places(given: ListenerTriplets) -> list[list[tuple[str, ...]]]:
    return [[given.items.frame.row(item) for item in row] for row in given.stimuli.T.tolist()]


def test_stimuli_spelt_out(tmp_path: Path) -> None:
    text = f"{WHOLE}\nu/a.wav,0.10,0.3,y,b,0,0.2,u,c,1,1.50,t1\nb,0,0.2,u,u/a,0.10,0.3,y,c,1,1.50,t2\n"
    given = ListenerTriplets.read(write(tmp_path, "triplets.csv", text))
    a, b, c = ("u/a", "0.10", "0.3"), ("b", "0", "0.2"), ("c", "1", "1.50")
    assert places(given) == [[a, b, c], [b, a, c]]
    assert len(given.items) == 3
    assert given.triplet.tolist() == [0, 1]
    assert given.frame["file_TGT"].to_list() == ["u/a.wav", "b"]


def test_stimuli_by_the_numbers_of_each_language(published: dict[str, Path]) -> None:
    tables = {"FR": published["french"], "EN": published["english"]}
    given = ListenerTriplets.read(published["triplets"], tables)
    french = [("FR/10858", "0.1", "0.3"), ("FR/5050", "0.20", "0.5"), ("FR/4449", "0", "0.25")]
    english = [("EN/5050", "0.3", "0.6"), ("EN/4449", "0.1", "0.4"), ("EN/512", "0.2", "0.6")]
    assert places(given) == [french, french, english]
    assert given.triplet.tolist() == [0, 1, 2]  # FR1 and FR2 are two triplets, in two orders
    assert given.items.where(5) == f"{published['english']}, line 4"
    assert ListenerTriplets.read(published["responses"], tables).triplet.tolist() == [0, 1, 0]


def test_stimuli_in_one_parquet_table(published: dict[str, Path], tmp_path: Path) -> None:
    table = pl.read_csv(published["french"], separator="\t")
    table.write_parquet(tmp_path / "french.parquet")
    text = "TGT_item,OTH_item,X_item\n12,13,14\n13,12,14\n12,13,14\n"
    given = ListenerTriplets.read(write(tmp_path, "t.csv", text), tmp_path / "french.parquet")
    assert given.triplet.tolist() == [0, 1, 0]
    assert given.items.where(1) == f"{tmp_path / 'french.parquet'}, row 2"


def test_stimuli_by_the_names_of_their_cuttings(tmp_path: Path) -> None:
    stimuli = write(
        tmp_path,
        "WorldVowels_stimuli.csv",
        "index,#file_source,#file_extract,onset,offset,speaker\n0,p2_tur3.wav,T35.wav,7.59492,7.93,p2\n"
        "1,p3_tur6.wav,T134.wav,3.104,3.38,p3\n2,p2_tur2.wav,T44.wav,7.9,8.22,p2\n",
    )
    text = "subject_id,triplet_id,TGT_item,OTH_item,X_item,bin_user_ans\nX_1,triplet_1,T35.wav,T134.wav,T44.wav,1\n"
    given = ListenerTriplets.read(write(tmp_path, "h.csv", text), stimuli)
    assert places(given) == [[("p2_tur3", "7.59492", "7.93"), ("p3_tur6", "3.104", "3.38"), ("p2_tur2", "7.9", "8.22")]]


def test_what_is_wrong_with_stimuli_is_named(published: dict[str, Path], tmp_path: Path) -> None:
    triplets = published["triplets"]
    cases = [
        (None, r"triplets.csv, line 1: these triplets name their stimuli by TGT_item.*abx.stimuli"),
        (published["french"], r"triplets.csv, line 4: the stimulus X is '99', which is not in .*french.csv"),
        ([published["french"], published["english"]], r"english.csv, line 2: the stimulus '12' stands there a second"),
        ({"GR": published["french"]}, r"triplets.csv, line 2: .*'FR1' begins with none of the keys .*\(GR\)"),
        (published["triplets"], r"triplets.csv, line 1: a table of stimuli needs a column 'onset'"),
        ([], "abx.stimuli is empty"),
    ]
    for stimuli, message in cases:
        with pytest.raises(InputError, match=message):
            ListenerTriplets.read(triplets, stimuli)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (WHOLE + "\n", "there is no triplet"),
        ("a,b\n1,2\n", r"line 1: the stimulus TGT needs a column 'file_TGT'"),
        (WHOLE + "\na,,0.3,y,b,0,0.2,u,c,1,1.5,t\n", r"line 2: nothing stands in the column 'onset_TGT'"),
        (WHOLE + "\na,0.4,0.3,y,b,0,0.2,u,c,1,1.5,t\n", r"line 2: the onset 0.4 lies after the offset 0.3"),
        (
            WHOLE + "\na,0,0.3,y,b,0,0.2,u,c,1,1.5,t\na,0,0.3,y,b,0,0.2,u,c,1,1.6,t\n",
            r"line 3: the triplet 't' has other stimuli here than in .*, line 2",
        ),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ListenerTriplets.read(write(tmp_path, "triplets.csv", text))


def nested_loops(x: np.ndarray, y: np.ndarray) -> float:
    """The mean Euclidean distance along the best path."""
    best: dict[tuple[int, int], tuple[float, int]] = {}
    for i in range(len(x)):
        for j in range(len(y)):
            steps = [best[at] for at in ((i - 1, j - 1), (i, j - 1), (i - 1, j)) if at in best]
            cost, length = min(steps, key=lambda step: step[0], default=(0.0, 0))
            best[i, j] = cost + float(np.linalg.norm(x[i] - y[j])), length + 1
    cost, length = best[len(x) - 1, len(y) - 1]
    return cost / length


@pytest.fixture
def given(tmp_path: Path) -> ListenerTriplets:
    """Forty triplets of twelve stimuli, three responses to each; a stimulus has four to nine frames."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(40):
        places = [f"f{k},{k / 10:.1f},{(2 * k + 5) / 10:.1f}" for k in rng.choice(12, 3, replace=False)]
        rows += [f"{','.join(places)},{subject},t{number}" for subject in "abc"]
    header = "file_TGT,onset_TGT,offset_TGT,file_OTH,onset_OTH,offset_OTH,file_X,onset_X,offset_X,subject_id,triplet_id"
    return ListenerTriplets.read(write(tmp_path, "given.csv", "\n".join([header, *rows]) + "\n"))


@pytest.fixture
def features() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {f"f{k}": rng.normal(size=(2 * k + 6 + k % 3, 4)).astype(np.float32) for k in range(12)}


def stimuli(given: ListenerTriplets, features: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The frames of each stimulus at 10 Hz."""
    frames = []
    for file, onset, offset in given.items.frame.iter_rows():
        spans = np.arange(len(features[file])) / 10 + 0.05
        frames.append(features[file][(spans >= float(onset) - 1e-9) & (spans <= float(offset) + 1e-9)])
    return frames


def test_delta_values_equal_nested_loops(given: ListenerTriplets, features: dict[str, np.ndarray]) -> None:
    scores = score_triplets(features, given, frequency=10, distance="euclidean", threads=2)
    cut = stimuli(given, features)
    tgt, oth = (
        [nested_loops(cut[a], cut[x]) for a, x in zip(at, given.stimuli[2], strict=True)] for at in given.stimuli[:2]
    )
    delta = np.array(oth) - np.array(tgt)
    assert scores.frame["distance_tgt"].to_numpy() == pytest.approx(tgt, rel=1e-5)
    assert scores.frame["delta"].to_numpy() == pytest.approx(delta, abs=1e-5)
    mean = (np.mean(tgt) + np.mean(oth)) / 2
    assert scores.frame["delta_scale_free"].to_numpy() == pytest.approx(delta / mean, abs=1e-5)
    assert scores.frame.columns[:11] == given.frame.columns
    summary = scores.summary()
    assert summary["triplets"] == 40  # and not 120 responses
    assert summary["error"] == np.mean(delta < 0)
    assert summary["delta_mean"] == pytest.approx(delta.mean(), abs=1e-5)
    assert summary["delta_std"] == pytest.approx(delta.std(), abs=1e-5)
    assert summary["delta_scale_free_std"] == pytest.approx((delta / mean).std(), abs=1e-5)


def test_a_stimulus_beside_itself(tmp_path: Path, features: dict[str, np.ndarray]) -> None:
    text = f"{WHOLE}\nf1,0,0.3,y,f2,0,0.2,u,f1,0,0.3,t1\nf2,0,0.2,y,f1,0,0.3,u,f1,0,0.3,t2\n"
    given = ListenerTriplets.read(write(tmp_path, "triplets.csv", text))
    scores = score_triplets(features, given, frequency=10, distance="euclidean")
    assert scores.frame["distance_tgt"][0] == scores.frame["distance_oth"][1] == 0
    assert scores.frame["delta"][0] == -scores.frame["delta"][1] > 0


def test_pooled_stimuli(given: ListenerTriplets, features: dict[str, np.ndarray]) -> None:
    scores = score_triplets(features, given, frequency=10, distance="euclidean", pooling="mean")
    means = [frames.mean(axis=0) for frames in stimuli(given, features)]
    expected = [np.linalg.norm(means[a] - means[x]) for a, x in zip(given.stimuli[0], given.stimuli[2], strict=True)]
    assert scores.frame["distance_tgt"].to_numpy() == pytest.approx(expected, rel=1e-5)


def test_a_shrunk_space_keeps_the_scale_free_values(given: ListenerTriplets, features: dict[str, np.ndarray]) -> None:
    whole = score_triplets(features, given, frequency=10, distance="euclidean").summary()
    shrunk = {name: value / 4 for name, value in features.items()}
    small = score_triplets(shrunk, given, frequency=10, distance="euclidean").summary()
    assert small["delta_std"] == pytest.approx(whole["delta_std"] / 4)
    assert small["delta_scale_free_std"] == pytest.approx(whole["delta_scale_free_std"])
    assert small["error"] == whole["error"]


def test_ties_count_one_half(given: ListenerTriplets) -> None:
    same = {f"f{k}": np.ones((40, 4), dtype=np.float32) for k in range(12)}
    assert score_triplets(same, given, frequency=10).summary() == {
        "error": 0.5, "triplets": 40, "skipped_triplets": 0, "delta_mean": 0, "delta_std": 0,
        "delta_scale_free_mean": 0, "delta_scale_free_std": 0, "distance_mean": 0,
    }  # fmt: skip


def test_triplets_of_a_stimulus_without_a_frame_are_left_out(tmp_path: Path, features: dict[str, np.ndarray]) -> None:
    text = f"{WHOLE}\nf1,0,0.3,y,f2,0,0.2,u,f3,0,0.5,t1\nf1,0,0.3,y,f2,0.51,0.53,u,f3,0,0.5,t2\n"
    given = ListenerTriplets.read(write(tmp_path, "triplets.csv", text))
    with pytest.warns(UserWarning, match="1 of 6 items are left out .*triplets.csv, line 3"):
        scores = score_triplets(features, given, frequency=10)
    assert scores.frame["delta"].is_null().to_list() == [False, True]
    assert (scores.scores.triplets, scores.summary()["skipped_triplets"], scores.skipped.height) == (1, 1, 1)
    short = ListenerTriplets.read(write(tmp_path, "short.csv", text.replace(",0,0.3,", ",0.51,0.53,")))
    with pytest.raises(InputError, match="no triplet has a frame in all three"):
        score_triplets(features, short, frequency=10)


def test_columns_of_an_earlier_scoring_are_replaced(
    given: ListenerTriplets, features: dict[str, np.ndarray], tmp_path: Path
) -> None:
    scores = score_triplets(features, given, frequency=10)
    scores.frame.with_columns(delta=pl.lit(7.0)).write_csv(tmp_path / "again.csv")
    again = score_triplets(features, ListenerTriplets.read(tmp_path / "again.csv"), frequency=10)
    assert again.frame.equals(scores.frame)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"distance": "manhattan"}, "abx.distance='manhattan' must be one of"),
        ({"pooling": "max"}, "abx.pooling='max' must be one of"),
        ({"threads": 0}, "threads=0 must be a whole number from 1"),
        ({"frequency": 0}, "above zero"),
    ],
)
def test_options_out_of_range(
    given: ListenerTriplets, features: dict[str, np.ndarray], options: dict, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        score_triplets(features, given, **{"frequency": 10, **options})


def test_no_listeners_no_comparison(given: ListenerTriplets, features: dict[str, np.ndarray]) -> None:
    scores: TripletScores = score_triplets(features, given, frequency=10)
    assert scores.agreement is None
