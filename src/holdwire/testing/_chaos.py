"""``Chaos``: what every misbehaving listener of the kit has: a port, scripts, a journal and commands.

Rules: everything below "inside" runs in the event loop of the object, and so does all that touches a connection.
Commands reach it through ``_tell``. Not responsible for what is spoken on a connection (``_talk`` of the subclasses).
"""

from __future__ import annotations

import abc
import random
import ssl
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, final

import anyio

from ..policy.checks import check_type
from ._faulty import FaultyLink
from ._link import Link, LinkEnded
from ._listener import Listener
from .certificates import Identity, self_signed
from .faults import CALLS, Action, Fault, Point, Script
from .ledger import Journal

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncGenerator, Callable, Iterable
    from typing import TypeAlias

    from anyio.abc import TaskGroup

    ScriptLike: TypeAlias = Script | Fault | Iterable[Fault] | str

__all__ = ["Chaos", "Connection"]

_POINTS = frozenset(Point) - CALLS
_HEALTHY = Script()


@final
class Connection:
    """What the server knows of one connection."""

    def __init__(self, number: int, faulty: FaultyLink, scope: anyio.CancelScope) -> None:
        self.number = number
        self.faulty = faulty
        self.scope = scope
        self.idle = False
        """Between two exchanges; False before the first."""

    def end(self, how: Callable[[Link], None]) -> None:
        """End it from outside its task."""
        how(self.faulty.link)
        self.scope.cancel()


