"""Nemeses: they draw, inject and revert the faults of real runs."""
