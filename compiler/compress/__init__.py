"""From a float model to an int8 one: ONNX in, QDQ ONNX out."""
