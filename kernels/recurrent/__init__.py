"""Recurrent layers: kernels that walk over the steps."""
