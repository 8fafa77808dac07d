"""What a user of httpx sees when the network misbehaves: class, text, the failure behind it, executions, spans."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import httpx
import pytest

import holdwire
from holdwire.events import ConnectionClosed, FailureRecorded
from holdwire.net.dial import substitute_sockets
from holdwire.policy.retry import RetryAction
from holdwire.testing import ChaosServer
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from holdwire.events import Event

pytestmark = pytest.mark.anyio


class Seen:
    """An observer that keeps everything."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_event(self, event: Event) -> None:
        self.events.append(event)

    @property
    def failures(self) -> list[holdwire.Failure]:
        return [event.failure for event in self.events if isinstance(event, FailureRecorded)]

    @property
    def verdicts(self) -> list[tuple[RetryAction, str]]:
        return [
            (event.verdict.action, event.verdict.reason)
            for event in self.events
            if isinstance(event, FailureRecorded) and event.verdict is not None
        ]

    @property
    def closes(self) -> list[str]:
        return [event.reason.value for event in self.events if isinstance(event, ConnectionClosed)]


@pytest.fixture(params=["plain", "tls"])
def server(request: pytest.FixtureRequest) -> Iterator[ChaosServer]:
    with ChaosServer(tls=request.param == "tls") as server:
        yield server


@pytest.fixture
def seen() -> Seen:
    return Seen()


def client(server: ChaosServer, seen: Seen, **settings: Any) -> httpx.AsyncClient:
    verify = server.client_context() if server.url.startswith("https") else True
    transport = holdwire.ResilientTransport(verify=verify, observers=[seen], **settings)
    return httpx.AsyncClient(transport=transport, base_url=server.url)


async def test_a_request_that_goes_well_makes_no_event_but_its_connections(server: ChaosServer, seen: Seen) -> None:
    async with client(server, seen) as http:
        for _ in range(3):
            response = await http.post("/x", content=b"hello")
            assert response.status_code == 200
            assert response.content == b"hello"
    assert [type(event).__name__ for event in seen.events] == ["ConnectionSetUp", "ConnectionClosed"]
    assert server.accepted == 1


async def test_an_idle_connection_that_is_reset_is_noticed_and_the_next_post_goes_out_once(
    server: ChaosServer, seen: Seen
) -> None:
    async with client(server, seen) as http:
        await http.get("/warm-up")
        server.reset_idle()
        response = await http.post("/order", content=b"1")
        assert response.status_code == 200
    assert server.ledger.count("/order") == 1
    assert [failure.errno_name for failure in seen.failures] == ["ECONNRESET"]
    assert seen.failures[0].phase == "idle"


async def test_a_get_on_a_kept_alive_connection_that_is_reset_is_sent_again(server: ChaosServer, seen: Seen) -> None:
    async with client(server, seen) as http:
        await http.get("/warm-up")
        server.script("response:0 rst", path="/again")
        response = await http.get("/again")
        assert response.status_code == 200
    assert seen.verdicts == [(RetryAction.RETRY_NOW, "reused_connection_lost")]
    assert seen.failures[0].errno_name == "ECONNRESET"
    assert seen.failures[0].phase == "response_wait"


async def test_a_post_that_may_have_been_processed_is_not_sent_again_and_says_why(
    server: ChaosServer, seen: Seen
) -> None:
    async with client(server, seen) as http:
        await http.get("/warm-up")
        server.script("response:0 rst", path="/order")
        with pytest.raises(httpx.ReadError, match="ECONNRESET") as caught:
            await http.post("/order", content=b"1")
    assert server.ledger.count("/order") <= 1
    failure = holdwire.failure_of(caught.value)
    assert failure is not None
    assert failure.errno_name == "ECONNRESET"
    assert seen.verdicts == [(RetryAction.SURFACE, "may_have_been_processed")]
    cause = caught.value.__cause__
    assert cause is not None
    ours = cause.__cause__
    assert isinstance(ours, holdwire.ConnectionLost)
    assert not ours.safe_to_retry
    assert ours.attempts == 1


async def test_a_body_cut_in_the_middle_is_an_error_with_the_words_that_users_know(
    server: ChaosServer, seen: Seen
) -> None:
    async with client(server, seen) as http:
        server.script("response:150 fin", path="/cut")
        with pytest.raises(httpx.RemoteProtocolError, match="peer closed connection without") as caught:
            await http.post("/cut", content=b"x" * 1000)
    assert holdwire.failure_of(caught.value) is not None
    assert [failure.phase for failure in seen.failures] == ["response_body"]


async def test_a_server_that_closes_without_an_answer_is_told_in_the_words_that_users_know(
    server: ChaosServer, seen: Seen
) -> None:
    async with client(server, seen, retry=None) as http:
        server.script("response:0 fin", path="/silent")
        with pytest.raises(httpx.RemoteProtocolError, match="Server disconnected without sending") as caught:
            await http.post("/silent", content=b"x")
    failure = holdwire.failure_of(caught.value)
    assert failure is not None
    assert failure.errno == 0


