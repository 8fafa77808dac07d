"""The vocabulary of time: where a connection or a request was when something happened.

One list serves failures, retry verdicts, telemetry and the doctor. Not responsible for what a failure means
(``kind``) or for what to do about it (``retry``).
"""

from __future__ import annotations

import enum

__all__ = ["Delivery", "Phase", "Sent"]


class Phase(enum.StrEnum):
    """Where a connection or a request was. The values are also the values of ``holdwire.phase`` in telemetry."""

    DNS = "dns"
    CONNECT = "connect"
    PROXY = "proxy"
    TLS_HANDSHAKE = "tls_handshake"
    POST_HANDSHAKE = "post_handshake"
    """Set up on our side, but TLS 1.3 lets the server refuse only now (client certificate alerts)."""
    POOL = "pool"
    """Waiting for a connection or choosing one; nothing was written."""
    IDLE = "idle"
    """A connection without a request."""
    REQUEST_HEADERS = "request_headers"
    REQUEST_BODY = "request_body"
    RESPONSE_WAIT = "response_wait"
    RESPONSE_BODY = "response_body"
    UPGRADED = "upgraded"
    """A byte stream: after 101 or CONNECT, and every stream that speaks no HTTP."""
    SHUTDOWN = "shutdown"
    HEARTBEAT = "heartbeat"

    @property
    def is_setup(self) -> bool:
        """Whether the connection was still being set up, so that no byte of a request can have left."""
        return self in _SETUP

    @property
    def is_exchange(self) -> bool:
        """Whether a request was on its way or its answer awaited (headers, body, response_wait)."""
        return self in _EXCHANGE


_SETUP = frozenset({Phase.DNS, Phase.CONNECT, Phase.PROXY, Phase.TLS_HANDSHAKE})
_EXCHANGE = frozenset({Phase.REQUEST_HEADERS, Phase.REQUEST_BODY, Phase.RESPONSE_WAIT})


class Sent(enum.StrEnum):
    """How much of a request the kernel took, by TLS record where there is TLS."""

    NONE = "none"
    PART = "part"
    ALL = "all"


class Delivery(enum.StrEnum):
    """What the kernel knows about the delivery of a request at the moment of failure."""

    NOT_SENT = "not_sent"
    """No byte can still leave and none has left."""
    SENT_UNACKED = "sent_unacked"
    """Bytes left and were not all acknowledged: unknown, an acknowledgement can be lost."""
    ACKED = "acked"
    """The peer's kernel has all of it; whether its program read it is unknown."""
    ANSWERED = "answered"
    """At least one byte of an answer arrived: processing has begun."""
