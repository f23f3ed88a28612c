"""What is wrong with a command line, its streams or its folder is said in one line that helps."""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from w2v_abx.config import CONF, quoted

Command = Callable[..., str]
PLAN = ("prepare", "corpus=folder", "corpus.name=x", "prepare.plan_only=true")
PROGRAM = [sys.executable, "-m", "w2v_abx"]


@pytest.fixture
def said(run: Command, capfd: pytest.CaptureFixture[str]) -> Command:
    """The one line that a command which fails says."""

    def said(*arguments: str) -> str:
        with pytest.raises(SystemExit) as stopped:
            run(*arguments)
        assert stopped.value.code == 2
        (line,) = capfd.readouterr().err.splitlines()
        return line

    return said


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")) | st.text("\\\"'a b${}\n,~#é[=(\t"))
def test_a_quoted_override_is_the_text_for_hydra_and_the_shell(value: str) -> None:
    (word,) = shlex.split(quoted(f"corpus.root={value}"))
    assert OverridesParser.create().parse_override(word)._value.text == value  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "name", ["été", "a=b", "TIMIT (1)", "~", "{x", "[/red]", "a#b", "a&b", "it's", 'a"b', "a, b", "名"]
)
def test_odd_characters_are_answered_with_the_override_quoted(name: str, said: Command, tmp_path: Path) -> None:
    override = f"corpus.root={tmp_path}/{name}" if name != "~" else "corpus.root=~/data"
    line = said(*PLAN, override)
    right = line[line.rindex("'corpus.root=\"") :] if "it's" not in name else line[line.rindex("'corpus.root=") :]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("prepare", ["corpus=folder", *shlex.split(right)])
    assert config.corpus.root == override.partition("=")[2]


def test_of_a_list_each_entry_is_quoted(said: Command) -> None:
    line = said("prepare", "corpus.columns=[#phone,prev phone]")
    assert line.endswith("""'corpus.columns=["#phone","prev phone"]'""")


@pytest.mark.parametrize("markup", ["[/red]", "[bold]x[/bold]", ":smile:", "[link=x]"])
def test_paths_are_printed_as_they_are(markup: str, run: Command, pond: Path, tmp_path: Path) -> None:
    folder = tmp_path / markup.replace("/", "") / markup / "shards"
    out = run("prepare", "--config-dir", str(pond), "corpus=pond", *shlex.split(quoted(f"prepare.folder={folder}")))
    assert str(folder) in out


@pytest.mark.parametrize(
    ("argument", "answer"),
    [
        ("--experiment=demo", "there is no flag --experiment; a setting is written without dashes, experiment=demo"),
        ("--max-epochs", "there is no flag --max-epochs"),
        ("-x", "there is no flag -x"),
        ("--experimental-rerun=config.pickle", "there is no flag --experimental-rerun"),
        ("--cfg=yaml", "invalid choice: 'yaml'"),
        ("--cfg", "expected one argument"),
        ("--resolve", "can only be used"),
        ("--config-dir=nowhere", "not found"),
        ("experiment", "'experiment' has no value; a setting is written experiment=VALUE"),
        ("a b=1", "'a b' is not the name of a setting"),
        ("corpus=nope", "Could not find 'corpus/nope'; there are aishell1,"),
        ("corpus=5", "corpus is chosen by name; there are aishell1,"),
        ("corpus=null", "corpus is chosen by name; there are aishell1,"),
        ("corpus.root=a,b", "--multirun tries one after another, a list is written 'corpus.root=[a,b]'"),
        ("corpus.rot=a", "unknown key 'corpus.rot'; corpus has"),
        ("~corpus.rot", "'corpus.rot' does not exist"),
        ("corpus.root=${paths.nope}", "'paths.nope' not found"),
    ],
)
def test_a_command_line_that_is_wrong(argument: str, answer: str, said: Command) -> None:
    assert answer in said(*PLAN, argument)


def test_flags_may_stand_between_settings(run: Command) -> None:
    assert "seed: 3" in run("prepare", "corpus.seed=1", "--cfg", "job", "seed=3")


@pytest.mark.parametrize("key", ["hydra.run.dir", "paths.outputs"])
@pytest.mark.parametrize("where", ["file/run", "/proc/none", "/dev/null/run"])
def test_a_folder_that_cannot_be_made(key: str, where: str, said: Command, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for command in (PLAN, ("train",), ("compare", "before=a", "after=b")):
        line = said(*command, f"{key}={where}")
        assert where in line
        assert "cannot be written" in line
        assert "choose another folder with" in line


@pytest.mark.parametrize(
    ("redirection", "status"),
    [(">/dev/full", 74), ("2>/dev/full", 0), (">&-", 0), ("2>&-", 0), ("| head -1", 0), (">/dev/full 2>/dev/full", 74)],
)
def test_work_goes_on_whatever_becomes_of_its_streams(
    redirection: str, status: int, pond: Path, tmp_path: Path
) -> None:
    line = f"{shlex.join([*PROGRAM, 'prepare', '--config-dir', str(pond), 'corpus=pond'])} {redirection}"
    done = subprocess.run(
        ["bash", "-c", f"{line}; exit ${{PIPESTATUS[0]}}"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == status
    assert (tmp_path / "data" / "shards" / "pond" / "manifest.json").is_file()
    lost = ["w2v-abx: standard output could not be written (No space left on device): it is not whole"]
    assert [line for line in done.stderr.splitlines() if "pond" not in line] == lost * (redirection == ">/dev/full")


def test_a_folder_that_may_not_be_written(said: Command, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    if os.access(tmp_path / "locked", os.W_OK):
        pytest.skip("the superuser may write anywhere")
    assert "Permission denied" in said(*PLAN, "paths.outputs=locked/x")
