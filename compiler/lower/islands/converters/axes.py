"""Which dimensions a reduction takes, where shapes have to tell."""

import itertools
from collections.abc import Sequence


def fitting_axes(source: tuple[int, ...], result: tuple[int, ...], count: int, keep: bool) -> list[list[int]]:
    """Return all choices of `count` axes that reduce one shape to the other."""
    choices = itertools.combinations(range(len(source)), count)
    return [list(axes) for axes in choices if reduced(source, axes, keep) == result]


def reduced(source: tuple[int, ...], axes: Sequence[int], keep: bool) -> tuple[int, ...]:
    """Return the shape that is left of another one, with or without its axes of extent 1."""
    return tuple(1 if i in axes else n for i, n in enumerate(source) if keep or i not in axes)
