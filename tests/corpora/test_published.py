"""Archives of a corpus are fetched once, whoever asks for them at the same time."""

import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from loopback import Loopback

from w2v_abx.corpora.published import Archive, locate
from w2v_abx.errors import InputError


def test_several_ask_and_one_fetches(tmp_path: Path) -> None:
    site, root = tmp_path / "site", tmp_path / "root"
    site.mkdir()
    for number in range(2):
        with zipfile.ZipFile(site / f"{number}.zip", "w") as archive:
            archive.writestr(f"tree/{number}.txt", str(number))
    with Loopback(site) as server:
        archives = [Archive(server.url(f"{number}.zip")) for number in range(2)]

        def one(_: int) -> Path:
            return locate(root, "1.txt", ["tree"], archives, download=True, layout="tree/*.txt", limits={})

        with ThreadPoolExecutor(6) as pool:
            assert set(pool.map(one, range(12))) == {root / "tree"}
        assert [server.count(f"{number}.zip") for number in range(2)] == [1, 1]
    assert sorted(path.name for path in root.rglob("*")) == ["0.txt", "1.txt", "tree"]


def test_a_root_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="file/root cannot be written .Not a directory"):
        locate(
            tmp_path / "file" / "root",
            "x",
            [],
            [Archive("http://none.invalid/a.zip")],
            download=True,
            layout="x",
            limits={},
        )
