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
    return shards.prepare(corpus, **config.prepare)


@command("prepare")
def main(config: DictConfig) -> None:
    manifest = prepare(config)
    console = Console(soft_wrap=True)
    console.print(f"{manifest.clips} clips, {manifest.hours:.2f} hours, in {manifest.folder}")
    for split, sizes in manifest.splits.items():
        console.print(f"  {split}: {sizes['clips']} clips, {sizes['hours']:.2f} hours, {sizes['shards']} shards")
    for reason, clips in manifest.skipped.items():
        console.print(f"  skipped: {clips} clips, {reason} (named in {manifest.folder / 'skipped.csv'})")
