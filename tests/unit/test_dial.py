"""``dial``: which address wins, what becomes of the others, what is recorded, what is set before connecting."""

from __future__ import annotations

import contextlib
import errno
import socket
import sys
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from holdwire.errors import ConnectFailed, DeadlineExceeded
from holdwire.net.dial import STAGGER, dial, dial_unix, substitute_sockets
from holdwire.net.keepalive import effective
from holdwire.net.resolve import AddressMemory
from holdwire.policy.kind import Category
from holdwire.policy.phase import Phase
from holdwire.policy.settings import Keepalive
from holdwire.testing import SocketPlan
from tests.net_helpers import clean_runtime, listener
from tests.unit.test_resolve import answering

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from holdwire.events import SetupStep

__all__ = ["clean_runtime", "listener"]

pytestmark = pytest.mark.usefixtures("clean_runtime", "no_leaks")

TCP_USER_TIMEOUT = 18
AGES = 10.0
"""A pause between two attempts that no busy machine takes by itself: what takes less has not waited for it."""
EARLY = 0.01
"""uvloop's clock has milliseconds, so a timer of its can fire before its time."""


@pytest.fixture
def ages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdwire.net.dial.STAGGER", AGES)


@pytest.fixture
def slow_addresses() -> Iterator[None]:
    """Makes 127.1.x.y swallow SYNs: they go to a listener whose backlog is full."""
    with contextlib.ExitStack() as full:
        dark = full.enter_context(socket.socket())
        dark.bind(("127.0.0.1", 0))
        dark.listen(0)
        for _ in range(2):
            client = full.enter_context(socket.socket())
            client.settimeout(0)
            client.connect_ex(dark.getsockname())

        class Slow(socket.socket):
            def connect_ex(self, address: Any, /) -> int:
                return super().connect_ex(dark.getsockname() if address[0].startswith("127.1.") else address)

        full.enter_context(substitute_sockets(Slow))
        yield


@contextlib.contextmanager
def failing_connects(*numbers: int) -> Generator[list[str]]:
    """Let the first connects fail at once, one with each errno; gives the addresses that were asked for, in order."""
    asked: list[str] = []
    errors = list(numbers)

    class Failing(socket.socket):
        def connect_ex(self, address: Any, /) -> int:
            asked.append(address[0])
            return errors.pop(0) if errors else super().connect_ex(address)

    with substitute_sockets(Failing):
        yield asked


async def connected(host: str, port: int, **options: Any) -> list[SetupStep]:
    """Dial and close again; what was tried."""
    options.setdefault("keepalive", None)
    steps: list[SetupStep] = []
    dialled = await dial(host, port, steps=steps, **options)
    dialled.stream.close()
    return steps


def tried(steps: list[SetupStep]) -> list[str | None]:
    return [step.peer for step in steps if step.phase is Phase.CONNECT]


async def test_an_address_needs_no_resolver_and_no_thread(
    monkeypatch: pytest.MonkeyPatch, listener: socket.socket
) -> None:
    monkeypatch.setattr(anyio, "getaddrinfo", None)
    before = threading.active_count()
    steps = await connected(*listener.getsockname(), memory=AddressMemory())
    assert threading.active_count() == before
    assert [(step.phase, step.peer, step.failure) for step in steps] == [(Phase.CONNECT, "127.0.0.1", None)]


