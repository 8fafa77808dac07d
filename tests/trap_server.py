"""``TrapServer``: a server whose every connection is a function on a blocking socket; for what no decent server does.

It keeps what it executed, and what arrived in all.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from typing import Self

__all__ = ["Peer", "TrapServer", "answer"]

_LINGER: Final = struct.pack("ii", 1, 0)


def answer(status: str = "200 OK", body: bytes = b"ok", *headers: str) -> bytes:
    """A response's bytes."""
    lines = (f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers)
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Peer:
    """The server's side of one connection."""

    def __init__(self, sock: socket.socket, server: TrapServer, number: int) -> None:
        self.sock = sock
        self.number = number
        self._server = server
        self._buffer = b""

    def head(self) -> bytes:
        """The next request's head; empty at the end."""
        while b"\r\n\r\n" not in self._buffer:
            if not self._more():
                return b""
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        return head

    def execute(self) -> bytes:
        """Read the next request whole and act on it: its method and path; empty if none came whole."""
        head = self.head()
        if not head or not self.body(head):
            return b""
        line = b" ".join(head.split(b" ", 2)[:2])
        self._server.executed.append(line)
        return line

    def body(self, head: bytes) -> bool:
        """Read the body that belongs to ``head``; whether it came whole."""
        sizes = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        size = int(sizes[0]) if sizes else 0
        while len(self._buffer) < size:
            if not self._more():
                return False
        self._buffer = self._buffer[size:]
        return True

    def _more(self) -> bool:
        try:
            data = self.sock.recv(65536)
        except OSError:
            data = b""
        self._buffer += data
        self._server.arrived += len(data)
        return bool(data)

    def read_to_end(self) -> None:
        """Read until the client ends, and drop it."""
        while self._more():
            self._buffer = b""

    def send(self, data: bytes) -> None:
        """Send all of it, as far as the client takes it."""
        with contextlib.suppress(OSError):
            self.sock.sendall(data)

    def half_close(self) -> None:
        """FIN, beneath TLS."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.sock, socket.SHUT_WR)

    def shut(self) -> None:
        """FIN, and read no more."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)

    def reset(self) -> None:
        """End by RST."""
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
        self.sock.close()


Behaviour: TypeAlias = "Callable[[Peer], None]"


class TrapServer:
    """See the module; to be used in a with statement."""

    def __init__(self, behaviour: Behaviour, *, context: ssl.SSLContext | None = None) -> None:
        self._behaviour = behaviour
        self._context = context
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self.peers: list[Peer] = []
        self.executed: list[bytes] = []
        self.arrived = 0
        """Bytes that came in, after TLS."""
        self.url = f"{'http' if context is None else 'https'}://127.0.0.1:{self._socket.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self.join()

    def join(self, timeout: float = 20.0) -> None:
        """Wait until every connection is over: from then on nothing arrives any more."""
        for thread in self._threads[1:]:
            thread.join(timeout)
            assert not thread.is_alive(), "a connection of the server goes on: the client holds it"

    def _start(self, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock = self._socket.accept()[0]
            except OSError:
                return
            self._start(lambda sock=sock: self._serve(sock))  # type: ignore[misc]

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # what was sent before a reset has left
            if self._context is not None:
                sock = self._context.wrap_socket(sock, server_side=True, suppress_ragged_eofs=False)
            peer = Peer(sock, self, len(self.peers))
            self.peers.append(peer)
            self._behaviour(peer)
        sock.close()
