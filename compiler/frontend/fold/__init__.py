"""What can be computed before the device has seen an input, or together with what stands beside it."""
