"""Several languages in one corpus, transcribed in the International Phonetic Alphabet."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from w2v_abx.clips import Clip
from w2v_abx.corpora.espeak.corpus import Espeak
from w2v_abx.corpora.espeak.ipa import ipa_of
from w2v_abx.errors import InputError
from w2v_abx.system.checks import fail

__all__ = ["Languages"]


@dataclass(frozen=True, eq=False)
class Languages:
    """Pseudo-words of some languages to train on, and of others to test on, as `Espeak` makes them.

    ``conf/corpus/espeak_languages.yaml`` explains every setting. Clips have the labels of `Espeak`, and ``ipa``, which
    is ``phones`` in an alphabet that the languages share.

    Raises:
        InputError: a language that eSpeak lacks or does not write in the IPA, one that is in both lists, or one without
            voices to hold out.
    """

    root: str | Path
    name: str = "espeak_languages"
    languages: Sequence[str] = ("en-us",)
    test_languages: Sequence[str] = ()
    speakers: int | None = None
    valid_speakers: int = 1
    test_speakers: int | None = None
    utterances: int = 40
    words_per_utterance: int = 6
    seed: int = 0

    def __post_init__(self) -> None:
        for key in ("languages", "test_languages"):
            for language in getattr(self, key):
                ipa_of(f"corpus.{key}", language)
        if not self.languages:
            raise fail("corpus.languages", list(self.languages), "a list of at least one language")
        if both := sorted(set(self.languages) & set(self.test_languages)):
            raise InputError(f"corpus.languages and corpus.test_languages both have {both[0]}: leave it to one")

    def clips(self) -> list[Clip]:
        """Every clip, sorted by key; generates them if they are not there."""
        spoken = [
            *(self._of(language, "train", self.speakers, self.valid_speakers) for language in self.languages),
            *(self._of(language, "test", self.test_speakers, 0) for language in self.test_languages),
        ]
        return sorted(
            (_in_ipa(clip, corpus.language) for corpus in spoken for clip in corpus.clips()), key=lambda c: c.key
        )

    def _of(self, language: str, split: str, speakers: int | None, valid_speakers: int) -> Espeak:
        """Make a language's corpus; its test has voices that training never has."""
        return Espeak(
            self.root,
            name=f"{self.name}_{language}",
            language=language,
            voices="evaluation" if split == "test" else "train",
            speakers=speakers,
            words="free",
            utterances=self.utterances,
            words_per_utterance=self.words_per_utterance,
            split=split,
            valid_speakers=valid_speakers,
            seed=self.seed,
        )


def _in_ipa(clip: Clip, language: str) -> Clip:
    letters = ipa_of("corpus.languages", language)
    if missing := sorted({symbol for _, _, symbol in clip.labels["phones"]} - set(letters)):
        raise InputError(f"{clip.key}: ipa.json does not say what eSpeak's {missing[0]!r} is: run tools/espeak_ipa.py")
    ipa = [[onset, offset, letters[symbol]] for onset, offset, symbol in clip.labels["phones"]]
    return replace(clip, labels={**clip.labels, "ipa": ipa})
