"""Order books: in order, verified, and honest about how far they can be believed."""
