"""`w2v-abx list`: groups, and the choices of one with a line on each."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from w2v_abx.commands.listing import listed
from w2v_abx.config import CONF

Command = Callable[..., str]


def choices(text: str) -> dict[str, str]:
    return {name: about.strip() for name, _, about in (line.partition(" ") for line in text.splitlines())}


def test_the_choices_of_each_group_are_its_files_and_say_what_they_are(run: Command) -> None:
    groups = choices(run("list"))
    files: dict[str, set[str]] = {}
    for path in CONF.rglob("*.yaml"):
        if path.parent != CONF:
            files.setdefault(str(path.parent.relative_to(CONF)), set()).add(path.stem)
    assert groups.keys() == files.keys()
    for group, names in files.items():
        assert groups[group] == ", ".join(sorted(names))
        found = choices(listed([group]))
        assert found.keys() == names
        for name, about in found.items():
            assert about, f"conf/{group}/{name}.yaml begins with no comment"
            assert "@package" not in about


def test_a_line_is_the_first_sentence_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "head").mkdir()
    for name, text in {
        "plain": "# One thing, by\n# Two and another. More of it.\na: 1\n",
        "wrapped": "# One thing that is\n# said in two lines (Who et al., 2020). More.\na: 1\n",
        "overlay": "# @package _global_\n# What is asked.\n\n# Of the key.\na: 1\n",
        "command": "# What is asked, without a stop\n#   w2v-abx train experiment=it\na: 1\n",
        "bare": "a: 1 # not this\n",
        "utterance": "# Mine, in place of that which is there.\n",
    }.items():
        (tmp_path / "head" / f"{name}.yaml").write_text(text)
        yaml.safe_load(text)
    found = choices(listed(["head", "--config-dir", str(tmp_path)]))
    assert found["plain"] == "One thing, by"
    assert found["wrapped"] == "One thing that is said in two lines (Who et al., 2020)."
    assert found["overlay"] == "What is asked."
    assert found["command"] == "What is asked, without a stop"
    assert found["bare"] == ""
    assert found["utterance"] == "Mine, in place of that which is there."
    assert "multilabel" in found


def test_a_group_of_a_users_own(tmp_path: Path) -> None:
    (tmp_path / "sounds").mkdir()
    (tmp_path / "sounds" / "pond.yaml").write_text("# Frogs.\n")
    assert choices(listed(["sounds/", f"--config-dir={tmp_path}"])) == {"pond": "Frogs."}
    assert "sounds" in choices(listed([f"--config-dir={tmp_path}"]))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["models"], "there is no group 'models'; the groups are abx, align, analysis, callbacks"),
        (["model", "corpus"], "w2v-abx list [GROUP] [--config-dir FOLDER]: unrecognized arguments: corpus"),
        (["--config-dir", "nowhere"], "--config-dir=nowhere is not a folder"),
        (["--config-dir"], "expected one argument"),
    ],
)
def test_what_cannot_be_listed_is_one_line(
    run: Command, capfd: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        run("list", *words)
    assert stopped.value.code == 2
    assert message in capfd.readouterr().err
