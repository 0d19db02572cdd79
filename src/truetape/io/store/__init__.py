"""The store: what the gateway keeps on disk. `journal` writes the tape, `reader` reads and verifies it."""
