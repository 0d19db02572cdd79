"""Doors for local and remote clients."""
