"""Floor 0, the words: structs that every other room shares, with no behaviour beyond tiny properties."""
