"""Servers that lie, race and trap: whatever they do, a request that may not be repeated is executed at most once."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest
from anyio import to_thread

import holdwire
from holdwire.http.http11 import Http11Connection
from holdwire.policy.phase import Delivery, Sent
from holdwire.testing.faults import Script
from holdwire.testing.sockets import SocketPlan
from tests.seen import Seen
from tests.trap_server import Peer, TrapServer, answer

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable


pytestmark = pytest.mark.anyio

POST: Final = b"POST /order"
LARGE: Final = b"x" * 8_000_000
LOST: Final = (httpx.ReadError, httpx.RemoteProtocolError, httpx.WriteError)


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture(params=["plain", "tls"])
def contexts(
    request: pytest.FixtureRequest, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> tuple[ssl.SSLContext | None, ssl.SSLContext | None]:
    """The server's and the client's."""
    return (None, None) if request.param == "plain" else (server_context, client_context)


def client(server: TrapServer, seen: Seen, verify: ssl.SSLContext | None = None, **settings: Any) -> httpx.AsyncClient:
    transport = holdwire.ResilientTransport(verify=verify or True, observers=[seen], **settings)
    return httpx.AsyncClient(transport=transport, base_url=server.url, timeout=10)


def right_after_the_look(monkeypatch: pytest.MonkeyPatch, then: Callable[[], None]) -> None:
    """Let something happen just after the next look at a connection that is alive."""
    look = Http11Connection.looks_alive
    done = False

    def looks_alive(self: Http11Connection) -> bool:
        nonlocal done
        alive = look(self)
        if alive and not done:
            done = True
            then()
        return alive

    monkeypatch.setattr(Http11Connection, "looks_alive", looks_alive)


# --- the half-closed trap ---


@pytest.mark.parametrize("exchanges", [1, 5, 30])
async def test_a_fin_before_the_request_is_seen_and_a_new_connection_taken(
    contexts: Any, seen: Seen, exchanges: int
) -> None:
    closed = threading.Event()

    def trap(peer: Peer) -> None:
        for _ in range(exchanges if peer.number == 0 else 1):
            if not peer.execute():
                return
            peer.send(answer())
        if peer.number == 0:
            peer.half_close()
            closed.set()
            peer.execute()
            peer.reset()

    with TrapServer(trap, context=contexts[0]) as server:
        async with client(server, seen, contexts[1]) as http:
            for _ in range(exchanges):
                await http.get("/")
            assert await to_thread.run_sync(closed.wait, 10)
            assert (await http.post("/order", content=b"1")).status_code == 200
        server.join()
    assert server.executed.count(POST) == 1
    assert len(server.peers) == 2


@pytest.mark.parametrize("exchanges", [1, 30])
async def test_a_fin_that_comes_after_the_look_is_surfaced_and_nothing_done_twice(
    contexts: Any, seen: Seen, monkeypatch: pytest.MonkeyPatch, exchanges: int
) -> None:
    def trap(peer: Peer) -> None:
        for _ in range(exchanges):
            if not peer.execute():
                return
            peer.send(answer())
        peer.execute()
        peer.reset()

    with TrapServer(trap, context=contexts[0]) as server:
        async with client(server, seen, contexts[1]) as http:
            for _ in range(exchanges):
                await http.get("/")
            right_after_the_look(monkeypatch, server.peers[0].half_close)
            with pytest.raises(LOST) as caught:
                await http.post("/order", content=b"1")
        server.join()
    failure = holdwire.failure_of(caught.value)
    assert failure is not None
    assert failure.safe_to_retry is False
    assert seen.reasons == ["may_have_been_processed"]
    assert server.executed.count(POST) == 1


@pytest.mark.parametrize("exchanges", [1, 30])
async def test_a_server_that_half_closes_whenever_it_likes_never_executes_twice(
    contexts: Any, seen: Seen, exchanges: int
) -> None:
    def trap(peer: Peer) -> None:
        for _ in range(exchanges if peer.number == 0 else 1000):
            if not peer.execute():
                return
            peer.send(answer())
        peer.half_close()
        peer.execute()
        peer.reset()

    with TrapServer(trap, context=contexts[0]) as server:
        async with client(server, seen, contexts[1]) as http:
            for _ in range(exchanges):
                await http.get("/")
            try:
                response = await http.post("/order", content=b"1")
            except LOST:
                assert server.executed.count(POST) <= 1
            else:
                assert response.status_code == 200
                assert server.executed.count(POST) == 1
        server.join()
    assert server.executed.count(POST) <= 1


@pytest.mark.parametrize("stale_proof", [False, True])
async def test_a_fin_inferred_after_the_write_is_proof_only_for_those_who_say_so(
    seen: Seen, monkeypatch: pytest.MonkeyPatch, *, stale_proof: bool
) -> None:
    def serve(peer: Peer) -> None:
        while peer.execute():
            peer.send(answer())

    policy = holdwire.RetryPolicy(stale_proof=stale_proof)
    with TrapServer(serve) as server:
        async with client(server, seen, retry=policy) as http:
            for _ in range(30):
                await http.get("/")
            right_after_the_look(monkeypatch, server.peers[0].shut)
            if stale_proof:
                assert (await http.post("/order", content=b"1")).status_code == 200
            else:
                with pytest.raises(LOST) as caught:
                    await http.post("/order", content=b"1")
                failure = holdwire.failure_of(caught.value)
                assert failure is not None
                assert failure.fin_before_write
        server.join()
    assert server.executed.count(POST) == int(stale_proof)
    assert seen.reasons == ["stale_connection" if stale_proof else "may_have_been_processed"]


# --- what was called unsent never leaves ---


@pytest.mark.parametrize("end", ["time-out", "cancel", "deadline"])
async def test_ciphertext_that_the_kernel_refused_never_arrives(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext, seen: Seen, end: str
) -> None:
    import anyio

    def serve(peer: Peer) -> None:
        while peer.execute():
            peer.send(answer())

    plan = SocketPlan()
    timeout = httpx.Timeout(10, write=0.4) if end == "time-out" else httpx.Timeout(10)
    extensions = {"holdwire": {"deadline": 0.4}} if end == "deadline" else {}
    with TrapServer(serve, context=server_context) as server, plan.installed():
        async with client(server, seen, client_context) as http:
            await http.get("/")
            arrived = server.arrived
            plan.script = Script.of("send() eagain=100000000")
            if end == "cancel":
                with anyio.move_on_after(0.4):
                    await http.post("/order", content=b"1")
            else:
                with pytest.raises(httpx.TimeoutException) as caught:
                    await http.post("/order", content=b"1", timeout=timeout, extensions=extensions)
                failure = holdwire.failure_of(caught.value)
                assert failure is not None
                assert (failure.sent, failure.delivery) == (Sent.NONE, Delivery.NOT_SENT)
                assert failure.discarded > 100
                assert failure.safe_to_retry
            plan.script = Script()
        server.join()
    assert server.arrived == arrived
    assert POST not in server.executed


async def test_the_rest_of_an_upload_that_timed_out_never_arrives(contexts: Any, seen: Seen) -> None:
    given_up = threading.Event()

    def serve(peer: Peer) -> None:
        given_up.wait(15)
        peer.execute()

    with TrapServer(serve, context=contexts[0]) as server:
        async with client(server, seen, contexts[1]) as http:
            with pytest.raises(httpx.WriteTimeout):
                await http.post("/order", content=LARGE, timeout=httpx.Timeout(10, write=0.1))
            given_up.set()
        server.join()
    assert server.executed == []


# --- races ---


async def test_an_answer_that_races_a_reset_is_delivered_or_surfaced(contexts: Any, seen: Seen) -> None:
    def serve(peer: Peer) -> None:
        while line := peer.execute():
            peer.send(answer())
            if line.startswith(b"POST"):
                peer.reset()
                return

    with TrapServer(serve, context=contexts[0]) as server:
        async with client(server, seen, contexts[1]) as http:
            delivered = 0
            for number in range(30):
                with contextlib.suppress(*LOST):
                    delivered += (await http.post(f"/order{number}", content=b"1")).status_code == 200
                assert server.executed.count(b"POST /order%d" % number) <= 1
        server.join()
    assert delivered > 0


async def test_a_reset_that_races_an_upload_delivers_the_early_answer(contexts: Any, seen: Seen) -> None:
    def serve(peer: Peer) -> None:
        peer.head()
        peer.send(answer("413 Content Too Large", b"no", "Connection: close"))
        peer.half_close()
        peer.read_to_end()

    with TrapServer(serve, context=contexts[0]) as server:
        async with client(server, seen, contexts[1]) as http:
            assert (await http.post("/order", content=LARGE)).status_code == 413
        server.join()
    assert seen.reasons == []


@pytest.mark.parametrize("executes", [False, True])
async def test_a_408_that_crosses_the_request_is_not_taken_for_a_promise(
    contexts: Any, seen: Seen, monkeypatch: pytest.MonkeyPatch, *, executes: bool
) -> None:
    """The server gives up waiting just as the request leaves, and may go on to execute it."""
    timed_out = answer("408 Request Timeout", b"", "Connection: close")
    go, gone = threading.Event(), threading.Event()

    def give_up() -> None:  # by the server's own thread, for two must not use one TLS object
        go.set()
        assert gone.wait(10)

    def serve(peer: Peer) -> None:
        while (line := peer.execute()) and (line != POST or peer.number):
            peer.send(answer())
            if not gone.is_set():
                go.wait(10)
                peer.send(timed_out)
                gone.set()
        if line and not executes:
            server.executed.remove(POST)

    with TrapServer(serve, context=contexts[0]) as server:
        async with client(server, seen, contexts[1]) as http:
            await http.get("/")
            right_after_the_look(monkeypatch, give_up)
            assert (await http.post("/order", content=b"1")).status_code == 408
        server.join()
    assert server.executed.count(POST) == int(executes)


@pytest.mark.parametrize("size", [70_000, 8_000_000])
async def test_a_server_that_says_408_early_and_still_executes_never_gets_two_whole_copies(
    contexts: Any, seen: Seen, size: int
) -> None:
    """Retried only if plaintext was left: what TLS has encrypted counts as sent, even if it is still with us."""

    def serve(peer: Peer) -> None:
        if peer.number:
            while peer.execute():
                peer.send(answer())
            return
        peer.execute()
        peer.send(answer())
        head = peer.head()
        peer.send(answer("408 Request Timeout", b"", "Connection: close"))
        if peer.body(head):
            server.executed.append(POST)

    with TrapServer(serve, context=contexts[0]) as server:
        async with client(server, seen, contexts[1]) as http:
            await http.get("/")
            response = await http.post("/order", content=b"x" * size)
        server.join()
    if len(server.peers) == 2:
        assert (response.status_code, server.executed.count(POST)) == (200, 1)
    else:
        assert response.status_code == 408
        assert server.executed.count(POST) == 1 or (size == 8_000_000 and contexts[0] is not None)


async def test_an_interim_answer_in_the_middle_of_an_upload_proves_nothing_about_what_follows(
    contexts: Any, seen: Seen
) -> None:
    """102, then the whole body is read and executed, then 408: the upload was complete before the 408."""

    def serve(peer: Peer) -> None:
        if peer.number:
            while peer.execute():
                peer.send(answer())
            return
        peer.execute()
        peer.send(answer())
        head = peer.head()
        peer.send(b"HTTP/1.1 102 Processing\r\n\r\n")
        if peer.body(head):
            server.executed.append(POST)
            peer.send(answer("408 Request Timeout", b"", "Connection: close"))

    with TrapServer(serve, context=contexts[0]) as server:
        async with client(server, seen, contexts[1]) as http:
            await http.get("/")
            assert (await http.post("/order", content=LARGE)).status_code == 408
        server.join()
    assert server.executed.count(POST) == 1


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_server_that_accepts_and_closes_at_once_is_not_hammered(contexts: Any, seen: Seen, method: str) -> None:
    with TrapServer(Peer.reset, context=contexts[0]) as server:
        async with client(server, seen, contexts[1]) as http:
            with pytest.raises(httpx.TransportError):
                await http.request(method, "/order")
        server.join()
    assert 1 <= len(server.peers) <= 5
    assert server.executed == []
