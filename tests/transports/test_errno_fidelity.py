"""Every way in which a connection fails, from the kernel to the caller: what is recorded, raised and told, exactly.

Each row makes one failure happen and says what must come of it: kind, errno, phase, the httpx exception, and the one
span. Where a real peer cannot bring an errno about, the system call is made to fail (``SocketPlan``); the peer's reset
then makes the socket ready, so that the call is made.
"""

from __future__ import annotations

import socket
import ssl
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import httpx
import pytest

import holdwire
from holdwire.events import FailureRecorded
from holdwire.policy.kind import Kind
from holdwire.policy.phase import Phase
from holdwire.telemetry import instrument, uninstrument
from holdwire.testing import ChaosServer
from holdwire.testing.certificates import self_signed
from holdwire.testing.faults import Script
from holdwire.testing.sockets import SocketPlan
from tests.telemetry_samples import Memory

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from holdwire.events import Event
    from holdwire.policy.failure import Failure

BODY = b"x" * 1000
LARGE = b"x" * (8 * 2**20)
"""More than the kernel's buffers hold."""
TCP_USER_TIMEOUT = 18
EOF = {"holdwire.ssl.reason": "UNEXPECTED_EOF_WHILE_READING", "holdwire.tls.close_notify": "none"}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One failure: how it is made, and what must come of it."""

    kind: Kind
    phase: Phase
    raises: type[Exception] | None
    """As users of httpx see it; None where the request was certainly not sent, and succeeds on another connection."""
    errno: str | None = None
    """Its name; None for 0, an end of file."""
    syscall: str | None = None
    """None: whichever call the loop made first."""
    script: str = ""
    """What the server does to the connection's second request, or to the connection."""
    fresh: bool = False
    """Whether the script is for the connection and its first request."""
    calls: str = ""
    """Which of our system calls fail from then on. Of ``recv`` the first one is the look before the request."""
    body: bytes = BODY
    schemes: tuple[str, ...] = ("plain", "tls")
    attributes: dict[str, Any] = field(default_factory=dict[str, Any])
    """Of the span, beside those that follow from the fields above."""
    tls_attributes: dict[str, Any] = field(default_factory=dict[str, Any])
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    """Of the transport."""


_USER_TIMEOUT = {"socket_options": [(socket.IPPROTO_TCP, TCP_USER_TIMEOUT, 300)]}

