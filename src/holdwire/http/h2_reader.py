"""The reader of one HTTP/2 connection: a service task that gives what arrives to the machine, and sees the end of it.

It holds the connection weakly while it waits, and ends with it. When one read wakes several tasks it waits until all
have run, and has what they say leave in one write. Not responsible for what frames mean (``h2_machine``).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from anyio.lowlevel import checkpoint
from h2.errors import ErrorCodes

from ..errors import ClosedError, HoldwireError
from ..events import CloseReason
from ..policy import diagnosis
from ..policy.kind import Kind
from .h2_fates import code_name
from .h2_frames import FrameError

if TYPE_CHECKING:
    import weakref

    from ..net.wire import Wire
    from .http2 import Http2Connection

__all__ = ["read_all"]

READ_SIZE: Final = 262_144
_BACKLOG: Final = 2**20
"""Bytes that may wait for a peer that does not read; beyond it we no longer answer what it asks of us."""


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
                connection.batching = False
                connection.flush_now()
                del connection
    except HoldwireError as exc:
        if (connection := reference()) is not None:
            _failed(connection, exc)
    except BaseException:
        if (connection := reference()) is not None:
            connection.interrupted()
        raise


def _hand_over(reference: weakref.ref[Http2Connection], wire: Wire, data: bytes) -> bool | None:
    """Give the connection what came; whether several tasks were woken, None if the connection is over."""
    connection = reference()
    if connection is None:
        wire.close()
        return None
    if not data:
        _ended(connection)
        return None
    try:
        connection.batching = _receive(connection, data)
    except FrameError as exc:
        _violated(connection, exc)
    return connection.batching if connection.close_reason is None else None


def _receive(connection: Http2Connection, data: bytes) -> bool:
    """Whether several tasks were woken.

    Raises:
        FrameError: The bytes are not legal.
    """
    now = time.monotonic()
    terms, heartbeat, inbound = connection.terms, connection.heartbeat, connection.inbound
    before = terms.settings, terms.limit, terms.leaving, heartbeat.late(now)
    woken = inbound.woken
    progress = connection.machine.receive(data, now)
    if connection.close_reason is not None:
        return False
    if connection.outbox.backlog > _BACKLOG:
        raise FrameError("it asks for answers and does not read them", ErrorCodes.ENHANCE_YOUR_CALM)
    heartbeat.received(now, data=progress)
    held, connection.held_resets = connection.held_resets, 0
    connection.flush_now()
    if held or (terms.settings, terms.limit, terms.leaving, heartbeat.late(now)) != before:
        connection.offer()
    return inbound.woken > woken + 1


def _ended(connection: Http2Connection) -> None:
    """The input is at its end."""
    wire = connection.wire
    if wire.failure is not None:
        connection.lose(wire.failure)
    elif connection.unfinished:
        goaway = connection.terms.goaway
        said = None if goaway is None else f"after GOAWAY with {code_name(goaway.error_code or 0)}"
        failure = diagnosis.from_eof(phase=wire.phase, facts=wire.facts(), detail=said)
        wire.latch(failure)
        connection.lose(failure)
    else:
        connection.end(CloseReason.PEER_IDLE if connection.terms.goaway is None else CloseReason.GOAWAY)


def _failed(connection: Http2Connection, error: HoldwireError) -> None:
    """Reading failed."""
    failure = error.failure
    truncated = failure is not None and failure.kind is Kind.UNEXPECTED_EOF
    if truncated and connection.terms.goaway is not None and not connection.unfinished:
        connection.end(CloseReason.GOAWAY)  # it had said goodbye, only not once more in TLS
    elif isinstance(error, ClosedError):
        connection.end(CloseReason.ACLOSE)  # does nothing unless its wire was closed by somebody else
    else:
        connection.lose(failure)


def _violated(connection: Http2Connection, error: FrameError) -> None:
    """The peer's bytes are not HTTP/2: say so, and end the connection."""
    if connection.close_reason is None:
        wire = connection.wire
        failure = diagnosis.from_protocol(phase=wire.phase, facts=wire.facts(), detail=str(error))
        connection.say_goodbye(error.code)
        wire.latch(failure)
        connection.end(CloseReason.FAILURE, failure)
