"""The simulated venue: seeded order flow through a real matching book, and the faults that it can be told to make."""