ROWS: dict[str, Row] = {
    # --- connect ---
    "refused": Row(
        kind=Kind.CONNECTION_REFUSED, errno="ECONNREFUSED", syscall="connect", phase=Phase.CONNECT,
        raises=httpx.ConnectError, calls="getsockopt() errno=ECONNREFUSED", fresh=True,
    ),
    "reset in connect": Row(
        kind=Kind.CONNECTION_RESET, errno="ECONNRESET", syscall="connect", phase=Phase.CONNECT,
        raises=httpx.ConnectError, calls="getsockopt() errno=ECONNRESET", fresh=True,
    ),
    "time-out in connect": Row(
        kind=Kind.TIMED_OUT, errno="ETIMEDOUT", syscall="connect", phase=Phase.CONNECT,
        raises=httpx.ConnectError, calls="getsockopt() errno=ETIMEDOUT", fresh=True,
    ),
    "unreachable": Row(
        kind=Kind.HOST_UNREACHABLE, errno="EHOSTUNREACH", syscall="connect", phase=Phase.CONNECT,
        raises=httpx.ConnectError, calls="connect() errno=EHOSTUNREACH", fresh=True,
    ),
    # --- handshake ---
    "reset in the handshake": Row(
        kind=Kind.CONNECTION_RESET, errno="ECONNRESET", syscall="recv", phase=Phase.TLS_HANDSHAKE,
        raises=httpx.ConnectError, script="handshake rst", fresh=True, schemes=("tls",),
    ),
    "FIN in the handshake": Row(
        kind=Kind.UNEXPECTED_EOF, syscall="recv", phase=Phase.TLS_HANDSHAKE,
        raises=httpx.ConnectError, script="handshake fin", fresh=True, schemes=("tls",), attributes=EOF,
    ),
    "FIN inside a record of the handshake": Row(
        kind=Kind.UNEXPECTED_EOF, syscall="recv", phase=Phase.TLS_HANDSHAKE,
        raises=httpx.ConnectError, script="handshake:3 fin", fresh=True, schemes=("tls",), attributes=EOF,
    ),
    # --- request ---
    "broken pipe at the request": Row(
        kind=Kind.BROKEN_PIPE, errno="EPIPE", syscall="send", phase=Phase.REQUEST_HEADERS,
        raises=None, calls="send()#1 errno=EPIPE",
    ),
    "reset at the request": Row(
        kind=Kind.CONNECTION_RESET, errno="ECONNRESET", syscall="send", phase=Phase.REQUEST_HEADERS,
        raises=None, calls="send()#1 errno=ECONNRESET",
    ),
    "a descriptor closed under us, found at the request": Row(
        kind=Kind.BAD_FILE_DESCRIPTOR, errno="EBADF", syscall="send", phase=Phase.REQUEST_HEADERS,
        raises=httpx.ReadError, calls="send()#1 errno=EBADF",
    ),
    "broken pipe in an upload": Row(
        kind=Kind.BROKEN_PIPE, errno="EPIPE", syscall="send", phase=Phase.REQUEST_BODY,
        raises=httpx.ReadError, calls="send() short=100000; send()#3 errno=EPIPE", body=LARGE,
    ),
    "a host that becomes unreachable under an upload": Row(
        kind=Kind.HOST_UNREACHABLE, errno="EHOSTUNREACH", syscall="send", phase=Phase.REQUEST_BODY,
        raises=httpx.ReadError, calls="send() short=100000; send()#3 errno=EHOSTUNREACH", body=LARGE,
    ),
    "a descriptor closed under us in an upload": Row(
        kind=Kind.BAD_FILE_DESCRIPTOR, errno="EBADF", syscall="send", phase=Phase.REQUEST_BODY,
        raises=httpx.ReadError, calls="send() short=100000; send()#3 errno=EBADF", body=LARGE,
    ),
    "reset in an upload": Row(
        kind=Kind.CONNECTION_RESET, errno="ECONNRESET", phase=Phase.REQUEST_BODY,
        raises=httpx.ReadError, script="request:1000 rst", body=LARGE,
    ),
    "a peer that stops reading an upload": Row(
        kind=Kind.TIMED_OUT, errno="ETIMEDOUT", phase=Phase.REQUEST_BODY,
        raises=httpx.ReadError, script="request:1000 stall", body=LARGE, settings=_USER_TIMEOUT,
    ),
    "a path that dies under an upload": Row(
        kind=Kind.TIMED_OUT, errno="ETIMEDOUT", phase=Phase.REQUEST_BODY,
        raises=httpx.ReadError, script="request:1000 black_hole", body=LARGE, settings=_USER_TIMEOUT,
    ),
    # --- waiting for the response ---
    "reset instead of an answer": Row(
        kind=Kind.CONNECTION_RESET, errno="ECONNRESET", syscall="recv", phase=Phase.RESPONSE_WAIT,
        raises=httpx.ReadError, script="response:0 rst",
    ),
    "FIN instead of an answer": Row(
        kind=Kind.UNEXPECTED_EOF, syscall="recv", phase=Phase.RESPONSE_WAIT,
        raises=httpx.RemoteProtocolError, script="response:0 fin",
    ),
    "FIN without close_notify instead of an answer": Row(
        kind=Kind.UNEXPECTED_EOF, syscall="recv", phase=Phase.RESPONSE_WAIT,
        raises=httpx.RemoteProtocolError, script="response:0 fin_without_close_notify", tls_attributes=EOF,
    ),
    "time-out of the kernel instead of an answer": Row(
        kind=Kind.TIMED_OUT, errno="ETIMEDOUT", syscall="recv", phase=Phase.RESPONSE_WAIT,
        raises=httpx.ReadError, script="response:0 rst", calls="recv()#2 errno=ETIMEDOUT",
    ),
    "a descriptor closed under us, found by recv": Row(
        kind=Kind.BAD_FILE_DESCRIPTOR, errno="EBADF", syscall="recv", phase=Phase.RESPONSE_WAIT,
        raises=httpx.ReadError, script="response:0 rst", calls="recv()#2 errno=EBADF",
    ),
    "garbage instead of an answer": Row(
        kind=Kind.HTTP_PROTOCOL_ERROR, phase=Phase.RESPONSE_WAIT,
        raises=httpx.RemoteProtocolError, script="response:0 corrupt=10", schemes=("plain",),
    ),
    "a damaged record instead of an answer": Row(
        kind=Kind.TLS_PROTOCOL_ERROR, phase=Phase.RESPONSE_WAIT,
        raises=httpx.ReadError, script="response:0 corrupt=10", schemes=("tls",),
        attributes={"holdwire.ssl.reason": "DECRYPTION_FAILED_OR_BAD_RECORD_MAC"},
    ),
    # --- body ---
    "reset in the body": Row(
        kind=Kind.CONNECTION_RESET, errno="ECONNRESET", syscall="recv", phase=Phase.RESPONSE_BODY,
        raises=httpx.ReadError, script="response:500 rst",
    ),
    "FIN in the body": Row(
        kind=Kind.UNEXPECTED_EOF, syscall="recv", phase=Phase.RESPONSE_BODY,
        raises=httpx.RemoteProtocolError, script="response:500 fin",
    ),
    "FIN without close_notify in the body": Row(
        kind=Kind.UNEXPECTED_EOF, syscall="recv", phase=Phase.RESPONSE_BODY,
        raises=httpx.RemoteProtocolError, script="response:500 fin_without_close_notify", tls_attributes=EOF,
    ),
    "a damaged record in the body": Row(
        kind=Kind.TLS_PROTOCOL_ERROR, phase=Phase.RESPONSE_BODY,
        raises=httpx.ReadError, script="response:500 corrupt=10", schemes=("tls",),
        attributes={"holdwire.ssl.reason": "DECRYPTION_FAILED_OR_BAD_RECORD_MAC"},
    ),
}  # fmt: skip
CASES = [(name, scheme) for name, row in ROWS.items() for scheme in row.schemes]