async def test_a_name_is_asked_for_again_each_time(monkeypatch: pytest.MonkeyPatch, listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    monkeypatch.setattr(anyio, "getaddrinfo", answering("127.0.0.9"))
    with pytest.raises(ConnectFailed):
        await connected("service.test", port)
    monkeypatch.setattr(anyio, "getaddrinfo", answering("127.0.0.1"))  # the service has moved
    steps = await connected("service.test", port)
    assert [step.phase for step in steps] == [Phase.DNS, Phase.CONNECT]


@pytest.mark.usefixtures("ages")
async def test_the_next_address_follows_at_once_where_one_refuses(
    monkeypatch: pytest.MonkeyPatch, listener: socket.socket
) -> None:
    monkeypatch.setattr(anyio, "getaddrinfo", answering("::1", "127.0.0.9", "127.0.0.1"))
    began = time.monotonic()
    steps = (await connected("service.test", listener.getsockname()[1]))[1:]
    assert time.monotonic() - began < AGES
    assert tried(steps) == ["::1", "127.0.0.9", "127.0.0.1"]
    assert [step.failure and step.failure.errno_name for step in steps] == ["ECONNREFUSED", "ECONNREFUSED", None]
    assert not any(step.quiet for step in steps), "what refuses is there, so it counts"


async def test_a_host_without_ipv6_is_no_failure_where_ipv4_works(
    monkeypatch: pytest.MonkeyPatch, listener: socket.socket
) -> None:
    monkeypatch.setattr(anyio, "getaddrinfo", answering("2001:db8::1", "127.0.0.1"))
    with failing_connects(errno.ENETUNREACH):
        _, first, second = await connected("service.test", listener.getsockname()[1])
    assert first.failure is not None
    assert (first.failure.errno_name, first.quiet) == ("ENETUNREACH", True)
    assert second.failure is None


async def test_where_no_address_works_the_missing_family_is_not_what_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anyio, "getaddrinfo", answering("2001:db8::1", "127.0.0.8", "127.0.0.9"))
    steps: list[SetupStep] = []
    with failing_connects(errno.ENETUNREACH), pytest.raises(ConnectFailed) as caught:
        await dial("service.test", 9, keepalive=None, steps=steps)
    error = caught.value
    assert [failure.peer for failure in error.failures] == ["2001:db8::1", "127.0.0.8", "127.0.0.9"]
    assert error.failure is list(error.failures)[1]
    assert "ECONNREFUSED" in str(error)
    assert "2001:db8::1 ENETUNREACH, 127.0.0.9 ECONNREFUSED" in str(error)
    assert sum(step.failure is not None for step in steps) == 3, "one failure for each address"


@pytest.mark.usefixtures("slow_addresses")
async def test_a_slow_address_does_not_hold_up_the_next_one(
    monkeypatch: pytest.MonkeyPatch, listener: socket.socket
) -> None:
    monkeypatch.setattr(anyio, "getaddrinfo", answering("127.1.0.1", "127.0.0.1"))
    began = time.monotonic()
    _, loser, _ = await connected("service.test", listener.getsockname()[1])
    assert STAGGER - EARLY <= time.monotonic() - began < AGES
    assert (loser.peer, loser.failure, loser.note) == ("127.1.0.1", None, "another address was faster")


@pytest.mark.usefixtures("slow_addresses")
async def test_an_address_that_refuses_while_another_is_slow_lets_the_next_one_start_at_once(
    monkeypatch: pytest.MonkeyPatch, listener: socket.socket
) -> None:
    stagger = 2.0
    monkeypatch.setattr("holdwire.net.dial.STAGGER", stagger)
    monkeypatch.setattr(anyio, "getaddrinfo", answering("127.1.0.1", "127.0.0.9", "127.0.0.1"))
    began = time.monotonic()
    steps = await connected("service.test", listener.getsockname()[1])
    assert stagger - EARLY <= time.monotonic() - began < 2 * stagger - EARLY
    assert tried(steps) == ["127.1.0.1", "127.0.0.9", "127.0.0.1"]


@pytest.mark.usefixtures("slow_addresses")
async def test_an_address_that_lost_by_silence_is_tried_last_afterwards(
    monkeypatch: pytest.MonkeyPatch, listener: socket.socket
) -> None:
    monkeypatch.setattr(anyio, "getaddrinfo", answering("127.1.0.1", "127.0.0.1"))
    memory = AddressMemory()
    port = listener.getsockname()[1]
    await connected("service.test", port, memory=memory)
    monkeypatch.setattr("holdwire.net.dial.STAGGER", AGES)
    began = time.monotonic()
    steps: list[SetupStep] = []
    dialled = await dial("service.test", port, keepalive=None, memory=memory, steps=steps)
    dialled.stream.close()
    assert time.monotonic() - began < AGES
    assert tried(steps) == ["127.0.0.1"]
    assert dialled.address_left


