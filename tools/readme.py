"""Run the commands of README.md and of the pages in docs as they stand there, in an empty folder: `make readme`.

What a reader is told to type is one of these, and each is tried:

- a line of a block marked ``sh`` is run, but for ``make``, whose target must exist;
- a ``w2v-abx COMMAND …`` within the text is composed: a wrong key fails;
- a block marked ``python`` is compiled, and what it imports is imported.

A comment before a block, unseen by readers, says what else there is to know:

- ``<!-- needs: WHAT -->``: not everywhere to be had; where WHAT is a path, the block is run if that is there. Otherwise
  its commands are only composed (``--cfg job``);
- ``<!-- small: SETTINGS -->``: its commands take longer than a check may; they are run with these besides;
- ``<!-- file: PATH -->``: a reader saves the block as PATH, and so does this.
"""

import ast
import importlib
import os
import re
import resource
import shlex
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from w2v_abx.commands import COMMANDS
from w2v_abx.config import CONF

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"((?:^<!--[^\n]*-->\n)*)^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = re.compile(r"<!-- (needs|small|file): (.*) -->")
INLINE = re.compile(r"`([^`\n]+)`")
SETTING = re.compile(r"[+~]*[a-z][\w.@/]*=\S+")


class Block(NamedTuple):
    language: str
    text: str
    marks: dict[str, str]


def blocks(page: str) -> list[Block]:
    return [Block(language, text, dict(MARK.findall(marks))) for marks, language, text in BLOCK.findall(page)]


def commands(block: Block) -> list[str]:
    """The lines of a shell block that are no comments; one that ends in a backslash goes on."""
    lines = block.text.replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def settings(page: str) -> Iterator[list[str]]:
    """The settings of each `w2v-abx COMMAND …` within the text that stands there whole."""
    for span in INLINE.findall(BLOCK.sub("", page)):
        words = [word for word in shlex.split(span) if word != "--multirun"] if span.startswith("w2v-abx ") else []
        if len(words) > 2 and "…" not in span and all(SETTING.fullmatch(word) for word in words[2:]):
            yield words[2:]


def composes(overrides: list[str]) -> str | None:
    """Whether a command takes these settings; if none does, why."""
    reasons = []
    overrides = [re.sub("^features=(?!default$)", "features.folder=", override) for override in overrides]
    for command in COMMANDS:
        try:
            with warnings.catch_warnings(action="ignore"), initialize_config_dir(str(CONF), version_base="1.3"):
                compose(command, [*overrides], return_hydra_config=True)
            return None
        except (HydraException, OmegaConfBaseException) as error:
            reasons.append(f"{command}: {' '.join(str(error).split())[:120]}")
    return "; ".join(reasons)


def save(block: Block, folder: Path) -> None:
    path = folder / block.marks["file"]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(block.text, encoding="utf-8")


def imports(block: Block) -> Iterator[str]:
    """What a block of Python imports that is not there."""
    for node in ast.parse(block.text).body:
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            yield from (f"no {a.name} in {node.module}" for a in node.names if not hasattr(module, a.name))


def typed(block: Block, folder: Path) -> Iterator[str]:
    """The lines of a shell block as they are run in ``folder``."""
    needs = block.marks.get("needs", "")
    absent = bool(needs) and not ("/" in needs and all((folder / path).exists() for path in needs.split()))
    for line in commands(block):
        bare = line.partition(" # ")[0].rstrip()
        if bare.startswith("make "):
            yield bare.replace("make", f"make -n -C {ROOT}", 1)
        elif absent:
            one = re.sub(r"(=[^ ,\[{]+),\S+", r"\1", bare.replace(" --multirun", ""))  # the first of several values
            yield f"{one} --cfg job"
        else:
            yield f"{bare} {block.marks.get('small', '')}".rstrip()


def run(line: str, folder: Path) -> str | None:
    """Run a line; if it fails, return what it printed."""
    began = time.monotonic()
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", line], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    print(f"{time.monotonic() - began:6.1f} s  {line}", flush=True)
    return f"{line}\n{done.stdout[-2000:]}{done.stderr[-2000:]}" if done.returncode else None


def main() -> None:
    pages = [ROOT / "README.md", *sorted(ROOT.glob("docs/studies/*.md")), *sorted(ROOT.glob("docs/analyses/*.md"))]
    page, began, failures = "\n".join(path.read_text(encoding="utf-8") for path in pages), time.monotonic(), []
    with tempfile.TemporaryDirectory() as scratch:
        here = Path(scratch, "checkout")
        here.mkdir()
        if (ROOT.parent / "shared").is_dir():
            Path(scratch, "shared").symlink_to((ROOT.parent / "shared").resolve())
        for block in blocks(page):
            if "file" in block.marks:
                save(block, here)
            if block.language == "python":
                failures += list(imports(block))
            if block.language == "sh":
                failures += [failure for line in typed(block, here) if (failure := run(line, here))]
    tried = {shlex.join(words): words for words in settings(page)}
    failures += [f"{line}: {reason}" for line, words in tried.items() if (reason := composes(words))]
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = f"{time.monotonic() - began:6.1f} s in all, {used.ru_utime + used.ru_stime:.0f} s of processor time"
    print(f"{seconds}; {len(tried)} commands within the text were composed")
    if failures:
        sys.exit("README.md is wrong:\n" + "\n".join(failures))


if __name__ == "__main__":
    main()
