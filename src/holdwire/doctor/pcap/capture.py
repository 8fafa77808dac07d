"""The records of an analysed capture: connections, their two sides, and what happened in which order.

Frozen values that ``dataclasses.asdict`` turns into JSON. Not responsible for finding them (``flows``) or for judging
them (``report``).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...policy.authority import authority

if TYPE_CHECKING:
    from holdwire.policy.phase import Phase

__all__ = ["Alert", "Capture", "CloseNotify", "Connection", "Event", "EventKind", "IcmpError", "Side", "Tls", "Who"]


class Who(enum.StrEnum):
    """Who did something: one of the two ends, or a router between them."""

    CLIENT = "client"
    SERVER = "server"
    PATH = "path"


class EventKind(enum.StrEnum):
    """What can happen in the story of a connection."""

    SYN = "syn"
    SYN_ACK = "syn_ack"
    ESTABLISHED = "established"
    CLIENT_HELLO = "client_hello"
    SERVER_HELLO = "server_hello"
    HELLO_RETRY = "hello_retry"
    TLS_ESTABLISHED = "tls_established"
    ALERT = "alert"
    PAUSE = "pause"
    """The first data after a silence of at least a second."""
    RETRANSMISSION = "retransmission"
    ZERO_WINDOW = "zero_window"
    WINDOW_OPEN = "window_open"
    KEEPALIVE = "keepalive"
    WINDOW_PROBE = "window_probe"
    ICMP = "icmp"
    FIN = "fin"
    RST = "rst"


class CloseNotify(enum.StrEnum):
    """Whether a side ended its TLS stream properly (RFC 8446, section 6.1), as far as a capture can tell."""

    YES = "yes"
    LIKELY = "likely"
    """The last record is an encrypted alert, or has the length of one (TLS 1.3 hides the type)."""
    NO = "no"
    TRUNCATED = "truncated"
    """The stream ends inside a record."""
    UNKNOWN = "unknown"
    """Packets are missing from the capture, so the last record could not be seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """A TLS alert that was sent in clear. ``level`` 2 is fatal; ``name`` is that of RFC 8446, appendix B.2."""

    level: int
    description: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened, or a run of the same thing.

    ``at`` and ``until`` (the last of ``count``) are seconds since the connection's first packet, ``silence`` the
    seconds without data before it.
    """

    at: float
    kind: EventKind
    by: Who
    phase: Phase
    silence: float = 0.0
    count: int = 1
    until: float = 0.0
    detail: str = ""

    def __str__(self) -> str:
        """One line of the story."""
        text = f"{self.at:.6f} {self.by} {self.kind}"
        if self.count > 1:
            text += f" x{self.count} until {self.until:.6f}"
        text += f" in {self.phase}"
        if self.silence >= 1:
            text += f" after {self.silence:.3f} s of silence"
        return f"{text}: {self.detail}" if self.detail else text


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """What one end of a connection sent, and how it went. Times are seconds since the connection's first packet."""

    address: str
    port: int
    packets: int
    bytes: int
    """Payload on the wire, repetitions included."""
    mss: int | None
    """The largest segment this side is ready to receive, from its SYN."""
    hop_limit: int | None
    """TTL or hop limit of its first packet, as captured."""
    retransmissions: int
    out_of_order: int
    gaps: int
    """Jumps in the sequence numbers: data lost before the capture point, reordered, or not captured."""
    duplicate_acks: int
    zero_windows: int
    closed_window: float
    """The longest time, in seconds, that this side kept its receive window closed."""
    keepalive_probes: int
    window_probes: int
    """Probes sent against the other side's closed window."""
    unacknowledged: int
    """Bytes that the other side had not acknowledged when the capture or the connection ended."""
    fruitless: int
    """Retransmissions since the other side last acknowledged anything new."""
    fruitless_since: float | None
    silence_before: float
    """The silence before the data that was then retransmitted in vain."""
    stuck_segment: int
    """Bytes of the largest segment retransmitted in vain, and of the largest one that did arrive."""
    passed_segment: int
    unanswered_probes: int
    """Keepalive probes since the other side was last heard."""
    tls_records: int
    close_notify: CloseNotify | None
    """None where no TLS record was seen."""
    alerts: tuple[Alert, ...]
    fin_at: float | None
    rst_at: float | None
    rst_hop_limit: int | None

    @property
    def name(self) -> str:
        """Address and port as a person would write them."""
        return authority(self.address, self.port)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """What could be read of a TLS handshake without keys. Empty or None: not seen."""

    offered: tuple[str, ...] = ()
    version: str | None = None
    cipher: int | None = None
    server_name: str | None = None
    alpn: tuple[str, ...] = ()
    established: bool = False
    client_gave_up: bool = False
    """TLS 1.3: the client sent what must be an encrypted alert where its Finished was due."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """One TCP connection: its two sides and its story. ``started`` is a Unix time, other times are in seconds."""

    client: Side
    server: Side
    started: float
    duration: float
    from_start: bool
    """Whether its SYN was captured; otherwise who is the client is a guess from TLS or from the port numbers."""
    established: bool
    round_trip: float | None
    """From SYN to the end of the handshake, as seen at the capture point."""
    tls: Tls | None
    exchanges: int
    """How often the client sent and the server then answered."""
    waiting: bool
    """Whether the client's last data was still unanswered at the end."""
    ended_in: Phase
    """The phase in which the first FIN or RST came, or in which the capture ends."""
    events: tuple[Event, ...]
    events_left_out: int

    @property
    def name(self) -> str:
        """Client and server as a person would write them."""
        return f"{self.client.name} -> {self.server.name}"

    def side(self, who: Who) -> Side:
        """The side named ``who``."""
        return self.client if who is Who.CLIENT else self.server


@dataclass(frozen=True, slots=True, kw_only=True)
class IcmpError:
    """An ICMP error about a TCP packet. ``at`` is a Unix time, ``mtu`` is in bytes."""

    at: float
    sender: str
    type: int
    code: int
    words: str
    mtu: int | None
    source: str
    """Address and port of the packet complained about: its sender and its destination."""
    destination: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """An analysed capture file.

    ``problems`` tells what could not be read, in sentences. What memory bounds left out is counted:
    ``connections_left_out``, ``icmp_left_out``. ``started`` is a Unix time, ``duration`` in seconds.
    """

    packets: int
    started: float | None
    duration: float
    connections: tuple[Connection, ...]
    connections_left_out: int
    icmp: tuple[IcmpError, ...]
    icmp_left_out: int
    fragments: int
    cut_packets: int
    problems: tuple[str, ...]
