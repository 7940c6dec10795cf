"""Pooling, means and softmax on microcontrollers."""