class Seen:
    def __init__(self) -> None:
        self.failures: list[Failure] = []
        self.told = anyio.Event()

    def on_event(self, event: Event) -> None:
        if isinstance(event, FailureRecorded):
            self.failures.append(event.failure)
            self.told.set()


@pytest.fixture
def memory() -> Iterator[Memory]:
    memory = Memory()
    instrument(tracer_provider=memory.tracers, meter_provider=memory.meters)
    yield memory
    uninstrument()
    memory.close()


@contextmanager
def planned() -> Generator[SocketPlan]:
    with SocketPlan().installed() as plan:
        yield plan


def client(server: ChaosServer, seen: Seen, **settings: Any) -> httpx.AsyncClient:
    if server.url.startswith("https"):
        settings.setdefault("verify", self_signed().client_context())
    transport = holdwire.ResilientTransport(observers=[seen], retry=None, **settings)
    return httpx.AsyncClient(transport=transport, base_url=server.url, timeout=10)


def check(failure: Failure | None, row: Row) -> None:
    assert failure is not None
    assert (failure.kind, failure.errno_name, failure.phase) == (row.kind, row.errno, row.phase)
    if row.syscall is not None:
        assert failure.syscall == row.syscall
    assert failure.cause
    assert failure.remedy


def check_span(memory: Memory, failure: Failure, attributes: dict[str, Any]) -> None:
    spans = [span for span in memory.spans if span.status.status_code.name == "ERROR" and "failure" in span.name]
    assert len(spans) == 1, [span.name for span in memory.spans]
    expected: dict[str, Any] = {
        "error.type": failure.kind.value,
        "holdwire.phase": failure.phase.value,
        "holdwire.errno.name": failure.errno_name,
        "holdwire.syscall": failure.syscall,
        "holdwire.errno.number": failure.errno,
        "network.peer.address": "127.0.0.1",
        **attributes,
    }
    found = dict(spans[0].attributes or {})
    assert {name: found.get(name) for name in expected} == expected
    what = f"syscall_failure {failure.syscall}" if failure.is_syscall else f"connection_failure {failure.phase}"
    assert spans[0].name == f"holdwire {what}"


