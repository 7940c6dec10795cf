"""Synthesized sounds of a toy car, whole and damaged: for want of recordings, to detect anomalies in.

In the manner of ToyADMOS (Koizumi et al., 2019), which MLPerf Tiny's anomaly detection learns from: a motor's
harmonics at a speed that wanders, the mesh of its gears, and noise. The damages are of that data set's kinds:
a bent shaft, a chipped tooth, something that drags, a wrong voltage, each from hardly audible to plain. The
features are MLPerf Tiny's: neighbouring frames of mel bands, in decibels.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Signal = NDArray[np.float64]

RATE = 16000
SECONDS = 2
FRAME, HOP, BANDS = 1024, 512, 128
"""Samples of a frame, samples between frames, mel bands: MLPerf Tiny's."""
FRAMES = 5
"""In one window, which is the model's input."""
MEAN, SPREAD = -33.0, 13.0
"""In decibels, of the bands of these sounds: a model gets what is about 0, and about 1 far from it."""
SILENCE = 1e-10
"""Power below which no logarithm is taken."""
SPEEDS = (31.0, 36.0, 42.0)
"""Turns of the motor in a second."""
MOTOR = {1: 1.0, 2: 0.6, 3: 0.45, 4: 0.3, 6: 0.2, 8: 0.12}
GEAR = {11: 0.5, 22: 0.25, 33: 0.12, 55: 0.06}
"""Partials, in multiples of the motor's speed: how loud. The gear has 11 teeth."""


@dataclass(frozen=True)
class Car:
    """What is wrong with it; nothing, by default."""

    bend: float = 0.0
    """How much its loudness changes within a turn of the wheel."""
    knock: float = 0.0
    """How loud one tooth is in each turn of the wheel."""
    drag: float = 0.0
    """How loud the friction is."""
    voltage: float = 1.0
    """Share of the right voltage, and so of the right speed."""


DAMAGES = {"bend": (0.1, 0.6), "knock": (0.02, 0.6), "drag": (0.003, 0.06), "voltage": (1.04, 1.3)}
"""From the least to the most, of a damaged car: one each."""
WHEEL = 1 / 7
"""Turns of the wheel in one of the motor's."""


def clips(count: int, seed: int, damaged: bool = False) -> NDArray[np.float32]:
    """Return `count` clips of cars, as windows: [count, windows, FRAMES * BANDS]; each seed has its own."""
    generator = np.random.default_rng([seed, damaged])
    kinds = list(DAMAGES.items())
    made = []
    for index in range(count):
        name, (least, most) = kinds[index % len(kinds)]
        car = Car(**{name: generator.uniform(least, most)}) if damaged else Car()
        made.append(windows(sound(car, generator)))
    return np.stack(made)


def sound(car: Car, generator: np.random.Generator) -> Signal:
    """Return one clip: [RATE * SECONDS]."""
    times = np.arange(RATE * SECONDS) / RATE
    wandering = np.interp(times, np.linspace(0, SECONDS, 9), generator.normal(0, 0.01, 9))
    turns = np.cumsum(generator.choice(SPEEDS) * car.voltage * (1 + wandering)) / RATE
    made = np.zeros(len(times))
    for order, loudness in (MOTOR | GEAR).items():
        phase = generator.uniform(0, 2 * np.pi)
        made += loudness * generator.uniform(0.8, 1.25) * np.sin(2 * np.pi * order * turns + phase)
    made *= 1 + car.bend * np.sin(2 * np.pi * WHEEL * turns)
    since = (WHEEL * turns) % 1 / (WHEEL * SPEEDS[0])  # seconds since the wheel was where the tooth is
    made += car.knock * np.exp(-since / 0.004) * generator.normal(size=len(times))
    made += car.drag * np.diff(generator.normal(size=len(times) + 1))  # bright: differences of noise
    return made + generator.uniform(0.05, 0.1) * generator.normal(size=len(times))


def windows(samples: Signal) -> NDArray[np.float32]:
    """Return all FRAMES neighbouring frames of a clip, as mel bands: [windows, FRAMES * BANDS]."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, FRAME)[::HOP] * np.hanning(FRAME)
    power = np.square(np.abs(np.fft.rfft(frames))) / FRAME @ _mel_bands()
    decibels = (10 * np.log10(np.maximum(power, SILENCE)) - MEAN) / SPREAD
    neighbours = np.lib.stride_tricks.sliding_window_view(decibels, FRAMES, axis=0)
    return neighbours.transpose(0, 2, 1).reshape(len(neighbours), -1).astype(np.float32)


def _mel_bands() -> Signal:
    """Return triangles of area 1, evenly spaced in mel: [FRAME / 2 + 1, BANDS]."""
    top = 2595 * np.log10(1 + RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, BANDS + 2) / 2595) - 1)
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    hertz = np.linspace(0, RATE / 2, FRAME // 2 + 1)[:, np.newaxis]
    triangles = np.minimum((hertz - low) / (middle - low), (high - hertz) / (high - middle))
    return np.maximum(triangles, 0) * 2 / (high - low)
