"""Features of clips of mixed length: in batches of like length, as the ABX evaluation loop does, beside one by one.

    python benchmarks/extraction.py
    python benchmarks/extraction.py --device cuda --precision bf16 --clips 2000

Clip by clip runs twice: with transformers' own model, as is usual, and with this project's encoder, which is faster.

On a CPU the model is the pretrained tiny one; elsewhere wav2vec 2.0 base with random weights. Prints, for each round,
the audio seconds per second of all and their ratios; then the medians, the largest relative difference between the
features, and which share of the machine's rate of matrix products, measured in the same run, the model's own
operations on valid frames came to. They take turns, so that other work on the machine meets them alike.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import Wav2Vec2Config

from w2v_abx.audio import SAMPLE_RATE
from w2v_abx.config import PACKAGE
from w2v_abx.features.parts import ExtractInParts, extracting_in_parts
from w2v_abx.models.convolutions import frame_count
from w2v_abx.models.encoder import Encoder

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def clips(number: int, generator: torch.Generator) -> list[Tensor]:
    """Noises of 0.5 to 6 s."""
    seconds = 0.5 + 5.5 * torch.rand(number, generator=generator)
    return [torch.randn(int(s * SAMPLE_RATE), generator=generator) for s in seconds]


def one_by_one(encoder: Encoder, waveforms: list[Tensor], device: torch.device) -> list[Tensor]:
    return [encoder(waveform[None].to(device), torch.tensor([len(waveform)])).layers[-1][0] for waveform in waveforms]


def with_transformers(encoder: Encoder, waveforms: list[Tensor], device: torch.device) -> list[Tensor]:
    found = []
    for waveform in waveforms:
        samples = waveform.to(device)
        samples = (samples - samples.mean()) / torch.sqrt(samples.var(correction=0) + 1e-7)
        found.append(encoder.model(samples[None].to(encoder.model.dtype)).last_hidden_state[0])
    return found


def in_batches(
    encoder: Encoder, waveforms: list[Tensor], device: torch.device, seconds: float, in_parts: ExtractInParts
) -> list[Tensor]:
    found: dict[int, Tensor] = {}
    layers = [encoder.n_layers - 1]
    order = sorted(range(len(waveforms)), key=lambda index: -len(waveforms[index]))
    while order:
        size = max(1, int(seconds * SAMPLE_RATE / len(waveforms[order[0]])))
        batch, order = order[:size], order[size:]
        lengths = torch.tensor([len(waveforms[index]) for index in batch])
        padded = pad_sequence([waveforms[index] for index in batch], batch_first=True)
        # Lengths stay on the host, frame counts are worked out there: nothing waits for the device.
        given = {
            "keys": [str(index) for index in batch],
            "waveforms": padded.to(device, non_blocking=True),
            "lengths": lengths,
        }
        for keys, (hidden,), _ in in_parts(encoder, given, layers):
            own = [int(key) for key in keys]
            counts = encoder.frame_lengths(torch.tensor([len(waveforms[index]) for index in own])).tolist()
            found |= {index: row[:count] for index, row, count in zip(own, hidden, counts, strict=True)}
    return [found[index] for index in range(len(waveforms))]


def convolutional_operations(encoder: Encoder, samples: int) -> int:
    """Multiplications and additions of the convolutional encoder on a clip alone."""
    config = encoder.model.config
    total, channels, frames = 0, 1, samples
    for width, kernel, stride in zip(config.conv_dim, config.conv_kernel, config.conv_stride, strict=True):
        frames = frame_count(frames, [kernel], [stride])
        total += frames * kernel * channels * width
        channels = width
    return 2 * total


def operations(encoder: Encoder, samples: int) -> int:
    """Multiplications and additions of the matrix products and convolutions on a clip alone."""
    config = encoder.model.config
    frames = frame_count(samples, config.conv_kernel, config.conv_stride)
    size, group = config.hidden_size, config.hidden_size // config.num_conv_pos_embedding_groups
    ahead = frames * size * (config.conv_dim[-1] + group * config.num_conv_pos_embeddings)
    block = frames * (4 * size**2 + 2 * size * config.intermediate_size) + 2 * frames**2 * size
    return convolutional_operations(encoder, samples) + 2 * (ahead + config.num_hidden_layers * block)


def seconds(work: Callable[[], object], device: torch.device) -> float:
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def product_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second of a large matrix product, the best of ten."""
    size = 2048 if device.type == "cpu" else 8192
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return 2 * size**3 / min(seconds(lambda: a @ b, device) for _ in range(10))


def told(taken: dict[str, float], audio: float) -> str:
    """Audio seconds per second of each side, and how many times faster batches are than the others."""
    *others, batches = taken
    rates = ", ".join(f"{name} {audio / own:.1f}" for name, own in taken.items())
    ratios = " and ".join(f"{taken[name] / taken[batches]:.2f} (beside {name})" for name in others)
    return f"audio seconds per second: {rates}; ratios {ratios}"


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--batch-seconds", type=float, help="padded audio in a batch: 60 on a CPU, 600 elsewhere")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32")
    arguments = parser.parse_args()
    device, dtype = arguments.device, PRECISIONS[arguments.precision]
    host = device.type == "cpu"
    batch_seconds = arguments.batch_seconds or (60.0 if host else 600.0)
    encoder = Encoder.load(PACKAGE / "pretrained" / "tiny") if host else Encoder.random(Wav2Vec2Config().to_dict())
    encoder.to(device, dtype)
    waveforms = clips(arguments.clips, torch.Generator().manual_seed(0))
    audio = sum(map(len, waveforms)) / SAMPLE_RATE

    sides: dict[str, Callable[[], list[Tensor]]] = {
        "transformers": lambda: with_transformers(encoder, waveforms, device),
        "one by one": lambda: one_by_one(encoder, waveforms, device),
        "in batches": lambda: in_batches(encoder, waveforms, device, batch_seconds, in_parts),
    }
    threads = torch.get_num_threads()
    with extracting_in_parts() as in_parts:
        reference, *others = (side() for side in sides.values())
        worst = max(
            float((a - b).float().norm() / a.float().norm())
            for found in others
            for a, b in zip(reference, found, strict=True)
        )
        del reference, others
        times: dict[str, list[float]] = {name: [] for name in sides}
        rates: list[float] = []
        for number in range(arguments.rounds):
            rates.append(product_rate(device, dtype))
            for name, side in sides.items():
                times[name].append(seconds(side, device))
                torch.set_num_threads(threads)  # a thread that works on a part changes it for MKL everywhere
            print(f"round {number}: " + told({name: taken[-1] for name, taken in times.items()}, audio))
    middle = {name: median(taken) for name, taken in times.items()}
    print(f"median: {told(middle, audio)}; largest relative difference of features {worst:.1e}")
    work = sum(operations(encoder, len(waveform)) for waveform in waveforms)
    shares = ", ".join(f"{name} reaches {work / taken / median(rates):.0%}" for name, taken in middle.items())
    print(
        f"{work / audio / 1e9:.2f} GFLOP per audio second; a matrix product in {arguments.precision} runs at "
        f"{median(rates) / 1e9:.0f} GFLOP/s, of which {shares}"
    )


if __name__ == "__main__":
    main()
