"""What tests of saving run on two ranks, which import this module: it holds no test."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import torch
from learner import Event, Learner, fit

from w2v_abx.errors import InputError
from w2v_abx.system.signals import Stopped, Watch

RANKS: dict[str, Any] = {"devices": 2, "strategy": "ddp", "max_epochs": 2}


def scenes(folder: Path) -> None:
    """A run that is left alone, ones that go on from its checkpoints, one that is stopped, one whose disk is full."""
    rank = int(os.environ["LOCAL_RANK"])
    shards = Path(os.environ["SHARDS"])
    told: dict[str, Any] = {}

    def tell(name: str, module: Learner) -> None:
        told[name] = module.events
        torch.save([weight.detach() for weight in module.parameters()], folder / f"{name}-{rank}.pt")

    settings: dict[str, Any] = {**RANKS, "seed": rank}
    tell("whole", fit(folder / "whole", shards, saving={"every_steps": 1, "keep": 100}, **settings))
    for step in (2, 6, 8):
        saved = folder / "whole" / "checkpoints" / f"step-{step:08d}.ckpt"
        tell(f"from {step}", fit(folder / f"from {step}", shards, saved, module=Learner(asks=True), **settings))

    def happen(event: Event) -> None:
        if rank == 1 and event[:2] == ("train", 3):
            os.kill(os.getpid(), signal.SIGUSR1)

    module = Learner(happen)
    try:
        with Watch(["SIGUSR1"]):
            fit(folder / "stopped", shards, module=module, **settings)
    except Stopped as stopped:
        told["exit"] = [stopped.code, stopped.signal.name]
    tell("stopped", module)

    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    write, os.write = os.write, full  # type: ignore[assignment]
    try:
        fit(folder / "full", shards, saving={"every_steps": 2}, **settings)
    except InputError as error:
        told["full"] = str(error)
    os.write = write
    (folder / f"told-{rank}.json").write_text(json.dumps(told))
