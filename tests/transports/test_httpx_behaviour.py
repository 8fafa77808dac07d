"""What users of httpx rely on is the same with holdwire's transport: every test runs with plain httpx as well."""

from __future__ import annotations

import gzip
import hashlib
import socket
import threading
import tracemalloc
import zlib
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
import anyio.abc
import httpx
import pytest

import holdwire
from holdwire.testing import Answer, ChaosServer, Framing, self_signed

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable, Generator, Iterator
    from typing import Self

    from holdwire.testing.messages import Request

    Client: TypeAlias = Callable[..., httpx.AsyncClient]

# trio's word on generators that httpx, httpcore and the callers' own bodies leave to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore:Async generator '(httpx|httpcore|tests):ResourceWarning")

LINES = "".join(f"line {number}\n" for number in range(5000)).encode()


@pytest.fixture(params=["plain", "tls"])
def server(request: pytest.FixtureRequest) -> Iterator[ChaosServer]:
    with ChaosServer(tls=request.param == "tls") as server:
        server.answer("/chunked", Answer(body=LINES, framing=Framing.CHUNKED))
        server.answer("/until-close", Answer(body=LINES, framing=Framing.CLOSE))
        yield server


@pytest.fixture(params=[pytest.param("httpx", marks=pytest.mark.slow), "holdwire"])
def kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture
def client(server: ChaosServer, kind: str) -> Client:
    """Makes a client for the server, with plain httpx's transport or with ours."""
    context = False if server.identity is None else server.client_context()

    def make(*, limits: httpx.Limits | None = None, **settings: Any) -> httpx.AsyncClient:
        given: dict[str, Any] = {} if limits is None else {"limits": limits}
        transport = (
            httpx.AsyncHTTPTransport(verify=context, **given)
            if kind == "httpx"
            else holdwire.ResilientTransport(verify=context, **given)
        )
        return httpx.AsyncClient(transport=transport, base_url=server.url, **settings)

    return make


# --- answers ---


@pytest.mark.parametrize("path", ["/chunked", "/until-close", "/length"])
async def test_a_streamed_body_arrives_whole_by_bytes_lines_and_text(
    client: Client, server: ChaosServer, path: str
) -> None:
    server.answer("/length", Answer(body=LINES))
    async with client() as http:
        async with http.stream("GET", path) as response:
            assert b"".join([piece async for piece in response.aiter_bytes(1000)]) == LINES
            assert response.is_stream_consumed
            assert response.is_closed
        async with http.stream("GET", path) as response:
            assert [line async for line in response.aiter_lines()] == LINES.decode().splitlines()
        async with http.stream("GET", path) as response:
            assert "".join([text async for text in response.aiter_text()]) == LINES.decode()
            with pytest.raises(httpx.StreamConsumed):
                await anext(response.aiter_raw())
        async with http.stream("GET", path) as response:
            assert await response.aread() == LINES
            assert response.num_bytes_downloaded == len(LINES)


async def test_a_response_that_is_closed_early_leaves_a_client_that_works(client: Client, server: ChaosServer) -> None:
    async with client(limits=httpx.Limits(max_connections=1)) as http:
        for _ in range(3):
            response = await http.send(http.build_request("GET", "/chunked"), stream=True)
            assert not response.is_closed
            await response.aclose()
            await response.aclose()
            with pytest.raises(httpx.StreamClosed):
                await response.aread()
        with anyio.fail_after(5):
            assert (await http.get("/x")).content == b"hello\n"


class EagerServer:
    """Sends ``early`` when it has the head of a request, ``beside`` for each piece of the body, and ``last``."""

    def __init__(
        self, early: bytes, *, beside: bytes = b"", last: bytes = b"", context: ssl.SSLContext | None = None
    ) -> None:
        self.received: list[int] = []
        self.pieces = self.accepted = 0
        self._context = context
        self._early, self._beside, self._last = early, beside, last
        self._listener = socket.create_server(("127.0.0.1", 0))
        scheme = "http" if context is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self.accepted += 1
                sock.settimeout(10)
                with suppress(OSError):
                    if self._context is not None:
                        sock = self._context.wrap_socket(sock, server_side=True)
                    while self._serve(sock):
                        pass
                sock.close()

    def _serve(self, sock: socket.socket) -> bool:
        data = b""
        while b"\r\n\r\n" not in data:
            piece = sock.recv(65536)
            if not piece:
                return False
            data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        sock.sendall(self._early)
        size = len(body)
        while size < length and (piece := sock.recv(min(1_000_000, length - size))):
            size += len(piece)
            self.pieces += 1
            sock.sendall(self._beside)
        self.received.append(size)
        sock.sendall(self._last)
        return size == length


