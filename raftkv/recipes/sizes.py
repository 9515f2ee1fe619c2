"""Numbers that all who share a name must agree on, kept in the store. Knows one key each."""

from __future__ import annotations

from raftkv.arguments import to_int64
from raftkv.client.client import Client
from raftkv.errors import SizeMismatch, printable


class AgreedSize:
    """The size of a recipe: the first to use its name writes it down, all others compare.

    It stays when nobody uses the name any more; whoever wants another one deletes the key first.
    """

    def __init__(self, client: Client, name: bytes, size: int, field: str) -> None:
        """Raises `InvalidRequest` for a size below 1."""
        self.size = to_int64(size, field, 1)
        self._client = client
        self._key = name + b"/size"
        self._field = field
        self._agreed = False

    async def agree(self, timeout: float | None = None) -> None:
        """Raises `SizeMismatch` if others use another size."""
        if self._agreed:
            return
        wanted = str(self.size).encode()
        found = await self._client.get(self._key, timeout=timeout)
        if found is None:
            swap = await self._client.compare_and_swap(self._key, None, wanted, timeout=timeout)
            found = swap.current
        if found is not None and found.value != wanted:
            theirs = found.value.decode(errors="replace")
            raise SizeMismatch(
                f"{self._field} is {self.size} here and {theirs} for others; use that, or delete"
                f" {printable(self._key)} while nobody uses the name",
                size=theirs,
            )
        self._agreed = True
