"""Parameters of recipes: the client, the name, and a size that all users of a name agree on."""

from __future__ import annotations

from raftkv.arguments import to_instance, to_int64
from raftkv.client.client import Client
from raftkv.client.requests import to_key
from raftkv.client.settings import ClientSettings
from raftkv.errors import SizeMismatch, printable


def to_client(client: Client) -> Client:
    """A recipe's client. Raises `InvalidRequest` for anything else, also for a synchronous one."""
    return to_instance(client, Client, "client", "what raftkv.connect makes")


def recipe_name(name: str | bytes) -> bytes:
    """A recipe's name as keys begin with it. Raises `InvalidRequest` if it is empty."""
    return to_key(name, ClientSettings(), "name")


class AgreedSize:
    """The size of a recipe: its first user writes it under `name/size`, later users compare.

    The key stays when the name is no longer in use. Delete it to use another size.
    """

    def __init__(self, client: Client, name: bytes, size: int, field: str) -> None:
        """Raises `InvalidRequest` for a size below 1."""
        self.size = to_int64(size, field, 1)
        self._client = client
        self._key = name + b"/size"
        self._field = field
        self._agreed = False

    async def agree(self, timeout: float | None = None) -> None:
        """Raises `SizeMismatch` if the name is in use with another size."""
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
