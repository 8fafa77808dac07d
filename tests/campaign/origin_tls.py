"""``Secured``: TLS on one connection of a simulated server: OpenSSL without I/O, and what goes wrong in a handshake.

The certificate is always the same one but for its dates, and all that varies in length is switched off, so that a
history meets its faults at the same bytes each time. Not responsible for what is said inside.
"""

from __future__ import annotations

import datetime as dt
import functools
import ipaddress
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from holdwire.testing.certificates import Identity
from holdwire.testing.faults import Action, Fault, Point

from .kernel import RECEIVE_BUFFER
from .peer import Peer
from .wiretap import TappedTls

if TYPE_CHECKING:
    from holdwire.testing._faulty import Cursor

    from .kernel import SimSocket
    from .origin import Origin
    from .peer import Link

__all__ = ["Secured", "client_context"]

_NAME: Final = "10.0.0.1"
_READ: Final = 65_536


class Secured(Peer):
    """See the module. The way back for what talks inside."""

    def __init__(self, origin: Origin, sock: SimSocket, link: Link | None, cursor: Cursor) -> None:
        super().__init__(origin, sock, link, cursor)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        history = origin.history
        self._tls = _server_context(history.tls, http2=history.http2 is not None).wrap_bio(
            self._incoming, self._outgoing, server_side=True
        )
        self._talk: Peer | None = None
        self._sent = 0
        self._held: bytearray | None = None

    @property
    def room(self) -> int:
        return RECEIVE_BUFFER if self._talk is None else self._talk.room

    def _stall(self, fault: Fault) -> None:
        self._held = bytearray()
        if fault.value is not None:
            self.kernel.after(fault.value, None, self._release)

    def _release(self) -> None:
        held, self._held = self._held, None
        if held:
            self.sock.from_peer(bytes(held))

    # --- what comes in ---

    def arrived(self, data: bytes) -> None:
        if self.over if self._talk is None else self._talk.over:
            self.sock.from_peer_rst()
            return
        if not self._sent and self._talk is None:
            data = self._damaged_hello(data)
        self._incoming.write(data)
        if self._talk is None:
            self._shake_hands()
        if self._talk is not None:
            self._decrypt(self._talk)

    def _damaged_hello(self, data: bytes) -> bytes:
        """The ClientHello, which gets an alert for an answer if it is damaged."""
        for fault in self._cursor.due(Point.REQUEST, 1):
            if fault.action is Action.CORRUPT and not fault.at:
                self._cursor.take(fault)
                self.sock.strike(fault)
                return data[:-1] + bytes([data[-1] ^ 0xFF])
        return data

    def _shake_hands(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except ssl.SSLError:  # an alert waits in the output
            self._flush()
            self.end(Action.FIN_WITHOUT_CLOSE_NOTIFY)
            return
        self._flush()
        if self.over:
            return
        self.leave()
        http2 = self._tls.selected_alpn_protocol() == "h2"
        self._talk = self.origin.talk(self.sock, self, self._cursor, http2=http2)

    def _decrypt(self, talk: Peer) -> None:
        try:
            while not talk.over and (data := self._tls.read(_READ)):
                talk.arrived(data)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            self._flush()
            talk.end(Action.FIN_WITHOUT_CLOSE_NOTIFY)

    def ended(self, *, reset: bool) -> None:
        (self._talk.ended if self._talk is not None else super().ended)(reset=reset)

    # --- what goes out ---

    def _flush(self) -> None:
        data = self._outgoing.read()
        if self._talk is not None:
            self._emit(data)
            return
        for part in self._cursor.split(Point.HANDSHAKE, 1, self._sent, data):
            if isinstance(part, Fault):
                self._strike(part)
            elif not self.over:
                self._emit(part)
        self._sent += len(data)

    def _emit(self, data: bytes) -> None:
        if self._held is not None:
            self._held += data
        elif data:
            self.sock.from_peer(data)

    def from_peer(self, data: bytes) -> None:
        self._tls.write(data)
        self._flush()

    def from_peer_fin(self) -> None:
        with suppress(ssl.SSLError):  # the client's close_notify is not awaited
            self._tls.unwrap()
        self._flush()
        self.sock.from_peer_fin()

    def from_peer_rst(self) -> None:
        self.sock.from_peer_rst()


@functools.cache
def _identity() -> Identity:
    """One of which every part has the same length each time: Ed25519, a fixed serial number."""
    now = dt.datetime.now(dt.UTC)
    key = Ed25519PrivateKey.from_private_bytes(b"\1" * 32)
    subject = x509.Name([x509.NameAttribute(x509.oid.NameOID.ORGANIZATION_NAME, "campaign")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(_NAME))]), critical=False)
        .sign(key, None)
        .public_bytes(serialization.Encoding.PEM)
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Identity(certificate=certificate, key=private, authority=certificate)


@functools.cache
def _server_context(version: str, *, http2: bool) -> ssl.SSLContext:
    context = _identity().server_context(alpn=("h2", "http/1.1") if http2 else ("http/1.1",))
    context.options |= ssl.OP_NO_TICKET  # a session is remembered here: a ticket with its times in it varies in length
    context.maximum_version = ssl.TLSVersion[version]
    return context


@functools.cache
def client_context() -> ssl.SSLContext:
    """The client's, whose plaintext is tapped."""
    context = _identity().client_context()
    context.sslobject_class = TappedTls
    return context
