"""Where the networks and the figures of the README come from: data, training, models to try."""
