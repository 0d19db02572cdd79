"""The gateway in bad weather: simulated venues and a simulated network on a virtual clock, and what must hold whatever happens."""
