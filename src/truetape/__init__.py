"""truetape: a market data gateway that knows what it lost, how far its books can be believed, and can prove it."""

__version__ = "0.1.0"