async def test_an_address_that_refused_is_tried_last_afterwards(
    monkeypatch: pytest.MonkeyPatch, listener: socket.socket
) -> None:
    monkeypatch.setattr(anyio, "getaddrinfo", answering("127.0.0.8", "127.0.0.9", "127.0.0.1"))
    memory = AddressMemory()
    port = listener.getsockname()[1]
    assert tried(await connected("service.test", port, memory=memory)) == ["127.0.0.8", "127.0.0.9", "127.0.0.1"]
    assert tried(await connected("service.test", port, memory=memory)) == ["127.0.0.1"]
    listener.close()
    steps: list[SetupStep] = []
    with pytest.raises(ConnectFailed):
        await dial("service.test", port, keepalive=None, memory=memory, steps=steps)
    assert tried(steps) == ["127.0.0.1", "127.0.0.8", "127.0.0.9"], "the failures that are oldest come next"


@pytest.mark.usefixtures("slow_addresses")
async def test_a_time_limit_ends_all_attempts_and_is_recorded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    stagger = 1.6  # each address is half of it away from what a busy machine might make of it
    monkeypatch.setattr("holdwire.net.dial.STAGGER", stagger)
    monkeypatch.setattr(anyio, "getaddrinfo", answering("127.1.0.1", "127.1.0.2", "127.1.0.3"))
    memory = AddressMemory()
    steps: list[SetupStep] = []
    with pytest.raises(DeadlineExceeded) as caught:
        await dial("service.test", 9, keepalive=None, timeout=1.5 * stagger, memory=memory, steps=steps)
    error = caught.value
    assert error.limit == "connect"
    assert tried(steps) == ["127.1.0.1", "127.1.0.2"]
    failures = [step.failure for step in steps if step.failure is not None]
    assert failures == [error.failure]
    assert failures[0].peer == "127.1.0.2"
    steps.clear()
    with pytest.raises(DeadlineExceeded):
        await dial("service.test", 9, keepalive=None, timeout=0.3, memory=memory, steps=steps)
    assert tried(steps) == ["127.1.0.2"], "what was silent for long is tried last, what hardly had a chance is not"


@pytest.mark.usefixtures("slow_addresses")
async def test_a_single_address_gets_all_the_time_there_is() -> None:
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded, match=r"127\.1\.0\.1"):
        await dial("127.1.0.1", 9, keepalive=None, timeout=0.1)
    assert time.monotonic() - began >= 0.1 - EARLY


async def test_a_resolver_that_takes_too_long_is_a_connect_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async def getaddrinfo(*_: Any, **__: Any) -> Any:
        await anyio.sleep_forever()

    monkeypatch.setattr(anyio, "getaddrinfo", getaddrinfo)
    steps: list[SetupStep] = []
    with pytest.raises(DeadlineExceeded) as caught:
        await dial("service.test", 9, keepalive=None, timeout=0.01, steps=steps)
    assert caught.value.limit == "connect"
    assert caught.value.failure is not None
    assert caught.value.failure.phase is Phase.DNS
    assert [step.phase for step in steps] == [Phase.DNS]


@pytest.mark.usefixtures("slow_addresses")
@pytest.mark.parametrize("after", [0.0, 1.5 * STAGGER], ids=["waiting for the first", "several at once"])
async def test_a_caller_that_is_cancelled_leaves_no_socket_behind_and_what_failed_is_told(
    monkeypatch: pytest.MonkeyPatch, after: float
) -> None:
    monkeypatch.setattr(anyio, "getaddrinfo", answering("127.0.0.9", "127.1.0.1", "127.1.0.2"))
    steps: list[SetupStep] = []
    async with anyio.create_task_group() as group:
        group.start_soon(partial(dial, "service.test", 9, keepalive=None, steps=steps))
        await anyio.sleep(after or 0.02)
        group.cancel_scope.cancel()
    # the fixture no_leaks looks for sockets and tasks
    refused = steps[1].failure
    assert refused is not None, "what had failed by then is told"
    assert refused.errno_name == "ECONNREFUSED"


