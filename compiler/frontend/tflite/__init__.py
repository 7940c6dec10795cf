"""From a .tflite file to an ONNX model that computes the same, QDQ where it is quantized; see convert.py."""
