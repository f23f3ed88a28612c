"""Heads that a config cannot have are refused by name."""

from types import SimpleNamespace
from typing import Any

import pytest
from small import ARCHITECTURE

from w2v_abx.errors import InputError
from w2v_abx.heads.head import Head
from w2v_abx.models.encoder import Encoder


@pytest.mark.parametrize("layers", [None, 1.5, [], [0, 0], [0, 9], "all", True])
def test_layers_that_there_are_not(layers: Any) -> None:
    with pytest.raises(InputError, match=r"^objective\.heads\.pitch\.layers="):
        Head(Encoder.random(ARCHITECTURE), SimpleNamespace(), "pitch", layers=layers)  # type: ignore[arg-type]
