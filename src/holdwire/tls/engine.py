"""``Engine``: one side of a TLS connection without any I/O: ciphertext and plaintext in, plaintext and ciphertext out.

Theory of operation. An ``SSLObject`` sits between two memory BIOs: ``feed`` fills the incoming one, ``take`` empties
the outgoing one. Each step (``handshake``, ``read``, ``write``, ``unwrap``) does what it can and says what it needs:

* ``NEED_RECV``: bytes from the peer (OpenSSL's WANT_READ). Nothing is pending.
* ``NEED_SEND``: ciphertext is pending that must leave before the peer can answer (the true WANT_WRITE).
* ``DONE``: the step's work is done. ``write`` has taken all of its data; its ciphertext is pending.

After NEED_RECV or NEED_SEND the caller does just that, and repeats the step: a read may have to send (renegotiation),
a write may have to receive. Steps of two tasks may alternate as they like; a single step is never interrupted.

Invariants:

* The first failure is latched, with its reason; OpenSSL reports every later call as a false end of file.
* OpenSSL never learns of the peer's FIN. An end of input is what is left when it wants more and there is no more:
  so it means the same on every version, whatever OP_IGNORE_UNEXPECTED_EOF says, and its reason cannot get lost.
* An end between two records without close_notify is a failure unless ``truncation="accept"``; inside a record and
  inside the handshake it is one always.
* No exception on the usual path: OpenSSL is asked to read only where there is input.
* Ciphertext leaves by ``take``, in the order in which it was made, or is gone by ``discard``.

Not responsible for sockets, waiting, time, locks (``stream``), or for making contexts (``context``).
"""

from __future__ import annotations

import enum
import re
import ssl
import sys
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from ..policy.codes import ALERTS, alert_of_reason
from ..policy.failure import TlsDetail
from .records import RecordTracker

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Engine", "Step", "TlsFailure", "Truncation"]

Truncation: TypeAlias = Literal["error", "accept"]
"""What an end of file between two records without close_notify is: a failure, or an end."""

_RECORD: Final = 16_384
"""Plaintext in one record at most (RFC 8446, section 5.1); OpenSSL reads no further in one call."""
_LARGEST: Final = _RECORD + 256 + 5
"""A record with its header at most (RFC 8446, section 5.2); in TLS 1.2 more, and OpenSSL makes none such."""
_EOF_REASON: Final = "UNEXPECTED_EOF_WHILE_READING"
_IN_HANDSHAKE: Final = "SHUTDOWN_WHILE_IN_INIT"
_ALERT_RECORD: Final = 7
"""Bytes of an alert that is not encrypted: the header, level, number."""

_NAMELESS: Final = re.compile(r"\[SSL\] (?!unknown error)([^(]+) \(")
"""An error whose reason Python has no name for: it quotes OpenSSL's words."""


class Step(enum.Enum):
    """What a step of the engine ended in; see the module."""

    DONE = "done"
    NEED_RECV = "need_recv"
    NEED_SEND = "need_send"


class TlsFailure(Exception):
    """TLS failed, or its input ended where it must not. ``__cause__`` is the ``ssl.SSLError``.

    ``eof`` tells the end of file, and ``inside_record`` whether it came inside a record.
    """

    def __init__(
        self, detail: TlsDetail, error: ssl.SSLError, *, eof: bool = False, inside_record: bool = False
    ) -> None:
        super().__init__(detail.verify_message or detail.reason or str(error))
        self.detail = detail
        self.eof = eof
        self.inside_record = inside_record
        self.__cause__ = error

    def again(self) -> TlsFailure:
        """A fresh exception about the same failure, free of the tracebacks of the earlier ones."""
        assert isinstance(self.__cause__, ssl.SSLError)  # noqa: S101 - set above
        return TlsFailure(self.detail, self.__cause__, eof=self.eof, inside_record=self.inside_record)