async def test_refused_connects_are_tried_again_until_the_server_is_back(server: ChaosServer, seen: Seen) -> None:
    async with client(server, seen) as http, anyio.create_task_group() as group:

        async def post() -> None:
            assert (await http.post("/x", content=b"1")).status_code == 200

        server.refuse()
        group.start_soon(post)
        with anyio.fail_after(5):
            while not seen.failures:  # noqa: ASYNC110 - told from code that has no loop
                await anyio.sleep(0.01)
        server.heal()
    assert {failure.errno_name for failure in seen.failures} == {"ECONNREFUSED"}
    assert server.ledger.count("/x") == 1


async def test_a_host_where_nothing_listens_is_a_connect_error_that_names_it(seen: Seen) -> None:
    async with httpx.AsyncClient(transport=holdwire.ResilientTransport(observers=[seen], retry=None)) as http:
        with pytest.raises(httpx.ConnectError, match=r"ECONNREFUSED.*connect.*127\.0\.0\.1"):
            await http.get(f"http://127.0.0.1:{free_port()}")


async def test_a_refused_connect_is_told_once_for_each_attempt(seen: Seen) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    holdwire.set_testing(attempts=3)
    try:
        async with httpx.AsyncClient(transport=holdwire.ResilientTransport(observers=[seen])) as http:
            with pytest.raises(httpx.ConnectError):
                await http.get(url)
    finally:
        holdwire.set_testing(enabled=False)
    assert [failure.attempts for failure in seen.failures] == [1, 2, 3]


async def test_a_read_time_out_is_surfaced_and_not_retried(server: ChaosServer, seen: Seen) -> None:
    async with client(server, seen) as http:
        server.script("response:0 stall", path="/slow")
        with pytest.raises(httpx.ReadTimeout):
            await http.get("/slow", timeout=httpx.Timeout(5, read=0.1))
    assert seen.verdicts == [(RetryAction.SURFACE, "timeout")]
    await server.until(lambda: server.ledger.count("/slow") == 1)


async def test_an_early_413_is_delivered_although_the_upload_could_not_end(server: ChaosServer, seen: Seen) -> None:
    from holdwire.testing import Answer

    server.answer("/upload", Answer(status=413, early=True, close=True))
    async with client(server, seen) as http:
        response = await http.post("/upload", content=b"x" * 20_000_000)
    assert response.status_code == 413


@pytest.mark.parametrize("length", [2, 30_000_000])
async def test_a_server_that_answers_early_and_reads_no_more_is_a_write_time_out_unless_the_answer_is_whole(
    monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    monkeypatch.setattr("holdwire.http.http11.EARLY_LIMIT", 100_000)

    async def answer() -> None:
        peer, _ = await anyio.to_thread.run_sync(listener.accept)
        with peer:
            await anyio.to_thread.run_sync(peer.recv, 1000)
            peer.settimeout(0)
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (length, b"k" * length))
            early.set()
            await over.wait()

    async def body() -> AsyncIterator[bytes]:
        yield b"begin"
        await early.wait()
        yield bytes(30_000_000)

    early, over = anyio.Event(), anyio.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with anyio.create_task_group() as group:
            group.start_soon(answer)
            async with httpx.AsyncClient(transport=holdwire.ResilientTransport()) as http:
                url = f"http://127.0.0.1:{listener.getsockname()[1]}"
                upload = http.put(url, content=body(), timeout=httpx.Timeout(10, write=0.3))
                if length == 2:
                    assert (await upload).text == "kk"
                else:
                    with pytest.raises(httpx.WriteTimeout):
                        await upload
            over.set()


@pytest.mark.parametrize("body", [b"too large", b""])
async def test_a_send_that_fails_behind_an_early_answer_is_told_once_and_the_answer_delivered(
    server: ChaosServer, seen: Seen, body: bytes
) -> None:
    from holdwire.testing import Answer

    class BreakingUpload(socket.socket):
        """Takes the head of a request; what follows it fails, once the answer is there."""

        def send(self, data: Any, flags: int = 0, /) -> int:
            if len(data) > 10_000:
                server.wait_for("answered")
                raise BrokenPipeError(errno.EPIPE, "Broken pipe")
            return super().send(data, flags)

    server.answer("/upload", Answer(status=413, early=True, close=True, body=body))
    with substitute_sockets(BreakingUpload):
        async with client(server, seen) as http:
            response = await http.post("/upload", content=b"x" * 1_000_000)
    assert (response.status_code, response.content) == (413, body)
    assert [(failure.syscall, failure.errno_name, failure.phase, failure.sent) for failure in seen.failures] == [
        ("send", "EPIPE", "request_body", "part")
    ]
    assert seen.verdicts == [(RetryAction.DELIVER, "early_response")]
