"""Sounds whose samples are known by formula, and files of any format."""

import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import soundfile as sf


def sine(frequency: float, rate: int, seconds: float = 1.0) -> np.ndarray:
    return np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)


def sweep(low: float, high: float, rate: int, seconds: float = 2.0) -> np.ndarray:
    """A sine whose frequency rises steadily from ``low`` to ``high`` Hz."""
    time = np.arange(round(seconds * rate)) / rate
    return np.sin(2 * np.pi * (low * time + (high - low) * time**2 / (2 * seconds)))


def speechlike(rate: int, seconds: float, channels: int = 1) -> np.ndarray:
    """Noise below 3 kHz that swells, (T, channels): no stretch of it is like another."""
    generator = np.random.default_rng(0)
    frames = round(seconds * rate)
    spectrum = np.fft.rfft(generator.standard_normal((frames, channels)), axis=0)
    spectrum[round(3000 * seconds) :] = 0
    noise = np.fft.irfft(spectrum, frames, axis=0)
    return 0.1 * noise / noise.std() * (1 + 0.5 * np.sin(2 * np.pi * 0.7 * np.arange(frames) / rate))[:, None]


def decibels(ratio: float) -> float:
    return float(20 * np.log10(max(ratio, 1e-30)))


def ffmpeg(*arguments: str | Path) -> bytes:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-y", "-loglevel", "error", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True).stdout


def convert(samples: np.ndarray, rate: int, path: Path, *options: str) -> Path:
    """Write samples (T,) or (T, channels) in whatever format ``path`` and ffmpeg's ``options`` say."""
    source = path.with_name(f"{path.name}.source.wav")
    sf.write(source, samples, rate, subtype="PCM_24")
    ffmpeg("-i", source, *options, path)
    source.unlink()
    return path


def decoded(path: Path, channels: int) -> np.ndarray:
    """What ffmpeg makes of the whole file, (T, channels) float32."""
    return np.frombuffer(ffmpeg("-i", path, "-map", "0:a:0", "-f", "f32le", "-"), "<f4").reshape(-1, channels)
