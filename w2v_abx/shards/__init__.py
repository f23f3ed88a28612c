"""Write and read WebDataset shards: ``KEY.flac`` (or ``.wav``) and ``KEY.json``, 16 kHz mono, with a manifest."""

from w2v_abx.shards.manifest import Manifest, Shard, categories_of
from w2v_abx.shards.reading import Sample, read_shard
from w2v_abx.shards.writing import merge, prepare

__all__ = ["Manifest", "Sample", "Shard", "categories_of", "merge", "prepare", "read_shard"]