def eager_client(kind: str, verify: ssl.SSLContext | bool = True) -> httpx.AsyncClient:  # noqa: FBT001, FBT002 - httpx's
    make = httpx.AsyncHTTPTransport if kind == "httpx" else holdwire.ResilientTransport
    return httpx.AsyncClient(transport=make(verify=verify), timeout=10)


async def test_a_server_that_answers_while_it_reads_gets_the_whole_upload(kind: str) -> None:
    early = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    with EagerServer(early, beside=b"5\r\nread\n\r\n", last=b"4\r\nall\n\r\n0\r\n\r\n") as server:
        async with eager_client(kind) as http:
            response = await http.put(server.url, content=bytes(20_000_000))
    assert server.received == [20_000_000]
    assert response.text.endswith("read\nall\n")


@pytest.mark.parametrize(
    ("early", "last"),
    [(b"202 Accepted\r\nContent-Length: 0", b""), (b"100 Continue", b"202 Accepted\r\nContent-Length: 0")],
)
async def test_an_upload_that_is_accepted_before_it_was_read_is_sent_whole_and_the_connection_kept(
    kind: str, early: bytes, last: bytes
) -> None:
    with EagerServer(b"HTTP/1.1 %b\r\n\r\n" % early, last=last and b"HTTP/1.1 %b\r\n\r\n" % last) as server:
        async with eager_client(kind) as http:
            for _ in range(2):
                response = await http.put(server.url, content=bytes(20_000_000))
                assert response.status_code == 202
    assert server.received == [20_000_000, 20_000_000]
    assert server.accepted == 1


