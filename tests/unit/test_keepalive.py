"""Keepalive on real sockets: what is set, what is read back, what a kernel without an option leaves."""

from __future__ import annotations

import errno
import logging
import socket
from typing import TYPE_CHECKING, Any

import pytest

from holdwire.net import keepalive as module
from holdwire.net.keepalive import apply, arm, effective, lift
from holdwire.policy.profiles import profile, profile_names
from holdwire.policy.settings import Keepalive

if TYPE_CHECKING:
    from collections.abc import Iterator

TCP_USER_TIMEOUT = 18


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    with socket.socket() as made:
        yield made


@pytest.mark.parametrize("name", profile_names())
def test_the_kernel_takes_every_profile_as_it_is(sock: socket.socket, name: str) -> None:
    wanted = profile(name).keepalive
    apply(sock, wanted)
    found = effective(sock)
    assert (found.enabled, found.nodelay) == (True, True)
    assert (found.idle, found.interval, found.count, found.dead_after) == (
        wanted.idle,
        wanted.interval,
        wanted.count,
        wanted.dead_after,
    )


def test_ipv6_sockets_get_the_same() -> None:
    with socket.socket(socket.AF_INET6) as sock:
        apply(sock, Keepalive())
        assert effective(sock).dead_after == 90


def test_fractions_are_rounded_up_where_the_kernel_counts_seconds(sock: socket.socket) -> None:
    apply(sock, Keepalive(idle=1.2, interval=2.5, dead_after=5.0015))
    found = effective(sock)
    assert (found.idle, found.interval, found.dead_after) == (2, 3, 5.002)


def test_keepalive_switched_off_leaves_the_system_alone_but_for_nodelay(sock: socket.socket) -> None:
    untouched = effective(sock)
    apply(sock, None)
    found = effective(sock)
    assert found.nodelay
    assert (found.enabled, found.idle, found.dead_after) == (False, untouched.idle, 0)


def test_dead_after_none_leaves_the_user_timeout_alone(sock: socket.socket) -> None:
    apply(sock, Keepalive(dead_after=None))
    assert effective(sock).dead_after == 0
    assert effective(sock).count == 3


def test_options_of_the_user_win(sock: socket.socket) -> None:
    apply(
        sock,
        Keepalive(),
        user_options=[(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 0), (socket.IPPROTO_TCP, TCP_USER_TIMEOUT, 12_000)],
    )
    assert not effective(sock).enabled
    assert effective(sock).dead_after == 12


def test_a_unix_socket_gets_the_users_options_only() -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        apply(sock, Keepalive(), user_options=[(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)])
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) <= 2 * 8192
        assert not effective(sock).enabled
        assert lift(sock) is None
        arm(sock, Keepalive())


def test_what_is_lifted_comes_back_as_it_was(sock: socket.socket) -> None:
    apply(sock, Keepalive(), user_options=[(socket.IPPROTO_TCP, TCP_USER_TIMEOUT, 12_000)])
    before = lift(sock)
    assert before == 12
    assert effective(sock).dead_after == 0
    arm(sock, Keepalive(), before=before)
    assert effective(sock).dead_after == 12


def test_there_is_nothing_to_lift_where_nothing_is_set(sock: socket.socket) -> None:
    apply(sock, Keepalive(dead_after=None))
    assert lift(sock) is None
    arm(sock, Keepalive(dead_after=None))
    assert effective(sock).dead_after == 0


class Lacking(socket.socket):
    """A kernel without TCP_USER_TIMEOUT."""

    asked = 0

    def setsockopt(self, *arguments: Any) -> None:
        if arguments[:2] == (socket.IPPROTO_TCP, TCP_USER_TIMEOUT):
            self.asked += 1
            raise OSError(errno.ENOPROTOOPT, "Protocol not available")
        super().setsockopt(*arguments)


def test_an_option_that_the_kernel_lacks_is_said_once_and_left_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    missing: set[str] = set()
    monkeypatch.setattr(module, "_missing", missing)
    caplog.set_level(logging.INFO, "holdwire")
    with Lacking() as sock:
        apply(sock, Keepalive())
        apply(sock, Keepalive())
        assert sock.asked == 1
        assert effective(sock).idle == 60
        assert effective(sock).dead_after is None
    assert [record.getMessage() for record in caplog.records] == [
        "this kernel has no TCP_USER_TIMEOUT (Protocol not available); connections go without"
    ]


def test_a_dead_connection_refuses_quietly_since_the_next_call_on_it_tells() -> None:
    with socket.socket() as sock:
        apply(sock, Keepalive())
    arm(sock, Keepalive())  # EBADF
    assert lift(sock) is None
