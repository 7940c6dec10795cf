"""Convolutions, and all products by constant weights; mcu/ has those for microcontrollers."""
