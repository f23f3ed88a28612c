"""Features of clips of mixed length: in length-sorted batches, as the ABX evaluation loop does, beside one by one.

Prints seconds of both, the ratio, and the largest difference between their features.
"""

import argparse
import time

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from w2v_abx.audio import SAMPLE_RATE
from w2v_abx.configuration import PACKAGE
from w2v_abx.encoder import Encoder


def clips(number: int, generator: torch.Generator) -> list[Tensor]:
    """Noises of 0.5 to 6 s."""
    seconds = 0.5 + 5.5 * torch.rand(number, generator=generator)
    return [torch.randn(int(s * SAMPLE_RATE), generator=generator) for s in seconds]


def one_by_one(encoder: Encoder, waveforms: list[Tensor]) -> list[Tensor]:
    return [encoder(waveform[None], torch.tensor([len(waveform)])).layers[-1][0] for waveform in waveforms]


def in_batches(encoder: Encoder, waveforms: list[Tensor], seconds: float) -> list[Tensor]:
    found: list[Tensor | None] = [None] * len(waveforms)
    order = sorted(range(len(waveforms)), key=lambda index: -len(waveforms[index]))
    while order:
        size = max(1, int(seconds * SAMPLE_RATE / len(waveforms[order[0]])))
        batch, order = order[:size], order[size:]
        lengths = torch.tensor([len(waveforms[index]) for index in batch])
        layers, frames = encoder(pad_sequence([waveforms[index] for index in batch], batch_first=True), lengths)
        for index, hidden, count in zip(batch, layers[-1], frames.tolist(), strict=True):
            found[index] = hidden[:count]
    return [hidden for hidden in found if hidden is not None]


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--batch-seconds", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    encoder = Encoder.load(PACKAGE / "pretrained" / "tiny")
    waveforms = clips(arguments.clips, torch.Generator().manual_seed(0))
    in_batches(encoder, waveforms[:8], arguments.batch_seconds)
    for number in range(arguments.rounds):
        started = time.perf_counter()
        alone = one_by_one(encoder, waveforms)
        between = time.perf_counter()
        together = in_batches(encoder, waveforms, arguments.batch_seconds)
        ended = time.perf_counter()
        worst = max(float((a - b).norm() / a.norm()) for a, b in zip(alone, together, strict=True))
        print(
            f"round {number}: one by one {between - started:.2f} s, in batches {ended - between:.2f} s, "
            f"ratio {(between - started) / (ended - between):.2f}, largest relative difference {worst:.1e}"
        )


if __name__ == "__main__":
    main()
