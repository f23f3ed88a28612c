"""What `pip install` gives: the configuration and the tiny model are inside the wheel, and found there."""

import ast
import functools
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections import defaultdict
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def plain(name: str) -> str:
    """A distribution's name as registries compare it."""
    return re.sub("[-_.]+", "-", name).lower()


def distribution(requirement: str) -> str:
    return plain(Requirement(requirement).name)


CORE = {distribution(requirement) for requirement in PROJECT["dependencies"]}
EXTRAS = {
    name: {distribution(requirement) for requirement in requirements} - {PROJECT["name"]}
    for name, requirements in PROJECT["optional-dependencies"].items()
}
PRODUCT = CORE.union(*(brought for name, brought in EXTRAS.items() if name != "dev"))


def modules_of(node: ast.AST) -> list[str]:
    """What an import imports: modules outside the standard library, by the first part of their names."""
    names: list[str] = []
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        names = [node.module]
    elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module":
        names = [part.value for part in node.args if isinstance(part, ast.Constant)]
    return [name.split(".")[0] for name in names if name.split(".")[0] not in sys.stdlib_module_names]


def imported(folder: Path) -> dict[str, list[str]]:
    """The modules that the files of a folder import, and by which files."""
    found = defaultdict(list)
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            for module in modules_of(node):
                found[module].append(str(path.relative_to(ROOT)))
    return found


@functools.cache
def distributions() -> dict[str, set[str]]:
    return {module: set(map(plain, names)) for module, names in metadata.packages_distributions().items()}


def brought_by(module: str) -> set[str]:
    """The distributions that bring a module; a plugin of Hydra by its own name."""
    return {plain(module.split(".")[1])} if module.startswith("hydra_plugins.") else distributions().get(module, set())


def configured() -> set[str]:
    """The modules of which ``conf/`` makes objects."""
    targets = re.findall(
        r"(?m)_target_: *([\w.]+)", "".join(path.read_text() for path in (ROOT / "conf").rglob("*.yaml"))
    )
    return {target if target.startswith("hydra_plugins.") else target.split(".")[0] for target in targets}


def test_the_wheel_works_outside_the_checkout(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
        assert not [name for name in archive.namelist() if name.startswith(("tests/", "data/", "outputs/"))]
    shipped = tmp_path / "site" / "w2v_abx"
    shown = subprocess.run(
        [
            sys.executable, "-m", "w2v_abx", "train", "hydra/launcher=slurm", "sweep=seeds",
            "--cfg", "job", "--package", "model", "--resolve",
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=True,
    )  # fmt: skip
    assert f"source: {shipped / 'pretrained' / 'tiny'}" in shown.stdout
    assert (shipped / "conf" / "experiment" / "demo.yaml").is_file()
    assert (shipped / "report" / "page.html.j2").is_file()
    assert (shipped / "pretrained" / "tiny" / "model.safetensors").is_file()


def test_every_package_that_is_imported_is_declared() -> None:
    own = {
        "w2v_abx",
        "reference",
        *(path.stem for folder in ("tests/support", "benchmarks") for path in (ROOT / folder).glob("*.py")),
    }
    peers = {"fastabx"}  # measured beside; it needs a newer Python
    for folder, declared in (("w2v_abx", PRODUCT), ("tests", PRODUCT | EXTRAS["dev"])):
        for module, places in imported(ROOT / folder).items():
            assert module in own or brought_by(module) & declared, f"{module}, imported in {places}"
    assert not [
        module
        for module in imported(ROOT / "benchmarks").keys() - own - peers
        if not brought_by(module) & (PRODUCT | EXTRAS["dev"])
    ]


def test_every_package_that_is_declared_is_used() -> None:
    used = {name for module in imported(ROOT / "w2v_abx").keys() | configured() for name in brought_by(module)}
    if re.search(r"(?m)^  - submitit_slurm$", (ROOT / "conf/hydra/launcher/slurm.yaml").read_text()):
        used.add("hydra-submitit-launcher")  # which Hydra finds by itself
    assert PRODUCT - used == set()


def test_what_an_extra_brings_is_imported_where_its_lack_is_explained() -> None:
    for path in sorted((ROOT / "w2v_abx").rglob("*.py")):
        tree = ast.parse(path.read_text())
        explained = {
            (node, ast.unparse(block.items[0]))
            for block in ast.walk(tree)
            if isinstance(block, ast.With)
            for node in ast.walk(block)
        }
        for node in ast.walk(tree):
            for brought in map(brought_by, modules_of(node)):
                needed = [name for name in EXTRAS.keys() - {"all", "dev"} if brought & EXTRAS[name]]
                assert all((node, f"extra({name!r})") in explained for name in needed), f"{brought} in {path}"


def test_the_lock_has_all_that_the_demo_and_the_tests_need_with_hashes_and_no_addresses() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    pins = re.findall(r"(?m)^([\w.-]+)==\S+(?: ;[^\n]+)? \\\n    --hash=sha256:", lock)
    assert len(pins) == len(re.findall(r"(?m)^\S", lock))
    assert (PRODUCT | EXTRAS["dev"]) <= set(pins)
    assert "://" not in lock