@pytest.mark.parametrize(("name", "scheme"), CASES, ids=[f"{name}-{scheme}" for name, scheme in CASES])
async def test_a_failure_is_recorded_raised_and_told_as_what_it_is(memory: Memory, name: str, scheme: str) -> None:
    row = ROWS[name]
    seen = Seen()
    with ChaosServer(tls=scheme == "tls") as server, planned() as plan:
        async with client(server, seen, **row.settings) as http:
            if not row.fresh:
                assert (await http.get("/warm-up")).status_code == 200
            if row.script:
                server.script(row.script, path=None if row.fresh else "/x")
            plan.calls.clear()
            plan.script = Script.of(row.calls)
            if row.raises is None:
                assert (await http.post("/x", content=row.body)).status_code == 200
            else:
                with pytest.raises(httpx.HTTPError, match=row.errno) as caught:
                    await http.post("/x", content=row.body)
                assert type(caught.value) is row.raises
                check(holdwire.failure_of(caught.value), row)
            plan.script = Script.of("")
            assert len(seen.failures) == 1
            check(seen.failures[0], row)
            check_span(memory, seen.failures[0], row.attributes | (row.tls_attributes if scheme == "tls" else {}))
            assert (await http.get("/afterwards")).status_code == 200
            server.heal()


class TestAnIdleConnection:
    """Nobody waits: the failure is recorded and told all the same, and the next request takes another connection."""

    @pytest.fixture(params=["plain", "tls"])
    def server(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[ChaosServer]:
        monkeypatch.setattr("holdwire.http.idle_deaths.WINDOW", 0.02)  # for deaths of the same kind to gather
        with ChaosServer(tls=request.param == "tls") as server:
            yield server

    @pytest.mark.parametrize(
        ("calls", "kind", "errno"),
        [
            ("", Kind.CONNECTION_RESET, "ECONNRESET"),
            ("recv()#1 errno=ETIMEDOUT", Kind.TIMED_OUT, "ETIMEDOUT"),
            ("recv()#1 errno=EHOSTUNREACH", Kind.HOST_UNREACHABLE, "EHOSTUNREACH"),
            ("recv()#1 errno=EBADF", Kind.BAD_FILE_DESCRIPTOR, "EBADF"),
        ],
        ids=["reset", "time-out of the kernel", "unreachable", "closed under us"],
    )
    async def test_its_failure_is_recorded_without_any_request(
        self, memory: Memory, server: ChaosServer, calls: str, kind: Kind, errno: str
    ) -> None:
        seen = Seen()
        with planned() as plan:
            async with client(server, seen) as http:
                await http.get("/warm-up")
                plan.calls.clear()
                plan.script = Script.of(calls)
                server.reset_idle()
                with anyio.fail_after(5):
                    await seen.told.wait()
                plan.script = Script.of("")
                assert len(seen.failures) == 1
                check(seen.failures[0], Row(kind=kind, errno=errno, syscall="recv", phase=Phase.IDLE, raises=None))
                check_span(memory, seen.failures[0], {})
                assert (await http.post("/afterwards", content=b"1")).status_code == 200
        assert server.ledger.count("/afterwards") == 1

    @pytest.mark.parametrize("ending", ["fin", "fin_without_close_notify"])
    async def test_its_end_is_a_failure_only_where_tls_was_cut_short(
        self, memory: Memory, server: ChaosServer, ending: str
    ) -> None:
        seen = Seen()
        server.script(f"idle:0 {ending}")
        async with client(server, seen) as http:
            await http.get("/warm-up")
            await anyio.to_thread.run_sync(server.wait_for, "closed")
            assert (await http.post("/afterwards", content=b"1")).status_code == 200
        if server.url.startswith("https") and ending == "fin_without_close_notify":
            assert len(seen.failures) == 1
            row = Row(kind=Kind.UNEXPECTED_EOF, errno=None, syscall="recv", phase=Phase.IDLE, raises=None)
            check(seen.failures[0], row)
            check_span(memory, seen.failures[0], EOF)
        else:
            assert seen.failures == []
            assert [span for span in memory.spans if "failure" in span.name] == []


class TestTLS:
    """What only a handshake can tell."""

    async def refused(self, memory: Memory, server: ChaosServer, row: Row, verify: ssl.SSLContext) -> None:
        seen = Seen()
        assert row.raises is not None
        async with client(server, seen, verify=verify) as http:
            with pytest.raises(httpx.HTTPError) as caught:
                await http.get("/x")
        assert type(caught.value) is row.raises
        assert len(seen.failures) == 1
        check(holdwire.failure_of(caught.value), row)
        check_span(memory, seen.failures[0], row.attributes)

    async def test_an_untrusted_certificate(self, memory: Memory) -> None:
        row = Row(
            kind=Kind.CERTIFICATE_INVALID,
            phase=Phase.TLS_HANDSHAKE,
            raises=httpx.ConnectError,
            attributes={"holdwire.ssl.reason": "CERTIFICATE_VERIFY_FAILED", "holdwire.ssl.error": "SSL_ERROR_SSL"},
        )
        with ChaosServer(tls=True) as server:
            await self.refused(memory, server, row, verify=ssl.create_default_context())

    async def test_a_certificate_of_another_name(self, memory: Memory) -> None:
        row = Row(
            kind=Kind.CERTIFICATE_INVALID,
            phase=Phase.TLS_HANDSHAKE,
            raises=httpx.ConnectError,
            attributes={"holdwire.ssl.reason": "CERTIFICATE_VERIFY_FAILED"},
        )
        identity = self_signed("elsewhere.example")
        with ChaosServer(tls=identity) as server:
            await self.refused(memory, server, row, verify=identity.client_context())

    async def test_an_alert_since_there_is_no_common_version(self, memory: Memory) -> None:
        context = self_signed().server_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        ours = self_signed().client_context()
        ours.maximum_version = ssl.TLSVersion.TLSv1_2
        row = Row(
            kind=Kind.TLS_ALERT_RECEIVED,
            phase=Phase.TLS_HANDSHAKE,
            raises=httpx.ConnectError,
            attributes={
                "holdwire.tls.alert.code": 70,
                "holdwire.tls.alert.name": "protocol_version",
                "holdwire.tls.alert.direction": "received",
            },
        )
        with ChaosServer(tls=context) as server:
            await self.refused(memory, server, row, verify=ours)

    async def test_an_alert_about_our_certificate_after_the_handshake(self, memory: Memory) -> None:
        context = self_signed().server_context()
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=self_signed().authority.decode())
        row = Row(
            kind=Kind.TLS_ALERT_RECEIVED,
            phase=Phase.POST_HANDSHAKE,
            raises=httpx.ReadError,
            attributes={
                "holdwire.tls.alert.code": 116,
                "holdwire.tls.alert.name": "certificate_required",
                "holdwire.tls.alert.direction": "received",
            },
        )
        with ChaosServer(tls=context) as server:
            await self.refused(memory, server, row, verify=self_signed().client_context())

    async def test_an_answer_in_plaintext(self, memory: Memory) -> None:
        row = Row(
            kind=Kind.TLS_PROTOCOL_ERROR,
            phase=Phase.TLS_HANDSHAKE,
            raises=httpx.ConnectError,
            attributes={"holdwire.ssl.reason": "WRONG_VERSION_NUMBER", "holdwire.ssl.error": "SSL_ERROR_SSL"},
        )
        with ChaosServer(tls=True) as server:
            server.script("handshake corrupt=5")
            await self.refused(memory, server, row, verify=self_signed().client_context())
