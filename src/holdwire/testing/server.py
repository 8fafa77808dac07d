"""``ChaosServer``: an HTTP/1.1 server that misbehaves on command and keeps a ledger of what it really executed.

It runs in a thread of its own, so that it serves clients on any event loop, and blocking ones::

    with ChaosServer(tls=True) as server:
        server.script("", "request:0 rst")               # the first connection is healthy, the second is not
        server.script("response:10 rst", path="/cut")    # the first request for /cut
        server.answer("/upload", Answer(status=413, early=True))
        client = httpx.Client(verify=server.client_context())
        client.get(f"{server.url}/x")
        server.reset_idle()
        server.wait_for("closed")
        assert server.ledger.count("/x") == 1

Rules of the file: all state of connections belongs to the server's own loop. Commands go there and return when they
are carried out; an event loop that issues one is held up for some microseconds. Not responsible for the meaning of
faults (``_faulty``), nor for HTTP's bytes (``messages``).
"""

from __future__ import annotations

import random
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, final

import anyio

from ._background import Background
from ._faulty import FaultyLink
from ._link import Link, LinkEnded
from ._listener import Listener
from .certificates import Identity, self_signed
from .faults import CALLS, Action, Fault, Point, Script
from .ledger import Journal, Ledger
from .messages import Answer, BadRequestError, Reader, Request, parse_head

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import AsyncIterator, Callable, Iterable
    from typing import TypeAlias

    from anyio.abc import TaskGroup

    ScriptLike: TypeAlias = Script | Fault | Iterable[Fault] | str
    Handler: TypeAlias = Callable[[Request], Answer]

__all__ = ["ChaosServer"]

_POINTS = frozenset(Point) - CALLS - {Point.FRAME}
_HEALTHY = Script()
_LINGER = 1.0
"""Seconds; as long as a client may take to read an early answer."""


@final
class _Connection:
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


