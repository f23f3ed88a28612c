"""Item files give phones their times."""

from pathlib import Path

import pytest
from sounds import Fixed

from w2v_abx.alignment.itemized import Itemized
from w2v_abx.clips import Clip
from w2v_abx.errors import InputError
from w2v_abx.items.files import ItemFile

PHONES = [[0.0, 0.1, "a"], [0.1, 0.25, "b"], [0.25, 0.4, "a"], [0.4, 0.5, "c"], [0.5, 0.6, "a"]]


def clip(key: str, **options: float) -> Clip:
    return Clip(key, Path("audio") / f"{key.partition('@')[0]}.flac", **options, labels={"speaker": "84"})  # type: ignore[arg-type]


def item_file(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(["#file onset offset #phone prev-phone next-phone speaker", *rows, ""]))
    return path


def test_what_an_item_file_of_phones_was_made_of_comes_back(tmp_path: Path) -> None:
    made = clip("84-121123-0001")
    made.labels["phones"] = PHONES
    ItemFile.of([made]).write(tmp_path / "phone.item")
    corpus = Itemized(Fixed([clip("84-121123-0001"), clip("84-121123-0002")]), tmp_path / "phone.item")
    first, second = corpus.clips()
    assert first.labels["phones"] == PHONES[1:-1]  # those at the edges are no items
    assert "phones" not in second.labels
    assert corpus.untimed["84-121123-0002"].reason == "no_items"


def test_items_of_a_file_go_to_its_stretches_and_an_item_listed_twice_is_one(tmp_path: Path) -> None:
    one = item_file(tmp_path / "one.item", "84 0.2 0.3 a b c 84", "84 0.3 0.45 c a b 84")
    two = item_file(tmp_path / "two.item", "84 0.2 0.30 a b c 84", "84 0.0 0.1 b b a 84")
    corpus = Itemized(Fixed([clip("84@1", start=0.0, end=0.15), clip("84@2", start=0.15)]), [str(one), str(two)])
    assert [found.labels["phones"] for found in corpus.clips()] == [
        [[0.0, 0.1, "b"]],
        [[0.05, 0.15, "a"], [0.15, 0.3, "c"]],
    ]


def test_what_gives_no_times_is_refused(tmp_path: Path) -> None:
    clips = Fixed([clip("84")])
    with pytest.raises(InputError, match=r"align\.files is missing"):
        Itemized(clips)
    triphones = item_file(tmp_path / "triphones.item", "84 0.1 0.4 a b c 84", "84 0.2 0.5 c a b 84")
    with pytest.raises(InputError, match=r"triphones\.item, line 3: the item at 0\.2 s begins before .* triphones"):
        Itemized(clips, triphones).clips()
    with pytest.raises(InputError, match=r"no column 'phone' \(align\.column\); its labels are: #phone, prev-phone"):
        Itemized(clips, triphones, "phone").clips()
    other = item_file(tmp_path / "other.item", "85 0.1 0.4 a b c 85")
    with pytest.raises(InputError, match=r"no clip of .* has items in .*other\.item: .* such as '84'"):
        Itemized(clips, other).clips()
