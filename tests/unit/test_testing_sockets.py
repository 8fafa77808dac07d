"""Sockets that fail by plan."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

import pytest

from holdwire.testing.faults import Point
from holdwire.testing.sockets import FaultySocket, SocketPlan, sweep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Pair = tuple[FaultySocket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Callable[[str], Pair]]:
    opened: list[socket.socket] = []

    def make(script: str) -> Pair:
        left, right = socket.socketpair()
        faulty = SocketPlan(script).adopt(left)
        opened.extend((faulty, right))
        return faulty, right

    yield make
    for sock in opened:
        sock.close()


def test_the_third_send_fails_and_the_kernel_never_sees_it(pair: Callable[[str], Pair]) -> None:
    faulty, peer = pair("send()#3 errno=ECONNRESET")
    assert [faulty.send(b"a"), faulty.send(b"b")] == [1, 1]
    with pytest.raises(ConnectionResetError) as caught:
        faulty.send(b"c")
    assert caught.value.errno == errno.ECONNRESET
    assert faulty.send(b"d") == 1
    assert peer.recv(9) == b"abd"
    assert faulty.plan.calls == {Point.CALL_SEND: 4}
    assert [str(fault) for fault in faulty.plan.struck] == ["send()#3 errno=ECONNRESET"]


def test_calls_can_be_short(pair: Callable[[str], Pair]) -> None:
    faulty, peer = pair("send() short=2; recv() short")
    assert faulty.send(b"abcdef") == 2
    faulty.sendall(memoryview(b"cdef"))
    assert peer.recv(9) == b"abcdef"
    peer.sendall(b"xyz")
    buffer = bytearray(9)
    assert (faulty.recv(9), faulty.recv_into(buffer), faulty.recv_into(buffer, 5)) == (b"x", 1, 1)
    assert faulty.plan.calls[Point.CALL_RECV] == 3


def test_a_storm_of_eagain_passes(pair: Callable[[str], Pair]) -> None:
    faulty, peer = pair("recv() eagain=2")
    peer.sendall(b"xy")
    for expected in (b"x", b"y"):
        for _ in range(2):
            with pytest.raises(BlockingIOError):
                faulty.recv(1)
        assert faulty.recv(1) == expected
    assert faulty.plan.calls[Point.CALL_RECV] == 2


def test_other_calls_fail_too(pair: Callable[[str], Pair]) -> None:
    faulty, _ = pair("shutdown() errno=ENOTCONN; getsockopt() errno=EHOSTUNREACH")
    with pytest.raises(OSError, match=r"\[Errno 107\]") as caught:
        faulty.shutdown(socket.SHUT_WR)
    assert caught.value.errno == errno.ENOTCONN
    assert faulty.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.EHOSTUNREACH
    with pytest.raises(OSError, match="No route"):
        faulty.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)


def test_connecting_fails_in_both_forms() -> None:
    plan = SocketPlan("connect() errno=ENETUNREACH")
    with plan.open() as sock:
        assert sock.connect_ex(("127.0.0.1", 1)) == errno.ENETUNREACH
        with pytest.raises(OSError, match="unreachable"):
            sock.connect(("127.0.0.1", 1))
    with SocketPlan().open() as sock, socket.create_server(("127.0.0.1", 0)) as listener:
        assert sock.connect_ex(listener.getsockname()) == 0
    with SocketPlan().open() as sock, socket.create_server(("127.0.0.1", 0)) as listener:
        sock.connect(listener.getsockname())
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        sock.shutdown(socket.SHUT_WR)


def test_an_adopted_socket_keeps_its_time_out() -> None:
    left, right = socket.socketpair()
    left.settimeout(0)
    with SocketPlan().adopt(left) as adopted, right:
        assert adopted.gettimeout() == 0
        assert left.fileno() == -1
        assert isinstance(adopted.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8), bytes)


def test_a_sweep_fails_every_call_once_and_ends() -> None:
    def scenario(plan: SocketPlan) -> None:
        left, right = socket.socketpair()
        with plan.adopt(left) as faulty, right:
            for _ in range(3):
                faulty.send(b"x")
            faulty.recv(1) if right.send(b"y") else None

    failed = []
    for run in sweep(errnos=[errno.EPIPE, "ECONNRESET"], calls=[Point.CALL_SEND, Point.CALL_RECV]):
        try:
            scenario(run.plan)
        except OSError as error:
            failed.append((str(run), error.errno))
    assert failed == [
        *(
            (f"send()#{nth} errno={name}", getattr(errno, name))
            for name in ("EPIPE", "ECONNRESET")
            for nth in (1, 2, 3)
        ),
        ("recv()#1 errno=EPIPE", errno.EPIPE),
        ("recv()#1 errno=ECONNRESET", errno.ECONNRESET),
    ]


def test_a_sweep_over_a_scenario_that_never_ends_says_so() -> None:
    def scenario() -> None:
        for run in sweep(calls=[Point.CALL_SEND], limit=5):
            run.plan.calls[Point.CALL_SEND] = 99

    with pytest.raises(RuntimeError, match="more than 5 calls"):
        scenario()


def test_a_sweep_whose_plan_is_not_used_does_not_pass_for_a_test() -> None:
    with pytest.raises(RuntimeError, match=r"made no call under run.plan: run it in a `with run.plan.installed"):
        list(sweep())


def test_it_can_be_installed_under_holdwire() -> None:
    dial = pytest.importorskip("holdwire.net.dial")
    before = dial.socket_factory
    with SocketPlan("connect() errno=EMFILE").installed() as plan:
        sock = dial.socket_factory(socket.AF_INET, socket.SOCK_STREAM, 0)
        assert isinstance(sock, FaultySocket)
        assert sock.connect_ex(("127.0.0.1", 1)) == errno.EMFILE
        assert plan.calls[Point.CALL_CONNECT] == 1
        sock.close()
    assert dial.socket_factory is before


def test_only_calls_can_be_planned() -> None:
    with pytest.raises(ValueError, match="SocketPlan has no point request"):
        SocketPlan("request rst")
