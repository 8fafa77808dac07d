"""``ChaosServer``: an HTTP/1.1 server that misbehaves on command and keeps a ledger of what it really executed.

It runs in a thread of its own, so that it serves clients on any event loop, and blocking ones::

    with ChaosServer(tls=True) as server:
        server.script("", "request:0 rst")  # the first connection is healthy, the second is not
        server.script("response:10 rst", path="/cut")  # the first request for /cut
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

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, final

import anyio

from ._background import Background
from .faults import Point, Script
from .ledger import Ledger
from .messages import Answer, BadRequestError, Reader, Request, parse_head

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from typing import TypeAlias

    from ._chaos import Connection, ScriptLike
    from ._link import Link
    from .certificates import Identity

    Handler: TypeAlias = Callable[[Request], Answer]

__all__ = ["ChaosServer"]

_IN_A_REQUEST = frozenset({Point.IDLE, Point.REQUEST, Point.RESPONSE})
_LINGER = 1.0
"""Seconds; as long as a client may take to read an early answer."""


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
        super().__init__(tls=tls, host=host, port=port, seed=seed, buffer=buffer)
        self.ledger = Ledger()
        """What was executed."""
        self._path_scripts: dict[str, deque[Script]] = {}
        self._answers: dict[str, deque[Answer]] = {}
        self._handlers: dict[str, Handler] = {}

    @property
    def url(self) -> str:
        """Scheme, host and port, without a slash at the end."""
        host, port = self.address
        scheme = "http" if self._context is None else "https"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    def script(self, *scripts: ScriptLike, path: str | None = None) -> None:
        """Give the next connections, or the next requests for ``path``, one script each; later ones are healthy.

        A script for a path begins with the head of its request already read: ``request`` faults inside it strike
        at once.

        Raises:
            ValueError: A script has no meaning, or asks for what an HTTP/1.1 server cannot do.
        """
        if path is None:
            super().script(*scripts)
        else:
            checked = [Script.of(script).require(_IN_A_REQUEST, "a script for a path") for script in scripts]
            self._path_scripts.setdefault(path, deque()).extend(checked)

    def clear_scripts(self) -> None:
        """Forget every script that has not begun, and end ``sprinkle``."""
        super().clear_scripts()
        self._path_scripts.clear()

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

    # --- inside: runs in the server's loop ---

    async def _talk(self, connection: Connection) -> None:
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
            try:
                goes_on = await self._exchange(connection, reader)
            except BadRequestError as error:
                self.journal.note("rejected", connection.number, str(error))
                return
            if not goes_on:
                return
            connection.idle = True
            self.journal.note("idle", connection.number)

    async def _exchange(self, connection: Connection, reader: Reader) -> bool:
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

    async def _reply(self, connection: Connection, request: Request, answer: Answer) -> None:
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
