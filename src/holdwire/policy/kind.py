"""The closed vocabulary of failures: ``Kind`` is what happened, ``Category`` is what sort of trouble that is.

Not responsible for finding the kind of an error number (``taxonomy``) or for what to do about it (``retry``).
"""

from __future__ import annotations

import enum

__all__ = ["Action", "Category", "Confidence", "FaultSide", "Kind"]


class Kind(enum.StrEnum):
    """What happened. The values are those of ``error.type`` in telemetry; the list is closed."""

    CONNECTION_REFUSED = "connection_refused"
    HOST_UNREACHABLE = "host_unreachable"
    NETWORK_UNREACHABLE = "network_unreachable"
    NETWORK_DOWN = "network_down"
    TIMED_OUT = "timed_out"
    """The kernel's ETIMEDOUT; a deadline of ours or of the user is LOCAL_TIMEOUT."""
    CONNECTION_RESET = "connection_reset"
    CONNECTION_ABORTED = "connection_aborted"
    BROKEN_PIPE = "broken_pipe"
    UNEXPECTED_EOF = "unexpected_eof"
    """An end of file without an errno: without close_notify, or inside a message."""
    BAD_FILE_DESCRIPTOR = "bad_file_descriptor"
    NO_FILE_DESCRIPTORS = "no_file_descriptors"
    NO_BUFFER_SPACE_AVAILABLE = "no_buffer_space_available"
    ADDRESS_NOT_AVAILABLE = "address_not_available"
    ADDRESS_ALREADY_IN_USE = "address_already_in_use"
    ACCESS_DENIED = "access_denied"
    NAME_RESOLUTION_ERROR = "name_resolution_error"
    TLS_ALERT_RECEIVED = "tls_alert_received"
    CERTIFICATE_INVALID = "certificate_invalid"
    TLS_PROTOCOL_ERROR = "tls_protocol_error"
    PROXY_REFUSED = "proxy_refused"
    HTTP2_GOAWAY = "http2_goaway"
    HTTP2_STREAM_RESET = "http2_stream_reset"
    HTTP_PROTOCOL_ERROR = "http_protocol_error"
    HEARTBEAT_LOST = "heartbeat_lost"
    POOL_TIMEOUT = "pool_timeout"
    LOCAL_TIMEOUT = "local_timeout"
    CANCELLED = "cancelled"
    OTHER = "_OTHER"


class Category(enum.StrEnum):
    """What sort of trouble a failure is. Decisions look at the category first."""

    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    TIMED_OUT = "timed_out"
    PEER_CLOSED = "peer_closed"
    DNS = "dns"
    LOCAL_RESOURCE = "local_resource"
    CONFIGURATION = "configuration"
    """The same attempt will fail the same way: certificates, permissions, wrong protocol."""
    LOCAL_BUG = "local_bug"
    INTENTIONAL = "intentional"
    """We closed or cancelled: not an error, no span."""
    VIOLATION = "violation"
    """The peer's bytes break TLS or the protocol."""
    NOT_AN_ERROR = "not_an_error"
    """The call would block or is in progress: no failure, no span."""
    UNKNOWN = "unknown"


class Action(enum.StrEnum):
    """The most that may be done about a failure; the retry table can only allow less."""

    NOW = "now"
    ADDRESS = "address"
    """The next address of the host at once; when none is left, back off."""
    BACK_OFF = "back_off"
    LONG_BACK_OFF = "long_back_off"
    NEVER = "never"
    PHASE_TABLE = "phase_table"
    """The failure hit an established connection: the retry table decides."""
    WAIT = "wait"
    """Not a failure: wait for readiness."""


class FaultSide(enum.StrEnum):
    """Whose fault a failure most likely was."""

    PEER = "peer"
    LOCAL = "local"
    PATH = "path"
    UNKNOWN = "unknown"


class Confidence(enum.StrEnum):
    """How sure the stated cause of a failure is."""

    CERTAIN = "certain"
    LIKELY = "likely"
    POSSIBLE = "possible"
    UNKNOWN = "unknown"
    """What is known does not tell, and the words say so."""
