"""``RawServer``: answers every request with bytes as they are, for what no decent server sends. Reads no bodies."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Self

__all__ = ["RawServer"]


class RawServer:
    """Answers request n (over all connections) with answer n; the last answer stays.

    Args:
        answers: What is sent.
        close: Whether a connection ends after its first answer.
    """

    def __init__(self, *answers: bytes, close: bool = False) -> None:
        self.accepted = 0
        self._answers = list(answers)
        self._close = close
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._connections: list[socket.socket] = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for sock in (self._listener, *self._connections):
            with contextlib.suppress(OSError):  # closed already
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener is closed
            while True:
                sock, _ = self._listener.accept()
                self._connections.append(sock)
                self.accepted += 1
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        data: bytes = b""
        with contextlib.suppress(OSError):  # the client is gone
            while chunk := sock.recv(65536):
                data += chunk
                while b"\r\n\r\n" in data:
                    data = data.partition(b"\r\n\r\n")[2]
                    sock.sendall(self._answers.pop(0) if len(self._answers) > 1 else self._answers[0])
                    if self._close:
                        sock.shutdown(socket.SHUT_WR)
                        return
