"""Machine code: TIR's objects and the C compiler's, and what both must know of a CPU."""
