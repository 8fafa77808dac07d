"""``Uploader``: sends the requests of one HTTP/2 connection, each as far as windows and the kernel allow.

A request waits here for two things, each within its write time-out: for a window to open, and for the kernel to take
what was put out before. It stops as soon as no more of it is wanted.
Not responsible for frames and windows (``h2_machine``) or for getting bytes to the kernel (``h2_outbox``).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from ..errors import DeadlineExceeded, LocalProtocolError
from ..policy.authority import authority
from ..policy.phase import Phase
from .head import length_message

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..net.runtime import Runtime
    from .h2_machine import Machine
    from .h2_outbox import Outbox
    from .h2_stream import Http2Stream
    from .messages import BodySource

__all__ = ["Uploader"]

_BATCH: Final = 65_536
"""Bytes of a body that are put into one write."""


class Uploader:
    """See the module. ``flush`` puts out what the machine has ready."""

    __slots__ = ("_flush", "_machine", "_outbox", "_runtime", "_waiting")

    def __init__(self, machine: Machine, outbox: Outbox, runtime: Runtime, flush: Callable[[], None]) -> None:
        self._machine = machine
        self._outbox = outbox
        self._runtime = runtime
        self._flush = flush
        self._waiting: dict[Http2Stream, None] = {}
        """In the order in which they are woken: who has had a turn comes last."""

    def on_room(self) -> None:
        """A window has opened, or the kernel has taken something."""
        for stream in self._waiting:
            stream.wake()

    async def send_body(self, stream: Http2Stream) -> None:
        """Send the body of the stream's request, if it has one, and see the kernel take it.

        Raises:
            DeadlineExceeded: Nothing could be written for the length of the write time-out.
            LocalProtocolError: The body has another length than was declared.
        """
        body = stream.attempt.request.body
        if body == b"":
            stream.phase = Phase.RESPONSE_WAIT
            return
        stream.phase = Phase.REQUEST_BODY
        try:
            await self._send_whole(stream, body)
        except DeadlineExceeded:
            if not stream.ended:
                raise
            # it has answered, and wants no more

    async def _send_whole(self, stream: Http2Stream, body: bytes | BodySource) -> None:
        if isinstance(body, bytes):
            complete = await self._send_piece(stream, body, last=True)
        else:
            self._flush()
            try:
                complete = await self._send_source(stream, body)
            finally:
                await body.aclose()
        if complete:
            stream.end = self._outbox.put_in
            if self._outbox.busy and self._outbox.taken < stream.end:
                await self._room(stream)
            stream.phase = Phase.RESPONSE_WAIT

    async def _send_source(self, stream: Http2Stream, body: BodySource) -> bool:
        request = stream.attempt.request
        declared = None if request.chunked else (request.content_length or 0)
        sent = 0
        async for piece in body:
            if not piece:
                continue
            sent += len(piece)
            if declared is not None and sent > declared:
                raise LocalProtocolError(length_message(sent, declared))
            if not await self._send_piece(stream, piece, last=False):
                return False
        if declared is not None and sent != declared:
            raise LocalProtocolError(length_message(sent, declared))
        if stream.answered:
            return False
        self._machine.send_data(stream, b"", ended=True)
        self._flush()
        return True

    async def _send_piece(self, stream: Http2Stream, data: bytes, *, last: bool) -> bool:
        """Send a piece of the body as the windows allow; False if no more of it is wanted."""
        machine, outbox = self._machine, self._outbox
        size, done = len(data), 0
        while not stream.answered:
            room = machine.room(stream)
            if room > 0 and not outbox.busy:
                end = min(done + room, size)
                machine.send_data(stream, data[done:end], ended=last and end == size)
                done = end
                if done == size or machine.pending >= _BATCH:
                    self._flush()
                if done == size:
                    return True
            else:
                self._flush()
                if outbox.busy or room <= 0:
                    await self._room(stream)
        self._flush()
        return False

    async def _room(self, stream: Http2Stream) -> None:
        """Wait until more of the body can be put out; where all of it was, until the kernel has taken it.

        Who cannot go on yet keeps their place, so that all have their turn.
        """
        outbox = self._outbox
        request = stream.attempt.request
        timeout = request.timeouts.write
        taken, began = outbox.taken, time.monotonic()
        self._waiting[stream] = None
        try:
            while not stream.answered:
                left = None if timeout is None else began + timeout - time.monotonic()
                if (left is not None and left <= 0) or not await stream.changed(self._runtime, left):
                    closed = stream.end is None and self._machine.room(stream) <= 0
                    where = "its HTTP/2 window stayed closed" if closed else "the kernel took no more bytes"
                    message = (
                        f"the request to {authority(request.origin.host, request.origin.port)} could not be written "
                        f"for {timeout} s: {where} (phase {stream.phase})"
                    )
                    raise DeadlineExceeded(message, limit="write")
                if not outbox.busy and (stream.end is not None or self._machine.room(stream) > 0):
                    return
                if stream.end is not None and outbox.taken >= stream.end:
                    return
                # what is taken of others' bytes brings a turn nearer, but opens no window of this request's own
                if outbox.taken != taken and (stream.end is not None or stream.send_window > 0):
                    taken, began = outbox.taken, time.monotonic()
        finally:
            self._waiting.pop(stream, None)