async def test_an_upload_whose_rest_waits_in_tls_when_it_is_accepted_is_sent_whole(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdwire.tls.stream._CHUNK", 50_000_000)  # all of it is encrypted before the kernel is full
    identity = self_signed("127.0.0.1")
    early = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
    with EagerServer(early, context=identity.server_context()) as server:
        async with eager_client(kind, identity.client_context()) as http:
            for _ in range(2):
                assert (await http.put(server.url, content=bytes(20_000_000))).status_code == 202
    assert server.received == [20_000_000, 20_000_000]
    assert server.accepted == 1


async def test_no_answer_beside_an_upload_has_the_rest_of_it_copied() -> None:
    body = bytes(20_000_000)
    early = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    with EagerServer(early, beside=b"5\r\nread\n\r\n", last=b"0\r\n\r\n") as server:
        async with eager_client("holdwire") as http:
            tracemalloc.start()
            try:
                await http.put(server.url, content=body)
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
    assert peak < 10_000_000


async def test_what_is_said_after_101_while_the_request_is_still_being_sent_is_not_lost() -> None:
    early = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: talk\r\n\r\n"
    headers = {"Connection": "upgrade", "Upgrade": "talk"}
    with EagerServer(early, beside=b"read", last=b"all") as server:
        async with (
            eager_client("holdwire") as http,
            http.stream("POST", server.url, content=bytes(20_000_000), headers=headers) as response,
        ):
            said = b""
            with anyio.fail_after(10):
                while not said.endswith(b"all"):
                    said += await response.extensions["network_stream"].read(65_536)
    assert said == b"read" * server.pieces + b"all"
    assert server.received == [20_000_000]


@pytest.mark.parametrize("status", [204, 304])
async def test_an_answer_without_a_body_keeps_the_connection(client: Client, server: ChaosServer, status: int) -> None:
    server.answer("/none", Answer(status=status))
    async with client() as http:
        for _ in range(2):
            response = await http.get("/none")
            assert (response.status_code, response.content) == (status, b"")
        response = await http.head("/x")
        assert (response.status_code, response.content) == (200, b"")
        assert response.headers["content-length"] == "6"
        assert (await http.get("/x")).content == b"hello\n"
    assert server.accepted == 1


async def test_interim_answers_are_skipped(client: Client, server: ChaosServer) -> None:
    server.answer("/hints", Answer(body=b"ok", interim=(100, 102, 103)))
    async with client() as http:
        response = await http.get("/hints", headers={"Expect": "100-continue"})
    assert (response.status_code, response.content) == (200, b"ok")


async def test_what_a_response_says_of_itself(client: Client, server: ChaosServer) -> None:
    server.answer("/said", Answer(body=b"x", reason="Fine", headers=(("X-A", "1"), ("x-a", "2"), ("Date", "today"))))
    async with client() as http:
        response = await http.get("/said", params={"q": "a b", "r": ["1", "2"]})
        assert response.reason_phrase == "Fine"
        assert response.http_version == "HTTP/1.1"
        assert response.headers.get_list("X-A") == ["1", "2"]
        assert [name for name, _ in response.headers.raw][:3] == [b"X-A", b"x-a", b"Date"]
        assert str(response.url) == f"{server.url}/said?q=a+b&r=1&r=2"
        assert response.request.method == "GET"
        assert response.elapsed.total_seconds() >= 0
        stream = response.extensions["network_stream"]
        assert stream.get_extra_info("server_addr")[:2] == server.address
        assert (stream.get_extra_info("ssl_object") is not None) == (server.identity is not None)
        assert stream.get_extra_info("nonsense") is None


@pytest.mark.parametrize(
    ("encoding", "body"),
    [("gzip", gzip.compress(LINES)), ("deflate", zlib.compress(LINES)), ("identity", LINES)],
)
async def test_bodies_are_decoded(client: Client, server: ChaosServer, encoding: str, body: bytes) -> None:
    headers = (("Content-Encoding", encoding),)
    server.answer("/coded", Answer(body=body, headers=headers, framing=Framing.CHUNKED))
    async with client() as http:
        assert (await http.get("/coded")).content == LINES
        async with http.stream("GET", "/coded") as response:
            assert b"".join([piece async for piece in response.aiter_raw()]) == body


async def test_a_body_that_is_not_what_its_encoding_says_is_a_decoding_error(
    client: Client, server: ChaosServer
) -> None:
    server.answer("/coded", Answer(body=b"not gzip", headers=(("Content-Encoding", "gzip"),)))
    async with client() as http:
        with pytest.raises(httpx.DecodingError):
            await http.get("/coded")
        assert (await http.get("/x")).content == b"hello\n"


# --- requests ---


async def test_bodies_of_every_kind_arrive(client: Client, server: ChaosServer) -> None:
    seen: list[Request] = []

    def keep(request: Request) -> Answer:
        seen.append(request)
        return Answer(body=request.body)

    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"one ", b"", b"two"):
            yield piece

    server.handle("/post", keep)
    async with client() as http:
        assert (await http.post("/post", json={"a": 1})).json() == {"a": 1}
        assert (await http.post("/post", data={"a": "1 2"})).text == "a=1+2"
        assert (await http.post("/post", content=b"x" * 300_000)).content == b"x" * 300_000
        assert (await http.post("/post", content=pieces())).content == b"one two"
        assert (await http.put("/post", content=pieces(), headers={"Content-Length": "7"})).content == b"one two"
        assert b"file content" in (await http.post("/post", files={"f": b"file content"})).content
        assert (await http.post("/post")).status_code == 200
        assert (await http.request("DELETE", "/post", content=b"body")).content == b"body"
    sent = [(request.header("content-length"), request.header("transfer-encoding")) for request in seen]
    assert sent[3] == (None, "chunked")
    assert sent[4] == ("7", None)
    assert sent[6] == ("0", None)
    assert server.accepted == 1


@pytest.mark.parametrize("body", [None, b"", b"body", b"x" * 300_000])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_body_in_one_piece_is_sent_in_chunks_to_who_asks_for_that(
    client: Client, server: ChaosServer, method: str, body: bytes | None
) -> None:
    chunked = {"Transfer-Encoding": "chunked"}
    async with client(headers=chunked) as http:
        echoes = [(await http.request(method, "/", content=body)).content for _ in range(2)]
    assert echoes == [body or b"hello\n"] * 2
    assert server.accepted == 1


