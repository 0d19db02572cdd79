"""Message buses that events are published to: each library at home in one file, one driver for all."""
