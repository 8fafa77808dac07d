"""What the data of a connection means: TLS handshake, requests and answers, phases, and the story in time.

Not responsible for sequence numbers and counts (``segments``) or for judging what happened (``report``).

Without keys the phases are inferred: the client's data is a request, the server's data an answer if it acknowledges all
of the request. A TLS closing alert is neither. A record that merely has the length of one (2 bytes of data) is taken
for one; then the phase lags until the next record.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from holdwire.policy.phase import Phase

from .capture import Alert, Event, EventKind, Tls, Who
from .tls_records import TLS13, ClientHello, version_name

if TYPE_CHECKING:
    from .capture import CloseNotify
    from .directions import Direction

__all__ = ["Story"]

_QUIET: Final = 1.0
"""Seconds without data after which a connection counts as idle."""
_LONGEST_ALERT: Final = 80
"""Bytes of a segment that may be nothing but an alert."""
_HALF: Final = 1 << 31
_MASK: Final = (1 << 32) - 1
_FIRST_EVENTS, _MAX_EVENTS = 40, 64
_RUNS: Final = frozenset(
    {
        EventKind.RETRANSMISSION,
        EventKind.KEEPALIVE,
        EventKind.WINDOW_PROBE,
        EventKind.ZERO_WINDOW,
        EventKind.ICMP,
        EventKind.PAUSE,
    }
)
"""Events that are told as one when they follow each other."""
_TROUBLE: Final = frozenset({EventKind.ALERT, EventKind.ICMP, EventKind.ZERO_WINDOW, EventKind.RST})


class _Note:
    """An event in the making."""

    __slots__ = ("at", "by", "count", "detail", "kind", "phase", "silence", "until")

    def __init__(
        self, kind: EventKind, by: Direction | None, at: float, phase: Phase, silence: float, detail: str
    ) -> None:
        self.kind = kind
        self.by = by
        self.at = self.until = at
        self.phase = phase
        self.silence = silence
        self.count = 1
        self.detail = detail


class Story:
    """The meaning of one connection. ``client`` and ``server`` may change places while only ports tell them apart."""

    __slots__ = (
        "_began",
        "_cipher",
        "_hello",
        "_notes",
        "_request_end",
        "_tls_established",
        "_version",
        "client",
        "ended_in",
        "established",
        "exchanges",
        "last_data",
        "left_out",
        "server",
        "troubled",
        "waiting",
    )

    def __init__(self, client: Direction, server: Direction, began: float, *, established: bool) -> None:
        self.client = client
        self.server = server
        self.established = established
        self.last_data = self._began = began
        self.waiting = False
        self.exchanges = 0
        self.ended_in: Phase | None = None
        self.troubled = False
        self.left_out = 0
        self._request_end = 0
        self._hello: ClientHello | None = None
        self._version: int | None = None
        self._cipher: int | None = None
        self._tls_established = False
        self._notes: list[_Note] = []

    def note(self, kind: EventKind, by: Direction | None, now: float, detail: str = "") -> Phase:
        """Add an event; returns the phase that it happened in."""
        silence = now - self.last_data if self.established else 0.0
        phase = self.phase(silence)
        if kind in _TROUBLE and phase is not Phase.SHUTDOWN and detail != "close_notify (0)":
            self.troubled = True
        at = now - self._began
        notes = self._notes
        if notes and kind in _RUNS:
            last = notes[-1]
            if last.kind is kind and last.by is by and last.phase is phase and last.detail == detail:
                last.count += 1
                last.until = at
                last.silence = max(last.silence, silence)
                return phase
        if len(notes) >= _MAX_EVENTS:
            del notes[_FIRST_EVENTS]
            self.left_out += 1
        notes.append(_Note(kind, by, at, phase, silence, detail))
        return phase

    def end(self, phase: Phase) -> None:
        """The first sign that the connection ends came in this phase."""
        self.ended_in = self.ended_in or phase

    def data(self, d: Direction, now: float, size: int, ack: int, *, repeated: bool) -> None:
        """``d`` sent a segment of ``size`` bytes, which its scanner has seen."""
        scanner = d.scanner
        if scanner.news:
            self.tell_tls(d, now)
        if not self._tls_established and scanner.has_tls:
            is_over = self._look_for_tls_end(d, now)
            if not (is_over and d is self.client and scanner.application_records > 1):
                self.last_data = now
                return  # the handshake's data, not a request together with the client's Finished
        if repeated or (size <= _LONGEST_ALERT and self._ends_with_alert(d)):
            return
        if now - self.last_data >= _QUIET:
            self.note(EventKind.PAUSE, d, now)
        self.last_data = now
        if d is self.client:
            self.waiting = True
            self._request_end = d.max_end
        elif self.waiting and (ack - self._request_end + _HALF) & _MASK >= _HALF:  # it has seen the whole request
            self.waiting = False
            self.exchanges += 1

    def tell_tls(self, d: Direction, now: float) -> None:
        """Note the hellos and alerts that ``d``'s scanner found."""
        for news in d.scanner.news:
            if isinstance(news, Alert):
                phase = self.note(EventKind.ALERT, d, now, f"{news.name} ({news.description})")
                if news.description:
                    self.end(phase)
            elif isinstance(news, ClientHello):
                if self._hello is None:
                    self._hello = news
                    self.client, self.server = d, d.peer
                self.note(EventKind.CLIENT_HELLO, d, now, " ".join(version_name(v) for v in news.offered))
            else:
                self._version = news.version
                self._cipher = news.cipher
                kind = EventKind.HELLO_RETRY if news.retry else EventKind.SERVER_HELLO
                self.note(kind, d, now, version_name(news.version))
        d.scanner.news = ()

    def _look_for_tls_end(self, d: Direction, now: float) -> bool:
        client, server = self.client.scanner, self.server.scanner
        if self._version == TLS13:
            done = client.finished
        elif self._version is None:  # begun before the capture
            done = self._hello is None and d.scanner.application_records > 0
        else:
            done = client.change_cipher_spec and server.change_cipher_spec
        if done:
            self._tls_established = True
            self.note(EventKind.TLS_ESTABLISHED, d, now)
        return done

    def _ends_with_alert(self, d: Direction) -> bool:
        return d.scanner.ends_with_alert(cipher=self._cipher, tls13=self._version == TLS13)

    def phase(self, silence: float) -> Phase:  # noqa: PLR0911 - a list of refusals, first match wins
        """Where the connection is, after so many seconds without data."""
        client, server = self.client, self.server
        if not self.established:
            return Phase.CONNECT
        if client.fin_at is not None or server.fin_at is not None:
            return Phase.SHUTDOWN
        if not self._tls_established and (client.scanner.records or self._hello):
            return Phase.TLS_HANDSHAKE
        if self.waiting:
            return Phase.REQUEST_BODY if client.scanner.skip else Phase.RESPONSE_WAIT
        if silence >= _QUIET:
            return Phase.IDLE
        if self._tls_established and not self.exchanges:
            return Phase.POST_HANDSHAKE
        if self._ends_with_alert(client) or self._ends_with_alert(server):
            return Phase.SHUTDOWN
        return Phase.RESPONSE_BODY if server.payload else Phase.IDLE

    def tls(self) -> Tls | None:
        """What was seen of TLS; None if nothing was."""
        hello, client, server = self._hello, self.client.scanner, self.server.scanner
        if hello is None and self._version is None and not client.records and not server.records:
            return None
        return Tls(
            offered=tuple(map(version_name, hello.offered)) if hello else (),
            version=version_name(self._version) if self._version is not None else None,
            cipher=self._cipher,
            server_name=hello.server_name if hello else None,
            alpn=hello.alpn if hello else (),
            established=self._tls_established,
            client_gave_up=self._version == TLS13 and not self._tls_established and client.only_alerts,
        )

    def close_notify(self, d: Direction) -> CloseNotify | None:
        """Whether ``d`` ended its TLS stream with close_notify."""
        return d.scanner.close_notify(cipher=self._cipher, tls13=self._version == TLS13)

    def events(self) -> tuple[Event, ...]:
        """The story so far."""
        return tuple(map(self._event, self._notes))

    def _event(self, note: _Note) -> Event:
        who = Who.PATH if note.by is None else Who.CLIENT if note.by is self.client else Who.SERVER
        detail = note.detail
        if note.kind is EventKind.FIN and note.by is not None:
            close_notify = self.close_notify(note.by)
            detail = f"close_notify {close_notify}" if close_notify else ""
        return Event(
            at=round(note.at, 6),
            kind=note.kind,
            by=who,
            phase=note.phase,
            silence=round(note.silence, 6),
            count=note.count,
            until=round(note.until, 6),
            detail=detail,
        )
