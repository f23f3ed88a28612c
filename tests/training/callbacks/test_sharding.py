import types
from typing import Any

import lightning
import pytest
from tuned import Tuned

from w2v_abx.errors import InputError
from w2v_abx.training.callbacks import L2SP, Ema, HeadFirst
from w2v_abx.training.trainers import Sharded


@pytest.mark.parametrize(("callback", "name"), [(Ema(), "ema"), (L2SP(), "l2sp"), (HeadFirst(1), "head_first")])
def test_weights_in_shards_are_refused(callback: lightning.Callback, name: str) -> None:
    trainer: Any = types.SimpleNamespace(strategy=Sharded())
    with pytest.raises(InputError, match=f"callbacks={name} works on whole weights"):
        callback.setup(trainer, Tuned(), "fit")
