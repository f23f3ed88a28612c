"""Two models are compared only if they were asked the same."""

import json
from pathlib import Path
from typing import Any

import pytest

from w2v_abx.commands.compare import check_alike
from w2v_abx.errors import InputError

ASKED = {
    "on": "#phone",
    "context": "within",
    "distance": "angular",
    "pooling": None,
    "constraints": [],
    "levels": None,
    "weighted": False,
}


def folders(root: Path, **changed: Any) -> dict[str, Path]:
    made = {}
    for name, asked in (("before", ASKED), ("after", ASKED | changed)):
        made[name] = root / name
        made[name].mkdir()
        (made[name] / "summary.json").write_text(json.dumps(asked | {"tag": name}))
    return made


def test_models_that_were_asked_the_same(tmp_path: Path) -> None:
    check_alike(folders(tmp_path))


def test_a_run_that_does_not_say_its_slicing_was_cut_exactly(tmp_path: Path) -> None:
    check_alike(folders(tmp_path, slicing="exact", also=[]))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("on", "speaker"),
        ("context", "any"),
        ("distance", "euclidean"),
        ("pooling", "mean"),
        ("constraints", ["speaker_a != speaker_x"]),
        ("levels", [["speaker"]]),
        ("weighted", True),
        ("slicing", "librilight"),
        ("also", ["speaker"]),
    ],
)
def test_models_that_were_asked_otherwise_are_refused(key: str, value: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"were not scored alike: abx\.{key} is .* in .*before and .* in .*after"):
        check_alike(folders(tmp_path, **{key: value}))


@pytest.mark.parametrize("content", ["{", "[]", "\x00"])
def test_a_summary_that_is_damaged_is_named(content: str, tmp_path: Path) -> None:
    found = folders(tmp_path)
    (found["after"] / "summary.json").write_text(content)
    with pytest.raises(InputError, match=r"after/summary\.json"):
        check_alike(found)