class Engine:
    """One side of one TLS connection. See the module.

    Args:
        context: Whose ``wrap_bio`` makes the SSLObject.
        server_hostname: The name that the certificate must be good for, or None; ASCII.
        server_side: Whether this is the server.
        session: A session of the same context and name to resume; one that does not fit is not used.
        truncation: What an end between two records without close_notify is.

    Raises:
        ValueError, ssl.SSLError: The context cannot be used for this.
    """

    __slots__ = (
        "_early",
        "_ended",
        "_eof",
        "_incoming",
        "_kept",
        "_outgoing",
        "_renegotiable",
        "_sent_close_notify",
        "_tracker",
        "failure",
        "forgiving",
        "handshaken",
        "object",
        "receipts",
    )

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        server_hostname: str | bytes | None = None,
        server_side: bool = False,
        session: ssl.SSLSession | None = None,
        truncation: Truncation = "error",
    ) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.object: ssl.SSLObject = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_side,
            server_hostname=server_hostname,
        )
        if session is not None:
            with suppress(ValueError, TypeError):  # of another context, or not OpenSSL's: a full handshake does as well
                self.object.session = session
        self._tracker = RecordTracker()
        self.forgiving = truncation == "accept"
        """Whether an end between two records without close_notify is an end."""
        self._early = b""
        """Plaintext that a write had to read first."""
        self._kept = b""
        self._renegotiable = False
        self._eof = False
        self._ended = False
        self._sent_close_notify = False
        self.handshaken = False
        self.receipts = 0
        """How often it was fed: tells a task that another one has done so."""
        self.failure: TlsFailure | None = None
        """The first failure, latched."""

    # --- input and output ---

    def feed(self, data: bytes | memoryview) -> None:
        """Take bytes from the peer."""
        self.receipts += 1
        self._tracker.feed(data)
        self._incoming.write(data)

    def feed_eof(self) -> None:
        """The peer has ended its side of the connection beneath."""
        self.receipts += 1
        self._eof = True

    @property
    def pending(self) -> int:
        """Bytes of ciphertext that wait for ``take``."""
        return self._outgoing.pending + len(self._kept)

    def take(self) -> bytes:
        """All pending ciphertext; it is the caller's to send now."""
        data = self._outgoing.read()
        if self._kept:
            data, self._kept = self._kept + data, b""
        return data

    def discard(self) -> int:
        """Forget the pending ciphertext, which will never leave; return its length."""
        return len(self.take())

    # --- steps ---

    def handshake(self) -> Step:
        """Shake hands.

        Raises:
            TlsFailure: The handshake failed; an alert for the peer may be pending.
        """
        step = self._run(self.object.do_handshake)
        if step is Step.DONE:
            self.handshaken = True
            self._renegotiable = self.object.version() != "TLSv1.3"
        return step

    def write(self, data: bytes | memoryview) -> Step:
        """Encrypt ``data``: all of it with DONE, nothing of it otherwise.

        Raises:
            TlsFailure: TLS has failed, now or earlier.
        """
        if not data:
            return Step.DONE
        if self._renegotiable and self._incoming.pending and self.failure is None:
            # inside a write OpenSSL takes plaintext that comes before a message of the renegotiation for a violation
            early: list[bytes] = []
            self._read_records(sys.maxsize, early)
            self._early += b"".join(early)
        return self._run(self.object.write, data)

    def read(self, max_bytes: int) -> bytes | Step:
        """Decrypt up to ``max_bytes`` bytes of what is here, of several records; ``b""`` after the peer's end.

        Raises:
            TlsFailure: TLS has failed, now or earlier, and no plaintext from before is left.
        """
        if self._early:
            data, self._early = self._early[:max_bytes], self._early[max_bytes:]
            return data
        if self.failure is None and not self._ended and (self._incoming.pending or self.object.pending()):
            pieces: list[bytes] = []
            self._read_records(max_bytes, pieces)
            if pieces:
                return pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if self.failure is not None:
            raise self.failure.again()
        if self._ended or self._forgiven():
            return b""
        return self._needs()

    def unwrap(self) -> Step:
        """Put our close_notify into the output, once; NEED_SEND while it is there. The peer's is not awaited.

        NEED_RECV: a renegotiation has begun, and has to end before; a peer that ended in the middle of it is not told.
        Read what is here first: OpenSSL loses input that is unread now.
        """
        if self.handshaken and self.failure is None and not self._sent_close_notify:
            before = self.pending
            try:
                self.object.unwrap()
                self._ended = True
            except ssl.SSLError as error:  # the peer's close_notify is not here, or unread input is: no failure of ours
                if error.reason == _IN_HANDSHAKE and not self._ended:
                    return Step.NEED_RECV
            self._sent_close_notify = self.pending > before
        return Step.NEED_SEND if self.pending else Step.DONE

    def _run(self, call: Callable[..., object], *arguments: bytes | memoryview) -> Step:
        if self.failure is not None:
            raise self.failure.again()
        try:
            call(*arguments)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return self._needs()
        except ssl.SSLError as error:
            raise self._fail(error) from error
        return Step.DONE

    def _read_records(self, max_bytes: int, pieces: list[bytes]) -> None:
        incoming, tls = self._incoming, self.object
        room = max_bytes
        try:
            while room and (incoming.pending or tls.pending()):
                piece = tls.read(min(room, _RECORD))
                if not piece:
                    self._ended = True
                    return
                pieces.append(piece)
                room -= len(piece)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except ssl.SSLZeroReturnError:
            self._ended = True
        except ssl.SSLError as error:
            self._fail(error)

    def _needs(self) -> Step:
        """What a step that could not go on needs.

        Raises:
            TlsFailure: It needs input, and the input has ended.
        """
        if self._ended:
            zero = ssl.SSLZeroReturnError(ssl.SSL_ERROR_ZERO_RETURN, "close_notify while new keys were agreed on")
            self.failure = TlsFailure(TlsDetail(error="SSL_ERROR_ZERO_RETURN", close_notify="received"), zero, eof=True)
            raise self.failure.again()
        if self._eof:
            error = ssl.SSLEOFError(ssl.SSL_ERROR_EOF, f"end of file without close_notify ({_EOF_REASON})")
            error.reason = _EOF_REASON
            detail = TlsDetail(error="SSL_ERROR_SYSCALL", reason=_EOF_REASON, close_notify=self.close_notify)
            self.failure = TlsFailure(detail, error, eof=True, inside_record=self._tracker.inside)
            raise self.failure.again()
        return Step.NEED_SEND if self.pending else Step.NEED_RECV

    def _forgiven(self) -> bool:
        return self._eof and self.forgiving and not self._tracker.inside

    def _fail(self, error: ssl.SSLError) -> TlsFailure:
        """Latch ``error`` as the failure, with the alert that came with it."""
        self._kept = self.take()
        detail = replace(_detail(error, _sent_alert(self._kept)), close_notify=self.close_notify)
        self.failure = TlsFailure(detail, error)
        return self.failure

    # --- state ---

    @property
    def holds_input(self) -> bool:
        """Whether a whole record is certain to be here, or what is left of one."""
        return self._incoming.pending > _LARGEST or self.object.pending() > 0

    @property
    def ended(self) -> bool:
        """Whether the peer's close_notify was received."""
        return self._ended

    @property
    def eof(self) -> bool:
        """Whether the input beneath has ended."""
        return self._eof

    @property
    def close_notify(self) -> str:
        """``none``, ``sent``, ``received`` or ``both``."""
        if self._sent_close_notify:
            return "both" if self._ended else "sent"
        return "received" if self._ended else "none"

    @property
    def session(self) -> ssl.SSLSession | None:
        """The present session. In TLS 1.3 it can be resumed once a ticket has been read."""
        return self.object.session

    @property
    def session_reused(self) -> bool:
        """Whether the handshake resumed a session."""
        return bool(self.object.session_reused)


