"""How connections are made to end with RST, also where another holder of the descriptor lives on."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from holdwire.net import linger
from holdwire.net.linger import reset
from tests.net_helpers import tcp_pair


def ended_by(peer: socket.socket) -> str:
    peer.settimeout(2)
    try:
        return "fin" if not peer.recv(1) else "data"
    except ConnectionResetError:
        return "rst"
    except TimeoutError:
        return "nothing"


def received_by(peer: socket.socket) -> int:
    """Bytes that arrived before the reset."""
    received = 0
    try:
        while data := peer.recv(65_536):
            received += len(data)
    except ConnectionResetError:
        return received
    pytest.fail("the connection ended without a reset")


def test_an_abort_reaches_the_peer_as_rst() -> None:
    client, peer = tcp_pair()
    with peer:
        assert reset(client, shared=False)
        client.close()
        assert ended_by(peer) == "rst"


def test_bytes_that_are_still_queued_are_never_delivered() -> None:
    client, peer = tcp_pair(buffers=4096)
    with peer:
        client.settimeout(0)
        sent = 0
        while True:
            try:
                sent += client.send(bytes(4096))
            except BlockingIOError:
                break
        reset(client, shared=False)
        client.close()
        assert received_by(peer) < sent


def test_a_duplicate_of_the_descriptor_keeps_a_lingering_close_from_ending_anything() -> None:
    client, peer = tcp_pair()
    with peer, client.dup():
        reset(client, shared=False)
        client.close()
        peer.settimeout(0.05)
        with pytest.raises(TimeoutError):
            peer.recv(1)


@pytest.mark.skipif(sys.platform != "linux", reason="connect to AF_UNSPEC is Linux's")
def test_a_shared_descriptor_is_ended_for_every_holder() -> None:
    client, peer = tcp_pair()
    with peer, client.dup():
        assert reset(client, shared=True)
        client.close()
        assert ended_by(peer) == "rst"


@pytest.mark.skipif(sys.platform != "linux", reason="connect to AF_UNSPEC is Linux's")
def test_a_child_that_inherited_the_descriptor_does_not_keep_the_connection() -> None:
    client, peer = tcp_pair()
    child = subprocess.Popen(["sleep", "10"], pass_fds=[client.fileno()])
    try:
        with peer:
            assert reset(client, shared=True)
            client.close()
            assert ended_by(peer) == "rst"
    finally:
        child.kill()
        child.wait()


def test_where_it_cannot_be_had_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = socket.socketpair()
    with first, second:
        assert not reset(first, shared=False)
    client, peer = tcp_pair()
    monkeypatch.setattr(linger, "_libc_connect", lambda: None)
    with client, peer:
        assert not reset(client, shared=True)
    assert not reset(client, shared=False), "it is closed already"
