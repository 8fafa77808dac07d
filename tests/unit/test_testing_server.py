"""What a user of ``ChaosServer`` sees, through blocking sockets and ``http.client``."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import sys
from typing import TYPE_CHECKING, Any

import pytest

from holdwire.testing.faults import Script
from holdwire.testing.messages import Answer, Framing, Request
from holdwire.testing.server import ChaosServer
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT = 30


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def server(request: pytest.FixtureRequest) -> Iterator[ChaosServer]:
    with ChaosServer(tls=request.param) as running:
        yield running


@pytest.fixture
def plain() -> Iterator[ChaosServer]:
    with ChaosServer() as running:
        yield running


@pytest.fixture
def secure() -> Iterator[ChaosServer]:
    with ChaosServer(tls=True) as running:
        yield running


def dial(server: ChaosServer) -> socket.socket:
    sock = socket.create_connection(server.address, timeout=TIMEOUT)
    if server.identity is None:
        return sock
    return server.client_context().wrap_socket(sock, server_hostname="localhost", suppress_ragged_eofs=False)


def client(server: ChaosServer) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection(*server.address, timeout=TIMEOUT)
    connection.sock = dial(server)
    return connection


def fetch(connection: http.client.HTTPConnection, method: str = "GET", path: str = "/", body: bytes = b"") -> bytes:
    connection.request(method, path, body=body or None)
    return connection.getresponse().read()


def ask(server: ChaosServer) -> bytes:
    connection = client(server)
    try:
        return fetch(connection)
    finally:
        connection.close()


def read_all(sock: socket.socket) -> tuple[bytes, BaseException | None]:
    """Everything up to the end, and how it ended."""
    data = b""
    try:
        while piece := sock.recv(65536):
            data += piece
    except OSError as error:
        return data, error
    return data, None


GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
CLOSING_GET = b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n"
RESET_ERRORS = (ConnectionResetError, ssl.SSLEOFError)  # before CPython 3.11.9 and 3.12.3 ssl loses the errno


def test_it_answers_and_echoes_on_one_connection(server: ChaosServer) -> None:
    connection = client(server)
    assert fetch(connection) == b"hello\n"
    assert fetch(connection, "POST", "/b", b"data") == b"data"
    assert [(e.method, e.path, e.connection, e.exchange) for e in server.ledger.executions()] == [
        ("GET", "/", 1, 1),
        ("POST", "/b", 1, 2),
    ]
    connection.close()


def test_the_ledger_shows_what_was_executed_twice(plain: ChaosServer) -> None:
    connection = client(plain)
    fetch(connection, "POST", "/pay?id=1", b"10")
    fetch(connection, "POST", "/pay?id=2", b"10")
    assert plain.ledger.duplicates() == {}
    fetch(connection, "POST", "/pay?id=2", b"10")
    assert list(plain.ledger.duplicates().values()) == [2]
    assert plain.ledger.count("/pay") == 3
    assert plain.ledger.count("/pay?id=2", method="POST") == 2
    assert plain.ledger.count("/pay", method="GET") == 0
    connection.close()


def test_a_request_id_tells_equal_requests_apart(plain: ChaosServer) -> None:
    connection = client(plain)
    for identity in "ab":
        connection.request("POST", "/x", body=b"1", headers={"X-Request-Id": identity})
        connection.getresponse().read()
    assert plain.ledger.duplicates() == {}
    connection.close()


def test_a_chunked_upload_arrives_whole(plain: ChaosServer) -> None:
    connection = client(plain)
    connection.request("PUT", "/x", body=iter([b"one", b"two"]), encode_chunked=True)
    assert connection.getresponse().read() == b"onetwo"
    connection.close()


@pytest.mark.parametrize("framing", list(Framing))
def test_bodies_come_in_every_framing(server: ChaosServer, framing: Framing) -> None:
    server.answer("/x", Answer(body=b"x" * 40_000, framing=framing))
    connection = client(server)
    assert fetch(connection, path="/x") == b"x" * 40_000
    connection.close()


def test_interim_answers_come_first(plain: ChaosServer) -> None:
    plain.answer("/", Answer(interim=(102, 103), close=True))
    sock = dial(plain)
    sock.sendall(GET)
    statuses = [line.split()[1] for line in read_all(sock)[0].splitlines() if line.startswith(b"HTTP/")]
    assert statuses == [b"102", b"103", b"200"]
    sock.close()


def test_head_has_the_length_and_no_body(plain: ChaosServer) -> None:
    plain.answer("/", Answer(body=b"12345", close=True))
    sock = dial(plain)
    sock.sendall(b"HEAD / HTTP/1.1\r\n\r\n")
    data, _ = read_all(sock)
    assert b"Content-Length: 5\r\n" in data
    assert data.endswith(b"\r\n\r\n")
    sock.close()


@pytest.mark.parametrize("status", [204, 304])
def test_some_statuses_have_neither_body_nor_length(plain: ChaosServer, status: int) -> None:
    plain.answer("/", Answer(status=status, body=b"12345", close=True))
    sock = dial(plain)
    sock.sendall(GET)
    data, _ = read_all(sock)
    assert b"Length" not in data
    assert data.endswith(b"\r\n\r\n")
    sock.close()


def test_handlers_see_the_request(plain: ChaosServer) -> None:
    def handler(request: Request) -> Answer:
        return Answer(status=201, body=f"{request.header('X-Y')} {request.body.decode()}".encode())

    plain.handle("*", handler)
    connection = client(plain)
    connection.request("POST", "/any", body=b"b", headers={"x-y": "z"})
    response = connection.getresponse()
    assert (response.status, response.read()) == (201, b"z b")
    connection.close()


def test_answers_come_one_after_another_and_the_last_one_stays(plain: ChaosServer) -> None:
    plain.answer("/x", Answer(body=b"1"), Answer(body=b"2"))
    connection = client(plain)
    assert [fetch(connection, path="/x") for _ in range(3)] == [b"1", b"2", b"2"]
    connection.close()


def test_a_star_stands_for_every_path_that_has_nothing_of_its_own(plain: ChaosServer) -> None:
    plain.answer("*", Answer(body=b"any"))
    plain.answer("/a", Answer(body=b"a"))
    plain.handle("/h", lambda _: Answer(body=b"h"))
    plain.script("", path="/a")
    plain.script("response:0 rst", path="*")
    connection = client(plain)
    for _ in range(2):
        assert fetch(connection, path="/a") == b"a"
    with pytest.raises(ConnectionResetError):
        fetch(connection, path="/b")
    connection.close()
    connection = client(plain)
    assert [fetch(connection, path=path) for path in ("/b", "/h")] == [b"any", b"h"]
    connection.close()


@pytest.mark.parametrize("path", ["order", "/order?number=1", ""])
def test_a_path_that_no_request_has_is_refused(plain: ChaosServer, path: str) -> None:
    with pytest.raises(ValueError, match="path="):
        plain.script("response:0 rst", path=path)
    with pytest.raises(ValueError, match="path="):
        plain.answer(path, Answer())
    with pytest.raises(ValueError, match="path="):
        plain.handle(path, lambda _: Answer())


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"body": "text"}, "Answer: body must be bytes, not str"),
        ({"headers": {"A": "b"}}, "Answer: headers must be pairs"),
        ({"status": "200"}, "Answer: status must be a whole number"),
    ],
)
def test_an_answer_that_cannot_be_given_is_refused_where_it_is_made(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        Answer(**wrong)


def test_a_word_for_tls_is_refused() -> None:
    yes: Any = "yes"
    with pytest.raises(TypeError, match=r"^ChaosServer: tls must be True, False, an Identity or .*, not str$"):
        ChaosServer(tls=yes)


def test_expect_is_answered_with_100(plain: ChaosServer) -> None:
    sock = dial(plain)
    sock.sendall(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\nConnection: close\r\n\r\n")
    assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    sock.sendall(b"z")
    assert read_all(sock)[0].endswith(b"z")
    sock.close()


def test_an_early_answer_is_readable_and_counts_as_no_execution(plain: ChaosServer) -> None:
    plain.answer("/up", Answer(status=413, early=True, body=b"too big"))
    sock = dial(plain)
    sock.sendall(b"POST /up HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n" + b"z" * 1000)
    data, error = read_all(sock)
    assert data.startswith(b"HTTP/1.1 413 ")
    assert data.endswith(b"too big")
    assert error is None
    assert plain.ledger.count() == 0
    sock.close()


def test_an_early_answer_then_a_reset(plain: ChaosServer) -> None:
    plain.answer("/up", Answer(status=413, early=True, body=b"too big"))
    plain.script("response:end rst", path="/up")
    sock = dial(plain)
    sock.sendall(b"POST /up HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n")
    data, error = read_all(sock)
    assert data.endswith(b"too big")
    assert isinstance(error, ConnectionResetError)
    sock.close()


@pytest.mark.parametrize(
    ("script", "executed"),
    [("request:0 rst", 0), ("request:10 rst", 0), ("request:end rst", 0), ("response:0 rst", 1)],
)
def test_a_reset_strikes_before_or_after_the_execution(server: ChaosServer, script: str, executed: int) -> None:
    server.script(script)
    sock = dial(server)
    sock.sendall(GET)
    data, error = read_all(sock)
    assert data == b""
    assert isinstance(error, RESET_ERRORS)
    assert server.ledger.count() == executed
    sock.close()


@pytest.mark.parametrize(("at", "executed"), [("0", 0), ("10", 0), ("end", 0), ("1000", 1)])
def test_a_script_for_a_path_meets_a_request_that_is_here_already(plain: ChaosServer, at: str, executed: int) -> None:
    plain.script(f"request:{at} fin", path="/")
    sock = dial(plain)
    sock.sendall(GET)
    if executed:  # a request without body has no thousandth byte
        assert sock.recv(1000).startswith(b"HTTP/1.1 200 ")
    else:
        assert read_all(sock) == (b"", None)
    assert plain.ledger.count() == executed
    sock.close()


def test_damage_of_a_script_for_a_path_waits_for_the_body(plain: ChaosServer) -> None:
    plain.script("request:0 corrupt", path="/")
    sock = dial(plain)
    sock.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    assert sock.recv(1000).startswith(b"HTTP/1.1 100 ")
    sock.sendall(b"ab")
    assert sock.recv(1000).endswith(b"\x9eb")
    sock.close()


def test_a_body_is_cut_at_the_exact_byte(plain: ChaosServer) -> None:
    plain.answer("/", Answer(body=b"x" * 5000))
    plain.script("response:1234 fin")
    sock = dial(plain)
    sock.sendall(GET)
    data, error = read_all(sock)
    assert (len(data), error) == (1234, None)
    sock.close()


@pytest.mark.parametrize(
    ("script", "clean"), [("response:9 fin", True), ("response:9 fin_without_close_notify", False)]
)
def test_the_end_comes_with_or_without_close_notify(secure: ChaosServer, script: str, clean: bool) -> None:  # noqa: FBT001
    secure.script(script)
    sock = dial(secure)
    sock.sendall(GET)
    data, error = read_all(sock)
    assert data == b"HTTP/1.1 "
    assert (error is None) if clean else isinstance(error, ssl.SSLEOFError)
    sock.close()


def test_the_handshake_is_reset(secure: ChaosServer) -> None:
    secure.script("handshake rst", "handshake:100 rst", "handshake fin")
    for _ in range(2):
        with pytest.raises(ConnectionResetError):
            dial(secure)
    with pytest.raises(ssl.SSLEOFError):
        dial(secure)
    dial(secure).close()


def test_damage_breaks_the_record_with_tls(secure: ChaosServer) -> None:
    secure.script("response:20 corrupt")
    sock = dial(secure)
    sock.sendall(GET)
    _, error = read_all(sock)
    assert isinstance(error, ssl.SSLError)
    assert "BAD_RECORD_MAC" in str(error)
    sock.close()


def test_damage_flips_bytes_without_tls(plain: ChaosServer) -> None:
    plain.script("response:2 corrupt=3; response:8 corrupt; response:9 heal")
    sock = dial(plain)
    sock.sendall(CLOSING_GET)
    assert read_all(sock)[0].startswith(
        b"HT" + bytes(b ^ 255 for b in b"TP/") + b"1.1" + bytes([b" "[0] ^ 255]) + b"200"
    )
    sock.close()


def test_a_fin_is_no_reset_even_when_input_is_unread(plain: ChaosServer) -> None:
    plain.script("request:0 drip=100000; request#2:1 fin")  # dripping, it reads byte by byte
    connection = client(plain)
    fetch(connection)
    connection.sock.sendall(GET)
    assert read_all(connection.sock) == (b"", None)
    plain.wait_for("closed")
    assert connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    connection.close()


def test_garbage_can_be_answered(plain: ChaosServer) -> None:
    plain.answer("/", Answer(raw=b"\0garbage"))
    sock = dial(plain)
    sock.sendall(GET)
    assert read_all(sock) == (b"\0garbage", None)
    sock.close()


def test_idle_connections_are_reset_on_command(server: ChaosServer) -> None:
    fresh, used = dial(server), client(server)
    fetch(used)
    server.wait_for("idle")
    server.reset_idle()
    assert isinstance(read_all(used.sock)[1], RESET_ERRORS)
    fresh.sendall(GET)  # had no exchange yet, so that it is not called idle
    assert fresh.recv(9) == b"HTTP/1.1 "
    fresh.close()
    used.close()


@pytest.mark.parametrize("close_notify", [True, False])
def test_idle_connections_are_closed_on_command(secure: ChaosServer, close_notify: bool) -> None:  # noqa: FBT001
    connection = client(secure)
    fetch(connection)
    secure.wait_for("idle")
    secure.fin_idle(close_notify=close_notify)
    data, error = read_all(connection.sock)
    assert data == b""
    assert (error is None) if close_notify else isinstance(error, ssl.SSLEOFError)
    connection.close()


def test_an_idle_limit_closes_by_itself(plain: ChaosServer) -> None:
    plain.script("idle:0.2 fin")
    connection = client(plain)
    fetch(connection)
    assert read_all(connection.sock) == (b"", None)
    connection.close()


def test_an_expired_connection_is_reset_when_it_is_used(server: ChaosServer) -> None:
    server.script("idle:0 expire")
    connection = client(server)
    fetch(connection)
    server.wait_for("fault")
    connection.sock.sendall(GET)
    assert isinstance(read_all(connection.sock)[1], RESET_ERRORS)
    assert server.ledger.count() == 1
    connection.close()


def test_the_half_close_trap_executes_what_comes_after_its_fin(plain: ChaosServer) -> None:
    plain.script("idle:0 half_close; response#2:0 rst")
    connection = client(plain)
    fetch(connection)
    plain.wait_for("fault")
    connection.sock.sendall(b"POST /trap HTTP/1.1\r\nContent-Length: 1\r\n\r\nx")
    plain.wait_for(lambda: plain.ledger.count("/trap") == 1)
    plain.wait_for("closed")
    with pytest.raises(ConnectionError):
        connection.sock.sendall(b"x")
    connection.close()


def test_the_half_close_trap_works_over_tls(secure: ChaosServer) -> None:
    secure.script("idle:0 half_close; response#2:0 rst")
    connection = client(secure)
    fetch(connection)
    secure.wait_for("fault")
    connection.sock.sendall(b"POST /trap HTTP/1.1\r\nContent-Length: 1\r\n\r\nx")
    secure.wait_for(lambda: secure.ledger.count("/trap") == 1)
    connection.close()


def test_a_closed_port_refuses_and_heals_on_the_same_port(plain: ChaosServer) -> None:
    plain.refuse()
    assert not plain.listening
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError):
            dial(plain)
    plain.heal()
    assert ask(plain) == b"hello\n"


def test_a_script_closes_the_port_before_its_connection(plain: ChaosServer) -> None:
    plain.script("connect refuse", "connect rst")
    with pytest.raises(ConnectionRefusedError):
        dial(plain)
    plain.heal()
    dial(plain).close()
    with pytest.raises(ConnectionResetError), dial(plain) as sock:  # in connect or afterwards: that is a race
        sock.recv(1)


def test_the_port_closes_between_two_connections(plain: ChaosServer) -> None:
    plain.script("", "connect refuse")
    dial(plain).close()
    plain.wait_for(lambda: not plain.listening)
    with pytest.raises(ConnectionRefusedError):
        dial(plain)
    plain.heal()
    assert ask(plain) == b"hello\n"


def test_a_scripted_refusal_ends_by_itself(plain: ChaosServer) -> None:
    plain.script("connect refuse=0.01")
    plain.wait_for("listener", count=2)
    assert [entry.detail for entry in plain.journal.entries("listener")] == ["refuse", "open"]
    assert ask(plain) == b"hello\n"


def test_an_old_timer_does_not_open_a_port_that_was_closed_again(plain: ChaosServer) -> None:
    plain.refuse(0.02)
    plain.heal()
    plain.refuse()
    plain.script("", "")
    with pytest.raises(TimeoutError):
        plain.wait_for(lambda: plain.listening, timeout=0.1)
    plain.heal()
    assert plain.listening


def test_an_opening_port_does_not_wake_stalled_connections(plain: ChaosServer) -> None:
    plain.script("request:0 stall")
    sock = dial(plain)
    sock.sendall(CLOSING_GET)
    plain.wait_for("fault")
    plain.refuse(0.01)
    plain.wait_for(lambda: plain.listening)
    sock.settimeout(0.1)
    with pytest.raises(TimeoutError):
        sock.recv(1)
    sock.close()


@pytest.mark.skipif(sys.platform != "linux", reason="a black hole needs Linux")
def test_a_scripted_black_hole_delays_the_connect(plain: ChaosServer) -> None:
    plain.script("connect black_hole")
    with pytest.raises(TimeoutError):
        socket.create_connection(plain.address, timeout=0.02)
    plain.heal()
    assert ask(plain) == b"hello\n"


@pytest.mark.skipif(sys.platform != "linux", reason="a black hole needs Linux")
def test_a_connection_falls_into_a_black_hole_and_comes_back(plain: ChaosServer) -> None:
    plain.script("idle:0 black_hole=0.05")
    connection = client(plain)
    assert fetch(connection) == b"hello\n"
    plain.wait_for("fault")
    assert fetch(connection) == b"hello\n"
    connection.close()


def test_a_damaged_handshake_fails(secure: ChaosServer) -> None:
    secure.script("handshake:0 corrupt=5", "handshake:10 drip=100000; response:0 rst")
    with pytest.raises(ssl.SSLError):
        dial(secure)
    with dial(secure) as sock:
        sock.sendall(GET)
        assert isinstance(read_all(sock)[1], RESET_ERRORS)


def test_a_client_that_does_not_trust_it_is_seen_to_leave(secure: ChaosServer) -> None:
    with (
        pytest.raises(ssl.SSLCertVerificationError),
        socket.create_connection(secure.address, timeout=TIMEOUT) as sock,
    ):
        ssl.create_default_context().wrap_socket(sock, server_hostname="localhost")
    secure.wait_for("closed")
    assert "UNKNOWN_CA" in secure.journal.entries("closed")[0].detail.upper()


def test_a_rolling_restart_resets_everybody_and_comes_back(plain: ChaosServer) -> None:
    sock = dial(plain)
    plain.wait_for("connected")
    plain.restart(down=0.05)
    assert isinstance(read_all(sock)[1], ConnectionResetError)
    plain.wait_for(lambda: plain.listening)
    assert ask(plain) == b"hello\n"
    sock.close()


@pytest.mark.skipif(sys.platform != "linux", reason="a black hole needs Linux")
def test_a_black_hole_acknowledges_nothing(plain: ChaosServer) -> None:
    connection = client(plain)
    fetch(connection)
    plain.black_hole()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 300)
    connection.sock.sendall(GET)
    with pytest.raises(TimeoutError) as caught:
        connection.sock.recv(1)
    assert caught.value.errno is not None  # the kernel's ETIMEDOUT, not Python's time limit
    with pytest.raises(TimeoutError):
        socket.create_connection(plain.address, timeout=0.1)
    assert plain.ledger.count() == 1
    connection.close()
    plain.heal()
    assert ask(plain) == b"hello\n"


@pytest.mark.skipif(sys.platform != "linux", reason="a black hole needs Linux")
def test_a_black_hole_that_heals_loses_nothing(server: ChaosServer) -> None:
    connection = client(server)
    fetch(connection)
    server.black_hole(0.05)
    assert fetch(connection, path="/later") == b"hello\n"
    connection.close()


def test_a_stalled_reader_closes_its_window_until_it_heals() -> None:
    scripted = ChaosServer(buffer=65536)
    scripted.script("request:0 stall")
    scripted.handle("/", lambda request: Answer(body=str(len(request.body)).encode()))
    with scripted as server, socket.create_connection(server.address, timeout=0.2) as sock:
        body = memoryview(bytes(12_000_000))
        sock.sendall(b"PUT / HTTP/1.1\r\nContent-Length: 12000000\r\nConnection: close\r\n\r\n")
        server.wait_for("fault")
        with contextlib.suppress(TimeoutError):
            while body:
                body = body[sock.send(body) :]
        assert body
        server.heal()
        sock.settimeout(TIMEOUT)
        sock.sendall(body)
        assert read_all(sock)[0].endswith(b"\r\n12000000")


def test_dripping_sends_byte_by_byte(plain: ChaosServer) -> None:
    plain.script("response:0 drip=2000; response:5 heal")
    sock = dial(plain)
    sock.sendall(GET)
    assert sock.recv(1000) == b"H"
    sock.close()


def test_the_same_seed_strikes_the_same_connections() -> None:
    def struck(seed: int) -> list[int]:
        with ChaosServer(seed=seed) as server:
            server.sprinkle("request:0 rst", share=0.3)
            for _ in range(20):
                sock = dial(server)
                sock.sendall(CLOSING_GET)
                read_all(sock)
                sock.close()
            server.wait_for("closed", count=20)
            return [entry.connection for entry in server.journal.entries("fault")]

    assert struck(1) == struck(1)
    assert 0 < len(struck(1)) < 20
    assert struck(1) != struck(2)


def test_cleared_scripts_do_not_strike(plain: ChaosServer) -> None:
    plain.script("request:0 rst")
    plain.clear_scripts()
    assert ask(plain) == b"hello\n"


def test_a_client_that_hangs_up_inside_a_request_executes_nothing(server: ChaosServer) -> None:
    for part in (b"GET / HT", b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nx", b"nonsense\r\n\r\n"):
        sock = dial(server)
        sock.sendall(part)
        sock.close()
    server.wait_for("closed", count=3)
    assert server.ledger.count() == 0
    assert server.connections == 0


def test_scripts_that_it_cannot_carry_out_are_refused(plain: ChaosServer) -> None:
    with pytest.raises(ValueError, match="has no point frame"):
        plain.script("frame:1 rst")
    with pytest.raises(ValueError, match=r"has no point send\(\)"):
        plain.script("send() errno=EPIPE")
    with pytest.raises(ValueError, match="has no point connect"):
        plain.script("connect rst", path="/x")
    with pytest.raises(ValueError, match="at least one answer"):
        plain.answer("/x")


def test_commands_outside_its_with_statement_say_so() -> None:
    server = ChaosServer()
    with pytest.raises(RuntimeError, match="with statement"):
        server.reset_idle()
    with pytest.raises(RuntimeError, match="with statement"):
        _ = server.url
    with pytest.raises(RuntimeError, match="no identity"):
        server.client_context()


def test_waiting_in_vain_tells_the_story(plain: ChaosServer) -> None:
    dial(plain).close()
    plain.wait_for("closed")
    with pytest.raises(TimeoutError, match=r"(?s)'executed' \(x1\) did not happen.*connected"):
        plain.wait_for("executed", timeout=0.01)


def test_it_runs_once_at_a_time_and_a_taken_port_is_an_error(plain: ChaosServer) -> None:
    with pytest.raises(RuntimeError, match="runs already"):
        plain.__enter__()
    with pytest.raises(OSError, match="in use"):
        ChaosServer(port=plain.address[1]).__enter__()


def test_the_books_can_be_cleared(plain: ChaosServer) -> None:
    ask(plain)
    plain.wait_for("closed")
    plain.ledger.clear()
    plain.journal.clear()
    assert (plain.ledger.count(), str(plain.journal)) == (0, "")


@pytest.mark.parametrize(
    "head",
    [
        b"POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
    ],
)
def test_broken_requests_are_rejected_and_not_executed(plain: ChaosServer, head: bytes) -> None:
    with dial(plain) as sock:
        sock.sendall(head)
        assert read_all(sock) == (b"", None)
    plain.wait_for("rejected")
    assert plain.ledger.count() == 0


def test_trailers_of_an_upload_are_read_and_unknown_statuses_have_a_phrase(plain: ChaosServer) -> None:
    plain.answer("/", Answer(status=299, trailers=(("x", "y"),), framing=Framing.CHUNKED, close=True))
    with dial(plain) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;ext\r\nz\r\n0\r\na: b\r\n\r\n")
        data, _ = read_all(sock)
    assert data.startswith(b"HTTP/1.1 299 Unknown\r\n")
    assert data.endswith(b"0\r\nx: y\r\n\r\n")
    assert plain.ledger.executions()[0].size == 1


def test_its_end_resets_what_stands_and_frees_the_port() -> None:
    with ChaosServer(port=free_port()) as server:
        address = server.address
        sock = dial(server)
        server.wait_for("connected")
    assert isinstance(read_all(sock)[1], ConnectionResetError)
    sock.close()
    with ChaosServer(port=address[1]) as again:
        assert again.address == address


def test_scripts_may_be_data_too(plain: ChaosServer) -> None:
    plain.script(
        Script.parse("request:0 rst"), Script.parse("request:0 rst").faults, Script.parse("request:0 rst").faults[0]
    )
    for _ in range(3):
        sock = dial(plain)
        sock.sendall(GET)
        assert isinstance(read_all(sock)[1], ConnectionResetError)
        sock.close()
