"""Floor 2, the dialects: one pure file for each venue, found by its name."""
