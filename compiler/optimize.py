"""What a build puts first where faster code takes more memory."""

from enum import StrEnum


class Optimize(StrEnum):
    """The choices of `edgec build --optimize`."""

    SPEED = "speed"
    """Kernels that are the fastest, by measurement or by model."""
    RAM = "ram"
    """The smallest arena, and what is fastest within it."""
    FLASH = "flash"
    """The fastest of what doesn't store weights as more bytes than they are."""
