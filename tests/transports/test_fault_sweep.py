"""Every system call of a scenario fails once, with every errno that it can have: what comes of it is the table's.

The oracle knows nothing of what the transport found out: it counts bytes at the sockets, and whether the request may
be repeated it reads off the request. Executions are counted by the server.
"""

from __future__ import annotations

import errno
import ssl
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

import anyio.lowlevel
import httpx
import pytest

import holdwire
from holdwire.events import ConnectionSetUp, FailureRecorded, RequestRetried
from holdwire.net.dial import substitute_sockets
from holdwire.policy.retry import Evidence
from holdwire.testing import Answer, ChaosServer, Framing
from holdwire.testing.faults import Action, Fault, Point, Script
from holdwire.testing.sockets import SocketPlan, sweep
from tests.conftest import running_tasks

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Mapping, Sequence

    import trustme

    from holdwire.events import Event
    from holdwire.http.pool import Pool

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

LARGE: Final = b"0123456789abcdef" * 20_000
SMALL: Final = LARGE[:700]
LOST: Final = (errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED)
SILENT: Final = (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN)
LACKING: Final = (errno.ENOBUFS, errno.ENOMEM)
OURS: Final = (errno.EBADF, errno.ENOTSOCK)
CONNECTING: Final = (errno.ECONNREFUSED, errno.ECONNRESET, *SILENT, *LACKING, errno.EADDRNOTAVAIL, errno.EACCES, *OURS)
ERRNOS: Final[dict[Point, tuple[int, ...]]] = {
    Point.CALL_SOCKET: (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EACCES),
    Point.CALL_CONNECT: CONNECTING,
    Point.CALL_GETSOCKOPT: CONNECTING,
    Point.CALL_SEND: (*LOST, *SILENT, *LACKING, *OURS),
    Point.CALL_RECV: (*LOST, *SILENT, errno.ENOMEM, *OURS),
    Point.CALL_SHUTDOWN: (errno.ENOTCONN, errno.EBADF),
}
FEW: Final[dict[Point, tuple[int, ...]]] = dict.fromkeys(
    (Point.CALL_SEND, Point.CALL_RECV), (errno.ECONNRESET, errno.EBADF)
)
"""For scenarios with many calls that differ in nothing but their number."""
HOPELESS: Final = frozenset({errno.EACCES, *OURS})
"""The same attempt would end the same way, or something in this process is wrong."""


class Pieces:
    """A body in pieces; no generator, since what httpx leaves unfinished trio would want to be closed."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if not self._data:
            raise StopAsyncIteration
        piece, self._data = self._data[:70_000], self._data[70_000:]
        return piece


@dataclass(frozen=True)
class Ask:
    """One request of a scenario."""

    method: str
    path: str
    body: bytes = b""
    streamed: bool = False

    @property
    def repeatable(self) -> bool:
        return self.method in {"GET", "PUT"}

    def arguments(self) -> dict[str, Any]:
        return {"content": Pieces(self.body) if self.streamed else self.body} if self.body else {}


GET, POST = Ask("GET", "/get"), Ask("POST", "/post", SMALL)
SCENARIOS: Final[dict[str, tuple[Ask, ...]]] = {
    "get": (GET,),
    "post": (POST,),
    "large post": (Ask("POST", "/post", LARGE),),
    "streaming upload": (Ask("POST", "/upload", LARGE, streamed=True),),
    "streamed put": (Ask("PUT", "/upload", LARGE, streamed=True),),
    "chunked download": (Ask("GET", "/download"),),
    "keep-alive": (GET, POST, GET, Ask("PUT", "/put", SMALL), POST),
}


@dataclass
class Bench:
    """One client under one plan, and what is known about it from the outside."""

    plan: SocketPlan
    server: ChaosServer
    context: ssl.SSLContext
    events: list[Event] = field(default_factory=list["Event"])
    sockets: list[socket.socket] = field(default_factory=list["socket.socket"])
    asked: int | None = None
    """The number of the present request; None between two, and while everything is being closed."""
    base: tuple[int, int] = (0, 0)
    """Bytes sent and received before the present request, the handshake's included."""
    connected: bool = False
    where: dict[str, Any] = field(default_factory=dict[str, Any])
    """What was known when the fault struck."""

    def __post_init__(self) -> None:
        self.plan.on_strike = self._struck

    def on_event(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, ConnectionSetUp) and event.connection_id is not None:
            self.base = (self.plan.sent, self.plan.received)
            self.connected = True

    def _struck(self, _: Fault) -> None:
        if not self.where:
            self.where = {
                "asked": self.asked,
                "connected": self.connected,
                "sent": self.plan.sent - self.base[0],
                "received": self.plan.received - self.base[1],
            }

    def open(self, family: int, type: int, proto: int) -> socket.socket:  # noqa: A002 - as socket.socket
        made = self.plan.open(family, type, proto)
        self.sockets.append(made)
        return made

    async def run(self, asks: tuple[Ask, ...], tag: str) -> list[httpx.Response | httpx.HTTPError]:
        """Make the requests in order, as far as they go; all connections are closed afterwards."""
        ended: list[httpx.Response | httpx.HTTPError] = []
        pools: list[Pool] = []
        transport = holdwire.ResilientTransport(verify=self.context, observers=[self])
        with substitute_sockets(self.open):
            async with httpx.AsyncClient(transport=transport, base_url=self.server.url, timeout=10) as http:
                for number, ask in enumerate(asks):
                    self.asked = number
                    self.base = (self.plan.sent, self.plan.received)
                    headers = {"x-request-id": f"{tag} {number}"}
                    try:
                        response = await http.request(ask.method, ask.path, headers=headers, **ask.arguments())
                    except httpx.HTTPError as error:
                        ended.append(error)
                    else:
                        ended.append(response)
                    self.asked = None
                    pools = transport._client.pools
                    (pool,) = pools
                    assert pool.size == len(pool.connections)
                    assert not any(connection.active for connection in pool.connections)
            assert [pool.size for pool in pools] == [0]
        assert all(made.fileno() == -1 for made in self.sockets)
        return ended


