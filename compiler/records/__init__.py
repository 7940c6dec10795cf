"""What was measured: the fastest code of a layer, by CPU, shipped with edgec or kept for its user."""
