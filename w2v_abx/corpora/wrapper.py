"""A corpus around another one."""

from typing import Any

from w2v_abx.clips import Corpus

__all__ = ["Wrapper"]

OPTIONAL = ("fetch", "plan", "report", "passed_over", "closure_as_silence")  # what only some corpora have


class Wrapper:
    """Give the name of the corpus inside, and those optional members that it has; a subclass writes ``clips``."""

    def __init__(self, corpus: Corpus) -> None:
        self.name, self.corpus = corpus.name, corpus

    def __getattr__(self, name: str) -> Any:
        if name in OPTIONAL:
            return getattr(self.corpus, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
