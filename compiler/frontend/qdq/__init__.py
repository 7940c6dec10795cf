"""How quantized files of all tools are written, as the one way that the compiler reads."""
