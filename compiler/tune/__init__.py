"""Tuning: which code of a layer is fastest on a device, found by running it there."""
