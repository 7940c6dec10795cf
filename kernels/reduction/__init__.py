"""Pooling, means and softmax."""
