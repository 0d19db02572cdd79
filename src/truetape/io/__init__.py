"""Floor 2, the hands: each file drives one machine on one real thing. Nothing is decided here."""