def succeeds(fault: Fault, where: dict[str, Any], ask: Ask) -> bool:
    """Whether the request that was hit has an answer in the end: computed from what was seen at the sockets alone."""
    code = fault.value
    if fault.action in {Action.SHORT, Action.EAGAIN} or is_harmless(fault, where):
        return True
    if not where["connected"]:
        return code not in HOPELESS
    looked = fault.point is Point.CALL_RECV and where["sent"] == 0
    if code in HOPELESS:
        return looked  # the connection is not taken, whatever is wrong with it
    if where["sent"] == 0:  # nothing has left
        return True
    return ask.repeatable and not where["received"] and not ask.streamed


def is_harmless(fault: Fault, where: dict[str, Any]) -> bool:
    """Whether the call only ended a connection of ours, or asked for evidence (TCP_INFO, once the connect is over)."""
    asked = fault.point is Point.CALL_GETSOCKOPT and (where["connected"] or where["sent"] > 0)
    return asked or fault.point is Point.CALL_SHUTDOWN or where["asked"] is None


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Not uvloop: the calls are asyncio's."""
    return request.param, {}


@pytest.fixture(scope="module")
def injections(request: pytest.FixtureRequest) -> Iterator[Counter[str]]:
    """How many faults struck, by scheme; told at the end."""
    counts: Counter[str] = Counter()
    yield counts
    reporter: Any = request.config.pluginmanager.get_plugin("terminalreporter")
    capture: Any = request.config.pluginmanager.get_plugin("capturemanager")
    with nullcontext() if capture is None else capture.global_and_fixture_disabled():
        reporter.write_line(f"\n{counts.total()} faults were injected ({counts['http']} plain, {counts['https']} TLS)")


@pytest.fixture(scope="module", params=["plain", "tls"])
def server(request: pytest.FixtureRequest, ca: trustme.CA) -> Iterator[ChaosServer]:
    context: ssl.SSLContext | bool = False
    if request.param == "tls":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.num_tickets = 0  # so that every byte received after the handshake is one of a response
        ca.issue_cert("127.0.0.1").configure_cert(context)
    with ChaosServer(tls=context) as server:
        server.answer("/download", Answer(body=LARGE, framing=Framing.CHUNKED))
        yield server


