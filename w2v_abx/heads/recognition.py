"""Rate transcripts: error rates with intervals over speakers, by symbol, speaker and broad phonetic class."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from w2v_abx.heads.confusions import by_class, by_symbol, matrix, shown
from w2v_abx.heads.edits import NOTHING, Edits, Pair, align, count, published_cer, words
from w2v_abx.heads.head import HeadResult, ResultTable
from w2v_abx.heads.phonology import feature_distance, segments, to_ipa
from w2v_abx.heads.scoring import Scoring, Transcribed
from w2v_abx.heads.vocabulary import Vocabulary
from w2v_abx.statistics.ratios import ratio_interval

__all__ = ["rate"]

WIDEST = 150  # labels of a confusion matrix that is still readable
SHOWN = 5  # of the worst utterances, and of those about the median
TITLES = {
    "cer": "character error rate (CER)",
    "per": "phone or symbol error rate (PER)",
    "wer": "word error rate (WER)",
    "pfer": "phonological feature error rate (PFER)",
    "cer_published": "CER as the multi-task study computes it",
    "empty": "proportion of empty hypotheses",
    "out_of_inventory": "proportion of reference symbols outside the vocabulary",
    "category": "symbol",
    "kind": "class",
    "count": "in references",
    "trained": "in training",
    "mistaken": "most often taken for",
}
RATED = ["error rate", "substitutions", "deletions", "insertions", "symbols"]

Sums = Sequence[tuple[float, float]]  # of each utterance, what is divided and what by


def rate(
    transcribed: Sequence[Transcribed], scoring: Scoring, vocabulary: Vocabulary, trained: Mapping[str, int]
) -> HeadResult:
    """Rate the transcripts of some utterances by all that `HeadResult` has room for.

    Error rates are edits over the symbols of all references; their intervals are over speakers. Where there is a beam
    search, its transcripts count, and the rates of greedy decoding stand beside theirs. ``trained``: how often each
    symbol is in the transcripts of training.
    """
    ordered = sorted(transcribed, key=lambda found: (found.corpus, found.key))
    speakers = _speakers(ordered)
    units = [speaker or f"{found.corpus}/{found.key}" for speaker, found in zip(speakers, ordered, strict=True)]
    references = [scoring.scored(found.reference) for found in ordered]
    decoded = {way: [scoring.scored(found.hypotheses[way]) for found in ordered] for way in ordered[0].hypotheses}
    hypotheses = list(decoded.values())[-1]
    aligned = align(references, hypotheses)
    edits = [count(pairs) for pairs in aligned]
    total = count(pair for pairs in aligned for pair in pairs)
    counts = Counter(pair for pairs in aligned for pair in pairs)
    known = set(scoring.scored(vocabulary.symbols))
    unknown = Counter(symbol for reference in references for symbol in reference if symbol not in known)
    empty = sum(not hypothesis for hypothesis in hypotheses)

    rates: dict[str, Sums] = {scoring.name: [(found.errors, found.symbols) for found in edits]}
    if scoring.characters:
        of_words = align(*([words(symbols) for symbols in side] for side in (references, hypotheses)))
        rates["wer"] = [(found.errors, found.symbols) for found in map(count, of_words)]
    if scoring.alphabet:
        rates["pfer"] = _feature_distances(references, hypotheses, scoring)
    metrics: dict[str, float | int | None] = {name: _ratio(sums) for name, sums in rates.items()}
    if scoring.characters:
        metrics["cer_published"] = published_cer(references, hypotheses)
    metrics |= total._asdict() | {
        "symbols": total.symbols,
        "utterances": len(ordered),
        "empty": empty / len(ordered),
        "out_of_inventory": sum(unknown.values()) / total.symbols if total.symbols else None,
    }
    taught: Counter[str] = Counter()
    for symbol, times in trained.items():
        taught.update(dict.fromkeys(scoring.scored([symbol]), times))
    labels, groups, confusion = matrix(counts, scoring.kind)
    if len(labels) > WIDEST:
        labels, groups, confusion = [], [], []
    intervals = {name: _interval(sums, units) for name, sums in rates.items()}
    tables = [_ways(references, decoded, scoring), _by_speaker(speakers, edits)]
    return HeadResult(
        metrics,
        by_symbol(counts, scoring.kind, taught),
        drawn="recall",
        labels=labels,
        confusion=confusion,
        groups=groups,
        intervals={name: interval for name, interval in intervals.items() if interval is not None},
        over=f"{len(set(units))} {'speakers' if all(speakers) else 'speakers and clips of unknown ones'}",
        titles=TITLES,
        tables=[*tables, by_class(counts, scoring.kind)] if scoring.alphabet else tables,
        by_speaker=_recalls(units, aligned),
        transcripts=_transcripts(ordered, references, hypotheses, edits),
        notes=_notes(scoring, unknown, total, empty, len(ordered)),
    )


def _speakers(ordered: Sequence[Transcribed]) -> list[str]:
    """Name the speaker of each utterance; of several corpora, after its corpus: they may call two speakers alike."""
    several = len({found.corpus for found in ordered}) > 1
    return [f"{found.corpus}/{found.speaker}" if several and found.speaker else found.speaker for found in ordered]


def _ratio(sums: Sums) -> float | None:
    above, below = (sum(column) for column in zip(*sums, strict=True))
    return above / below if below else None


def _interval(sums: Sums, units: Sequence[str]) -> tuple[float, float] | None:
    """Find the interval of a ratio over units: speakers, or clips of which nothing tells who speaks."""
    by_unit: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for unit, (above, below) in zip(units, sums, strict=True):
        by_unit[unit][0] += above
        by_unit[unit][1] += below
    return ratio_interval(*zip(*by_unit.values(), strict=True))


def _feature_distances(references: Sequence[list[str]], hypotheses: Sequence[list[str]], scoring: Scoring) -> Sums:
    """Compute for each utterance the distance in phonological features, and count the reference's segments."""
    assert scoring.alphabet is not None
    alphabet = scoring.alphabet
    left, right = (
        [[part for symbol in symbols for part in segments(to_ipa(symbol, alphabet))] for symbols in side]
        for side in (references, hypotheses)
    )
    return [(feature_distance(one, other), len(one)) for one, other in zip(left, right, strict=True)]


