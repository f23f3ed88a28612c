"""What `pip install` gives: the configuration and the tiny model are inside the wheel, and found there."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


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
    assert (shipped / "report" / "template.html.j2").is_file()
    assert (shipped / "pretrained" / "tiny" / "model.safetensors").is_file()
