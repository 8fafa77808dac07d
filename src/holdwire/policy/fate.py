"""``Fate``: what became of bytes that were sent on a connection that then ended, as far as the kernel can tell.

Pure: byte counts in, one record out. An acknowledgement is the peer's kernel's: whether its program has read the bytes
nobody can tell. Not responsible for reading the counts (``net``) or for requests of HTTP (``evidence``).
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Fate", "fate_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """Bytes that were sent.

    ``size`` is the length of the message that was being sent, None if none was; ``written`` is how much of it was
    handed over. ``on_wire`` is what the kernel took since that message began (without a message: since the connection
    stood), TLS's own bytes included; ``acknowledged`` is what the peer's kernel has of those, None where ours does not
    tell. A message that was cut is only surely delivered to the peer's kernel when all of it was written and
    acknowledged.
    """

    size: int | None = None
    written: int = 0
    on_wire: int = 0
    acknowledged: int | None = None

    @property
    def cut(self) -> bool:
        """Whether a message was being sent and not all of it was handed over."""
        return self.size is not None and self.written < self.size

    def __str__(self) -> str:
        if self.acknowledged is None:
            known = "what the peer's kernel has of them is unknown"
        elif self.acknowledged == self.on_wire:
            known = "the peer's kernel acknowledged all of them"
        else:
            known = f"the peer's kernel acknowledged {self.acknowledged} of them"
        if self.size is None:
            return f"{self.on_wire} bytes were sent on it, {known}"
        return f"{self.written} of the message's {self.size} bytes were written, {self.on_wire} on the wire, {known}"


def fate_of(*, on_wire: int, outq: int | None, size: int | None = None, written: int = 0) -> Fate:
    """The fate of a message, or without ``size`` of all bytes.

    Args:
        on_wire: Bytes that the kernel took.
        outq: Bytes not acknowledged on the whole connection (SIOCOUTQ), the last ones to be sent; a FIN counts one.
        size: The length of the message.
        written: How much of it was handed over.
    """
    acknowledged = None if outq is None else min(max(on_wire - outq, 0), on_wire)
    return Fate(size=size, written=written, on_wire=on_wire, acknowledged=acknowledged)
