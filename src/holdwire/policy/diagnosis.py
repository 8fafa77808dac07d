"""Constructors of ``Failure``: one for each way in which something fails.

What each does: classify (``taxonomy``), put the facts of the connection beside it, and add the words (``words``).
Pure. Not responsible for reading errno, TCP_INFO or clocks: they come in as ``Facts``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from . import taxonomy
from .failure import Failure, TlsDetail
from .kind import Action, Category, FaultSide, Kind
from .phase import Phase
from .taxonomy import Classification
from .words import words_for

if TYPE_CHECKING:
    from .phase import Sent
    from .tcp_info import TcpInfo

__all__ = ["Facts", "from_eai", "from_eof", "from_errno", "from_protocol", "from_tls", "local"]


class Facts(TypedDict, total=False):
    """What is known about a connection; the keys are fields of ``Failure``."""

    host: str
    port: int
    via: str
    peer: str | None
    peer_port: int | None
    local_port: int
    network_type: str | None
    connection_id: str
    reused: bool
    requests: int
    age: float
    idle: float
    bytes_in: int
    bytes_out: int
    began: float
    at: float
    tcp: TcpInfo | None
    outq: int | None
    sent: Sent


def from_errno(
    number: int,
    *,
    syscall: str,
    phase: Phase,
    facts: Facts,
    connected: bool | None = None,
    ours: bool = False,
    bound: bool = False,
    detail: str | None = None,
) -> Failure:
    """A system call failed with errno ``number``; 0 is an end of file.

    Args:
        number: The errno.
        syscall: ``connect``, ``send``, ``recv``, ``poll``, ``shutdown``.
        phase: What the connection was doing.
        facts: What is known about it.
        connected: Whether it was established; by default as the phase says.
        ours: Whether we had closed the socket ourselves.
        bound: Whether the caller chose the local address.
        detail: More, in words of our own or the operating system's.
    """
    if number == 0:
        return from_eof(phase=phase, facts=facts, syscall=syscall, detail=detail)
    name = taxonomy.errno_name(number)
    found = taxonomy.of_errno(
        name, phase=phase, connected=connected, ours=ours, bound=bound, unix=facts.get("network_type") == "unix"
    )
    return _worded(
        _made(found, phase, facts, detail).evolve(syscall=syscall, errno=number, errno_name=name or f"errno {number}")
    )


def from_eai(name: str, *, facts: Facts, number: int | None = None, detail: str | None = None) -> Failure:
    """Name resolution failed with an EAI code, by name; ``IDNA`` for a name that cannot be encoded."""
    found = taxonomy.of_eai(name)
    return _worded(_made(found, Phase.DNS, facts, detail).evolve(syscall="getaddrinfo", errno=number, errno_name=name))


def from_eof(
    *,
    phase: Phase,
    facts: Facts,
    syscall: str = "recv",
    tls: TlsDetail | None = None,
    detail: str | None = None,
) -> Failure:
    """The input ended where it must not: without close_notify, or inside a message. Its errno is 0."""
    return _worded(_made(taxonomy.of_eof(phase), phase, facts, detail).evolve(syscall=syscall, errno=0, tls=tls))


def from_tls(*, phase: Phase, facts: Facts, tls: TlsDetail, detail: str | None = None) -> Failure:
    """TLS failed: a certificate, an alert, a broken record, a handshake that found nothing in common."""
    found = taxonomy.of_tls(tls.reason, verify_code=tls.verify_code, alert=tls.alert)
    return _worded(_made(found, phase, facts, detail).evolve(tls=tls))


def from_protocol(*, phase: Phase, facts: Facts, detail: str) -> Failure:
    """The peer's bytes are no legal HTTP."""
    return _worded(_made(_PROTOCOL, phase, facts, detail))


def local(kind: Kind, *, phase: Phase, facts: Facts, detail: str | None = None) -> Failure:
    """Something that no system call and no TLS said: a time limit, a lost heartbeat, a proxy's or HTTP/2's word."""
    return _worded(_made(_LOCAL.get(kind, _OTHER), phase, facts, detail).evolve(kind=kind))


_PROTOCOL = Classification(Kind.HTTP_PROTOCOL_ERROR, Category.VIOLATION, Action.NEVER, FaultSide.PEER)
_OTHER = Classification(Kind.OTHER, Category.UNKNOWN, Action.BACK_OFF)
_LOCAL = {
    Kind.LOCAL_TIMEOUT: Classification(Kind.LOCAL_TIMEOUT, Category.TIMED_OUT, Action.PHASE_TABLE, FaultSide.UNKNOWN),
    Kind.POOL_TIMEOUT: Classification(Kind.POOL_TIMEOUT, Category.LOCAL_RESOURCE, Action.PHASE_TABLE, FaultSide.LOCAL),
    Kind.HEARTBEAT_LOST: Classification(Kind.HEARTBEAT_LOST, Category.TIMED_OUT, Action.PHASE_TABLE, FaultSide.PATH),
    Kind.PROXY_REFUSED: Classification(Kind.PROXY_REFUSED, Category.REFUSED, Action.ADDRESS, FaultSide.PEER),
    Kind.HTTP2_GOAWAY: Classification(Kind.HTTP2_GOAWAY, Category.PEER_CLOSED, Action.PHASE_TABLE, FaultSide.PEER),
    Kind.HTTP2_STREAM_RESET: Classification(
        Kind.HTTP2_STREAM_RESET, Category.PEER_CLOSED, Action.PHASE_TABLE, FaultSide.PEER
    ),
    Kind.CANCELLED: Classification(Kind.CANCELLED, Category.INTENTIONAL, Action.NEVER, FaultSide.LOCAL),
}


def _made(found: Classification, phase: Phase, facts: Facts, detail: str | None) -> Failure:
    return Failure(
        kind=found.kind,
        category=found.category,
        action=found.action,
        fault_side=found.fault_side,
        phase=phase,
        detail=detail,
        **facts,
    )


def _worded(failure: Failure) -> Failure:
    cause, remedy = words_for(failure)
    return failure.evolve(cause=cause, remedy=remedy)
