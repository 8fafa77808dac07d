"""``ChaosServer``: an HTTP server that misbehaves on command and keeps a ledger of what it really executed.

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

With ``http2=True`` it speaks HTTP/2 to those who choose it (``_http2``), and scripts may say ``frame``.

Rules of the file: all state of connections belongs to the server's own loop. Commands go there and return when they
are carried out; an event loop that issues one is held up for some microseconds. Not responsible for the meaning of
faults (``_faulty``), nor for HTTP's bytes (``messages``).
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, final

import anyio

from ..policy.authority import authority
from ._background import Background
from ._frames import PREFACE
from .faults import Point, Script
from .ledger import Ledger
from .messages import Answer, BadRequestError, Reader, Request, parse_head

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from typing import TypeAlias

    from ._chaos import Connection, ScriptLike
    from ._faulty import FaultyLink
    from ._link import Link
    from .certificates import Identity

    Handler: TypeAlias = Callable[[Request], Answer]

__all__ = ["ChaosServer"]

_IN_A_REQUEST = frozenset({Point.IDLE, Point.REQUEST, Point.RESPONSE, Point.FRAME})
_ANY = "*"
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
        http2: Speak HTTP/2 too: with TLS where ALPN chooses it (with a context of yours: what it offers), without TLS
            to a client that begins with it. Needs the extra ``http2``.

    Raises:
        ImportError: ``tls=True`` with neither trustme nor cryptography, or ``http2=True`` without hpack.
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
        http2: bool = False,
    ) -> None:
        super().__init__(tls=tls, host=host, port=port, seed=seed, buffer=buffer, http2=http2)
        if http2 and find_spec("hpack") is None:
            message = "ChaosServer(http2=True) needs hpack: pip install 'holdwire[http2]'"
            raise ImportError(message)
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
        return f"{scheme}://{authority(host, port)}"

    def script(self, *scripts: ScriptLike, path: str | None = None) -> None:
        """Give the next connections, or the next requests for ``path``, one script each; later ones are healthy.

        A script for a path begins with the head of its request already read: ``request`` faults inside it strike
        at once. ``"*"`` is for all paths without a script of their own.

        Raises:
            ValueError: A script has no meaning, or asks for what this server cannot do; or no request has such a path.
        """
        if path is None:
            super().script(*scripts)
        else:
            checked = [
                self._check(Script.of(script)).require(_IN_A_REQUEST, "a script for a path") for script in scripts
            ]
            self._path_scripts.setdefault(_checked(path), deque()).extend(checked)

    def clear_scripts(self) -> None:
        """Forget every script that has not begun, and end ``sprinkle``."""
        super().clear_scripts()
        self._path_scripts.clear()

    def answer(self, path: str, *answers: Answer) -> None:
        """Answer requests for ``path`` with ``answers``, one after another; the last one stays.

        ``"*"`` is for all paths that have neither answers nor a handler.

        Raises:
            ValueError: No answer was given, or no request has such a path.
        """
        if not answers:
            message = f"give at least one answer for {path}"
            raise ValueError(message)
        self._answers[_checked(path)] = deque(answers)

    def handle(self, path: str, handler: Handler) -> None:
        """Answer requests for ``path`` with ``handler(request)``, called in the server's thread.

        ``handle("*", ...)`` is for all other paths. Answers given with ``answer`` come first; only they can be early.

        Raises:
            ValueError: No request has such a path.
        """
        self._handlers[_checked(path)] = handler

    # --- inside: runs in the server's loop ---

    async def _talk(self, connection: Connection) -> None:
        faulty = connection.faulty
        await faulty.connected()
        await faulty.handshake()
        if faulty.link.secure:
            self.journal.note("secured", connection.number)
        first = await self._first_bytes(faulty) if self._http2 else b""
        if faulty.link.protocol == "h2" or first == PREFACE:
            await self._talk_http2(connection, first)
            return
        reader = Reader(faulty.receive)
        while True:
            if connection.idle and not reader.buffer:
                first = await faulty.wait_idle()
                if not first:
                    return
            connection.idle = False
            faulty.begin()
            if first:
                reader.buffer += await faulty.arrived(first)
                first = b""
            try:
                goes_on = await self._exchange(connection, reader)
            except BadRequestError as error:
                self.journal.note("rejected", connection.number, str(error))
                return
            if not goes_on:
                return
            connection.idle = True
            self.journal.note("idle", connection.number)

    async def _first_bytes(self, faulty: FaultyLink) -> bytes:
        """The first bytes without TLS: the preface of HTTP/2, or what shows that they are none."""
        data = b""
        while not faulty.link.secure and data != PREFACE and PREFACE.startswith(data):
            more = await faulty.receive_any(len(PREFACE) - len(data))
            if not more:
                break
            data += more
        return data

    async def _talk_http2(self, connection: Connection, first: bytes) -> None:
        from ._http2 import Http2Talk  # noqa: PLC0415 - needs an extra

        try:
            await Http2Talk(connection, self).run(first)
        except BadRequestError as error:
            self.journal.note("rejected", connection.number, str(error))

    async def _exchange(self, connection: Connection, reader: Reader) -> bool:
        """Serve one request; whether another one can follow."""
        faulty = connection.faulty
        head = await reader.head()
        if head is None:
            return False
        request = parse_head(head, connection=connection.number, exchange=faulty.exchange)
        self.journal.note("request", connection.number, f"{request.method} {request.target}")
        if script := self.script_for(request.path):
            faulty.add(script)
            await faulty.catch_up()
        answer = self.next_answer(request.path)
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
        answer = self.execute(request, answer)
        await self._reply(connection, request, answer)
        return not answer.ends_connection(request)

    async def _reply(self, connection: Connection, request: Request, answer: Answer) -> None:
        await connection.faulty.send(answer.encode(request))
        self.journal.note("answered", connection.number, str(answer.status))
        await connection.faulty.response_over()

    def script_for(self, path: str) -> Script | None:
        """Take the next script for ``path``."""
        scripts = self._path_scripts.get(path if path in self._path_scripts else _ANY)
        return scripts.popleft() if scripts else None

    def execute(self, request: Request, answer: Answer | None) -> Answer:
        """Execute a request that has arrived whole; ``answer`` is of ``next_answer``."""
        self.ledger.record(request)
        self.journal.note("executed", request.connection, f"{request.method} {request.target}")
        return answer or (self._handlers.get(request.path) or self._handlers.get(_ANY) or _echo)(request)

    def next_answer(self, path: str) -> Answer | None:
        """Take the next answer that was given for ``path``; the last one stays."""
        answers = self._answers.get(path if path in self._answers or path in self._handlers else _ANY)
        if answers is None:
            return None
        return answers.popleft() if len(answers) > 1 else answers[0]

    async def _linger(self, link: Link) -> None:
        """Let the client read an early answer before what it still sends is met by a reset."""
        link.half_close()
        with anyio.move_on_after(_LINGER):
            while await link.receive():
                pass


def _checked(path: str) -> str:
    """``path``, if a request can have it: what begins with a slash, a URL or ``host:port`` (for proxies), or any."""
    if path != _ANY and not path.startswith("/") and ":" not in path:
        raise ValueError(f"path={path!r}: no request has it; begin it with a slash, or give '*' for any")
    if "?" in path:
        raise ValueError(f"path={path!r}: leave out the query, which is not looked at")
    return path


def _echo(request: Request) -> Answer:
    return Answer(body=request.body or b"hello\n")
