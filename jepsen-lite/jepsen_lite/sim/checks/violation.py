"""The error of an invariant that does not hold."""

from __future__ import annotations


class Violation(Exception):
    """An invariant does not hold; says which, and all that is known."""
