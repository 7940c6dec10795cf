"""What each ONNX operator is to edgec: one row each in `table.py`, and how it is lowered."""
