"""Order the training clips as the settings say."""

from collections.abc import Sequence

import numpy as np

from w2v_abx.audio import SAMPLE_RATE
from w2v_abx.data.corpus import PreparedCorpus
from w2v_abx.data.order import FixedOrder, Order, SecondsOrder, Source
from w2v_abx.data.order.balance import expected_counts
from w2v_abx.data.settings import DataSettings
from w2v_abx.errors import InputError

__all__ = ["training_order"]


def training_order(
    settings: DataSettings, corpora: Sequence[PreparedCorpus], weights: Sequence[float], ranks: int
) -> Order:
    """Order the clips of ``corpora``, the first of which is the main one; ``weights``: their shares of all clips.

    Raises:
        InputError: clips that cannot be divided so.
    """
    main = corpora[0]
    expected = _expected(settings, main)
    sources = tuple(
        corpus.source([settings.seed, number], weight, None if number else expected)
        for number, (corpus, weight) in enumerate(zip(corpora, weights, strict=True))
    )
    if settings.batch_seconds is not None:
        return _by_seconds(settings, settings.batch_seconds, main, sources, ranks)
    order = FixedOrder(
        sources,
        _units(settings, main, ranks),
        ranks,
        settings.shuffle,
        settings.seed,
        settings.drop_last,
        window=settings.like_length,
    )
    if not order.steps:
        raise InputError(
            f"data.drop_last leaves nothing of the {len(main.lengths)} clips in {main.index.place.name()}, which with "
            f"what is mixed in fill no batch of data.batch_size={settings.batch_size}: lower it, or set "
            f"data.drop_last=false"
        )
    return order


def _by_seconds(
    settings: DataSettings, seconds: float, main: PreparedCorpus, sources: tuple[Source, ...], ranks: int
) -> SecondsOrder:
    clips = main.units.shape[1]
    longest = clips * max(int(source.lengths.max()) for source in sources)
    budget = int(seconds * SAMPLE_RATE)
    if budget // ranks < longest:
        raise InputError(
            f"data.batch_seconds={seconds:g} does not hold {'a clip' if clips == 1 else f'{clips} clips'} of "
            f"{longest / clips / SAMPLE_RATE:g} s for each of {ranks} processes: raise it, or set data.crop_seconds"
        )
    return SecondsOrder(sources, budget, settings.max_padding, ranks, settings.shuffle, settings.seed, clips)


def _expected(settings: DataSettings, main: PreparedCorpus) -> np.ndarray | None:
    """Compute how often each clip of the main corpus is to come; None: once."""
    field = settings.balance
    if field is None or not settings.balance_strength:
        return None
    main.index.manifest.categories(field, "train")  # raises where no clip carries the field
    numbers, carried = main.index.categories(field)
    if not any(carried):
        raise InputError(
            f"data.balance={field}: no clip carries it as a whole; labels with times, such as phones, "
            f"cannot be balanced: choose another label, or data.balance=null"
        )
    return expected_counts(numbers, carried, settings.balance_strength)


def _units(settings: DataSettings, corpus: PreparedCorpus, ranks: int) -> int:
    """Count the units in a batch of all ranks."""
    clips = corpus.units.shape[1]
    if settings.batch_size % (ranks * clips):
        of = f" with {clips} clips in each group of data.group={settings.group}" if clips > 1 else ""
        raise InputError(
            f"data.batch_size={settings.batch_size} must be a multiple of {ranks * clips}, for {ranks} processes{of}"
        )
    return settings.batch_size // clips
