"""Synthesized sounds: the same everywhere, and damage is heard."""

import numpy as np
import pytest

from edgec.bench.lab import machine_sounds
from edgec.bench.lab.machine_sounds import BANDS, DAMAGES, FRAMES, RATE, Car, clips, sound, windows


def test_clips_are_the_seed_s() -> None:
    one, same, other = clips(2, seed=0), clips(2, seed=0), clips(2, seed=1)
    assert one.shape == (2, 57, FRAMES * BANDS)
    assert one.dtype == np.float32
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    assert abs(float(one.mean())) < 0.3
    assert 0.7 < float(one.std()) < 1.3


def test_windows_are_neighbouring_frames() -> None:
    made = windows(sound(Car(), np.random.default_rng(0)))
    np.testing.assert_array_equal(made[0, BANDS:], made[1, :-BANDS])


@pytest.mark.parametrize("hertz", [200.0, 1000.0, 5000.0])
def test_a_tone_is_in_its_band(hertz: float) -> None:
    tone = np.sin(2 * np.pi * hertz * np.arange(RATE) / RATE)
    loudest = windows(tone).reshape(-1, BANDS).argmax(axis=1)
    mel = 2595 * np.log10(1 + np.array([hertz, RATE / 2]) / 700)
    assert np.abs(loudest - (mel[0] / mel[1] * (BANDS + 1) - 1)).max() <= 1.5


@pytest.mark.parametrize(("name", "most"), [(name, most) for name, (_, most) in DAMAGES.items()])
def test_plain_damage_is_heard(name: str, most: float) -> None:
    def spectrum(car: Car) -> np.ndarray:
        return windows(sound(car, np.random.default_rng(3)))  # the same speed and noise

    whole, damaged = spectrum(Car()), spectrum(Car(**{name: most}))
    assert float(np.abs(whole - damaged).max()) * machine_sounds.SPREAD > 3  # decibels, somewhere
