"""Products of two activations, whose second operand is packed as the products run."""
