"""``TcpInfo`` against a ``struct tcp_info`` laid out by hand, as linux/tcp.h declares it and a C compiler aligns it."""

from __future__ import annotations

import dataclasses
import struct
from typing import Final

import pytest

from holdwire.policy.tcp_info import TcpInfo, TcpState

# linux/tcp.h, in its order, without the prefix tcpi_; two bytes of bit fields are a byte each
DECLARED: Final = (
    ("B", "state ca_state retransmits probes backoff options wscales flags"),
    ("I", "rto ato snd_mss rcv_mss unacked sacked lost retrans fackets"),
    ("I", "last_data_sent last_ack_sent last_data_recv last_ack_recv"),
    ("I", "pmtu rcv_ssthresh rtt rttvar snd_ssthresh snd_cwnd advmss reordering rcv_rtt rcv_space total_retrans"),
    ("Q", "pacing_rate max_pacing_rate bytes_acked bytes_received"),
    ("I", "segs_out segs_in notsent_bytes min_rtt data_segs_in data_segs_out"),
    ("Q", "delivery_rate busy_time rwnd_limited sndbuf_limited"),
    ("I", "delivered delivered_ce"),
    ("Q", "bytes_sent bytes_retrans"),
    ("I", "dsack_dups reord_seen rcv_ooopack snd_wnd rcv_wnd rehash"),
    ("H", "total_rto total_rto_recoveries"),
    ("I", "total_rto_time"),
)
TYPES: Final = {name: code for code, names in DECLARED for name in names.split()}
ENDS: Final = {name: struct.calcsize("@" + "".join(list(TYPES.values())[: at + 1])) for at, name in enumerate(TYPES)}
# no two alike, and none that fits into fewer bytes than it has
NUMBERS: Final = {
    name: {"B": 0, "H": 0xEF00, "I": 0xEF00_0000, "Q": 0xEF00_0000_0000_0000}[code] + at + 1
    for at, (name, code) in enumerate(TYPES.items())
}
FIELDS: Final = [field.name for field in dataclasses.fields(TcpInfo)]
KERNELS: Final = (
    *("ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT", "CLOSE", "CLOSE_WAIT"),
    *("LAST_ACK", "LISTEN", "CLOSING", "NEW_SYN_RECV"),
)
"""The states of include/net/tcp_states.h, which counts them from one."""


def packed(**changes: int) -> bytes:
    return struct.pack("@" + "".join(TYPES.values()), *(NUMBERS | {"state": 1} | changes).values())


def test_every_number_is_read_where_the_kernel_puts_it() -> None:
    info = TcpInfo.parse(packed())
    assert info is not None
    assert dataclasses.asdict(info) == {name: NUMBERS[name] for name in FIELDS} | {"state": TcpState.ESTABLISHED}


@pytest.mark.parametrize("size", range(1, len(packed()) + 1))
def test_an_older_kernel_s_shorter_structure_gives_what_is_whole_in_it(size: int) -> None:
    info = TcpInfo.parse(packed()[:size])
    assert info is not None
    assert {name for name in FIELDS if getattr(info, name) is not None} == {
        name for name in FIELDS if ENDS[name] <= size
    }


def test_a_newer_kernel_s_longer_structure_gives_the_same() -> None:
    assert TcpInfo.parse(packed() + bytes(32)) == TcpInfo.parse(packed())


def test_a_kernel_without_it_tells_nothing() -> None:
    assert TcpInfo.parse(b"") is None


@pytest.mark.parametrize(("number", "name"), list(enumerate(KERNELS, 1)))
def test_a_state_has_the_kernel_s_name(number: int, name: str) -> None:
    info = TcpInfo.parse(packed(state=number))
    assert info is not None
    assert info.state.name == name


@pytest.mark.parametrize("number", [0, len(KERNELS) + 1, 255])
def test_a_state_that_is_not_known_is_no_error(number: int) -> None:
    info = TcpInfo.parse(packed(state=number))
    assert info is not None
    assert info.state is TcpState.UNKNOWN


def test_a_connection_that_never_came_up_has_no_times_of_its_own() -> None:
    never, shortest = TcpInfo.parse(packed(min_rtt=2**32 - 1)), TcpInfo.parse(packed(min_rtt=2**32 - 2))
    assert never is not None
    assert shortest is not None
    unset = {"min_rtt", "last_data_sent", "last_data_recv", "last_ack_recv"}
    assert {name for name in FIELDS if getattr(never, name) is None} == unset
    assert shortest.min_rtt == 2**32 - 2
    assert shortest.last_data_sent == NUMBERS["last_data_sent"]