@final
class ChaosServer(Background):
    """See the module. Without scripts and answers it is a decent server that echoes bodies.

    Args:
        tls: True makes a certificate for localhost; an ``Identity`` or a server-side context is used as it is.
        host, port: Where to listen; port 0 takes a free one.
        seed: For ``sprinkle``.
        buffer: Size in bytes of the kernel's buffers of each connection; small ones make windows close soon.

    Raises:
        ImportError: ``tls=True`` with neither trustme nor cryptography.
        OSError: At ``with``: the port is taken.
    """

    def __init__(
        self,
        *,
        tls: bool | Identity | ssl.SSLContext = False,
        host: str = "127.0.0.1",
        port: int = 0,
        seed: int = 0,
        buffer: int | None = None,
    ) -> None:
        super().__init__()
        self.identity = self_signed() if tls is True else tls if isinstance(tls, Identity) else None
        """The certificate and its authority, where the server has them."""
        self._context = self.identity.server_context(alpn=("http/1.1",)) if self.identity else tls or None
        self._bind = (host, port)
        self._seed = seed
        self._buffer = buffer
        self.ledger = Ledger()
        """What was executed."""
        self.journal = Journal()
        """What happened; ``wait_for`` and ``until`` are its methods."""
        self.wait_for = self.journal.wait_for
        self.until = self.journal.until
        self._scripts: deque[Script] = deque()
        self._path_scripts: dict[str, deque[Script]] = {}
        self._sprinkled: list[tuple[Script, float]] = []
        self._answers: dict[str, deque[Answer]] = {}
        self._handlers: dict[str, Handler] = {}
        self._connections: dict[int, _Connection] = {}
        self._accepted = 0
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

    @property
    def url(self) -> str:
        """Scheme, host and port, without a slash at the end."""
        host, port = self.address
        scheme = "http" if self._context is None else "https"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    def client_context(self) -> ssl.SSLContext:
        """A client's TLS context that trusts this server.

        Raises:
            RuntimeError: The server made no certificate.
        """
        if self.identity is None:
            message = "this server has no identity of its own: give tls=True or tls=self_signed()"
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

    def script(self, *scripts: ScriptLike, path: str | None = None) -> None:
        """Give the next connections, or the next requests for ``path``, one script each; later ones are healthy.

        A script for a path begins with the head of its request already read: ``request`` faults inside it strike
        at once.

        Raises:
            ValueError: A script has no meaning, or asks for what an HTTP/1.1 server cannot do.
        """
        points = _POINTS if path is None else {Point.IDLE, Point.REQUEST, Point.RESPONSE}
        queue = self._scripts if path is None else self._path_scripts.setdefault(path, deque())
        queue.extend(Script.of(script).require(points, "ChaosServer") for script in scripts)
        if path is None and self._listener is not None:
            self._tell(self._prepare_next)

    def sprinkle(self, script: ScriptLike, *, share: float = 0.1) -> None:
        """Give ``script`` to a share of all connections that have none of their own.

        Which ones depends on nothing but the seed and the number of the connection.

        Raises:
            ValueError: As ``script``.
        """
        self._sprinkled.append((Script.of(script).require(_POINTS - {Point.CONNECT}, "sprinkle"), share))

    def clear_scripts(self) -> None:
        """Forget every script that has not begun, and end ``sprinkle``."""
        self._scripts.clear()
        self._path_scripts.clear()
        self._sprinkled.clear()

    def answer(self, path: str, *answers: Answer) -> None:
        """Answer requests for ``path`` with ``answers``, one after another; the last one stays.

        Raises:
            ValueError: No answer was given.
        """
        if not answers:
            message = f"give at least one answer for {path}"
            raise ValueError(message)
        self._answers[path] = deque(answers)

    def handle(self, path: str, handler: Handler) -> None:
        """Answer requests for ``path`` with ``handler(request)``, called in the server's thread.

        ``handle("*", ...)`` is for all other paths. Answers given with ``answer`` come first; only they can be early.
        """
        self._handlers[path] = handler

    # --- what it does now ---

    def reset_idle(self) -> None:
        """Reset the connections that have had an exchange and wait for the next."""
        self._end(Link.rst, "rst", idle=True)

    def fin_idle(self, *, close_notify: bool = True) -> None:
        """Close the connections that have had an exchange and wait for the next."""
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
            self._shut(Action.BLACK_HOLE, seconds)
            for connection in self._connections.values():
                connection.faulty.link.black_hole()

        self._tell(swallow)

    def restart(self, *, down: float = 0.0) -> None:
        """A rolling restart: every connection is reset and the port is closed for ``down`` seconds."""
        self.refuse(down)
        self.reset_all()

    def heal(self) -> None:
        """Open the port and end all that lasts: black holes, stalls, dripping. Scripts that wait are kept."""
        self._tell(self._heal)

    # --- inside: everything below runs in the server's loop ---

    @property
    def _running(self) -> tuple[Listener, TaskGroup]:
        if self._listener is None or self._tasks is None:
            message = "ChaosServer is not running: use it in a with statement"
            raise RuntimeError(message)
        return self._listener, self._tasks

    @asynccontextmanager
    async def _live(self) -> AsyncIterator[None]:
        self._listener = Listener(*self._bind)
        try:
            async with anyio.create_task_group() as tasks:
                self._tasks = tasks
                self._listener.open()
                self._prepare_next()
                tasks.start_soon(self._accept)
                yield
                self._end_all(Link.rst, "rst", idle=False)
                tasks.cancel_scope.cancel()
        finally:
            self._listener.close()
            self._listener = self._tasks = None

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
        self.journal.note("listener", detail=action)
        if seconds is not None:
            tasks.start_soon(self._reopen, seconds)

    async def _reopen(self, seconds: float) -> None:
        await anyio.sleep(seconds)
        self._heal()

    def _heal(self) -> None:
        self._running[0].open()
        for connection in self._connections.values():
            connection.faulty.link.black_hole(drop=False)
            connection.faulty.heal()
        self.journal.note("listener", detail="open")
        self._prepare_next()

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
            connection = self._connections[number] = _Connection(number, faulty, scope)
            try:
                await self._exchanges(connection)
                link.fin()
            except LinkEnded as end:
                detail = str(end)
                link.fin(close_notify=False)  # nothing is left to do but to free the descriptor
            except BadRequestError as error:
                detail = str(error)
                link.fin()
            finally:
                link.rst()  # cancelled: nothing if it was ended before
                del self._connections[number]
                self.journal.note("closed", number, detail)

    async def _exchanges(self, connection: _Connection) -> None:
        faulty = connection.faulty
        await faulty.connected()
        await faulty.handshake()
        if faulty.link.secure:
            self.journal.note("secured", connection.number)
        reader = Reader(faulty.receive)
        while True:
            if connection.idle and not reader.buffer:
                first = await faulty.wait_idle()
                if not first:
                    return
                connection.idle = False
                faulty.begin()
                reader.buffer += await faulty.arrived(first)
            else:
                connection.idle = False
                faulty.begin()
            if not await self._exchange(connection, reader):
                return
            connection.idle = True
            self.journal.note("idle", connection.number)

    async def _exchange(self, connection: _Connection, reader: Reader) -> bool:
        """Serve one request; whether another one can follow."""
        faulty = connection.faulty
        head = await reader.head()
        if head is None:
            return False
        request = parse_head(head, connection=connection.number, exchange=faulty.exchange)
        self.journal.note("request", connection.number, f"{request.method} {request.target}")
        if scripts := self._path_scripts.get(request.path):
            faulty.add(scripts.popleft())
        answer = self._next_answer(request.path)
        if answer is not None and answer.early:
            await self._reply(connection, request, answer)
            if answer.ends_connection(request):
                await self._linger(faulty.link)
                return False
            return True
        if (request.header("expect") or "").lower() == "100-continue":
            await faulty.link.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        request = replace(request, body=await reader.body(request))
        await faulty.request_over()
        self.ledger.record(request)
        self.journal.note("executed", connection.number, f"{request.method} {request.target}")
        if answer is None:
            answer = (self._handlers.get(request.path) or self._handlers.get("*") or _echo)(request)
        await self._reply(connection, request, answer)
        return not answer.ends_connection(request)

    async def _reply(self, connection: _Connection, request: Request, answer: Answer) -> None:
        await connection.faulty.send(answer.encode(request))
        self.journal.note("answered", connection.number, str(answer.status))
        await connection.faulty.response_over()

    def _next_answer(self, path: str) -> Answer | None:
        answers = self._answers.get(path)
        if answers is None:
            return None
        return answers.popleft() if len(answers) > 1 else answers[0]

    async def _linger(self, link: Link) -> None:
        """Let the client read an early answer before what it still sends is met by a reset."""
        link.half_close()
        with anyio.move_on_after(_LINGER):
            while await link.receive():
                pass


def _echo(request: Request) -> Answer:
    return Answer(body=request.body or b"hello\n")
