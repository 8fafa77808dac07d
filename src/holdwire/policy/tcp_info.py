"""``TcpInfo``: what the Linux kernel knows about one TCP connection, decoded from ``struct tcp_info``.

Pure: bytes in, record out. Reading it from a socket is the business of ``net.tcp_info``. Not responsible for
judging it (``evidence``).
"""

from __future__ import annotations

import enum
import functools
import struct
from dataclasses import dataclass
from typing import Final

__all__ = ["TcpInfo", "TcpState"]


class TcpState(enum.IntEnum):
    """The states of RFC 9293 with Linux's numbers (include/net/tcp_states.h)."""

    UNKNOWN = 0
    ESTABLISHED = 1
    SYN_SENT = 2
    SYN_RECV = 3
    FIN_WAIT1 = 4
    FIN_WAIT2 = 5
    TIME_WAIT = 6
    CLOSE = 7
    CLOSE_WAIT = 8
    LAST_ACK = 9
    LISTEN = 10
    CLOSING = 11
    NEW_SYN_RECV = 12


# name, struct code, offset in struct tcp_info (x86-64 and arm64: no padding), bytes
_FIELDS: Final[tuple[tuple[str, str, int], ...]] = (
    ("state", "B", 0),
    ("retransmits", "B", 2),
    ("probes", "B", 3),
    ("backoff", "B", 4),
    ("rto", "I", 8),
    ("snd_mss", "I", 16),
    ("unacked", "I", 24),
    ("lost", "I", 32),
    ("last_data_sent", "I", 44),
    ("last_data_recv", "I", 52),
    ("last_ack_recv", "I", 56),
    ("pmtu", "I", 60),
    ("rtt", "I", 68),
    ("rttvar", "I", 72),
    ("total_retrans", "I", 100),
    ("bytes_acked", "Q", 120),
    ("bytes_received", "Q", 128),
    ("notsent_bytes", "I", 144),
    ("min_rtt", "I", 148),
    ("bytes_sent", "Q", 200),
    ("bytes_retrans", "Q", 208),
    ("dsack_dups", "I", 216),
    ("snd_wnd", "I", 228),
    ("total_rto", "H", 240),
    ("total_rto_time", "I", 244),
)
_NO_SAMPLE: Final = 0xFFFFFFFF


@functools.cache
def _layout(size: int) -> tuple[tuple[str, ...], struct.Struct]:
    """The names of the fields that ``size`` bytes cover, and how to unpack them in one step."""
    names: list[str] = []
    form = "="
    for name, code, offset in _FIELDS:
        longer = f"{form}{offset - struct.calcsize(form)}x{code}"
        if struct.calcsize(longer) <= size:
            names.append(name)
            form = longer
    return tuple(names), struct.Struct(form)


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpInfo:
    """A snapshot of ``struct tcp_info``; a field that the kernel did not return is None.

    Units: ``rto``, ``rtt``, ``rttvar``, ``min_rtt`` in microseconds; ``last_*`` and ``total_rto_time`` in
    milliseconds; ``unacked``, ``lost``, ``retransmits``, ``total_retrans``, ``dsack_dups`` (sent again for nothing)
    in segments; the rest in bytes.

    ``unacked`` reads 0 on a dead connection: evidence of delivery uses ``outq`` of the failure instead.
    ``bytes_acked`` counts our SYN as one byte and our FIN as another (linux/tcp.h, RFC 4898).
    """

    state: TcpState
    retransmits: int | None = None
    probes: int | None = None
    backoff: int | None = None
    rto: int | None = None
    snd_mss: int | None = None
    unacked: int | None = None
    lost: int | None = None
    last_data_sent: int | None = None
    last_data_recv: int | None = None
    last_ack_recv: int | None = None
    pmtu: int | None = None
    rtt: int | None = None
    rttvar: int | None = None
    total_retrans: int | None = None
    bytes_acked: int | None = None
    bytes_received: int | None = None
    notsent_bytes: int | None = None
    min_rtt: int | None = None
    bytes_sent: int | None = None
    bytes_retrans: int | None = None
    dsack_dups: int | None = None
    snd_wnd: int | None = None
    total_rto: int | None = None
    total_rto_time: int | None = None

    @classmethod
    def parse(cls, raw: bytes) -> TcpInfo | None:
        """Decode the bytes of ``getsockopt(IPPROTO_TCP, TCP_INFO)``; None if there are none.

        An older kernel returns a shorter prefix: only what it covers is read.
        """
        if not raw:
            return None
        names, layout = _layout(len(raw))
        values: dict[str, int] = dict(zip(names, layout.unpack_from(raw), strict=True))
        state = values.pop("state")
        if values.get("min_rtt") == _NO_SAMPLE:
            del values["min_rtt"]
            for name in ("last_data_sent", "last_data_recv", "last_ack_recv"):  # time since boot: never came up
                values.pop(name, None)
        return cls(state=TcpState(state) if state <= TcpState.NEW_SYN_RECV else TcpState.UNKNOWN, **values)
