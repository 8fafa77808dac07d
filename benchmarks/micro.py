"""The parts by themselves: nanoseconds of CPU per call, the median and the least of interleaved rounds.

What does I/O runs against a socket pair or against memory, so that the number is the part's own. Run it with
``nox -s bench -- micro``; ``--only pool`` takes those whose name has the word in it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import socket
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from holdwire.events import Observers
from holdwire.http.connection import Attempt, HttpConnection
from holdwire.http.head import encode_head
from holdwire.http.messages import Origin, Request
from holdwire.http.parser import ResponseReader
from holdwire.http.pool import OriginStats, Pool, PoolLimits
from holdwire.net.stream import SocketStream
from holdwire.policy.budget import RetryBudget
from holdwire.policy.flight import Flight, Mark
from holdwire.policy.kind import Kind
from holdwire.policy.outcome import Outcome
from holdwire.policy.phase import Phase, Sent
from holdwire.policy.retry import History, Rules, decide
from holdwire.testing.certificates import self_signed
from holdwire.tls.engine import Engine

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from holdwire.http.messages import Response

_ROUNDS: Final = 15
_CALLS: Final = 1000
_ORIGIN: Final = Origin("http", "api.example", 80)
_HEADERS: Final = [
    (b"Host", b"api.example"),
    (b"Accept", b"*/*"),
    (b"Accept-Encoding", b"gzip, deflate"),
    (b"Connection", b"keep-alive"),
    (b"User-Agent", b"python-httpx/0.28.1"),
]
_ANSWER: Final = (
    b"HTTP/1.1 200 OK\r\nServer: bench\r\nDate: Tue, 24 Nov 2026 00:00:00 GMT\r\nContent-Type: text/plain\r\n"
    b"Content-Length: 13\r\n\r\nHello, World!"
)


def _request() -> Request:
    return Request(b"GET", _ORIGIN, b"/", _HEADERS)


class _Idle(HttpConnection):
    """A connection that does nothing, for the pool."""

    __slots__ = ()

    @property
    def capacity(self) -> int:
        return 1

    @property
    def active(self) -> int:
        return 0

    @property
    def waiting(self) -> Attempt | None:
        return None

    async def exchange(self, attempt: Attempt) -> Response:
        raise NotImplementedError

    def rest(self) -> None:
        self.idle_since = time.monotonic()

    def wake(self) -> None:
        pass


def _parts() -> dict[str, Callable[[], object]]:
    """What needs no event loop."""
    request = _request()
    reader, flight, stats = ResponseReader(), Flight(), OriginStats()
    budget = RetryBudget().of(_ORIGIN)
    outcome = Outcome(kind=Kind.CONNECTION_RESET, phase=Phase.RESPONSE_WAIT, sent=Sent.ALL, idempotent=True)
    history, rules = History(), Rules()

    def parse() -> None:
        reader.begin(b"GET")
        reader.feed(_ANSWER)
        assert reader.complete

    def happy() -> None:
        flight.append((1.0, Mark.REQUEST, 1))
        flight.append((1.0, Mark.RESPONSE, 200))
        flight.append((1.0, Mark.IDLE, -1))
        stats.reused += 1
        stats.ok += 1

    return {
        "request: make": _request,
        "request: encode the head": lambda: encode_head(request),
        "attempt: make": lambda: Attempt(request),
        "parser: one small response": parse,
        "verdict: one failed attempt": lambda: decide(outcome, history, rules),
        "budget: deposit": lambda: budget.deposit(1.0),
        "telemetry: a happy request": happy,
    }


def _tls() -> dict[str, Callable[[], object]]:
    """The engine, two of them talking to each other in memory."""
    identity = self_signed()
    client = Engine(identity.client_context(), server_hostname="localhost")
    server = Engine(identity.server_context(), server_side=True)
    for _ in range(4):
        for one, other in ((client, server), (server, client)):
            one.handshake()
            if one.pending:
                other.feed(memoryview(one.take()))
    block = bytes(16_384)

    def exchange() -> None:
        server.write(block)
        client.feed(memoryview(server.take()))
        assert len(client.read(65_536)) == len(block)  # type: ignore[arg-type]

    return {"tls: encrypt, move and decrypt 16 KiB": exchange}


async def _streams() -> dict[str, Callable[[], Awaitable[object]]]:
    """What needs a running loop."""
    left, right = socket.socketpair()
    stream, far = SocketStream(left, host="a"), SocketStream(right, host="b")
    data = bytes(100)

    async def connect(attempt: Attempt) -> HttpConnection:
        return _Idle(SocketStream(socket.socketpair()[0], host="c"), attempt.request.origin, max_age=None)

    pool = Pool(connect, limits=PoolLimits(), sharable=lambda _: False, notify=Observers())
    attempt = Attempt(_request())

    async def lend() -> None:
        connection = await pool.acquire(attempt)
        pool.on_idle(connection)

    async def ping() -> None:
        await stream.write(data)
        await far.read(100)

    async def ping_waiting() -> None:
        reading = asyncio.ensure_future(far.read(100))
        await asyncio.sleep(0)
        await stream.write(data)
        await reading

    return {
        "pool: lend and take back": lend,
        "stream: write and read 100 B": ping,
        "stream: the same, the reader waiting in a task": ping_waiting,
    }


async def _measure(only: str) -> dict[str, list[float]]:
    calls: dict[str, Any] = {**_parts(), **_tls()}
    awaited = await _streams()
    found: dict[str, list[float]] = {name: [] for name in (*calls, *awaited) if only in name}
    for number in range(_ROUNDS + 1):
        for name, costs in found.items():
            gc.collect()
            if name in calls:
                call = calls[name]
                began = time.thread_time_ns()
                for _ in range(_CALLS):
                    call()
            else:
                work = awaited[name]
                began = time.thread_time_ns()
                for _ in range(_CALLS):
                    await work()
            if number:
                costs.append((time.thread_time_ns() - began) / _CALLS)
    return found


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="")
    found = asyncio.run(_measure(parser.parse_args().only))
    print(f"{'part':<50}{'ns median':>12}{'least':>10}")
    for name, costs in found.items():
        print(f"{name:<50}{statistics.median(costs):>12.0f}{min(costs):>10.0f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
