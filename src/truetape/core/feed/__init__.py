"""One connection to a venue: what a venue file must say, the session that drives it, and the health of what it carries."""
