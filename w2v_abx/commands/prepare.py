"""`w2v-abx prepare`: clean a corpus and pack it into shards."""

from collections import Counter
from dataclasses import fields
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig

from w2v_abx import shards
from w2v_abx.audio import Cleaning
from w2v_abx.audio.walking import counted
from w2v_abx.clips import Corpus
from w2v_abx.commands.phone_times import corpus_of, timed, write_times
from w2v_abx.errors import InputError
from w2v_abx.shards.places import Place
from w2v_abx.system.streams import plain_console

__all__ = ["main", "prepare", "prepare_noise"]


def prepare(config: DictConfig, corpus: Corpus | None = None) -> shards.Manifest:
    """Shards of ``config.corpus`` in ``config.prepare.folder``, as `shards.prepare` makes and keeps them.

    A corpus that plans what it fetches says so first, and keeps the plan in that folder.
    """
    check_folder("prepare.folder", config.prepare.folder)
    corpus = corpus or timed(config)
    settings = dict(config.prepare)
    del settings["plan_only"]
    cleaning = Cleaning(**{field.name: settings.pop(field.name) for field in fields(Cleaning)})
    if hasattr(corpus, "plan"):
        print(corpus.plan(Path(config.prepare.folder)))
    try:
        return shards.prepare(corpus, cleaning=cleaning, **settings)
    finally:  # it is wanted most where fetching has come to an early end
        if hasattr(corpus, "report") and (text := corpus.report()):
            print(text)


def prepare_noise(config: DictConfig) -> None:
    """Shards of ``config.noise.corpus`` in ``config.noise.folder``, where the config asks for such noise."""
    noise = config.get("noise")
    if noise is not None and noise.corpus is not None:
        check_folder("noise.folder", noise.folder)
        shards.prepare(instantiate(noise.corpus), noise.folder, workers=config.prepare.workers, replace=False)


def plan(config: DictConfig) -> str:
    """What would be prepared, in words. A corpus that has a plan writes it, and fetches nothing.

    Others are listed: one that is generated makes its audio for that, and one that downloads itself as a whole does.
    """
    corpus = corpus_of(config)  # without phone times, which take longer than all that is planned
    if hasattr(corpus, "plan"):
        return str(corpus.plan(Path(config.prepare.folder)))
    splits = Counter(clip.split for clip in corpus.clips())
    return f"{corpus.name}: " + ", ".join(f"{clips} clips in {split}" for split, clips in sorted(splits.items()))


def check_folder(key: str, folder: str) -> None:
    """Raise InputError for an address, of which a path would make folders that are called like its password."""
    if Place(str(folder)).scheme:
        raise InputError(
            f"{key}={folder} is an address: shards are written to a folder of this machine; data.folder reads "
            "them from elsewhere"
        )


def main(config: DictConfig) -> None:
    check_folder("prepare.folder", config.prepare.folder)
    if config.prepare.plan_only:
        print(plan(config))
        return
    corpus = timed(config)
    merging = config.prepare.part == "merge"
    manifest = shards.merge(config.prepare.folder) if merging else prepare(config, corpus)
    show(manifest)
    if merging or config.prepare.part is None:
        for line in write_times(config, corpus, manifest.folder):
            print(line)


def show(manifest: shards.Manifest) -> None:
    """Tell what a folder holds."""
    console = plain_console(soft_wrap=True)
    console.print(f"{manifest.clips} clips, {manifest.hours:.2f} hours, in {manifest.folder}")
    for split, sizes in manifest.splits.items():
        console.print(f"  {split}: {sizes['clips']} clips, {sizes['hours']:.2f} hours, {sizes['shards']} shards")
    for reason, clips in manifest.skipped.items():
        console.print(f"  skipped: {clips} clips, {reason} (named in {manifest.folder / 'skipped.csv'})")
    if manifest.passed_over:
        console.print(f"  passed over: {counted(manifest.passed_over)}")