def _rated(edits: Edits) -> list[Any]:
    return [edits.rate, edits.substitutions, edits.deletions, edits.insertions, edits.symbols]


def _ways(references: Sequence[list[str]], decoded: dict[str, list[list[str]]], scoring: Scoring) -> ResultTable:
    """Rate each way of scoring and decoding."""
    rows = []
    for name, convention in scoring.conventions().items():
        left = [convention(symbols) for symbols in references]
        for way, hypotheses in decoded.items():
            pairs = align(left, [convention(symbols) for symbols in hypotheses])
            rows.append([name, way, *_rated(count(pair for found in pairs for pair in found))])
    return ResultTable("Ways of scoring and decoding", ["scored", "decoded", *RATED], rows)


def _by_speaker(speakers: Sequence[str], edits: Sequence[Edits]) -> ResultTable:
    found: dict[str, list[Edits]] = defaultdict(list)
    for speaker, its_edits in zip(speakers, edits, strict=True):
        found[speaker].append(its_edits)
    rows = [
        [speaker or NOTHING, len(own), *_rated(Edits(*map(sum, zip(*own, strict=True))))]
        for speaker, own in sorted(found.items())
    ]
    return ResultTable("By speaker", ["speaker", "utterances", *RATED], rows)


def _recalls(units: Sequence[str], aligned: Sequence[Sequence[Pair]]) -> list[dict[str, Any]]:
    """Count what each speaker's references have of each symbol, and how often it was found."""
    asked: Counter[tuple[str, str]] = Counter()
    hits: Counter[tuple[str, str]] = Counter()
    for unit, pairs in zip(units, aligned, strict=True):
        asked.update((unit, left) for left, _ in pairs if left is not None)
        hits.update((unit, left) for left, right in pairs if left is not None and left == right)
    return [
        {"speaker": unit, "category": shown(symbol), "hits": hits[unit, symbol], "count": times}
        for (unit, symbol), times in sorted(asked.items())
    ]


def _transcripts(
    ordered: Sequence[Transcribed],
    references: Sequence[list[str]],
    hypotheses: Sequence[list[str]],
    edits: Sequence[Edits],
) -> list[dict[str, Any]]:
    """Take the utterances with the highest error rates, and those about the median."""
    by_rate = sorted(range(len(ordered)), key=lambda n: (-(edits[n].rate or 0.0), n))
    middle = max(0, (len(by_rate) - SHOWN) // 2)
    chosen = [(n, "worst") for n in by_rate[:SHOWN]]
    chosen += [(n, "median") for n in by_rate[middle : middle + SHOWN] if n not in by_rate[:SHOWN]]
    return [
        {
            "key": ordered[n].key,
            "corpus": ordered[n].corpus,
            "speaker": ordered[n].speaker,
            "reference": references[n],
            "hypothesis": hypotheses[n],
            "errors": edits[n].errors,
            "symbols": edits[n].symbols,
            "which": which,
        }
        for n, which in chosen
    ]


def _notes(scoring: Scoring, unknown: Counter[str], total: Edits, empty: int, utterances: int) -> list[str]:
    """Say by what conventions the numbers were made, and what limits them."""
    beam = f"by prefix beam search of width {scoring.beam}" if scoring.beam else "greedily"
    notes = [
        f"Transcripts are decoded {beam}, without a language model.",
        f"Among symbols, {NOTHING} is none: one was put in, or left out.",
    ]
    if scoring.fold is not None:
        by = scoring.fold if isinstance(scoring.fold, str) else "the mapping of the config"
        notes.append(f"References and hypotheses are folded by {by} before they are scored.")
    if len(scoring.conventions()) > 1:
        counted = f"{' '.join(scoring.apart)} counts, and " if scoring.apart else ""
        notes.append(
            f"Unless said otherwise, {counted}equal symbols that follow each other are not merged (after folding, a "
            "pause and a closure may)."
        )
    if unknown:
        missing = sum(unknown.values())
        some = " ".join(shown(symbol) for symbol, _ in unknown.most_common(20))
        notes.append(
            f"{missing} of {total.symbols} reference symbols ({missing / total.symbols:.1%}) are outside the "
            f"vocabulary and cost an error each, whatever is recognised: {some}."
        )
    if empty:
        notes.append(
            f"{empty} of {utterances} hypotheses are empty: only blanks came out, as they do before a CTC model has "
            "learnt its first symbols; more steps or a higher rate help."
        )
    if scoring.alphabet:
        notes.append(
            "PFER: edits weighed by the share of PanPhon's 24 features that a substitution changes (insertions and "
            "deletions cost 1), over the segments of all references; closures and silences are left out."
        )
    if scoring.characters:
        notes.append(
            "The published variant of the CER leaves out spaces, merges repeated letters and drops the last one on "
            "both sides, and is a mean over utterances: compare it with that study alone."
        )
    return notes
