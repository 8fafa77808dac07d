"""``SCENARIOS``: ways in which servers fail their clients, as data: what the server does, what is sent, what is right.

Each is run with a fresh client against a fresh server::

    for scenario in SCENARIOS:
        with scenario.server() as server:
            for number, request in enumerate(scenario.requests, 1):
                response = client.request(request.method, server.url + request.path, content=request.body)
                if number < len(scenario.requests):
                    server.wait_for("fault", count=scenario.settle)  # the next request meets what has happened
            assert scenario.allows(server.ledger.count(scenario.path))

Not responsible for clients, nor for showing results.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from .messages import Answer, Framing
from .server import ChaosServer

if TYPE_CHECKING:
    import ssl

    from .certificates import Identity

__all__ = ["SCENARIOS", "Scenario", "ScriptedRequest"]

_LARGE = bytes(range(256)) * 256
"""64 KiB."""
_UPLOAD = b"upload! " * 2_000_000
"""16 MB: more than the buffers of a connection hold, so that the server answers while the client still sends."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedRequest:
    """One request that the client makes."""

    method: str
    path: str
    body: bytes = b""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One way to fail."""

    name: str
    """A few words, unique; fit for a table."""
    story: str
    """What the server does, in one sentence."""
    right: str
    """What a client should make of it, in one sentence."""
    requests: tuple[ScriptedRequest, ...]
    """In order, on one client. The last one is the one that matters."""
    connections: tuple[str, ...] = ()
    """A script for each of the first connections."""
    exchange: str | None = None
    """A script for the first exchange of the last request's path."""
    answer: Answer | None = None
    """The answer to the last request; None: the server echoes."""
    settle: int = 0
    """How many faults have to strike before the last request is made."""
    status: int | None
    """What the last request should come to; None: an error, since there is no honest answer."""
    executions: tuple[int, int]
    """How often the server may execute the last request, at least and at most, whatever the client does about it."""

    @property
    def path(self) -> str:
        """The path of the last request."""
        return self.requests[-1].path

    def allows(self, executions: int) -> bool:
        """Whether the last request may have been executed so often."""
        least, most = self.executions
        return least <= executions <= most

    def server(self, *, tls: bool | Identity | ssl.SSLContext = True) -> ChaosServer:
        """A server that is ready to fail in this way, to be used in a with statement.

        Raises:
            ImportError: ``tls=True`` with neither trustme nor cryptography.
        """
        server = ChaosServer(tls=tls)
        server.script(*self.connections)
        if self.exchange is not None:
            server.script(self.exchange, path=self.path)
        if self.answer is not None:
            server.answer(self.path, self.answer)
        return server


_WARM_UP = ScriptedRequest(method="GET", path="/warm-up")
_READ = ScriptedRequest(method="GET", path="/read")
_ORDER = ScriptedRequest(method="POST", path="/order", body=b"one of everything")

SCENARIOS = (
    Scenario(
        name="resets an idle connection",
        story="After the first answer the server resets the connection, which waits in the client's pool.",
        right="Nothing was written on the dead connection: send it on a new one, whatever the method.",
        requests=(_WARM_UP, _ORDER),
        connections=("idle:0 rst",),
        settle=1,
        status=200,
        executions=(1, 1),
    ),
    Scenario(
        name="closes an idle connection without close_notify",
        story="After the first answer the server closes the TCP connection and skips TLS's close_notify.",
        right="As before: nothing was written, nothing is lost.",
        requests=(_WARM_UP, _ORDER),
        connections=("idle:0 fin_without_close_notify",),
        settle=1,
        status=200,
        executions=(1, 1),
    ),
    Scenario(
        name="refuses the first connects",
        story="The port is closed for 0.3 s, as in a deployment.",
        right="Nothing can have been sent: connect again after a short pause, whatever the method.",
        requests=(_ORDER,),
        connections=("connect refuse=0.3",),
        status=200,
        executions=(1, 1),
    ),
    Scenario(
        name="resets in the TLS handshake",
        story="The server resets the first two connections after the ClientHello.",
        right="No request byte has left before the handshake is over: try again, whatever the method.",
        requests=(_ORDER,),
        connections=("handshake rst", "handshake rst"),
        status=200,
        executions=(1, 1),
    ),
    Scenario(
        name="resets before it answers a GET",
        story="On a reused connection the server executes a GET and resets instead of answering.",
        right="A GET may be repeated: send it again on a new connection.",
        requests=(_WARM_UP, _READ),
        connections=("response#2:0 rst",),
        status=200,
        executions=(1, 2),
    ),
    Scenario(
        name="half-closes, executes a POST, resets",
        story="The server sends FIN as a POST arrives on a reused connection, executes it all the same, and resets.",
        right="It may have been executed, and it was: report an error and never send it again.",
        requests=(_WARM_UP, _ORDER),
        connections=("request#2:0 half_close; response#2:0 rst",),
        status=None,
        executions=(0, 1),
    ),
    Scenario(
        name="cuts a body with a length",
        story="The server closes in the middle of a body whose length it had announced.",
        right="A truncated body is an error.",
        requests=(_READ,),
        exchange="response:20000 fin",
        answer=Answer(body=_LARGE),
        status=None,
        executions=(1, 1),
    ),
    Scenario(
        name="cuts a chunked body",
        story="The server resets in the middle of a chunked body.",
        right="A truncated body is an error.",
        requests=(_READ,),
        exchange="response:20000 rst",
        answer=Answer(body=_LARGE, framing=Framing.CHUNKED),
        status=None,
        executions=(1, 1),
    ),
    Scenario(
        name="cuts a body that ends with the connection",
        story="Only the end of the connection ends the body, and it ends early, without TLS's close_notify.",
        right="Without close_notify nobody knows whether that was all: an error, not a short body.",
        requests=(_READ,),
        exchange="response:20000 fin_without_close_notify",
        answer=Answer(body=_LARGE, framing=Framing.CLOSE),
        status=None,
        executions=(1, 1),
    ),
    Scenario(
        name="answers 413 early and resets",
        story="The server answers 413 when it has seen the head of a large upload, reads no more, and resets.",
        right="The answer arrived before the reset: deliver it.",
        requests=(ScriptedRequest(method="POST", path="/upload", body=_UPLOAD),),
        exchange="response:end rst",
        answer=Answer(status=413, early=True, body=b"too large"),
        status=413,
        executions=(0, 0),
    ),
)
"""The scenarios of the demo, in the order of a request's life."""
