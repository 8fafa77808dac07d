"""Follows the TLS records of one direction of a TCP connection, without keys. Not responsible for reassembly.

Theory of operation. ``feed`` gets the stream in order, in any pieces, and only the record headers and the bodies of
cleartext handshake and alert records are looked at; application data is counted and skipped. A piece may be cut
(``missing`` bytes of it were not captured): as long as the hole lies inside one record's body, nothing is lost.

A stream is *in step* when it is known where a record begins. It begins in step if its first byte was captured. When
bytes are missing or make no sense, it is out of step and looks at each piece anew: a piece that is a chain of whole
records, or that starts with a hello, brings it in step again. So STARTTLS, a proxy's CONNECT and a capture that
begins in the middle need no special case, and a protocol that is not TLS simply never gets in step.

Sources: RFC 8446 (section 5 records, section 4 hellos, appendix B), RFC 5246.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from holdwire.policy.codes import ALERTS

from .capture import Alert, CloseNotify

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ClientHello", "RecordScanner", "ServerHello", "version_name"]

_CHANGE_CIPHER_SPEC, _ALERT, _HANDSHAKE, _APPLICATION_DATA = 20, 21, 22, 23
_LONGEST: Final = 16384 + 2048
_BODY_LIMIT: Final = 4096
"""Of a handshake record no more is kept: a hello fits."""
_MAX_ALERTS: Final = 8
_HELLO_RETRY_RANDOM: Final = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
_SHORT_TAG_CIPHERS: Final = frozenset({0x1305})  # TLS_AES_128_CCM_8_SHA256
TLS13: Final = 0x0304
_VERSIONS: Final = {0x0300: "SSL 3.0", 0x0301: "TLS 1.0", 0x0302: "TLS 1.1", 0x0303: "TLS 1.2", TLS13: "TLS 1.3"}


def version_name(number: int) -> str:
    """A protocol version as a person would write it."""
    return _VERSIONS.get(number, f"0x{number:04x}")


class ClientHello:
    """What a ClientHello offers; whatever was not captured is empty."""

    __slots__ = ("alpn", "offered", "server_name")

    def __init__(self, body: bytes) -> None:
        body = _message(body)
        self.offered: tuple[int, ...] = (_u16(body, 4),)
        self.server_name: str | None = None
        self.alpn: tuple[str, ...] = ()
        at = 38
        at += 1 + _u8(body, at)  # session id
        at += 2 + _u16(body, at)  # cipher suites
        at += 1 + _u8(body, at)  # compression methods
        for kind, value in _extensions(body, at):
            if kind == 43:
                numbers = (_u16(value, i) for i in range(1, len(value) - 1, 2))
                self.offered = tuple(n for n in numbers if n & 0x0F0F != 0x0A0A)  # without GREASE (RFC 8701)
            elif kind == 0 and len(value) > 5:
                self.server_name = _text(value[5:])
            elif kind == 16:
                self.alpn = _protocols(value)


class ServerHello:
    """What a ServerHello chose. ``retry``: it is a HelloRetryRequest."""

    __slots__ = ("cipher", "retry", "version")

    def __init__(self, body: bytes) -> None:
        body = _message(body)
        self.version = _u16(body, 4)
        self.retry = body[6:38] == _HELLO_RETRY_RANDOM
        at = 38
        at += 1 + _u8(body, at)
        self.cipher = _u16(body, at)
        for kind, value in _extensions(body, at + 3):
            if kind == 43 and len(value) == 2:
                self.version = _u16(value, 0)


def _message(body: bytes) -> bytes:
    """The first handshake message of a record: more may follow."""
    return body[: 4 + (body[1] << 16 | _u16(body, 2))]


def _u8(data: bytes, at: int) -> int:
    return data[at] if at < len(data) else 0


def _u16(data: bytes | bytearray, at: int) -> int:
    return data[at] << 8 | data[at + 1] if at + 1 < len(data) else 0


def _extensions(body: bytes, at: int) -> list[tuple[int, bytes]]:
    found: list[tuple[int, bytes]] = []
    at += 2
    while at + 4 <= len(body):
        kind, size = struct.unpack_from(">HH", body, at)
        found.append((kind, body[at + 4 : at + 4 + size]))
        at += 4 + size
    return found


def _protocols(value: bytes) -> tuple[str, ...]:
    names: list[str] = []
    at = 2
    while at < len(value):
        size = value[at]
        names.append(_text(value[at + 1 : at + 1 + size]))
        at += 1 + size
    return tuple(names)


def _text(raw: bytes) -> str:
    """Printable ASCII only: it comes from the network and goes to a terminal."""
    return "".join(chr(c) if 33 <= c < 127 else "?" for c in raw)


def _is_header(data: bytes | bytearray, at: int) -> bool:
    return 20 <= data[at] <= 24 and data[at + 1] == 3 and data[at + 2] <= 4 and _u16(data, at + 3) <= _LONGEST


def _is_hello(data: bytes, at: int, end: int) -> bool:
    """Whether a record that begins at ``at`` is a hello, by its three lengths and versions."""
    return (
        end - at >= 11
        and data[at] == _HANDSHAKE
        and data[at + 5] in {1, 2}
        and data[at + 6] == 0
        and _u16(data, at + 7) + 4 <= max(_u16(data, at + 3), 4)
        and data[at + 9] == 3
    )


class RecordScanner:
    """The records of one direction. Public attributes are read by the connection that owns it.

    ``news`` collects hellos and alerts for the owner, who empties it. ``skip`` is the number of bytes of the current
    record still to come. ``application_records`` counts records of type 23; ``finished``: one was long enough for a
    Finished message; ``only_alerts``: some were seen, each as short as an alert.
    """

    # Defaults are class attributes: a scan makes a million of these, and most never see a record.
    skip = 0
    records = 0
    application_records = 0
    finished = False
    only_alerts = False
    change_cipher_spec = False
    alerts: tuple[Alert, ...] = ()
    news: Sequence[ClientHello | ServerHello | Alert] = ()
    _head = b""
    _body: bytearray | None = None
    _kind = _length = _last_kind = _last_length = 0

    def __init__(self, *, in_step: bool) -> None:
        self.in_step = in_step

    @property
    def has_tls(self) -> bool:
        """Whether a record was seen, or begins."""
        return bool(self.records or self.skip or self._head)

    def feed(self, data: bytes, start: int, size: int) -> None:
        """Take the next ``size`` bytes of the stream, which begin at ``data[start]`` and may be cut by its end."""
        if self.skip > size and self._body is None:
            self.skip -= size
            return
        end = min(start + size, len(data))
        missing = size - (end - start)
        if not self.in_step:
            if not self._finds_step(data, start, end, whole=not missing):
                return
            self.in_step = True
        at = start
        while at < end:
            at = self._take_body(data, at, end) if self.skip else self._take_header(data, at, end)
            if at < 0:
                self.lose_step()
                return
        if missing:
            self._jump(missing)

    def _take_body(self, data: bytes, at: int, end: int) -> int:
        """Take what is there of a record's body; where to go on."""
        taken = min(self.skip, end - at)
        if self._body is not None and len(self._body) < _BODY_LIMIT:
            self._body += data[at : at + taken]
        self.skip -= taken
        if not self.skip:
            self._complete()
        return at + taken

    def _take_header(self, data: bytes, at: int, end: int) -> int:
        """Take what is there of a record's header; where to go on, -1 if it is none."""
        if not self._head and end - at >= 5:
            return at + 5 if self._begin(data, at) else -1
        taken = min(5 - len(self._head), end - at)
        head = self._head + data[at : at + taken]
        if len(head) == 5:
            self._head = b""
            return at + taken if self._begin(head, 0) else -1
        self._head = head
        return at + taken

    def _jump(self, missing: int) -> None:
        """Go on behind bytes that were not captured: possible inside a record's body only."""
        if self.skip < missing:
            self.lose_step()
            return
        self.skip -= missing
        if not self.skip:
            self._complete()

    def lose_step(self) -> None:
        """Bytes are missing or make no sense: where the next record begins is unknown."""
        self.in_step = False
        self.skip = 0
        self._head = b""
        self._body = None

    def close_notify(self, *, cipher: int | None, tls13: bool) -> CloseNotify | None:
        """Whether the stream, which has ended, ended with close_notify; None if it is not TLS.

        TLS 1.3 hides an alert in a record of type 23: 2 bytes of alert, 1 of type, 16 (or 8) of tag.
        """
        if not self.has_tls:
            return None
        if not self.in_step:
            return CloseNotify.UNKNOWN
        if self.skip or self._head:
            return CloseNotify.TRUNCATED
        if self._last_kind == _ALERT and self._last_length == 2:
            return CloseNotify.YES if self.alerts and self.alerts[-1].description == 0 else CloseNotify.NO
        is_alert = self.ends_with_alert(cipher=cipher, tls13=tls13 or cipher is None)
        return CloseNotify.LIKELY if is_alert else CloseNotify.NO

    def ends_with_alert(self, *, cipher: int | None, tls13: bool) -> bool:
        """Whether the last record was whole and an alert, or encrypted and as long as one."""
        return (
            self.in_step
            and not self.skip
            and (
                self._last_kind == _ALERT
                or (tls13 and self._last_kind == _APPLICATION_DATA and self._is_short(self._last_length, cipher))
            )
        )

    @staticmethod
    def _is_short(length: int, cipher: int | None) -> bool:
        """Whether an encrypted TLS 1.3 record is as long as an alert."""
        return length == 11 if cipher in _SHORT_TAG_CIPHERS else length == 19

    def _finds_step(self, data: bytes, start: int, end: int, *, whole: bool) -> bool:
        if end - start < 5 or data[start + 1] != 3 or not _is_header(data, start):
            return False
        if _is_hello(data, start, end):
            return True
        at = start
        while whole and end - at >= 5 and _is_header(data, at):
            at += 5 + _u16(data, at + 3)
        return at == end

    def _begin(self, data: bytes, at: int) -> bool:
        if not _is_header(data, at):
            return False
        self._kind = data[at]
        self._length = self.skip = data[at + 3] << 8 | data[at + 4]
        self._body = bytearray() if self._kind in {_ALERT, _HANDSHAKE} else None
        if not self.skip:
            self._complete()
        return True

    def _complete(self) -> None:
        kind, length = self._kind, self._length
        self.records += 1
        self._last_kind, self._last_length = kind, length
        if kind == _APPLICATION_DATA:
            self.application_records += 1
            if not self.finished:
                self.finished = length > 19
                self.only_alerts = not self.finished
            return
        body, self._body = bytes(self._body or b""), None
        if kind == _CHANGE_CIPHER_SPEC:
            self.change_cipher_spec = True
        elif kind == _ALERT and length == 2 and len(body) == 2:
            alert = Alert(level=body[0], description=body[1], name=ALERTS.get(body[1], f"alert {body[1]}"))
            self.alerts = (*self.alerts, alert)[-_MAX_ALERTS:]
            self._tell(alert)
        elif kind == _HANDSHAKE and len(body) >= 38 and body[1] == 0 and body[4] == 3:
            if body[0] == 1:
                self._tell(ClientHello(body))
            elif body[0] == 2:
                self._tell(ServerHello(body))

    def _tell(self, found: ClientHello | ServerHello | Alert) -> None:
        if not isinstance(self.news, list):
            self.news = []
        self.news.append(found)
