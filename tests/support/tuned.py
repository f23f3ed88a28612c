"""A small encoder with a head, and runs of it, in this process or in ranks, which import this: it holds no test."""

import functools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import lightning
import torch
from small import ARCHITECTURE, quiet_trainer
from torch import Tensor, nn
from torch.optim import Optimizer

from w2v_abx.data import Batch
from w2v_abx.models.encoder import Encoder
from w2v_abx.models.lora import Lora
from w2v_abx.training.microbatch import ElasticModule, MicroBatching
from w2v_abx.training.optimization import Optimization

BLOCKS = 3
STEPS, CLIPS = 10, 3
PEAK, DECAY = 1e-2, 0.1


def adamw(**settings: Any) -> Callable[..., Optimizer]:
    return functools.partial(torch.optim.AdamW, **{"lr": PEAK, "weight_decay": DECAY, **settings})


class Tuned(ElasticModule):
    """An encoder and a head that is to say 1 for every frame; notes the learning rates of each step."""

    def __init__(
        self,
        optimization: Optimization | None = None,
        train: str = "all",
        family: str = "wav2vec2",
        seed: int = 0,
        layer_drop: float = 0.0,
        microbatch: int | Literal["auto"] | None = None,
        gradient_clip_norm: float | None = None,
    ) -> None:
        super().__init__(MicroBatching(microbatch), gradient_clip_norm)
        source = {**ARCHITECTURE, "model_type": family, "num_hidden_layers": BLOCKS, "layerdrop": layer_drop}
        self.encoder = Encoder.random(source, seed, train=train, lora=Lora(rank=1, targets=["q_proj", "out_proj"]))
        torch.manual_seed(seed)
        self.head = nn.Linear(self.encoder.dim, 1)
        self.optimization = optimization or Optimization(adamw())
        self.rates: list[list[float]] = []
        self.validated: list[dict[str, Tensor]] = []  # the weights that each validation saw
        self.train()

    def loss(self, micro: Batch, totals: Mapping[str, float]) -> dict[str, Tensor]:
        (hidden,), _ = self.encoder(micro.waveforms, micro.lengths, [BLOCKS])
        return {"loss": (self.head(hidden) - 1).square().mean(dim=(1, 2)).sum() / totals["clips"]}

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        super().on_before_optimizer_step(optimizer)
        self.rates.append([group["lr"] for group in optimizer.param_groups])

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        if batch_index == 0:
            self.validated.append(weights(self))

    def configure_optimizers(self) -> Any:
        return self.optimization.configure(self)


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


def batches() -> list[Batch]:
    noise = torch.randn(STEPS, CLIPS, 4_000, generator=torch.Generator().manual_seed(0))
    return [
        Batch([f"{step}-{clip}" for clip in range(CLIPS)], ["noise"] * CLIPS, clips, torch.full((CLIPS,), 4_000))
        for step, clips in enumerate(noise)
    ]


def fit(
    module: ElasticModule,
    folder: Path,
    callbacks: Iterable[Any] = (),
    resume: Path | None = None,
    clips: slice = slice(None),
    **settings: Any,
) -> Any:
    """The module after ``STEPS`` steps, or as many as ``max_steps`` says; its trainer is ``module.trainer``.

    A resumed run goes on with the batches after its checkpoint. ``clips``: this process's of each batch.
    """
    done = 0 if resume is None else torch.load(resume, weights_only=True)["global_step"]
    start, stop, _ = clips.indices(CLIPS)
    made = [batch.slice(start, stop) for batch in batches()]
    loader = torch.utils.data.DataLoader(made[done:] + made[:done], batch_size=None)  # type: ignore[arg-type]
    settings = {"max_steps": STEPS, "limit_val_batches": 0, "use_distributed_sampler": False} | settings
    trainer = quiet_trainer(folder, callbacks=list(callbacks), **settings)
    trainer.fit(module, loader, loader if settings["limit_val_batches"] else None, ckpt_path=resume)
    return module


class SaveAt(lightning.Callback):
    """Saves a checkpoint after a step, as soon as it is its turn among the callbacks."""

    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: lightning.Trainer, *others: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


def assert_close(ours: dict[str, Tensor], theirs: dict[str, Tensor], tolerance: float = 1e-5) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        if not name.endswith("k_proj.bias"):  # its gradient is nothing but rounding, which Adam makes whole steps of
            torch.testing.assert_close(value, theirs[name], rtol=10 * tolerance, atol=tolerance, msg=name)


def assert_equal(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    assert [name for name, value in ours.items() if not torch.equal(value, theirs[name])] == []
