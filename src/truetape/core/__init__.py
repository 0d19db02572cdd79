"""Floor 1, the laws: pure machines. Inputs are methods, `now` is the last argument, outputs are returned."""
