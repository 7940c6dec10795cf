"""Convolutions for microcontrollers: weights stay as small as they are, loops are assembler."""
