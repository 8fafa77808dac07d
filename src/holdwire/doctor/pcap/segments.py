"""Follows one TCP connection, segment by segment. Not responsible for finding segments (``packets``), for the table of
connections (``flows``), for streams (``directions``), or for what the data means (``story``).

The counts are meant to equal those of Wireshark's ``tcp.analysis``. Retransmissions and out-of-order segments are to be
compared by their sum: Wireshark tells them apart by time alone, here a segment is out of order only if it also brings
bytes that were not seen yet. A probe (keepalive, or window probe where the peer's window is closed) repeats one byte or
none below ``max_end``. "Fruitless" retransmissions are those since the peer last acknowledged anything new.

Sources: RFC 9293, RFC 1122 section 4.2.3.6 (keepalive), RFC 5681 (duplicate acknowledgements).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from .capture import Connection, EventKind
from .story import Story

if TYPE_CHECKING:
    from .directions import Budget, Direction

__all__ = ["Flow"]

_TCP: Final = struct.Struct(">IIBBH").unpack_from
_FIN, _SYN, _RST, _ACK = 1, 2, 4, 16
_HALF: Final = 1 << 31
_MASK: Final = (1 << 32) - 1
_REORDERING: Final = 0.003
"""A hole that is filled within this time, or a round trip, was reordering (as in Wireshark)."""


class Flow:
    """One connection. At first the side that sent the SYN, or uses the higher port, is taken for the client."""

    __slots__ = ("_began", "_budget", "_ends", "_from_start", "_round_trip", "_syn_at", "last", "story")

    def __init__(self, client: Direction, server: Direction, began: float, *, from_start: bool, budget: Budget) -> None:
        client.flow = server.flow = self
        client.peer, server.peer = server, client
        self.story = Story(client, server, began, established=not from_start)
        self.last = began
        self._began = began
        self._ends = (client, server)
        self._budget = budget
        self._from_start = from_start
        self._syn_at: float | None = None
        self._round_trip: float | None = None

    def segment(  # noqa: C901, PLR0912 - the hot path, and one thought
        self, d: Direction, now: float, data: bytes, at: int, length: int, hop_limit: int
    ) -> bool:
        """Take one segment that ``d`` sent; False if it is malformed. ``length`` is that of the segment on the wire."""
        if length < 20 or len(data) < at + 16:
            return False
        seq, ack, offset, flags, window = _TCP(data, at + 4)
        header = (offset >> 4) << 2
        size = length - header
        if header < 20 or size < 0:
            return False
        peer = d.peer
        self.last = now
        d.packets += 1
        if peer.unanswered_probes:
            peer.unanswered_probes = 0
        if flags & (_SYN | _RST):
            if flags & _RST:
                self._reset(d, now, hop_limit)
            else:
                if d.hop_limit is None:
                    d.hop_limit = hop_limit
                self._synchronize(d, now, seq, ack, flags)
                d.mss = _maximum_segment_size(data, at + 20, at + header) or d.mss
            return True
        if d.max_end < 0:
            d.begin(seq)
        if d.hop_limit is None:
            d.hop_limit = hop_limit
        if not self.story.established and d is self.story.client:
            self._establish(d, now)
        max_end = d.max_end
        jump = ((seq - max_end + _HALF) & _MASK) - _HALF
        probes = size <= 1 and jump == -1 and not flags & _FIN
        if probes:
            self._probe(d, now)
        elif size:
            self._payload(d, now, max_end + jump, size, data, at + header, ack)
        elif jump > 0:  # what it sent before this is not in the capture
            d.gaps += 1
            d.max_end = max_end + jump
            d.max_end_at = now
        if flags & _ACK and peer.max_end >= 0:
            progress = ((ack - peer.acked + _HALF) & _MASK) - _HALF
            if progress > 0:
                _progress(peer, progress)
            elif not size and not jump and ack == d.last_ack and 0 < window == d.window and not flags & _FIN:
                d.duplicate_acks += not peer.probed
            d.last_ack = ack
        d.probed = probes
        if window != d.window or not window:
            self._window(d, now, window, flags)
        if flags & _FIN:
            self._finish(d, now, max_end + jump, size)
        return True

    def _synchronize(self, d: Direction, now: float, seq: int, ack: int, flags: int) -> None:
        if d.isn == seq:
            self._repeated(d, now, 0)
            return
        d.isn = seq
        d.begin(seq + 1)
        d.acked = seq
        d.scanner.in_step = True
        if not flags & _ACK:
            self._syn_at = now
            self.story.note(EventKind.SYN, d, now)
            return
        progress = ((ack - d.peer.acked + _HALF) & _MASK) - _HALF
        if d.peer.max_end >= 0 and progress > 0:
            _progress(d.peer, progress)
        if self._syn_at is not None:
            self._round_trip = now - self._syn_at
        self.story.note(EventKind.SYN_ACK, d, now)

    def _establish(self, d: Direction, now: float) -> None:
        story = self.story
        story.established = True
        story.last_data = now
        if self._syn_at is not None and d.peer.isn >= 0:
            self._round_trip = now - self._syn_at
        story.note(EventKind.ESTABLISHED, d, now)

    def _reset(self, d: Direction, now: float, hop_limit: int) -> None:
        if d.rst_at is None:
            self.story.end(self.story.note(EventKind.RST, d, now))
            d.rst_at = now
            d.rst_hop_limit = hop_limit

    def _probe(self, d: Direction, now: float) -> None:
        if d.peer.window == 0:
            d.window_probes += 1
            self.story.note(EventKind.WINDOW_PROBE, d, now)
        else:
            d.keepalive_probes += 1
            d.unanswered_probes += 1
            self.story.note(EventKind.KEEPALIVE, d, now)

    def _window(self, d: Direction, now: float, window: int, flags: int) -> None:
        if not window and not flags & _FIN:
            d.zero_windows += 1
            if d.closed_since is None:
                d.closed_since = now
            self.story.note(EventKind.ZERO_WINDOW, d, now)
        elif window and d.closed_since is not None:
            closed = now - d.closed_since
            d.closed_window = max(d.closed_window, closed)
            d.closed_since = None
            self.story.note(EventKind.WINDOW_OPEN, d, now, f"after {closed:.3f} s")
        d.window = window

    def _finish(self, d: Direction, now: float, sequence: int, size: int) -> None:
        end = sequence + size + 1
        if d.fin_at is not None:
            if end <= d.max_end and not size:  # data that came with it has been counted
                self._repeated(d, now, 0)
            return
        self.story.end(self.story.note(EventKind.FIN, d, now))
        d.fin_at = now
        d.max_end = max(d.max_end, end)

    def _repeated(self, d: Direction, now: float, size: int) -> None:
        d.retransmissions += 1
        d.stuck = max(d.stuck, size)
        d.fruitless += 1
        if d.fruitless_since is None:
            d.fruitless_since = now
        self.story.note(EventKind.RETRANSMISSION, d, now)

    def _payload(self, d: Direction, now: float, sequence: int, size: int, data: bytes, start: int, ack: int) -> None:
        d.payload += size
        max_end = d.max_end
        repeated = sequence < max_end
        if not repeated:
            if d.acked >= max_end:
                d.silence = now - self.story.last_data
            d.gaps += sequence > max_end
            d.max_end_at = now
            d.largest = max(d.largest, size)
        elif self._fills_hole(d, now, sequence, size):
            d.out_of_order += 1
        else:
            self._repeated(d, now, size)
        d.max_end = max(max_end, sequence + size)  # a repetition may have something new at its end
        d.deliver(sequence, size, data, start, self._budget)
        self.story.data(d, now, size, ack, repeated=repeated)

    def _fills_hole(self, d: Direction, now: float, sequence: int, size: int) -> bool:
        """Whether a segment below ``max_end`` brings what was not seen yet, soon after what should have come later."""
        if sequence < d.next or now - d.max_end_at > max(_REORDERING, self._round_trip or 0.0):
            return False
        return not any(s < sequence + size and sequence < s + n for s, n, _ in d.waiting)

    @property
    def is_closed(self) -> bool:
        """Whether a RST or both FINs were seen."""
        a, b = self._ends
        return a.rst_at is not None or b.rst_at is not None or (a.fin_at is not None and b.fin_at is not None)

    @property
    def is_troubled(self) -> bool:
        """Whether there may be more to report than a connection that came and went."""
        story = self.story
        return story.troubled or not story.established or story.waiting or any(d.fruitless > 1 for d in self._ends)

    def end(self) -> None:
        """No more segments will come: look behind the holes, and release what waits there."""
        for d in self._ends:
            while d.waiting:
                d.give_up_hole(self._budget)
                self.story.tell_tls(d, self.last)

    def record(self) -> Connection:
        """The finished record. Call ``end`` first."""
        story = self.story
        client, server = (d.side(self._began, self.last, story.close_notify(d)) for d in (story.client, story.server))
        return Connection(
            client=client,
            server=server,
            started=self._began,
            duration=round(self.last - self._began, 6),
            from_start=self._from_start,
            established=story.established,
            round_trip=self._round_trip,
            tls=story.tls(),
            exchanges=story.exchanges,
            waiting=story.waiting,
            ended_in=story.ended_in or story.phase(self.last - story.last_data),
            events=story.events(),
            events_left_out=story.left_out,
        )

    def release(self) -> None:
        """Undo the circular references, so that a million connections need no garbage collection."""
        for d in self._ends:
            del d.flow, d.peer


def _progress(sender: Direction, progress: int) -> None:
    """The peer acknowledged ``progress`` more bytes."""
    sender.acked += progress
    if sender.fruitless:
        sender.fruitless = sender.stuck = 0
        sender.fruitless_since = None
    if sender.acked >= sender.max_end:
        sender.passed = sender.largest


def _maximum_segment_size(data: bytes, at: int, end: int) -> int | None:
    """The MSS option of a SYN (RFC 9293, section 3.2)."""
    end = min(end, len(data))
    while at + 1 < end and data[at]:
        if data[at] == 1:
            at += 1
        elif data[at] == 2 and at + 4 <= end:
            return data[at + 2] << 8 | data[at + 3]
        else:
            at += max(data[at + 1], 2)
    return None