class Pauses:
    """Takes the place of the pauses between attempts: they are asked for, and take no time."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    async def __call__(self, delay: float) -> None:
        self.asked.append(delay)
        await anyio.lowlevel.checkpoint()


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> Pauses:
    pauses = Pauses()
    monkeypatch.setattr("holdwire.http.exchange.pause", pauses)
    return pauses


def check(bench: Bench, fault: Fault, asks: tuple[Ask, ...], ended: list[Any], tag: str) -> None:
    """Hold what came of a run against the oracle."""
    where = bench.where or {"asked": None, "connected": True}
    story = (str(fault), where, bench.events)
    executed = Counter(one.identity for one in bench.server.ledger.executions())
    for number, (ask, end) in enumerate(zip(asks, ended, strict=True)):
        identity = f"{tag} {number}"
        hit = where["asked"] == number
        if isinstance(end, httpx.Response):
            assert not hit or succeeds(fault, where, ask), story
            expected = LARGE if ask.path == "/download" else ask.body or b"hello\n"
            assert (end.status_code, end.content) == (200, expected), story
            assert executed[identity] == 1 or ask.repeatable, story
            continue
        assert hit, story
        assert not succeeds(fault, where, ask), story
        failure = holdwire.failure_of(end)
        assert failure is not None, story
        assert failure.errno == (fault.value or 0), story
        assert failure.attempts == 1, story
        assert failure.safe_to_retry in {True, False}, story
        if failure.safe_to_retry:
            assert not executed[identity], story
    told = [event.failure.errno for event in bench.events if isinstance(event, FailureRecorded)]
    if fault.action is Action.EOF:
        assert set(told) <= {0}, story
        assert len(told) <= 1, story
    else:
        failed = fault.action is Action.ERRNO and not is_harmless(fault, where)
        assert told == [fault.value] * failed, story
    for event in bench.events:
        if isinstance(event, RequestRetried) and event.verdict.retries:
            assert event.verdict.evidence is Evidence.PROOF or asks[where["asked"]].repeatable, story


def plans(errnos: Mapping[Point, Sequence[int]], base: str = "") -> Iterator[tuple[Fault, SocketPlan]]:
    """Plans in which the first call of a kind fails, then the second, and so on, each with each errno."""
    for point, numbers in errnos.items():
        for number in numbers:
            for run in sweep(errnos=[number], calls=[point], base=base, limit=500):
                yield run.fault, run.plan
    for point, action, value in (
        (Point.CALL_RECV, Action.EOF, None),
        (Point.CALL_SEND, Action.SHORT, 1),
        (Point.CALL_RECV, Action.SHORT, 1),
        (Point.CALL_SEND, Action.EAGAIN, 20),
        (Point.CALL_RECV, Action.EAGAIN, 20),
    ):
        for nth in range(1, 500):
            fault = Fault(point=point, nth=nth, action=action, value=value)
            plan = SocketPlan((fault, *Script.of(base)))
            yield fault, plan
            if plan.calls[point] < nth:
                break


async def sweep_all(
    server: ChaosServer,
    context: ssl.SSLContext,
    asks: tuple[Ask, ...],
    errnos: Mapping[Point, Sequence[int]] = ERRNOS,
    base: str = "",
) -> int:
    """Run the scenario once for each plan; how many faults struck."""
    server.ledger.clear()
    await Bench(SocketPlan(), server, context).run(asks, "warm-up")  # starts what belongs to the loop, not to a client
    tasks = running_tasks()
    injections = 0
    for number, (fault, plan) in enumerate(plans(errnos, base)):
        bench = Bench(plan, server, context)
        ended = await bench.run(asks, str(number))
        check(bench, fault, asks, ended, str(number))
        injections += bool(plan.struck) or (
            fault.action is Action.SHORT and plan.calls[fault.point] >= (fault.nth or 0)
        )
        left = {name for key, name in running_tasks().items() if key not in tasks}
        assert not left, (str(fault), left)
    server.journal.wait_for(lambda: server.connections == 0)
    twice = {
        key: count
        for key, count in server.ledger.duplicates().items()
        if not asks[int(key.rpartition(" ")[2])].repeatable
    }
    assert not twice
    return injections


@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_whatever_call_fails_the_outcome_is_the_tables(
    server: ChaosServer, client_context: ssl.SSLContext, scenario: str, injections: Counter[str]
) -> None:
    errnos = ERRNOS if scenario in {"get", "post", "streaming upload", "keep-alive"} else FEW
    struck = await sweep_all(server, client_context, SCENARIOS[scenario], errnos)
    assert struck > 20
    injections[server.url.partition(":")[0]] += struck


@pytest.mark.parametrize("scenario", ["post", "large post", "keep-alive"])
async def test_whatever_call_fails_while_everything_goes_in_bits(
    server: ChaosServer, client_context: ssl.SSLContext, scenario: str, injections: Counter[str]
) -> None:
    size = 30_000 if scenario == "large post" else 300
    short = f"send() short={size}"
    if server.url.startswith("http:"):  # with TLS, bytes that are no whole record are not yet an answer
        short += f"; recv() short={size}"
    struck = await sweep_all(server, client_context, SCENARIOS[scenario], FEW, short)
    injections[server.url.partition(":")[0]] += struck


@pytest.mark.parametrize("scenario", ["get", "post", "keep-alive"])
@pytest.mark.parametrize("storm", ["send() short; recv() short", "send() eagain=30; recv() eagain=30"])
async def test_single_bytes_and_storms_of_eagain_are_no_failure(
    server: ChaosServer, client_context: ssl.SSLContext, scenario: str, storm: str
) -> None:
    bench = Bench(SocketPlan(storm), server, client_context)
    asks = SCENARIOS[scenario]
    ended = await bench.run(asks, "whole")
    assert [end.status_code for end in ended if isinstance(end, httpx.Response)] == [200] * len(asks)
    assert not [event for event in bench.events if isinstance(event, FailureRecorded)]
