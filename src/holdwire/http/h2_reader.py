"""``read_all``: the reader of one HTTP/2 connection. It holds the connection weakly while it waits, and ends with it.

Not responsible for what the bytes mean (``http2``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from anyio.lowlevel import checkpoint

from ..errors import HoldwireError

if TYPE_CHECKING:
    import weakref

    from ..net.wire import Wire
    from .http2 import Http2Connection

__all__ = ["read_all"]

READ_SIZE: Final = 262_144


async def read_all(reference: weakref.ref[Http2Connection], wire: Wire) -> None:
    """Read until the connection ends, whoever ends it."""
    try:
        while True:
            waits = wire.wait_count
            data = await wire.read(READ_SIZE)
            batch = _hand_over(reference, wire, data)
            if batch is None:
                return
            if batch or wire.wait_count == waits:  # more is there than anybody has taken: let the others run
                await checkpoint()
            if batch and (connection := reference()) is not None:
                connection.settle()
                del connection
    except HoldwireError as exc:
        if (connection := reference()) is not None:
            connection.failed(exc)
    except BaseException:
        if (connection := reference()) is not None:
            connection.interrupted()
        raise


def _hand_over(reference: weakref.ref[Http2Connection], wire: Wire, data: bytes) -> bool | None:
    """Give the connection what came; None if it is over, else what ``receive`` says."""
    connection = reference()
    if connection is None:
        wire.close()
        return None
    if not data:
        connection.ended_by_peer()
        return None
    batch = connection.receive(data)
    return batch if connection.close_reason is None else None
