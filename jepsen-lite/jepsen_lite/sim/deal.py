"""Deals the values of a deck to successive seeds, so that a few of them have all values."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TypeVar

Card = TypeVar("Card")


def deal(deck: Sequence[Card], number: int, purpose: str, count: int = 1) -> tuple[Card, ...]:
    """The next `count` cards for the seed `number`. The deck is shuffled each time that fewer are
    left.
    """
    dealt, place = divmod(number, len(deck) // count)
    shuffled = shuffle(deck, dealt, purpose)
    return shuffled[place * count : (place + 1) * count]


def shuffle(deck: Sequence[Card], time: int, purpose: str) -> tuple[Card, ...]:
    """The order of the cards after the deck was shuffled for the `time`th time."""
    return tuple(Random(f"{time}/{purpose}").sample(deck, len(deck)))
