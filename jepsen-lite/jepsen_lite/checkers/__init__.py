"""Checkers: pure functions from the operations of a history to findings."""
