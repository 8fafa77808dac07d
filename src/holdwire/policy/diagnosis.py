"""The constructors of ``Failure``: what was seen at a system call or a protocol step becomes one complete record.

Each fills in kind, category, action, fault side, the errno's name, and the words for cause and remedy. They are
called once for a failure, where it happened, before the socket is closed. Not responsible for classification
(``taxonomy``) or wording (``words``), or for reading facts from a socket.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypedDict

from .codes import ALERTS, alert_of_reason
from .failure import Failure
from .kind import Action, Category, FaultSide, Kind
from .phase import Phase
from .taxonomy import Classification, of_eai, of_eof, of_errno, of_tls
from .words import confidence_in, words_for

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from .failure import TlsDetail
    from .flight import Moment
    from .phase import Sent
    from .tcp_info import TcpInfo

__all__ = ["LOCAL_TABLE", "Facts", "from_eai", "from_eof", "from_errno", "from_protocol", "from_tls", "local"]


class Facts(TypedDict, total=False):
    """What is known about the connection at that moment; the fields are those of ``Failure``."""

    host: str | None
    port: int | None
    via: str | None
    peer: str | None
    peer_port: int | None
    local_port: int | None
    network_type: str | None
    connection_id: str | None
    reused: bool
    requests: int
    age: float | None
    idle: float | None
    bytes_in: int
    bytes_out: int
    began: float | None
    at: float
    tcp: TcpInfo | None
    outq: int | None
    sent: Sent | None
    flight: tuple[Moment, ...]


def from_errno(
    number: int,
    *,
    syscall: str,
    phase: Phase,
    facts: Facts,
    connected: bool = True,
    ours: bool = False,
    bound: bool = False,
    detail: str | None = None,
    platform: str = sys.platform,
    overrides: Mapping[str, Classification] | None = None,
) -> Failure:
    """A socket call failed with an errno.

    Args:
        number: The errno, 0 if the error had none; on Windows ``winerror`` where there is one.
        syscall: The call: ``connect``, ``send``, ``recv`` ...
        phase: What the connection was doing.
        facts: What is known about the connection.
        connected: Whether the connection stood; not in the phases ``dns`` and ``connect``, whatever is said here.
        ours: Whether we had closed the socket before.
        bound: Whether the user gave a local address.
        detail: Text of our own.
        platform: Whose number it is, as ``sys.platform`` has it.
        overrides: What the user knows better, by name.
    """
    known = of_errno(
        number,
        phase=phase,
        connected=connected,
        ours=ours,
        unix=facts.get("network_type") == "unix",
        bound=bound,
        platform=platform,
        overrides=overrides,
    )
    # errno 0 of a Failure is an end of file
    return _failure(known, phase, facts, syscall=syscall, errno=number or None, errno_name=known.name, detail=detail)


def from_eai(
    name: str,
    *,
    facts: Facts,
    errno: int | None = None,
    detail: str | None = None,
    overrides: Mapping[str, Classification] | None = None,
) -> Failure:
    """Name resolution failed: ``name`` is the EAI code's, or ``UnicodeError``; ``errno`` comes with EAI_SYSTEM."""
    known = of_eai(name, errno=errno, overrides=overrides)
    return _failure(
        known, Phase.DNS, facts, syscall="getaddrinfo", errno=errno or None, errno_name=known.name, detail=detail
    )


def from_eof(
    *, phase: Phase, facts: Facts, syscall: str = "recv", tls: TlsDetail | None = None, detail: str | None = None
) -> Failure:
    """The connection ended where it should not have: without close_notify, or inside a message."""
    return _failure(of_eof(phase=phase), phase, facts, syscall=syscall, errno=0, tls=tls, detail=detail)


def from_tls(
    *,
    phase: Phase,
    facts: Facts,
    tls: TlsDetail,
    detail: str | None = None,
    overrides: Mapping[str, Classification] | None = None,
) -> Failure:
    """OpenSSL reported an error that is no failed system call; an end of file is ``from_eof``.

    An alert that only OpenSSL's reason tells is filled in. An alert that we sent is no verdict of the peer.
    """
    if tls.alert is None and (number := alert_of_reason(tls.reason or "")) is not None:
        tls = replace(tls, alert=number, alert_name=ALERTS[number], alert_direction="received")
    received = None if tls.alert_direction == "sent" else tls.alert
    known = of_tls(tls.reason, phase=phase, verify_code=tls.verify_code, alert=received, overrides=overrides)
    return _failure(known, phase, facts, tls=tls, detail=detail)


def from_protocol(*, phase: Phase, facts: Facts, detail: str | None) -> Failure:
    """The peer's bytes break HTTP, or another protocol above TLS."""
    return _failure(_VIOLATION, phase, facts, detail=detail)


def local(kind: Kind, *, phase: Phase, facts: Facts, detail: str | None = None) -> Failure:
    """What no system call and no TLS reported: a limit of our own, or a word of the protocol.

    Raises:
        ValueError: ``kind`` is not one of ``LOCAL_TABLE``; it has a constructor of its own.
    """
    known = LOCAL_TABLE.get(kind)
    if known is None:
        message = f"local({kind!s}): this kind comes from a system call, TLS or a protocol error; use its constructor"
        raise ValueError(message)
    return _failure(known, phase, facts, detail=detail)


def _row(kind: Kind, category: Category, action: Action, side: FaultSide) -> Classification:
    return Classification(kind=kind, category=category, action=action, fault_side=side)


_VIOLATION: Final = _row(Kind.HTTP_PROTOCOL_ERROR, Category.VIOLATION, Action.NEVER, FaultSide.PEER)
_TABLE_DECIDES: Final = Action.PHASE_TABLE

LOCAL_TABLE: Final[dict[Kind, Classification]] = {
    row.kind: row
    for row in (
        _row(Kind.LOCAL_TIMEOUT, Category.TIMED_OUT, _TABLE_DECIDES, FaultSide.UNKNOWN),
        _row(Kind.POOL_TIMEOUT, Category.LOCAL_RESOURCE, _TABLE_DECIDES, FaultSide.LOCAL),
        _row(Kind.HEARTBEAT_LOST, Category.TIMED_OUT, _TABLE_DECIDES, FaultSide.UNKNOWN),
        # what the proxy said decides: 407 will not change, 502 may
        _row(Kind.PROXY_REFUSED, Category.REFUSED, Action.ADDRESS, FaultSide.UNKNOWN),
        _row(Kind.HTTP2_GOAWAY, Category.PEER_CLOSED, _TABLE_DECIDES, FaultSide.PEER),
        _row(Kind.HTTP2_STREAM_RESET, Category.PEER_CLOSED, _TABLE_DECIDES, FaultSide.PEER),
        # a foreign stream that does not say why it broke
        _row(Kind.OTHER, Category.UNKNOWN, Action.BACK_OFF, FaultSide.UNKNOWN),
        _row(Kind.CANCELLED, Category.INTENTIONAL, Action.NEVER, FaultSide.LOCAL),
    )
}
"""What failures mean that neither a number nor OpenSSL reports."""


def _failure(known: Classification, phase: Phase, facts: Facts, **more: Any) -> Failure:
    values: dict[str, Any] = {
        "kind": known.kind,
        "category": known.category,
        "action": known.action,
        "fault_side": known.fault_side,
        "phase": phase,
        **facts,
        **more,
    }
    failure = Failure(**values)
    cause, remedy = words_for(failure)
    return failure.evolve(cause=cause, remedy=remedy, confidence=confidence_in(known.kind))
