"""What the kernel's numbers prove about a connection: what was delivered, whether the path is dead, who is slow.

Pure: ``TcpInfo`` and byte counts in, findings out. Not responsible for reading them (``net.tcp_info``) or for what
to do about a finding (``retry``, ``liveness``).

What the numbers cannot do: once the kernel has accepted a byte of a request, no TCP value proves that the request
was not processed. A server that half-closes, reads, executes and resets within the delayed-ACK time leaves the same
signs as one that never looked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from .kind import Kind
from .phase import Delivery
from .tcp_info import TcpState

if TYPE_CHECKING:
    from .failure import Failure
    from .tcp_info import TcpInfo

__all__ = ["DELIVERY_REASONS", "Finding", "black_hole", "delivery", "fin_before_write", "window_closed"]

DELIVERY_REASONS: Final[dict[Delivery, str]] = {
    Delivery.NOT_SENT: "no byte of the request has left this host, and none can leave any more",
    Delivery.SENT_UNACKED: "bytes of the request may have left and were not all acknowledged",
    Delivery.ACKED: "the peer's kernel has the whole request; whether its program read it is unknown",
    Delivery.ANSWERED: "the peer has begun to answer",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A yes or a no, with its reason in plain words."""

    holds: bool
    reason: str

    def __bool__(self) -> bool:
        return self.holds


def delivery(
    *,
    accepted: int,
    outq: int | None,
    notsent: int | None = None,
    response_bytes: int = 0,
    ended: bool = False,
    fin_sent: bool = False,
) -> Delivery:
    """What became of a request.

    Args:
        accepted: Bytes of it that the kernel took, on the wire (with TLS: of ciphertext).
        outq: Bytes not acknowledged (SIOCOUTQ), None where it cannot be read. It keeps its value on a dead connection,
            which ``tcpi_unacked`` does not.
        notsent: Bytes never sent (``tcpi_notsent_bytes``).
        response_bytes: Bytes of its response that arrived.
        ended: Whether the numbers are from a connection that can send no more (state CLOSE, or already aborted).
            Without it unsent bytes prove nothing: they may leave in the next moment.
        fin_sent: Whether we shut our side down; our FIN counts as one byte of ``outq`` until it is acknowledged.
    """
    if response_bytes:
        return Delivery.ANSWERED
    if not accepted or (ended and notsent is not None and notsent >= accepted):
        return Delivery.NOT_SENT
    if outq is None or outq > fin_sent:
        return Delivery.SENT_UNACKED
    return Delivery.ACKED


def fin_before_write(failure: Failure, *, accepted: int) -> bool:
    """Whether all signs are that the peer's FIN was sent before it got a byte of the request.

    Its FIN acknowledges nothing of the ``accepted`` bytes, and came before any RST: the reader sees an end of file, or
    the writer EPIPE. A server that half-closes, reads, executes and resets at once leaves the same signs.
    """
    ended = failure.kind in {Kind.UNEXPECTED_EOF, Kind.BROKEN_PIPE}
    closed = failure.tcp is not None and failure.tcp.state in {TcpState.CLOSE, TcpState.CLOSE_WAIT}
    return ended and closed and failure.outq is not None and failure.outq >= accepted > 0


_ALIVE: Final = frozenset({TcpState.ESTABLISHED, TcpState.CLOSE_WAIT, TcpState.FIN_WAIT1})
_RETRANSMITS: Final = 3
_SILENCE: Final = 3.0
_ROUND_TRIPS: Final = 4
_LONG_IDLE: Final = 30.0
_RETRANSMITS_AFTER_IDLE: Final = 2
_SILENCE_AFTER_IDLE: Final = 1.0


def black_hole(info: TcpInfo, *, waited: float, idle_before: float = 0.0, timeout: float | None = None) -> Finding:
    """Whether the path under a waiting request looks dead (long before the kernel says so).

    Args:
        info: The connection now.
        waited: Seconds since the first byte of the request was written: ACKs before that prove nothing.
        idle_before: Seconds that the connection had been idle before it was used again; 0 for a fresh one. After long
            idling a forgotten flow is likely, so less is enough.
        timeout: A heartbeat time-out that the user gave: silence for so long is enough.
    """
    if info.retransmits is None or info.last_ack_recv is None:
        return Finding(holds=False, reason="the kernel does not tell retransmissions")
    if info.state not in _ALIVE:
        return Finding(holds=False, reason="the connection has ended")
    retransmits, silence = _RETRANSMITS, max(_SILENCE, _ROUND_TRIPS * (info.rtt or 0) / 1e6)
    if idle_before >= _LONG_IDLE:
        retransmits, silence = _RETRANSMITS_AFTER_IDLE, _SILENCE_AFTER_IDLE
    if timeout is not None and timeout < silence:
        retransmits, silence = _RETRANSMITS_AFTER_IDLE, timeout
    silent = min(info.last_ack_recv / 1e3, waited)
    if info.retransmits < retransmits or silent < silence:
        return Finding(holds=False, reason=f"{info.retransmits} retransmissions, {silent:.1f} s without an ACK")
    return Finding(
        holds=True,
        reason=f"{info.retransmits} retransmissions and no ACK for {silent:.1f} s: the path drops what we send",
    )


def window_closed(info: TcpInfo, *, queued: int, dead_after: float) -> Finding:
    """Whether the peer lives but does not read, so that TCP_USER_TIMEOUT must not end the connection.

    ``queued`` is what waits in the send queue (SIOCOUTQ). Linux sends its probes of a closed window at ever longer
    intervals, up to two minutes, so that the age of the last ACK alone says little: a peer lives whose last probe was
    answered. One whose probes go unanswered has a third of ``dead_after`` from its last ACK.
    """
    if info.snd_wnd is None or info.last_ack_recv is None:
        return Finding(holds=False, reason="the kernel does not tell the peer's window")
    if not queued:
        return Finding(holds=False, reason="nothing is queued")
    if info.snd_wnd:
        return Finding(holds=False, reason="the peer's window is open")
    silent = info.last_ack_recv / 1e3
    if info.probes and silent >= dead_after / 3:
        return Finding(holds=False, reason=f"the window is closed and no ACK came for {silent:.1f} s")
    return Finding(holds=True, reason="the window is closed and the peer answers: it lives and does not read")


_LEAST_SEGMENTS: Final = 20
_FULL_SIZE: Final = 1400
_ACKED: Final = 2
_IN_VAIN: Final = 2


def loss(info: TcpInfo | None) -> float:
    """The share of segments that had to be sent again; 0 where too little was sent to tell."""
    if info is None or not info.snd_mss or not info.bytes_sent or not info.bytes_retrans:
        return 0.0
    if info.bytes_sent < info.snd_mss * _LEAST_SEGMENTS:
        return 0.0
    return info.bytes_retrans / info.bytes_sent


def vanishes_in_full_size(info: TcpInfo, *, queued: int | None) -> bool:
    """Whether small segments were acknowledged and full-sized ones never, however often they were sent.

    That is how a smaller MTU on the path looks whose ICMP messages are filtered; the handshake of TLS, say, passes.
    """
    if not info.snd_mss or info.snd_mss < _FULL_SIZE or queued is None or queued < info.snd_mss:
        return False
    again = max(info.retransmits or 0, info.total_rto or 0)
    return again >= _IN_VAIN and _ACKED <= (info.bytes_acked or 0) < info.snd_mss
