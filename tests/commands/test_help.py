"""`--help` explains keys with the comments of conf/, and Tab completes commands, groups, choices and keys."""

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from w2v_abx.commands import COMMANDS
from w2v_abx.commands.completion import complete
from w2v_abx.commands.help import PLUMBING, comments_of, composed

YAML = """# The file itself.
# A second line of that.
defaults:
  - base
  - corpus: soundscape # what is heard
  - override /abx: espeak # what it is measured on
  - _self_

_target_: a.B
plain: 1
beside: "a # b" # with a sign
# above,
# in two lines
above: [1, # not this
  2]
long: null # begins
  # and goes on
# of the group
group:
  inner: {a: 1} # a mapping
  # of the next
  next: 2
told: # a group that
  # is explained below
  part: 3
"""


def test_comments_are_found_by_key(tmp_path: Path) -> None:
    (tmp_path / "file.yaml").write_text(YAML)
    assert comments_of(tmp_path / "file.yaml") == {
        ("defaults", "corpus"): "what is heard",
        ("defaults", "/abx"): "what it is measured on",
        ("beside",): "with a sign",
        ("above",): "above, in two lines",
        ("long",): "begins and goes on",
        ("group",): "of the group",
        ("group", "inner"): "a mapping",
        ("group", "next"): "of the next",
        ("told",): "a group that is explained below",
    }


def made_alone(node: Any) -> bool:
    return isinstance(node, DictConfig) and not node.keys() - PLUMBING


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_every_key_with_its_explanation(name: str, run: Callable[..., str]) -> None:
    text = run(name, "--help")
    assert COMMANDS[name].purpose in text

    found = composed(name, [])
    assert not [
        key for key in found.config if f"\n  {key}:" not in text and not made_alone(found.config._get_node(key))
    ]
    own = {key: comment for key, comment in found.comments.items() if key[0] in found.config}
    words = " ".join(text.replace("#", "").split())
    told = [key for key, comment in own.items() if " ".join(comment.replace("#", "").split()) in words]
    assert told == list(own)


def test_help_is_of_what_is_chosen_and_of_a_users_own_files(run: Callable[..., str], pond: Path) -> None:
    (pond / "corpus" / "pond.yaml").write_text(
        (pond / "corpus" / "pond.yaml").read_text() + "language: null # of the frogs\n"
    )
    text = run("prepare", "--help", "corpus=pond", "--config-dir", str(pond), "corpus.key=name")
    assert "language: null  # of the frogs" in text
    assert "label_column: heard  # its categories" in text  # which the file that it builds on explains
    assert "key: name" in text
    assert "corpus=pond" in text


def test_help_shows_groups_from_which_several_are_taken(run: Callable[..., str]) -> None:
    text = run("analyze", "--help", "analysis=[similarity,probe]")
    assert "  analysis=[similarity,probe]  #" in text
    assert "saliency" in text
    assert "  callbacks=[default]" in run("train", "--help")  # without what is always there


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("", ["prepare ", "train ", "abx ", "analyze ", "compare ", "list ", "--help ", "--version "]),
        ("list mod", ["model ", "model/lora "]),
        ("co", ["compare "]),
        ("nothing ", []),
        ("train exp", ["experiment="]),
        ("train experiment=d", ["experiment=demo"]),
        ("train -m thermal=off,la", ["thermal=off,laptop"]),
        ("train trainer.max", ["trainer.max_epochs=", "trainer.max_steps="]),
        ("train trai", ["trainer.", "trainer="]),
        ("train thermal=laptop thermal.gov", ["thermal.governor."]),
        ("train thermal=off thermal.gov", []),
        ("train optimizer/", ["optimizer/schedule="]),
        ("train +head@objective.heads.x=mu", ["+head@objective.heads.x=multilabel"]),
        ("train ~log", ["~logger.", "~logger="]),
        ("train --m", ["--multirun "]),
        ("compare be", ["before="]),
        ("prepare corpus.root=/tm", []),
        ("train seed.x.y", []),
    ],
)
def test_what_a_word_can_become(line: str, found: list[str]) -> None:
    assert complete(f"w2v-abx {line}", COMMANDS) == found


def test_a_users_own_choices_are_completed(pond: Path) -> None:
    assert complete(f"w2v-abx train --config-dir {pond} corpus=po", COMMANDS) == ["corpus=pond"]


def test_tab_completes_in_bash(tmp_path: Path) -> None:
    (tmp_path / "w2v-abx").write_text(f'#!/bin/sh\nexec {sys.executable} -m w2v_abx "$@"\n')
    (tmp_path / "w2v-abx").chmod(0o755)
    main, other = pty.openpty()
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PS1": "$ ", "TERM": "dumb"}
    bash = subprocess.Popen(
        ["bash", "--norc", "--noprofile", "-i"], stdin=other, stdout=other, stderr=other, env=environment,
        start_new_session=True,
    )  # fmt: skip
    os.close(other)
    seen = b""

    def typed(keys: str, wanted: bytes) -> None:
        nonlocal seen
        seen = b""
        os.write(main, keys.encode())
        until = time.monotonic() + 120
        while wanted not in seen and time.monotonic() < until:
            if select.select([main], [], [], 1)[0]:
                seen += os.read(main, 4096)
        assert wanted in seen

    try:
        typed('eval "$(w2v-abx --completion)"; echo rea""dy\n', b"ready\r\n")
        typed("w2v-abx tr\t", b"train ")
        typed("experiment=de\t", b"demo")
        typed(" trainer.max_e\t", b"trainer.max_epochs=")
    finally:
        bash.kill()
        bash.wait()
        os.close(main)
