"""Floor 3, the wiring: the only place that knows everyone."""
