"""The floors of the house: each package imports only packages above it, and no module takes part in a circle."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import w2v_abx

ROOT = Path(w2v_abx.__file__).parent
# From the top down: each may import those that stand above it, inside functions, too.
FLOORS = (
    "credentials",
    "errors",
    "config",
    "clips",
    "system",
    "statistics",
    "audio",
    "items",
    "distributed",
    "corpora",
    "models",
    "shards",
    "alignment",
    "data",
    "features",
    "abx",
    "heads",
    "analysis",
    "training",
    "thermal",
    "report",
    "runs",
    "commands",
    "__main__",
)


def modules() -> dict[str, Path]:
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, known: dict[str, Path]) -> Iterator[str]:
    """Name the project's modules that a file imports, wherever in it; a package's own face counts as the package."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports by a relative name"
            module = node.module or ""
            names = [f"{module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            module, names = "", [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            for candidate in (name, module):
                inside = candidate.removeprefix("w2v_abx.")
                if candidate.startswith("w2v_abx.") and inside in known:
                    yield inside
                    break


def test_every_package_has_a_floor() -> None:
    assert {name.partition(".")[0] for name in modules() if name} == set(FLOORS)


def test_each_package_imports_only_what_stands_above_it() -> None:
    known = modules()
    below = [
        f"{name} imports {target}"
        for name, path in known.items()
        if name
        for target in imports(path, known)
        if FLOORS.index(target.partition(".")[0]) > FLOORS.index(name.partition(".")[0])
    ]
    assert not below


def test_no_modules_import_each_other_in_a_circle() -> None:
    known = modules()
    graph = {}
    for name, path in known.items():
        if path.name != "__init__.py":  # a package's face imports its modules, and they do not import the face
            graph[name] = {target for target in imports(path, known) if known[target].name != "__init__.py"}
    tuple(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


def test_the_top_level_is_as_drawn() -> None:
    files = {path.stem for path in ROOT.glob("*.py")} - {"__init__"}
    assert files == {"__main__", "clips", "config", "credentials", "errors", "runs"}