async def test_a_host_that_has_run_out_of_descriptors_stops_trying(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anyio, "getaddrinfo", answering("127.0.0.8", "127.0.0.9"))
    opened = 0

    def exhausted(*_: int) -> socket.socket:
        nonlocal opened
        opened += 1
        raise OSError(errno.EMFILE, "Too many open files")

    memory = AddressMemory()
    with substitute_sockets(exhausted), pytest.raises(ConnectFailed) as caught:
        await dial("service.test", 9, keepalive=None, memory=memory)
    assert opened == 1
    assert caught.value.failure is not None
    assert (caught.value.failure.kind, caught.value.failure.syscall) == ("no_file_descriptors", "socket")
    with failing_connects() as asked, pytest.raises(ConnectFailed):
        await dial("service.test", 9, keepalive=None, memory=memory)
    assert asked[0] == "127.0.0.8", "the address was not to blame"


@pytest.mark.skipif(sys.platform != "linux", reason="127.0.0.0/8 is all loopback on Linux only")
async def test_the_local_address_is_bound_before_connecting(listener: socket.socket) -> None:
    await connected(*listener.getsockname(), local_address="127.0.0.5")
    peer = listener.accept()[0]
    with peer:
        assert peer.getpeername()[0] == "127.0.0.5"


async def test_a_local_address_of_one_family_leaves_the_others_out(
    monkeypatch: pytest.MonkeyPatch, listener: socket.socket
) -> None:
    monkeypatch.setattr(anyio, "getaddrinfo", answering("::1", "127.0.0.1"))
    port = listener.getsockname()[1]
    assert tried(await connected("service.test", port, local_address="0.0.0.0")) == ["127.0.0.1"]
    with pytest.raises(ConnectFailed) as caught:
        await dial("127.0.0.1", port, keepalive=None, local_address="::")
    assert "family of local_address" in str(caught.value)


async def test_a_local_address_that_is_not_ours_is_named(listener: socket.socket) -> None:
    with pytest.raises(ConnectFailed) as caught:
        await dial(*listener.getsockname(), keepalive=None, local_address="192.0.2.1")
    failure = caught.value.failure
    assert failure is not None
    assert (failure.errno_name, failure.syscall) == ("EADDRNOTAVAIL", "bind")


@pytest.mark.parametrize(
    ("code", "category", "says"),
    [
        (socket.EAI_NONAME, Category.CONFIGURATION, "Correct local_address."),
        (socket.EAI_AGAIN, Category.DNS, "local_address='eth-0.test' could not be looked up (EAI_AGAIN)"),
    ],
    ids=["no such name", "no answer"],
)
async def test_a_local_address_that_cannot_be_looked_up_is_not_taken_for_the_peer_s_name(
    monkeypatch: pytest.MonkeyPatch, listener: socket.socket, code: int, category: Category, says: str
) -> None:
    async def getaddrinfo(*_: object, **__: object) -> list[Any]:
        raise socket.gaierror(code, "told by the resolver")

    monkeypatch.setattr(anyio, "getaddrinfo", getaddrinfo)
    steps: list[SetupStep] = []
    with pytest.raises(ConnectFailed, match=r"local_address='eth-0\.test'") as caught:
        await dial(*listener.getsockname(), keepalive=None, local_address="eth-0.test", steps=steps)
    assert says in str(caught.value)
    assert caught.value.failure is not None
    assert caught.value.failure.category is category
    assert [step.failure for step in steps] == [caught.value.failure]


async def test_a_local_address_may_be_a_name(monkeypatch: pytest.MonkeyPatch, listener: socket.socket) -> None:
    monkeypatch.setattr(anyio, "getaddrinfo", answering("127.0.0.1"))
    assert tried(await connected(*listener.getsockname(), local_address="eth-1.test")) == ["127.0.0.1"]


async def test_records_name_the_origin_and_the_proxy_in_between() -> None:
    with pytest.raises(ConnectFailed) as caught:
        await dial("127.0.0.9", 9, keepalive=None, origin=("origin.test", 443), via="127.0.0.9:9")
    failure = caught.value.failure
    assert failure is not None
    assert (failure.host, failure.port, failure.via) == ("origin.test", 443, "127.0.0.9:9")
    assert (failure.peer, failure.peer_port) == ("127.0.0.9", 9)


