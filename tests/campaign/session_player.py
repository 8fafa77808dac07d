"""Plays histories of a long-lived connection: the session loop against a server that echoes lines and breaks by script.

The same kernel, faults and virtual time as for requests (``player``). The program sends a line, waits for its echo, and
begins a new session where one has ended; whatever breaks, every line is echoed in the end.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio

import holdwire
from holdwire.errors import ConnectFailed, HoldwireError
from holdwire.events import FailureRecorded
from holdwire.testing.faults import Action, Point

from .origin import Origin
from .origin_http1 import Http1
from .origin_tls import client_context
from .player import Player, Result

if TYPE_CHECKING:
    from holdwire.testing._faulty import Cursor

    from .histories import History
    from .kernel import Kernel, SimSocket
    from .peer import Link

__all__ = ["play_session"]

_PATIENCE = 20.0
"""Virtual seconds for an echo, before the program gives a session up."""


class _Echo(Http1):
    """Sends every line back."""

    def __init__(self, origin: Origin, sock: SimSocket, link: Link | None, cursor: Cursor) -> None:
        super().__init__(origin, sock, link, cursor)
        self.lines: list[bytes] = []
        assert isinstance(origin, _Echoes)
        origin.echoes.append(self)

    def _parse(self) -> None:
        if self._replying:
            return
        lines, found, rest = bytes(self._buffer).rpartition(b"\n")
        if found:
            self._buffer[:] = rest
            self.lines += lines.split(b"\n")
            self._reply([lines + b"\n"], closes=False)

    def _replied(self) -> None:
        super()._replied()
        self._parse()


class _Echoes(Origin):
    """A server of the line protocol."""

    plain = _Echo

    def __init__(self, kernel: Kernel, history: History) -> None:
        super().__init__(kernel, history)
        self.echoes: list[_Echo] = []


class _SessionPlayer(Player):
    server = _Echoes

    async def _run(self) -> None:
        history = self.history
        self.origin.start()
        dice = random.Random(history.seed)
        give_up = dice.uniform(0, 60) if dice.random() < 0.3 else None
        with anyio.move_on_after(give_up) as scope:
            try:
                await self._talk(total=len(history.asks))
            except ConnectFailed:  # it does not look like TLS, which cannot get better
                if not self.kernel.struck[Point.HANDSHAKE, Action.CORRUPT]:
                    raise
        self.cancelled += scope.cancelled_caught
        await anyio.sleep(400)

    async def _talk(self, *, total: int) -> None:
        done = 0
        secure = self.history.secure
        url, tls = ("tls://10.0.0.1:82", client_context()) if secure else ("tcp://10.0.0.1:81", None)
        async for session in holdwire.sessions(url, tls=tls, observers=[self]):
            self.sessions += 1
            async with session:
                while done < total:
                    line = b"MSG %d\n" % done
                    await session.send(line)
                    got = b""
                    with anyio.move_on_after(_PATIENCE) as scope:
                        while not got.endswith(b"\n"):
                            got += await session.receive()
                    if scope.cancelled_caught:
                        break
                    if got != line:
                        self.violated("bytes", f"{line!r} was echoed as {got!r}")
                    session.boundary()
                    done += 1
                    self.messages += 1
            if done == total:
                return

    def _check(self) -> None:
        assert isinstance(self.origin, _Echoes)
        for talk in self.origin.echoes:
            numbers = [int(line.split()[1]) for line in talk.lines]
            if numbers != list(range(numbers[0], numbers[0] + len(numbers)) if numbers else []):
                self.violated("bytes", f"the server got the lines {numbers}")
        told = [event.failure.local_port for event in self.events if isinstance(event, FailureRecorded)]
        for sock in self.kernel.made:
            if told.count(sock.port) > 1:
                self.violated(
                    "record", f"the failure of connection {sock.port} is recorded {told.count(sock.port)} times"
                )
            if sock.told and sock.connected and sock.port not in told and not self.cancelled:
                self.violated("record", f"connection {sock.port} failed ({sock.told}) unrecorded")


def play_session(history: History) -> Result:
    """Play ``history`` as one long-lived connection; its requests are lines."""
    try:
        return _SessionPlayer(replace(history, http2=None)).play()
    except HoldwireError as error:
        raise AssertionError(repr(error)) from error
