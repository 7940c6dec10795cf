"""How instruction sets load, widen, multiply-accumulate, convert and store: one file each."""