def _detail(error: ssl.SSLError, sent_alert: int | None) -> TlsDetail:
    """What ``error`` says; ``sent_alert`` is the number of the alert that we are about to send."""
    reason: str | None = getattr(error, "reason", None)
    if reason is None and (words := _NAMELESS.match(str(error.strerror))):
        reason = words[1].upper().replace(" ", "_")  # as OpenSSL names it; of the alerts 115 and 120
    detail = TlsDetail(
        error=_error_name(error.errno),
        reason=reason,
        verify_code=getattr(error, "verify_code", None),
        verify_message=getattr(error, "verify_message", None),
    )
    received = alert_of_reason(reason or "")
    if received is not None:
        return replace(detail, alert=received, alert_name=ALERTS.get(received), alert_direction="received")
    if sent_alert is not None:
        return replace(detail, alert=sent_alert, alert_name=ALERTS.get(sent_alert), alert_direction="sent")
    return detail


def _error_name(number: int | None) -> str | None:
    return next((code.name for code in ssl.SSLErrorNumber if code == number), None)


def _sent_alert(ciphertext: bytes) -> int | None:
    """The number of the alert at the end of ``ciphertext``; None if there is none, or it is encrypted."""
    record = ciphertext[-_ALERT_RECORD:]
    if len(record) == _ALERT_RECORD and record[0] == 21 and record[1] == 3 and record[3:5] == b"\x00\x02":
        return record[6]
    return None
