"""The two ends of a connection, by who opened it. Pure."""

from __future__ import annotations

from enum import Enum

__all__ = ["CLIENT", "SERVER", "SIDES", "Side"]


class Side(Enum):
    """Who sent something: the end that opened the connection, or the one that accepted it."""

    CLIENT = "client"
    SERVER = "server"

    #: Members are equal by identity alone. Enum's own hashes the name, in Python: too slow for what each record does.
    __hash__ = object.__hash__

    @property
    def other(self) -> Side:
        """The other end."""
        return Side.SERVER if self is Side.CLIENT else Side.CLIENT


#: The members, and both of them, for code that runs often: by the Enum each of them is looked up, which takes ten times
#: as long, and a loop over it does so in Python.
CLIENT, SERVER = SIDES = (Side.CLIENT, Side.SERVER)
