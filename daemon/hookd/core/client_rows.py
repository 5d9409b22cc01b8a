"""Owns how much of the flight recorder each client's rows take: the rows of its unsettled events.

Limits: about 160 B for each client that has any.
"""


class ClientRows:
    __slots__ = ("_bytes",)

    def __init__(self) -> None:
        self._bytes: dict[str, int] = {}

    def bytes_of(self, client_id: str) -> int:
        return self._bytes.get(client_id, 0)

    def count(self, client_id: str, more_bytes: int) -> None:
        """A row came, or went: then it is negative."""
        held_bytes = self._bytes.get(client_id, 0) + more_bytes
        if held_bytes:
            self._bytes[client_id] = held_bytes
        else:
            del self._bytes[client_id]