class Chaos(abc.ABC):
    """The base of ``ChaosServer`` and ``ChaosProxy``."""

    def __init__(
        self,
        *,
        tls: bool | Identity | ssl.SSLContext,
        host: str,
        port: int,
        seed: int,
        buffer: int | None,
        http2: bool = False,
    ) -> None:
        give = "True, False, an Identity or an ssl.SSLContext"
        check_type(type(self).__name__, "tls", tls, (bool, Identity, ssl.SSLContext), give=give)
        if isinstance(tls, bool):
            self.identity = self_signed() if tls else None
        else:
            self.identity = tls if isinstance(tls, Identity) else None
        """The certificate and its authority, where it has them."""
        self._context: ssl.SSLContext | None = None
        if self.identity is not None:
            self._context = self.identity.server_context(alpn=("h2", "http/1.1") if http2 else ("http/1.1",))
        elif not isinstance(tls, bool | Identity):
            self._context = tls
        self._http2 = http2
        self._bind = (host, port)
        self._seed = seed
        self._buffer = buffer
        self.journal = Journal()
        """What happened; ``wait_for`` and ``until`` are its methods."""
        self.wait_for = self.journal.wait_for
        self.until = self.journal.until
        self._scripts: deque[Script] = deque()
        self._sprinkled: list[tuple[Script, float]] = []
        self._connections: dict[int, Connection] = {}
        self._accepted = 0
        self._shuts = 0
        """Counts openings and closings of the port."""
        self._listener: Listener | None = None
        self._tasks: TaskGroup | None = None

    # --- where it is ---

    @property
    def address(self) -> tuple[str, int]:
        """Host and port.

        Raises:
            RuntimeError: It does not run.
        """
        return self._running[0].address

    def client_context(self) -> ssl.SSLContext:
        """A client's TLS context that trusts this certificate.

        Raises:
            RuntimeError: It made no certificate.
        """
        if self.identity is None:
            message = f"this {type(self).__name__} has no identity of its own: give tls=True or tls=self_signed()"
            raise RuntimeError(message)
        return self.identity.client_context()

    @property
    def connections(self) -> int:
        """How many connections stand now."""
        return len(self._connections)

    @property
    def accepted(self) -> int:
        """How many connections were accepted so far."""
        return self._accepted

    @property
    def listening(self) -> bool:
        """Whether the port is open."""
        return self._listener is not None and self._listener.listening and not self._listener.black_hole

    # --- what it will do ---

    def script(self, *scripts: ScriptLike) -> None:
        """Give the next connections one script each; those after them are healthy.

        Raises:
            ValueError: A script has no meaning, or asks for what cannot be done here.
        """
        self._scripts.extend(self._check(Script.of(script)) for script in scripts)
        if self._listener is not None:
            self._tell(self._prepare_next)

    def sprinkle(self, script: ScriptLike, *, share: float = 0.1) -> None:
        """Give ``script`` to a share of all connections that have none of their own.

        Which ones depends on nothing but the seed and the number of the connection. ``share`` is from 0 to 1; of
        several scripts the first one that is drawn is taken.

        Raises:
            ValueError: As ``script``.
        """
        checked = self._check(Script.of(script)).require(_POINTS - {Point.CONNECT}, "sprinkle")
        self._sprinkled.append((checked, share))

    def clear_scripts(self) -> None:
        """Forget every script that has not begun, and end ``sprinkle``."""
        self._scripts.clear()
        self._sprinkled.clear()

    # --- what it does now ---

    def reset_idle(self) -> None:
        """Reset the connections that have had an exchange and wait for the next."""
        self._end(Link.rst, "rst", idle=True)

    def fin_idle(self, *, close_notify: bool = True) -> None:
        """Close the connections that have had an exchange and wait for the next, without TLS's goodbye if told so."""
        self._end(lambda link: link.fin(close_notify=close_notify), "fin", idle=True)

    def reset_all(self) -> None:
        """Reset every connection, whatever it does."""
        self._end(Link.rst, "rst", idle=False)

    def refuse(self, seconds: float | None = None) -> None:
        """Close the port, for so many seconds or until ``heal``. Connections that stand are left alone."""
        self._tell(lambda: self._shut(Action.REFUSE, seconds))

    def black_hole(self, seconds: float | None = None) -> None:
        """Be dead to everybody: connects and connections that stand go unanswered and unacknowledged (Linux).

        Raises:
            OSError: The platform is not Linux.
        """

        def swallow() -> None:
            self._shut(Action.BLACK_HOLE, None)
            for connection in self._connections.values():
                connection.faulty.link.black_hole()
            if seconds is not None:
                self._running[1].start_soon(self._after, seconds, self._shuts, self._heal)

        self._tell(swallow)

    def restart(self, *, down: float = 0.0) -> None:
        """A restart: every connection is reset and the port is closed for ``down`` seconds; 0 opens it at once."""
        self.refuse(down)
        self.reset_all()

    def heal(self) -> None:
        """Open the port and end all that lasts: black holes, stalls, dripping. Scripts that wait are kept."""
        self._tell(self._heal)

    # --- for subclasses ---

    @abc.abstractmethod
    async def _talk(self, connection: Connection) -> None:
        """Speak on a connection until it is over; it is closed in an orderly way afterwards."""

    def _tell(self, command: Callable[[], object]) -> None:
        """Run ``command`` in the object's event loop."""
        command()

    def _check(self, script: Script) -> Script:
        who = type(self).__name__
        return (
            script.require(_POINTS, who)
            if self._http2
            else script.require(_POINTS - {Point.FRAME}, f"{who} without http2=True")
        )

    # --- inside ---

    @property
    def _running(self) -> tuple[Listener, TaskGroup]:
        if self._listener is None or self._tasks is None:
            message = f"{type(self).__name__} is not running: use it in a with statement"
            raise RuntimeError(message)
        return self._listener, self._tasks

    @asynccontextmanager
    async def _live(self) -> AsyncGenerator[None]:
        self._listener = Listener(*self._bind)
        failure: Exception | None = None
        try:
            async with anyio.create_task_group() as tasks:
                self._tasks = tasks
                self._listener.open()
                self._prepare_next()
                tasks.start_soon(self._accept)
                try:
                    yield
                except Exception as error:  # noqa: BLE001 - raised again below, not wrapped in an exception group
                    failure = error
                self._end_all(Link.rst, "rst", idle=False)
                tasks.cancel_scope.cancel()
        finally:
            self._listener.close()
            self._listener = self._tasks = None
        if failure is not None:
            raise failure

    async def _accept(self) -> None:
        listener, tasks = self._running
        while True:
            sock = await listener.accept()
            self._accepted += 1
            script = self._scripts.popleft() if self._scripts else self._draw(self._accepted)
            self._prepare_next()
            tasks.start_soon(self._serve, sock, self._accepted, script)

    def _draw(self, number: int) -> Script:
        dice = random.Random(f"{self._seed} {number}")  # noqa: S311 - reproducible is what it must be
        return next((script for script, share in self._sprinkled if dice.random() < share), _HEALTHY)

    def _prepare_next(self) -> None:
        """Close the port if the next connection is to be refused or swallowed: nobody can do it later."""
        while self._scripts:
            script = self._scripts[0]
            before = [fault for fault in script if fault.action is Action.REFUSE]
            before += [f for f in script if f.action is Action.BLACK_HOLE and f.point is Point.CONNECT]
            if not before or not self.listening:
                return
            rest = Script(tuple(fault for fault in script if fault not in before))
            self._scripts[0] = rest
            self._shut(before[0].action, before[0].value)

    def _shut(self, action: Action, seconds: float | None) -> None:
        listener, tasks = self._running
        if action is Action.REFUSE:
            listener.refuse()
        else:
            listener.swallow()
        self._shuts += 1
        self.journal.note("listener", detail=action)
        if seconds is not None:
            tasks.start_soon(self._after, seconds, self._shuts, self._open)

    async def _after(self, seconds: float, shut: int, command: Callable[[], None]) -> None:
        """Run ``command`` later, unless the port has been opened or shut again meanwhile."""
        await anyio.sleep(seconds)
        if shut == self._shuts:
            command()

    def _open(self) -> None:
        self._running[0].open()
        self._shuts += 1
        self.journal.note("listener", detail="open")
        self._prepare_next()

    def _heal(self) -> None:
        for connection in self._connections.values():
            connection.faulty.link.black_hole(drop=False)
            connection.faulty.heal()
        self._open()

    def _end(self, how: Callable[[Link], None], name: str, *, idle: bool) -> None:
        self._tell(lambda: self._end_all(how, name, idle=idle))

    def _end_all(self, how: Callable[[Link], None], name: str, *, idle: bool) -> None:
        for connection in self._connections.values():
            if connection.idle or not idle:
                self.journal.note("fault", connection.number, f"{name} on command")
                connection.end(how)

    async def _serve(self, sock: socket.socket, number: int, script: Script) -> None:
        link = Link(sock, self._context)
        if self._buffer is not None:
            link.limit_buffers(self._buffer)
        self.journal.note("connected", number)
        faulty = FaultyLink(link, script, lambda fault: self.journal.note("fault", number, str(fault)))
        detail = ""
        with anyio.CancelScope() as scope:
            connection = self._connections[number] = Connection(number, faulty, scope)
            try:
                await self._talk(connection)
                link.fin()
            except LinkEnded as end:
                detail = str(end)
                link.fin(close_notify=False)  # nothing is left to do but to free the descriptor
            finally:
                link.rst()  # cancelled: nothing if it was ended before
                del self._connections[number]
                self.journal.note("closed", number, detail)
