"""The settings of features."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from w2v_abx.errors import InputError
from w2v_abx.features import settings
from w2v_abx.features.settings import FeatureSettings


def test_features_are_stored_in_the_folder_of_the_run() -> None:
    assert FeatureSettings().folder(Path("run"), "before") is None
    settings_ = FeatureSettings.of({"keep": True, "dtype": "float16"})
    assert (settings_.folder(Path("run"), "before"), settings_.dtype) == (Path("run/features/before"), "float16")


def test_several_processes_keep_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "current_process", lambda: SimpleNamespace(size=2))
    assert not FeatureSettings().keep
    with pytest.raises(InputError, match=r"features\.keep=true needs a job of one process; set trainer\.devices=1"):
        FeatureSettings(keep=True)
