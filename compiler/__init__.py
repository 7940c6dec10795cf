"""From a model to a bundle; `pipeline.py` has the whole way."""
