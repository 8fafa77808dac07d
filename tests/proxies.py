"""A proxy for the tests: HTTP (forwarding and CONNECT) or SOCKS5, on TLS if wanted, that misbehaves by script."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from tests.net_helpers import reset

if TYPE_CHECKING:
    import ssl
    from types import TracebackType
    from typing import Self

__all__ = ["StubProxy"]


class StubProxy:
    """Serves each connection in a thread.

    ``script`` has one word for each coming connection: ``serve``, ``rst``, ``fin``, ``stall``, ``garbage``, or for HTTP
    a status line such as ``502 Bad Gateway``, for SOCKS5 a reply code such as ``reply 5``. ``heads`` is what HTTP
    clients asked, ``asked`` where SOCKS5 clients wanted to go. With ``dribble`` it answers byte by byte.
    """

    def __init__(
        self,
        *,
        socks: bool = False,
        context: ssl.SSLContext | None = None,
        credentials: tuple[bytes, bytes] | None = None,
        dribble: bool = False,
    ) -> None:
        self.socks = socks
        self.credentials = credentials
        self.dribble = dribble
        self.script: deque[str] = deque()
        self.heads: list[bytes] = []
        self.asked: list[tuple[str, int]] = []
        self.accepted = 0
        self._context = context
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    @property
    def name(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        scheme = "socks5" if self.socks else "http" if self._context is None else "https"
        return f"{scheme}://{self.name}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._open:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _accept(self) -> None:
        while True:
            try:
                sock = self._listener.accept()[0]
            except OSError:
                return
            self.accepted += 1
            word = self.script.popleft() if self.script else "serve"
            threading.Thread(target=self._guard, args=(sock, word), daemon=True).start()

    def _guard(self, sock: socket.socket, word: str) -> None:
        self._open.append(sock)
        with contextlib.suppress(OSError, EOFError):
            if self._context is not None:
                sock = self._context.wrap_socket(sock, server_side=True)
                self._open.append(sock)
            (self._serve_socks if self.socks else self._serve_http)(sock, word)

    # --- HTTP ---

    def _serve_http(self, sock: socket.socket, word: str) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            piece = sock.recv(65536)
            if not piece:
                return
            head += piece
        self.heads.append(head)
        if self._misbehaves(sock, word, b"SMTP ready\r\n"):
            return
        method, target, _ = head.split(b" ", 2)
        if word != "serve":
            sock.sendall(b"HTTP/1.1 " + word.encode() + b"\r\nContent-Length: 4\r\n\r\nnope")
            sock.close()
            return
        if self.credentials is not None and b"Proxy-Authorization: Basic " not in head:
            sock.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            sock.close()
            return
        if method == b"CONNECT":
            host, _, port = target.decode().rpartition(":")
            upstream = socket.create_connection((host.strip("[]"), int(port)))
            answer, passed_on = b"HTTP/1.1 200 Connection established\r\nVia: stub\r\n\r\n", b""
        else:
            host, _, port = target.split(b"/")[2].decode().rpartition(":")
            upstream = socket.create_connection((host, int(port)))
            answer, passed_on = b"", head  # the targets stay absolute, and are the server's to understand
        self._relay(sock, upstream, answer, passed_on)

    # --- SOCKS5 (RFC 1928, RFC 1929) ---

    def _serve_socks(self, sock: socket.socket, word: str) -> None:
        _, count = _exactly(sock, 2)
        methods = _exactly(sock, count)
        if self._misbehaves(sock, word, b"HTTP/1.1 400 Bad Request\r\n\r\n"):
            return
        wanted = 0 if self.credentials is None else 2
        if wanted not in methods:
            self._send(sock, b"\x05\xff")
            sock.close()
            return
        self._send(sock, bytes([5, wanted]))
        if self.credentials is not None:
            _exactly(sock, 1)
            given = tuple(_exactly(sock, _exactly(sock, 1)[0]) for _ in range(2))
            self._send(sock, b"\x01\x00" if given == self.credentials else b"\x01\x01")
        _, _, _, kind = _exactly(sock, 4)
        if kind == 3:
            host = _exactly(sock, _exactly(sock, 1)[0]).decode()
        else:
            host = socket.inet_ntop(
                socket.AF_INET if kind == 1 else socket.AF_INET6, _exactly(sock, 4 if kind == 1 else 16)
            )
        (port,) = struct.unpack("!H", _exactly(sock, 2))
        self.asked.append((host, port))
        bound = b"\x00\x03\x09localhost\x00\x00" if self.dribble else b"\x00\x01\x00\x00\x00\x00\x00\x00"
        if word.startswith("reply"):
            self._send(sock, bytes([5, int(word.split()[1])]) + bound)
            sock.close()
            return
        upstream = socket.create_connection((host, port))
        self._relay(sock, upstream, b"\x05\x00" + bound)

    # --- both ---

    def _misbehaves(self, sock: socket.socket, word: str, garbage: bytes) -> bool:
        if word == "rst":
            reset(sock)
        elif word == "fin":
            sock.close()
        elif word == "garbage":
            sock.sendall(garbage)
            sock.recv(1)
        elif word == "stall":
            sock.recv(1)
        else:
            return False
        return True

    def _send(self, sock: socket.socket, data: bytes) -> None:
        for piece in [data[i : i + 1] for i in range(len(data))] if self.dribble else [data]:
            sock.sendall(piece)

    def _relay(self, sock: socket.socket, upstream: socket.socket, answer: bytes, passed_on: bytes = b"") -> None:
        self._open.append(upstream)
        with sock, upstream:
            upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._send(sock, answer)
            upstream.sendall(passed_on)
            thread = threading.Thread(target=_copy, args=(upstream, sock), daemon=True)
            thread.start()
            _copy(sock, upstream)
            thread.join()


def _copy(source: Any, target: Any) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data
