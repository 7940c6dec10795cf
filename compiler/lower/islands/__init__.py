"""What no kernel computes: parts of the model that Relax compiles, tried against ONNX Runtime."""
