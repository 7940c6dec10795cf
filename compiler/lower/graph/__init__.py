"""From the model's nodes to the network's operators: which run in integers, which in float kernels."""
