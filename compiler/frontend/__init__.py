"""From an ONNX file to a normalized model: one pass per file, in the order that load.py lists."""
