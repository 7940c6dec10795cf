"""On the device: running a bundle, checking it bit for bit, measuring it."""
