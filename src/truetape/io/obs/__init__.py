"""What an operator reads: logs now, metrics later."""
