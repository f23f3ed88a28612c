"""Bootstrap how symbols are recognised and where they lie: by speakers, and by runs and symbols, too."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from w2v_abx.analysis.symbols.symbols import Recalls, measure

__all__ = ["Replicates"]

Floats = npt.NDArray[np.float64]

BLOCK = 4_000_000  # counts of replicates in memory at once


@dataclass(frozen=True)
class Replicates:
    """How often each run, symbol and speaker is in each of B replicates; the first is the data themselves.

    What is drawn is crossed: a run, a symbol or a speaker that comes twice does so wherever it is (the pigeonhole
    bootstrap; Owen, 2007), which makes intervals too wide rather than too narrow. Clusters are not made anew.

    Attributes:
        runs, symbols: (B, R) and (B, U).
        speakers: (B, S), of held-out clips.
        clustered: (B, T), of the speech that is clustered: the same as ``speakers`` where these are the same.
    """

    runs: Floats
    symbols: Floats
    speakers: Floats
    clustered: Floats

    @classmethod
    def draw(cls, recalls: Recalls, speakers: Sequence[str], draws: int, seed: int, crossed: bool) -> "Replicates":
        """Draw speakers with replacement and, if ``crossed``, symbols and runs; of one, there is nothing to draw."""
        generator = np.random.default_rng(seed)
        own = _drawn(generator, draws, len(recalls.speakers))
        same = list(speakers) == list(recalls.speakers)
        return cls(
            _drawn(generator, draws, len(recalls.runs) if crossed else 1, len(recalls.runs)),
            _drawn(generator, draws, len(recalls.symbols) if crossed else 1, len(recalls.symbols)),
            own,
            own if same else _drawn(generator, draws, len(speakers)),
        )

    def recall(self, recalls: Recalls) -> Floats:
        """Compute the recall of each symbol in each run, (B, R, U); NaN without an occurrence."""
        hits, asked = (np.einsum("bs,rsu->bru", self.speakers, counts) for counts in (recalls.hits, recalls.asked))
        return np.divide(hits, asked, out=np.full(asked.shape, np.nan), where=asked > 0)

    def concentration(self, name: str, tables: Sequence[Floats]) -> Floats:
        """Measure how concentrated symbols lie in clusters, (B, P, U), as the mean over several clusterings.

        Args:
            name: see `measure`.
            tables: of each clustering, (T, P, U, C) frames by speaker, labelling, symbol and cluster.
        """
        return np.mean([self._measured(name, table) for table in tables], axis=0)

    def _measured(self, name: str, table: Floats) -> Floats:
        each = max(1, BLOCK // table[0].size)
        parts = (self.clustered[start : start + each] for start in range(0, len(self.clustered), each))
        return np.concatenate([measure(name, np.tensordot(part, table, 1)) for part in parts])

    def weights(self, there: npt.NDArray[np.bool_]) -> Floats:
        """Weigh observations (B, R, U), of which some are not there."""
        return self.runs[:, :, None] * self.symbols[:, None, :] * there


def _drawn(generator: np.random.Generator, draws: int, size: int, wanted: int | None = None) -> Floats:
    """Draw as many as there are, with replacement; one is always there, and so are all where only one is drawn of."""
    drawn = generator.multinomial(size, np.full(size, 1 / size), draws).astype(np.float64)
    drawn = np.concatenate([np.ones((1, size)), drawn])
    return drawn if wanted in (None, size) else np.ones((draws + 1, wanted))