@pytest.mark.parametrize("length", ["3", "9"])
async def test_a_streamed_body_that_does_not_fit_its_length_is_a_local_error(
    client: Client, server: ChaosServer, kind: str, length: str
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"12345"

    async with client() as http:
        # h11's own class escapes from plain httpx
        with pytest.raises(httpx.LocalProtocolError if kind == "holdwire" else Exception, match="declared Content-Le"):
            await http.post("/post", content=pieces(), headers={"Content-Length": length})
        assert (await http.get("/x")).content == b"hello\n"
    assert server.ledger.count("/post") == 0


async def test_an_error_of_the_callers_own_body_comes_out_as_it_is(client: Client, server: ChaosServer) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"one"
        message = "the caller's"
        raise KeyError(message)

    async with client(limits=httpx.Limits(max_connections=1)) as http:
        with pytest.raises(KeyError, match="the caller's"):
            await http.post("/post", content=pieces())
        with anyio.fail_after(5):
            assert (await http.get("/x")).content == b"hello\n"
    assert server.ledger.count("/post") == 0


async def test_redirects_cookies_and_the_history_of_both(client: Client, server: ChaosServer) -> None:
    server.answer("/old", Answer(status=302, headers=(("Location", "/new"), ("Set-Cookie", "a=1"))))
    server.handle("/new", lambda request: Answer(body=(request.header("cookie") or "").encode()))
    async with client(follow_redirects=True) as http:
        response = await http.post("/old", content=b"x")
        assert response.text == "a=1"
        assert response.request.method == "GET"
        assert [old.status_code for old in response.history] == [302]
        assert http.cookies["a"] == "1"
    async with client() as http:
        assert (await http.get("/old")).next_request is not None


async def test_basic_and_digest_authentication(client: Client, server: ChaosServer) -> None:
    challenge = 'Digest realm="r", nonce="n", qop="auth", algorithm=MD5'

    def digest(request: Request) -> Answer:
        sent = request.header("authorization")
        if sent is None:
            return Answer(status=401, headers=(("WWW-Authenticate", challenge),), body=b"who?")
        fields = dict(part.strip().split("=", 1) for part in sent.removeprefix("Digest ").split(","))
        plain = {name: value.strip('"') for name, value in fields.items()}
        one = hashlib.md5(b"user:r:secret").hexdigest()
        two = hashlib.md5(f"GET:{plain['uri']}".encode()).hexdigest()
        whole = hashlib.md5(f"{one}:n:{plain['nc']}:{plain['cnonce']}:auth:{two}".encode()).hexdigest()
        return Answer(status=200 if plain["response"] == whole else 403)

    server.handle("/digest", digest)
    server.handle("/basic", lambda request: Answer(body=(request.header("authorization") or "").encode()))
    async with client() as http:
        assert (await http.get("/basic", auth=("user", "secret"))).text == "Basic dXNlcjpzZWNyZXQ="
        assert (await http.get("/digest", auth=httpx.DigestAuth("user", "secret"))).status_code == 200
    assert server.accepted == 1


async def test_event_hooks_and_trace_see_the_request(client: Client, server: ChaosServer) -> None:
    seen: list[str] = []

    async def on_request(request: httpx.Request) -> None:
        seen.append(f"request {request.url.path}")

    async def on_response(response: httpx.Response) -> None:
        seen.append(f"response {response.status_code}")

    async def trace(name: str, info: dict[str, Any]) -> None:
        assert isinstance(info, dict)
        seen.append(name)

    async with client(event_hooks={"request": [on_request], "response": [on_response]}) as http:
        await http.get("/x", extensions={"trace": trace})
    tls = [] if server.identity is None else ["connection.start_tls.started", "connection.start_tls.complete"]
    assert seen[:3] == ["request /x", "connection.connect_tcp.started", "connection.connect_tcp.complete"]
    assert seen[3 : 3 + len(tls)] == tls
    assert [name for name in seen if name.startswith("http11.") and "body" not in name and "closed" not in name] == [
        "http11.send_request_headers.started",
        "http11.send_request_headers.complete",
        "http11.receive_response_headers.started",
        "http11.receive_response_headers.complete",
    ]
    assert "response 200" in seen


# --- time-outs: each class, and words that are not empty ---


@contextmanager
def deaf() -> Generator[str]:
    """Where no connect is ever answered: the listener's backlog is full."""
    with socket.socket() as sock, socket.socket() as first, socket.socket() as second:
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        for one in (first, second):
            one.settimeout(0)
            one.connect_ex(sock.getsockname())
        yield f"http://127.0.0.1:{sock.getsockname()[1]}/"


def check(caught: pytest.ExceptionInfo[httpx.TimeoutException], kind: str, words: str, phase: str) -> None:
    assert isinstance(caught.value.request, httpx.Request)
    if kind == "holdwire":
        assert caught.match(words)
        failure = holdwire.failure_of(caught.value)
        assert failure is not None
        assert failure.phase == phase


async def test_connect_time_out(client: Client, kind: str) -> None:
    with deaf() as url:
        async with client() as http:
            with pytest.raises(httpx.ConnectTimeout) as caught:
                await http.get(url, timeout=httpx.Timeout(5, connect=0.3))
    check(caught, kind, r"127\.0\.0\.1.*0\.(3|2\d+) s", "connect")  # what was left when it began to connect


async def test_a_silent_handshake_is_a_connect_time_out(client: Client, server: ChaosServer, kind: str) -> None:
    if server.identity is None:
        pytest.skip("no handshake without TLS")
    server.script("handshake stall")
    async with client() as http:
        with pytest.raises(httpx.ConnectTimeout) as caught:
            await http.get("/x", timeout=httpx.Timeout(5, connect=0.4))
    check(caught, kind, "handshake", "tls_handshake")


async def test_read_time_out_for_the_head_and_inside_the_body(client: Client, server: ChaosServer, kind: str) -> None:
    async with client() as http:
        server.script("response:0 stall", path="/slow")
        with pytest.raises(httpx.ReadTimeout) as caught:
            await http.get("/slow", timeout=httpx.Timeout(5, read=0.05))
        check(caught, kind, r"127\.0\.0\.1.*0\.05 s", "response_wait")
        server.script("response:5000 stall", path="/chunked")
        async with http.stream("GET", "/chunked", timeout=httpx.Timeout(5, read=0.5)) as response:
            with pytest.raises(httpx.ReadTimeout) as caught:
                await response.aread()
        check(caught, kind, r"127\.0\.0\.1.*0\.5 s", "response_body")


async def test_write_time_out(client: Client, server: ChaosServer, kind: str) -> None:
    server.script("request:1000 stall")
    async with client() as http:
        with pytest.raises(httpx.WriteTimeout) as caught:
            await http.post("/x", content=b"x" * 30_000_000, timeout=httpx.Timeout(5, write=0.2))
    check(caught, kind, r"127\.0\.0\.1.*0\.2 s", "request_body")


async def test_pool_time_out(client: Client, kind: str) -> None:
    async with client(limits=httpx.Limits(max_connections=1)) as http, http.stream("GET", "/chunked"):
        with pytest.raises(httpx.PoolTimeout) as caught:
            await http.get("/x", timeout=httpx.Timeout(5, pool=0.05))
    check(caught, kind, r"127\.0\.0\.1.*0\.05 s.*max_connections", "pool")


async def test_no_time_out_waits(client: Client, server: ChaosServer) -> None:
    server.script("response:0 stall=0.3", path="/slow")
    async with client(timeout=0.1) as http:
        assert (await http.get("/slow", timeout=None)).status_code == 200


# --- limits, many at once, with and without ``async with`` ---


async def test_max_connections_is_never_exceeded_and_everybody_gets_an_answer(
    client: Client, server: ChaosServer
) -> None:
    async with client(limits=httpx.Limits(max_connections=3)) as http, anyio.create_task_group() as group:
        for number in range(40):
            group.start_soon(http.get, f"/{number}")
    assert server.accepted <= 3
    assert server.ledger.count() == 40
    assert server.ledger.duplicates() == {}


async def test_max_keepalive_connections_and_keepalive_expiry(client: Client, server: ChaosServer) -> None:
    async with client(limits=httpx.Limits(max_keepalive_connections=0)) as http:
        for _ in range(3):
            await http.get("/x")
        await server.until(lambda: server.connections == 0)
    assert server.accepted == 3
    async with client(limits=httpx.Limits(keepalive_expiry=0.01)) as http:
        await http.get("/x")
        await anyio.sleep(0.02)  # the expiry is what is tested
        await http.get("/x")
    assert server.accepted == 5


async def test_a_hundred_at_once_and_again_over_kept_connections(client: Client, server: ChaosServer) -> None:
    async with client() as http:
        for _ in range(2):
            async with anyio.create_task_group() as group:
                for number in range(100):
                    group.start_soon(http.get, f"/{number}")
    assert server.accepted <= 200
    assert server.ledger.count() == 200


async def test_without_async_with_and_many_clients(client: Client, server: ChaosServer) -> None:
    clients = [client() for _ in range(20)]
    for http in clients:
        assert (await http.get("/x")).status_code == 200
    for http in clients:
        await http.aclose()
        assert http.is_closed
        await http.aclose()
        with pytest.raises(RuntimeError, match="closed"):
            await http.get("/x")
    await server.until(lambda: server.connections == 0)


@pytest.mark.parametrize("closed", ["response", "client"])
@pytest.mark.parametrize("path", ["/long", "/long-chunked"])
async def test_who_goes_on_reading_after_another_has_closed_is_told_that_the_body_is_not_whole(
    client: Client, server: ChaosServer, closed: str, path: str
) -> None:
    server.answer("/long", Answer(body=LINES * 100))
    server.answer("/long-chunked", Answer(body=LINES * 100, framing=Framing.CHUNKED))
    http = client()
    request = http.build_request("GET", path)
    response = await http.send(request, stream=True)
    pieces = response.aiter_raw()
    await anext(pieces)
    await (response if closed == "response" else http).aclose()
    with pytest.raises(httpx.ReadError):
        async for _ in pieces:
            pass
    await response.aclose()
    await http.aclose()


async def test_a_post_that_is_given_up_before_it_begins_is_never_sent(client: Client, server: ChaosServer) -> None:
    async with client() as http:
        for timeout, error in ((0, httpx.TimeoutException), (httpx.Timeout(5, write=0), httpx.WriteTimeout)):
            await http.get("/warm")
            with pytest.raises(error):
                await http.post("/order", timeout=timeout)
        await http.get("/warm")
        with anyio.CancelScope() as scope:
            scope.cancel()
            await http.post("/order")
        await http.get("/warm")
    assert scope.cancelled_caught
    assert server.ledger.count("/order") == 0


async def test_a_post_whose_deadline_is_over_before_it_begins_is_never_sent(
    client: Client, kind: str, server: ChaosServer
) -> None:
    if kind == "httpx":
        pytest.skip("plain httpx knows no deadline")
    async with client() as http:
        await http.get("/warm")
        with pytest.raises(httpx.TimeoutException) as caught:
            await http.post("/order", extensions={"holdwire": {"deadline": 1e-9}})
    failure = holdwire.failure_of(caught.value)
    assert failure is not None
    assert failure.safe_to_retry
    assert server.ledger.count("/order") == 0


@pytest.mark.parametrize("waits", ["for the answer", "for a connection"])
async def test_a_request_whose_client_is_closed_ends_in_an_error_of_the_transport(
    client: Client, kind: str, server: ChaosServer, waits: str
) -> None:
    if (kind, waits) == ("httpx", "for a connection"):
        pytest.skip("a closed pool of httpcore goes on with those that wait")
    server.script("response:0 stall=30", path="/held")
    http = client(limits=httpx.Limits(max_connections=1))

    async def ask(path: str) -> None:
        with pytest.raises(httpx.ReadError):
            await http.get(path)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(ask, "/held")
            await server.until(lambda: server.ledger.count("/held") == 1)
            if waits == "for a connection":
                group.start_soon(ask, "/next")
                await anyio.wait_all_tasks_blocked()
            await http.aclose()


async def test_one_transport_for_the_client_and_its_mounts(server: ChaosServer) -> None:
    transport = holdwire.ResilientTransport(verify=False if server.identity is None else server.client_context())
    async with httpx.AsyncClient(transport=transport, mounts={"all://localhost": transport}) as http:
        assert (await http.get(server.url)).status_code == 200
        assert (await http.get(server.url.replace("127.0.0.1", "localhost"))).status_code == 200
    await server.until(lambda: server.connections == 0)


async def test_a_unix_socket_and_a_local_address(kind: str, tmp_path: Any) -> None:
    path = str(tmp_path / "socket")
    listener = await anyio.create_unix_listener(path)

    async def answer(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    make: Any = httpx.AsyncHTTPTransport if kind == "httpx" else holdwire.ResilientTransport
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, answer)
        async with httpx.AsyncClient(transport=make(uds=path)) as http:
            assert (await http.get("http://any.where/x")).content == b"ok"
        group.cancel_scope.cancel()
    with ChaosServer() as server:
        async with httpx.AsyncClient(transport=make(local_address="127.0.0.9")) as http:
            response = await http.get(server.url)
            stream = response.extensions["network_stream"]
            assert stream.get_extra_info("client_addr")[0] == "127.0.0.9"
