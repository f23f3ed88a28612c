"""What is said where the package of an extra is missing."""

import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from w2v_abx.corpora.aishell1 import pinyin
from w2v_abx.corpora.audioset import Fetching
from w2v_abx.corpora.espeak.library import Synthesiser
from w2v_abx.errors import InputError
from w2v_abx.system.extras import extra

EXTRAS = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["optional-dependencies"]


@pytest.mark.parametrize(
    ("name", "package", "use"),
    [
        ("espeak", "espeakng_loader", Synthesiser),
        ("mandarin", "pypinyin", lambda: pinyin(["\u957f\u57ce"])),
        ("youtube", "yt_dlp", lambda: Fetching(sources=["youtube"]).fingerprint),
    ],
)
def test_a_missing_package_is_named_with_the_extra_that_brings_it(
    name: str, package: str, use: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert name in EXTRAS
    for module in [module for module in sys.modules if module.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not there
    with pytest.raises(InputError, match=rf"pip install 'w2v-abx\[{name}\]'") as raised:
        use()
    assert len(str(raised.value).splitlines()) == 1


def test_clips_of_this_machine_need_no_downloader(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "yt_dlp", None)
    assert Fetching(sources=["local"], local=str(tmp_path)).fingerprint


def test_other_errors_of_an_import_stay_what_they_are() -> None:
    with pytest.raises(ImportError, match="cannot import name"), extra("espeak"):
        from w2v_abx.errors import Missing  # type: ignore[attr-defined]  # noqa: F401
