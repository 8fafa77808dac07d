"""What one end of a TCP connection sent: its counters, and its stream put back in order.

Not responsible for what a segment means (``segments``), or for the TLS in the stream (``tls_records``).

Sequence numbers are unwrapped into integers that only grow, so that comparing is plain arithmetic. In a capture that
misses nothing, ``acked <= max_end`` and ``next <= max_end``:

    acked      what the other end has acknowledged
    next       up to here the stream was seen without a hole, and given to the record scanner
    max_end    the highest sequence number sent; a segment that begins beyond it makes a gap, one that begins before
               it is a repetition or came out of order

Segments beyond a hole wait in a heap. It is bounded, per direction and in all (``Budget``); when a bound is reached the
hole is given up, and the scanner finds its step again by itself.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final

from .capture import Side
from .packets import endpoint
from .tls_records import RecordScanner

if TYPE_CHECKING:
    from .capture import CloseNotify
    from .segments import Flow

__all__ = ["Budget", "Direction"]

_MAX_WAITING: Final = 1024


class Budget:
    """Bytes that all directions together may keep waiting behind holes."""

    __slots__ = ("left",)

    def __init__(self, size: int) -> None:
        self.left = size


class Direction:
    """What one end sent. ``address`` and ``port`` are that end's; times are Unix times."""

    # Defaults are class attributes: a scan makes a million of these, and most see one packet or none.
    flow: Flow
    peer: Direction
    max_end = next = acked = -1
    """-1: not known yet."""
    isn = last_ack = window = -1
    max_end_at = 0.0
    waiting: list[tuple[int, int, bytes]] = []  # noqa: RUF012 - replaced before use, never filled
    hop_limit: int | None = None
    rst_hop_limit: int | None = None
    mss: int | None = None
    packets = payload = retransmissions = out_of_order = gaps = duplicate_acks = 0
    zero_windows = keepalive_probes = window_probes = unanswered_probes = 0
    closed_since: float | None = None
    closed_window = 0.0
    silence = 0.0
    fruitless = stuck = largest = passed = 0
    fruitless_since: float | None = None
    fin_at: float | None = None
    rst_at: float | None = None
    probed = False
    """Whether its last segment was a keepalive or window probe."""

    def __init__(self, key: bytes) -> None:
        half = (len(key) - 4) // 2
        self.key = key
        self.address = key[:half]
        self.port = key[2 * half] << 8 | key[2 * half + 1]
        self.scanner = RecordScanner(in_step=False)

    def begin(self, sequence: int) -> None:
        """The stream begins, or is first seen, at this sequence number."""
        self.max_end = self.next = self.acked = sequence

    def deliver(self, sequence: int, size: int, data: bytes, start: int, budget: Budget) -> None:
        """Give a segment to the scanner, or let it wait behind a hole."""
        if sequence > self.next:
            payload = data[start : start + size]
            if not self.waiting:
                self.waiting = []
            heappush(self.waiting, (sequence, size, payload))
            budget.left -= len(payload)
            if len(self.waiting) > _MAX_WAITING or budget.left < 0:
                self.give_up_hole(budget)
            return
        known = self.next - sequence
        if known < size:
            self.next = sequence + size
            self.scanner.feed(data, min(start + known, len(data)), size - known)
        while self.waiting and self.waiting[0][0] <= self.next:
            sequence, size, payload = heappop(self.waiting)
            budget.left += len(payload)
            known = self.next - sequence
            if known < size:
                self.next = sequence + size
                self.scanner.feed(payload, min(known, len(payload)), size - known)

    def give_up_hole(self, budget: Budget) -> None:
        """Go on behind the first hole: what is missing will not come."""
        sequence, size, payload = heappop(self.waiting)
        budget.left += len(payload)
        self.scanner.lose_step()
        self.next = sequence
        self.deliver(sequence, size, payload, 0, budget)

    def side(self, began: float, ended: float, close_notify: CloseNotify | None) -> Side:
        """The finished record, for a connection that lasted from ``began`` to ``ended``."""
        closed = self.closed_window if self.closed_since is None else max(self.closed_window, ended - self.closed_since)
        scanner = self.scanner
        return Side(
            address=endpoint(self.address),
            port=self.port,
            packets=self.packets,
            bytes=self.payload,
            mss=self.mss,
            hop_limit=self.hop_limit,
            retransmissions=self.retransmissions,
            out_of_order=self.out_of_order,
            gaps=self.gaps,
            duplicate_acks=self.duplicate_acks,
            zero_windows=self.zero_windows,
            closed_window=round(closed, 6),
            keepalive_probes=self.keepalive_probes,
            window_probes=self.window_probes,
            unacknowledged=max(self.max_end - self.acked, 0),
            fruitless=self.fruitless,
            fruitless_since=_since(began, self.fruitless_since),
            silence_before=round(self.silence, 6),
            stuck_segment=self.stuck,
            passed_segment=self.passed,
            unanswered_probes=self.unanswered_probes,
            tls_records=scanner.records,
            close_notify=close_notify,
            alerts=scanner.alerts,
            fin_at=_since(began, self.fin_at),
            rst_at=_since(began, self.rst_at),
            rst_hop_limit=self.rst_hop_limit,
        )


def _since(began: float, at: float | None) -> float | None:
    return None if at is None else round(at - began, 6)
