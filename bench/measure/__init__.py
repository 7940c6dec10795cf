"""Measurements: time, memory, instructions, modelled cycles, the machine's peak."""
