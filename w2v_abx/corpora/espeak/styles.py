"""Ways of speaking: how eSpeak acts an emotion by prosody alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from w2v_abx.system.checks import fail, number, whole

__all__ = ["Style"]


@dataclass(frozen=True)
class Style:
    """What a style changes of a voice; see ``conf/corpus/espeak.yaml``."""

    rate: float = 1.0
    pitch: int = 0
    range: int = 50
    volume: int = 100

    @classmethod
    def parse(cls, styles: Any) -> "dict[str, Style]":
        """Read ``corpus.styles``. Raises `InputError` for what does not fit, naming the key."""
        if styles is None:
            return {}
        if not isinstance(styles, Mapping) or not styles:
            raise fail("corpus.styles", styles, "a mapping of styles by name, or null for none")
        read = {}
        for name, given in styles.items():
            key, known = f"corpus.styles.{name}", cls.__dataclass_fields__
            if not isinstance(given, Mapping) or not set(given) <= set(known):
                raise fail(key, given, f"a mapping of some of {', '.join(known)}")
            style = cls(**given)
            number(f"{key}.rate", style.rate, low=0.5, high=2)
            whole(f"{key}.pitch", style.pitch, -50, 50)
            whole(f"{key}.range", style.range, 0, 100)
            whole(f"{key}.volume", style.volume, 1, 150, hint="louder ones are cut off at full scale")
            read[str(name)] = style
        return read

    def of(self, rate: int, pitch: int) -> dict[str, int]:
        """Make what `Synthesiser.speak` takes, of an utterance's own rate and pitch."""
        return {
            "rate": min(max(round(rate * self.rate), 80), 450),
            "pitch": min(max(pitch + self.pitch, 0), 100),
            "span": self.range,
            "volume": self.volume,
        }
