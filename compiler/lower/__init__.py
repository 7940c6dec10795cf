"""From a quantized model to a program: operators, kernels, and where every buffer lies."""
