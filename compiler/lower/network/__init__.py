"""From the network to the program: fused, with kernels chosen and every buffer in its place."""
