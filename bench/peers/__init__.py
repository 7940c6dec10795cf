"""edgec beside other engines on this machine: `python -m edgec.bench.peers MODEL.onnx... --target T`."""
