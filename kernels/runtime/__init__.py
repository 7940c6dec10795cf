"""Templates of the C files that a bundle needs beside its kernels."""
