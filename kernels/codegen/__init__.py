"""Building blocks that kernels share: TIR, loops, tiles, padding, endings; and from TIR to an object."""