async def test_the_errno_of_a_late_refusal_is_read_once_and_not_lost(listener: socket.socket) -> None:
    plan = SocketPlan("getsockopt()#1 errno=EHOSTUNREACH")
    with plan.installed(), pytest.raises(ConnectFailed) as caught:
        await dial(*listener.getsockname(), keepalive=None)
    assert caught.value.failure is not None
    assert caught.value.failure.kind == "host_unreachable"


class RecordingSocket(socket.socket):
    """Keeps the order of what is done to it."""

    done: list[str]

    def setsockopt(self, *arguments: Any) -> None:
        type(self).done.append(f"{arguments[0]}/{arguments[1]}={arguments[2]}")
        super().setsockopt(*arguments)

    def connect_ex(self, address: Any, /) -> int:
        type(self).done.append("connect")
        return super().connect_ex(address)


async def test_every_option_is_set_before_connect_so_that_it_bounds_connect_too(listener: socket.socket) -> None:
    RecordingSocket.done = []
    with substitute_sockets(RecordingSocket):
        await connected(
            *listener.getsockname(),
            keepalive=Keepalive(),
            socket_options=[(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)],
        )
    assert RecordingSocket.done.index("connect") == len(RecordingSocket.done) - 1
    tcp, everything = socket.IPPROTO_TCP, RecordingSocket.done
    assert f"{tcp}/{TCP_USER_TIMEOUT}=90000" in everything
    assert everything[-2] == f"{socket.SOL_SOCKET}/{socket.SO_RCVBUF}=8192", "the user's come last and win"


async def test_what_was_set_can_be_read_back_and_the_users_own_options_win(listener: socket.socket) -> None:
    dialled = await dial(
        *listener.getsockname(),
        keepalive=Keepalive(idle=61, interval=16, dead_after=91),
        socket_options=[(socket.IPPROTO_TCP, TCP_USER_TIMEOUT, 7000), (socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)],
    )
    found = effective(dialled.stream._sock)
    assert (found.enabled, found.idle, found.interval, found.dead_after) == (True, 61, 16, 7)
    assert not found.nodelay
    dialled.stream.close()


async def test_an_option_that_the_kernel_refuses_is_named(listener: socket.socket) -> None:
    with pytest.raises(ConnectFailed) as caught:
        await dial(*listener.getsockname(), keepalive=None, socket_options=[(socket.IPPROTO_TCP, 9999, 1)])
    failure = caught.value.failure
    assert failure is not None
    assert (failure.syscall, failure.errno_name) == ("setsockopt", "ENOPROTOOPT")


async def test_a_unix_socket_is_connected_to_and_the_users_options_are_set(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        steps: list[SetupStep] = []
        dialled = await dial_unix(path, socket_options=[(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)], steps=steps)
        raw = dialled.stream._sock
        assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) >= 8192
        assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) <= 2 * 8192
        dialled.stream.close()
    assert tried(steps) == [path]


async def test_a_unix_socket_that_is_not_there_or_that_nobody_serves_is_named(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with pytest.raises(ConnectFailed, match="ENOENT") as caught:
        await dial_unix(path, host="service", port=80)
    assert caught.value.failure is not None
    assert (caught.value.failure.host, caught.value.failure.peer) == ("service", path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
    with pytest.raises(ConnectFailed, match="ECONNREFUSED"):
        await dial_unix(path)


async def test_a_path_that_is_too_long_for_a_unix_socket_is_a_failure_to_connect() -> None:
    with pytest.raises(ConnectFailed, match="connect: ENAMETOOLONG"):
        await dial_unix("/" + "x" * 200)


async def test_a_unix_socket_whose_backlog_is_full_is_a_failure_and_no_endless_wait(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as server, contextlib.ExitStack() as waiting:
        server.bind(path)
        server.listen(0)
        for _ in range(2):
            client = waiting.enter_context(socket.socket(socket.AF_UNIX))
            client.settimeout(0)
            client.connect_ex(path)
        with pytest.raises(ConnectFailed, match="EAGAIN"):
            await dial_unix(path)


@pytest.mark.skipif(sys.platform != "linux", reason="abstract names are Linux's")
async def test_an_abstract_unix_name_is_printable_in_records() -> None:
    with pytest.raises(ConnectFailed, match="@holdwire-absent"):
        await dial_unix("\0holdwire-absent")
