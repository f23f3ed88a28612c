"""`w2v-abx prepare`: clean a corpus and pack it into shards."""

from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console

from w2v_abx import shards
from w2v_abx.commands import command

__all__ = ["main", "prepare"]


def prepare(config: DictConfig) -> shards.Manifest:
    """Shards of ``config.corpus`` in ``config.prepare.folder``, as `shards.prepare` makes and keeps them."""
    corpus = instantiate(config.corpus)
    return shards.prepare(corpus, seed=config.seed, **config.prepare)


@command("prepare")
def main(config: DictConfig) -> None:
    manifest = prepare(config)
    console = Console(soft_wrap=True)
    console.print(f"{manifest.clips} clips, {manifest.hours:.2f} hours, in {manifest.folder}")
    for split in manifest.splits:
        console.print(f"  {split}: {manifest.splits[split]}")
