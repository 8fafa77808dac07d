"""``Peer``: the other end of a TLS connection, which is not ours: CPython's ``SSLSocket`` in a thread, sending and
receiving at once, and starting a KeyUpdate (TLS 1.3) or a renegotiation (TLS 1.2) every so many bytes.

The ssl module offers neither, so OpenSSL is called through ctypes on the ``SSL *`` of the socket. ``can_rekey`` says
whether that pointer is where this CPython should have it.
"""

from __future__ import annotations

import ctypes
import functools
import select
import ssl
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket

__all__ = ["Peer", "can_rekey", "renegotiate", "send_key_update", "send_session_ticket"]

_SSL_OFFSET = object.__basicsize__ + ctypes.sizeof(ctypes.c_void_p)
"""Of ``ssl`` in CPython's ``PySSLSocket``: behind the object's head and ``Socket``."""
_PIECE = 16_384


@functools.cache
def _libssl() -> Any:
    library = ctypes.CDLL("libssl.so.3")
    library.SSL_get_version.restype = ctypes.c_char_p
    for name in ("get_version", "renegotiate", "renegotiate_pending", "do_handshake", "new_session_ticket"):
        getattr(library, f"SSL_{name}").argtypes = [ctypes.c_void_p]
    library.SSL_key_update.argtypes = [ctypes.c_void_p, ctypes.c_int]
    return library


def _pointer(tls: ssl.SSLSocket | ssl.SSLObject) -> ctypes.c_void_p:
    inner: Any = getattr(tls, "_sslobj")  # noqa: B009 - not in the stubs of both classes
    return ctypes.c_void_p.from_address(id(inner) + _SSL_OFFSET)


@functools.cache
def can_rekey() -> bool:
    """Whether OpenSSL can be called on Python's objects here."""
    try:
        tls = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost")
        return bool(_libssl().SSL_get_version(_pointer(tls)).startswith(b"TLSv1."))
    except (OSError, AttributeError):
        return False


def _rekeying(tls: ssl.SSLSocket) -> bool:
    return bool(_libssl().SSL_renegotiate_pending(_pointer(tls)))


def send_key_update(tls: ssl.SSLSocket) -> None:
    """Send a KeyUpdate (TLS 1.3) that asks for one in return, and nothing else."""
    assert _libssl().SSL_key_update(_pointer(tls), 1) == 1
    _libssl().SSL_do_handshake(_pointer(tls))


def renegotiate(tls: ssl.SSLObject) -> None:
    """Ask for new keys (TLS 1.2), and nothing else."""
    assert _libssl().SSL_renegotiate(_pointer(tls)) == 1
    _libssl().SSL_do_handshake(_pointer(tls))


def send_session_ticket(tls: ssl.SSLSocket) -> None:
    """Send one more session ticket (TLS 1.3), and nothing else."""
    assert _libssl().SSL_new_session_ticket(_pointer(tls)) == 1
    _libssl().SSL_do_handshake(_pointer(tls))


class Peer(threading.Thread):
    """Sends ``data`` and receives ``expected`` bytes; begins when ``go`` is set, after the handshake.

    Args:
        sock: Connected.
        context: A server's context.
        data: To send.
        expected: How many bytes to receive.
        every: Bytes received between two KeyUpdates (that ask for one in return) or renegotiations.
    """

    def __init__(
        self, sock: socket.socket, context: ssl.SSLContext, *, data: bytes = b"", expected: int = 0, every: int
    ) -> None:
        super().__init__(daemon=True)
        self._sock = sock
        self._context = context
        self._data = memoryview(data)
        self._expected = expected
        self._every = every
        self.go = threading.Event()
        self.received = bytearray()
        self.rekeyed = 0
        self.failure: Exception | None = None

    def run(self) -> None:
        try:
            self._sock.settimeout(10)
            with self._context.wrap_socket(self._sock, server_side=True, suppress_ragged_eofs=False) as tls:
                self.go.wait(10)
                tls.settimeout(0)
                self._exchange(tls)
                tls.settimeout(10)
                tls.unwrap()
        except Exception as exc:  # noqa: BLE001 - told to the test
            self.failure = exc

    def _exchange(self, tls: ssl.SSLSocket) -> None:
        """Until all is exchanged and new keys are agreed on, unless the other side has said that it ends."""
        sent = 0
        due = self._every
        ended = False
        while not ended and (len(self.received) < self._expected or sent < len(self._data) or _rekeying(tls)):
            idle = True
            try:
                data = tls.recv(_PIECE)
                ended = not data
                self.received += data
                idle = False
            except ssl.SSLWantReadError:
                pass
            if len(self.received) >= due:
                due += self._every
                self._rekey(tls)
            if sent < len(self._data):
                try:
                    sent += tls.send(self._data[sent : sent + _PIECE])
                    idle = False
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    pass
            if idle:
                writers = [tls] if sent < len(self._data) else []
                select.select([tls], writers, [], 1)

    def _rekey(self, tls: ssl.SSLSocket) -> None:
        pointer = _pointer(tls)
        if tls.version() == "TLSv1.3":
            self.rekeyed += _libssl().SSL_key_update(pointer, 1)
        else:
            self.rekeyed += _libssl().SSL_renegotiate(pointer)
        _libssl().SSL_do_handshake(pointer)
