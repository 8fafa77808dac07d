"""Connections in a capture: every disguise of a packet, every count, every phase, bounded memory."""

from __future__ import annotations

import dataclasses
import json
import struct
import time
from typing import TYPE_CHECKING

import pytest

from holdwire.doctor.pcap import Capture, CloseNotify, Connection, EventKind, Who, analyse
from holdwire.policy.phase import Phase
from tests.pcap_writer import (
    ACK,
    CHANGE_CIPHER_SPEC,
    CLIENT6,
    COOKED,
    COOKED2,
    ETHERNET,
    FIN,
    LOOPBACK,
    RAW,
    RST,
    SERVER6,
    START,
    SYN,
    Captured,
    Conversation,
    alert,
    application_data,
    client_hello,
    frame,
    icmp_too_big,
    ip,
    pcap,
    record,
    server_hello,
    tcp,
)

if TYPE_CHECKING:
    from pathlib import Path


def look(talk: Conversation, folder: Path) -> Connection:
    capture = analyse(talk.write(folder / "capture.pcap"))
    assert capture.problems == ()
    (connection,) = capture.connections
    return connection


def look_at(packets: list[Captured], folder: Path, *, link: int = ETHERNET) -> Capture:
    path = folder / "capture.pcap"
    path.write_bytes(pcap(packets, link=link))
    return analyse(path)


def story(connection: Connection) -> list[tuple[EventKind, Who, Phase]]:
    return [(event.kind, event.by, event.phase) for event in connection.events]


DISGUISES = [
    pytest.param(ETHERNET, (), id="ethernet"),
    pytest.param(ETHERNET, (0x8100,), id="vlan"),
    pytest.param(ETHERNET, (0x88A8, 0x8100), id="qinq"),
    pytest.param(COOKED, (), id="cooked"),
    pytest.param(COOKED2, (), id="cooked-v2"),
    pytest.param(RAW, (), id="raw"),
    pytest.param(LOOPBACK, (), id="loopback"),
]


@pytest.mark.parametrize("ends", [("192.0.2.1", "192.0.2.2"), (CLIENT6, SERVER6)])
@pytest.mark.parametrize(("link", "vlans"), DISGUISES)
def test_a_clean_tls13_connection_in_every_disguise(
    link: int, vlans: tuple[int, ...], ends: tuple[str, str], tmp_path: Path
) -> None:
    talk = Conversation(*ends, link=link, vlans=vlans)
    talk.handshake()
    talk.exchange()
    talk.close()
    connection = look(talk, tmp_path)
    assert (connection.client.address, connection.server.address) == ends
    assert connection.tls is not None
    assert connection.tls.version == "TLS 1.3"
    assert connection.tls.offered == ("TLS 1.3", "TLS 1.2")
    assert connection.tls.server_name == "example.test"
    assert connection.tls.alpn == ("h2", "http/1.1")
    assert connection.exchanges == 1
    assert not connection.waiting
    assert connection.client.mss == connection.server.mss == 1460
    assert connection.client.close_notify is connection.server.close_notify is CloseNotify.LIKELY
    assert connection.round_trip == pytest.approx(0.002, abs=1e-5)
    assert story(connection) == [
        (EventKind.SYN, Who.CLIENT, Phase.CONNECT),
        (EventKind.SYN_ACK, Who.SERVER, Phase.CONNECT),
        (EventKind.ESTABLISHED, Who.CLIENT, Phase.IDLE),
        (EventKind.CLIENT_HELLO, Who.CLIENT, Phase.TLS_HANDSHAKE),
        (EventKind.SERVER_HELLO, Who.SERVER, Phase.TLS_HANDSHAKE),
        (EventKind.TLS_ESTABLISHED, Who.CLIENT, Phase.POST_HANDSHAKE),
        (EventKind.FIN, Who.CLIENT, Phase.SHUTDOWN),
        (EventKind.FIN, Who.SERVER, Phase.SHUTDOWN),
    ]


def test_a_clean_tls12_connection_shows_its_encrypted_alerts(tmp_path: Path) -> None:
    talk = Conversation()
    talk.handshake(tls12=True)
    talk.exchange()
    talk.send(1, record(21, b"\x77" * 26), FIN | ACK)
    talk.send(0, flags=FIN | ACK)
    connection = look(talk, tmp_path)
    assert connection.tls is not None
    assert (connection.tls.version, connection.tls.established) == ("TLS 1.2", True)
    assert connection.server.close_notify is CloseNotify.LIKELY
    assert connection.client.close_notify is CloseNotify.NO


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (application_data(19), CloseNotify.LIKELY),
        (application_data(11), CloseNotify.NO),
        (application_data(20), CloseNotify.NO),
        (application_data(19)[:-1], CloseNotify.TRUNCATED),
        (application_data(19)[:3], CloseNotify.TRUNCATED),
        (alert(1, 0), CloseNotify.YES),
        (alert(2, 80), CloseNotify.NO),
    ],
)
def test_close_notify_of_tls13_is_told_by_the_last_record(last: bytes, expected: CloseNotify, tmp_path: Path) -> None:
    talk = Conversation()
    talk.handshake()
    talk.exchange()
    talk.send(1, last)
    talk.send(1, flags=FIN | ACK)
    assert look(talk, tmp_path).server.close_notify is expected


def test_a_cipher_with_a_short_tag_has_a_shorter_alert(tmp_path: Path) -> None:
    talk = Conversation()
    talk.open()
    talk.send(0, client_hello(0x0304))
    talk.send(1, server_hello(cipher=0x1305) + CHANGE_CIPHER_SPEC + application_data(1000))
    talk.send(0, CHANGE_CIPHER_SPEC + application_data(45))
    talk.send(1, application_data(11), FIN | ACK)
    assert look(talk, tmp_path).server.close_notify is CloseNotify.LIKELY


def test_a_hello_retry_is_seen_and_does_not_end_the_handshake(tmp_path: Path) -> None:
    talk = Conversation()
    talk.open()
    talk.send(0, client_hello(0x0304))
    talk.send(1, server_hello(retry=True) + CHANGE_CIPHER_SPEC)
    talk.send(0, CHANGE_CIPHER_SPEC + client_hello(0x0304))
    talk.send(1, flags=RST)
    connection = look(talk, tmp_path)
    assert [event.kind for event in connection.events[3:]] == [
        EventKind.CLIENT_HELLO,
        EventKind.HELLO_RETRY,
        EventKind.CLIENT_HELLO,
        EventKind.RST,
    ]
    assert connection.ended_in is Phase.TLS_HANDSHAKE


def test_hellos_are_read_across_segments_byte_by_byte(tmp_path: Path) -> None:
    talk = Conversation()
    talk.open()
    for byte in client_hello(0x0304, padding=300):
        talk.send(0, bytes([byte]))
    for byte in server_hello():
        talk.send(1, bytes([byte]))
    connection = look(talk, tmp_path)
    assert connection.tls is not None
    assert (connection.tls.version, connection.tls.server_name) == ("TLS 1.3", "example.test")
    assert connection.exchanges == 0


@pytest.mark.parametrize("resets", [0, 1])
def test_the_sender_of_a_reset_and_its_phase_are_named(resets: int, tmp_path: Path) -> None:
    talk = Conversation()
    talk.handshake()
    talk.exchange()
    talk.send(0, application_data(100))
    talk.send(resets, flags=RST | ACK, ttl=33)
    connection = look(talk, tmp_path)
    by = (Who.CLIENT, Who.SERVER)[resets]
    assert story(connection)[-1] == (EventKind.RST, by, Phase.RESPONSE_WAIT)
    assert connection.side(by).rst_hop_limit == 33
    assert connection.side(by).hop_limit == 64
    assert connection.ended_in is Phase.RESPONSE_WAIT


def test_a_close_after_silence_is_in_the_idle_phase_with_its_silence(tmp_path: Path) -> None:
    talk = Conversation()
    talk.handshake()
    talk.exchange()
    talk.wait(60)
    talk.send(1, application_data(19))
    talk.send(1, flags=FIN | ACK)
    event = look(talk, tmp_path).events[-1]
    assert (event.kind, event.phase) == (EventKind.FIN, Phase.IDLE)
    assert event.silence == pytest.approx(60, abs=0.01)
    assert str(event).endswith("server fin in idle after 60.003 s of silence: close_notify likely")


def test_session_tickets_that_cross_the_request_are_no_answer(tmp_path: Path) -> None:
    talk = Conversation()
    talk.handshake()
    before = talk.seq[0]
    talk.send(0, application_data(200))
    talk.send(1, application_data(240), ack=before)
    talk.send(1, flags=RST)
    connection = look(talk, tmp_path)
    assert connection.waiting
    assert connection.ended_in is Phase.RESPONSE_WAIT


def test_retransmissions_reordering_and_gaps_are_counted_and_the_stream_is_put_in_order(tmp_path: Path) -> None:
    talk = Conversation()
    talk.handshake()
    answer = application_data(4000) + application_data(19)
    parts = [answer[at : at + 1000] for at in range(0, len(answer), 1000)]
    talk.send(0, application_data(100))
    talk.put(talk.packet(1, ACK, parts[1], ahead=1000))  # reordered: fills its hole at once
    talk.put(talk.packet(1, ACK, parts[0]))
    talk.put(talk.packet(1, ACK, parts[3], ahead=3000))
    talk.seq[1] += 2000
    for _ in range(3):
        talk.send(0)
    talk.wait(0.3)
    talk.put(talk.packet(1, ACK, parts[2]))  # lost: fills its hole late
    talk.put(talk.packet(1, ACK, parts[2]))  # and once more, for nothing
    talk.seq[1] += 2000
    talk.send(1, parts[4])
    talk.send(1, flags=FIN | ACK)
    talk.again(1, flags=FIN | ACK)
    server = look(talk, tmp_path).server
    assert (server.out_of_order, server.retransmissions, server.gaps) == (1, 3, 2)
    assert server.close_notify is CloseNotify.LIKELY


def test_a_repetition_is_no_reordering_however_fast_it_comes(tmp_path: Path) -> None:
    talk = Conversation()
    talk.handshake()
    talk.send(1, application_data(500))
    talk.again(1, application_data(500))
    server = look(talk, tmp_path).server
    assert (server.retransmissions, server.out_of_order) == (1, 0)


def test_retransmissions_are_fruitless_until_progress(tmp_path: Path) -> None:
    talk = Conversation()
    talk.handshake()
    talk.send(1, application_data(500))
    for _ in range(3):
        talk.again(1, application_data(500))
    stuck = look(talk, tmp_path).server
    assert (stuck.fruitless, stuck.stuck_segment) == (3, 505)
    talk.send(0)
    freed = look(talk, tmp_path).server
    assert (freed.fruitless, freed.stuck_segment) == (0, 0)
    assert freed.retransmissions == 3


def test_duplicate_acknowledgements_are_counted_but_not_the_answers_to_probes(tmp_path: Path) -> None:
    talk = Conversation()
    talk.handshake()
    talk.send(0)
    acknowledged = talk.seq[1]
    talk.send(1, application_data(1000))
    for _ in range(4):
        talk.send(0, ack=acknowledged)
    talk.send(0)
    talk.put(talk.packet(1, ACK, back=1))
    talk.send(0)
    assert look(talk, tmp_path).client.duplicate_acks == 4


def test_a_closed_window_is_timed_and_its_probes_are_no_keepalives(tmp_path: Path) -> None:
    talk = Conversation()
    talk.handshake()
    talk.send(0, application_data(1000))
    talk.send(1, window=0)
    for _ in range(3):
        talk.wait(1)
        talk.put(talk.packet(0, ACK, back=1))
        talk.send(1, window=0)
    talk.send(1)
    connection = look(talk, tmp_path)
    assert (connection.server.zero_windows, connection.client.window_probes) == (4, 3)
    assert connection.client.keepalive_probes == 0
    assert connection.server.closed_window == pytest.approx(3, abs=0.01)
    assert connection.events[-1].kind is EventKind.WINDOW_OPEN


def test_keepalive_probes_are_counted_as_one_run(tmp_path: Path) -> None:
    talk = Conversation()
    talk.handshake()
    for _ in range(5):
        talk.wait(10)
        talk.put(talk.packet(0, ACK, back=1))
        talk.send(1)
    talk.put(talk.packet(0, ACK, back=1))
    connection = look(talk, tmp_path)
    assert connection.client.keepalive_probes == 6
    assert connection.client.unanswered_probes == 1
    assert connection.client.retransmissions == 0
    assert (connection.events[-1].kind, connection.events[-1].count) == (EventKind.KEEPALIVE, 6)


@pytest.mark.parametrize("ends", [("192.0.2.1", "192.0.2.2"), (CLIENT6, SERVER6)])
def test_packet_too_big_is_told_with_router_and_mtu(ends: tuple[str, str], tmp_path: Path) -> None:
    talk = Conversation(*ends)
    talk.handshake()
    big = talk.packet(1, ACK, application_data(1400))
    talk.put(big)
    router = "198.51.100.9" if ":" not in ends[0] else "2001:db8:ffff::9"
    talk.put(icmp_too_big(router, big, 1300))
    capture = analyse(talk.write(tmp_path / "capture.pcap"))
    (error,) = capture.icmp
    (connection,) = capture.connections
    assert (error.sender, error.mtu, error.source) == (router, 1300, connection.server.name)
    event = connection.events[-1]
    assert (event.kind, event.by) == (EventKind.ICMP, Who.PATH)
    assert event.detail in {f"fragmentation needed from {router}, MTU 1300", f"packet too big from {router}, MTU 1300"}


def test_a_reused_pair_of_ports_is_a_new_connection(tmp_path: Path) -> None:
    first = Conversation()
    first.handshake()
    first.close()
    second = Conversation(isn=(777, 888), now=first.now + 1)
    second.open()
    second.send(1, flags=RST)
    capture = look_at(first.packets + second.packets, tmp_path)
    assert [connection.tls is not None for connection in capture.connections] == [True, False]
    assert capture.connections[0].server.rst_at is None


def test_sequence_numbers_may_wrap(tmp_path: Path) -> None:
    talk = Conversation(isn=(2**32 - 100, 2**32 - 1000))
    talk.handshake()
    talk.exchange()
    talk.close()
    connection = look(talk, tmp_path)
    assert connection.server.close_notify is CloseNotify.LIKELY
    assert connection.server.retransmissions == connection.server.gaps == 0
    assert connection.server.unacknowledged == 0


def test_a_capture_that_begins_in_the_middle_finds_its_step(tmp_path: Path) -> None:
    talk = Conversation()
    talk.handshake()
    del talk.packets[:]
    talk.send(1, application_data(3000)[1500:])
    talk.exchange()
    talk.close()
    connection = look(talk, tmp_path)
    assert not connection.from_start
    assert connection.client.port == 40000
    assert connection.server.close_notify is CloseNotify.LIKELY


def test_client_hello_tells_client_from_server_where_ports_mislead(tmp_path: Path) -> None:
    talk = Conversation(client_port=1000, server_port=8443)
    talk.handshake()
    del talk.packets[:3]
    assert look(talk, tmp_path).client.port == 1000


def test_tls_after_starttls_is_followed(tmp_path: Path) -> None:
    talk = Conversation(server_port=25)
    talk.open()
    talk.send(1, b"220 ready\r\n")
    talk.send(0, b"STARTTLS\r\n")
    talk.send(1, b"220 go\r\n")
    talk.send(0, client_hello(0x0304))
    talk.send(1, server_hello() + CHANGE_CIPHER_SPEC + application_data(900))
    talk.send(0, CHANGE_CIPHER_SPEC + application_data(53))
    talk.close()
    connection = look(talk, tmp_path)
    assert connection.tls is not None
    assert connection.tls.established
    assert connection.server.close_notify is CloseNotify.LIKELY


def test_segments_cut_by_the_snap_length_are_followed_by_their_headers(tmp_path: Path) -> None:
    talk = Conversation()
    talk.handshake()
    talk.exchange(answer=1300)
    for packet in talk.packets[-4:]:
        packet.length, packet.data = len(packet.data), packet.data[:80]
    talk.close()
    capture = look_at(talk.packets, tmp_path)
    (connection,) = capture.connections
    assert capture.cut_packets == 2
    assert "2 packets were cut" in capture.problems[0]
    assert connection.server.close_notify is CloseNotify.LIKELY
    assert connection.server.gaps == 0


def test_a_record_boundary_in_the_part_that_was_cut_leaves_close_notify_unknown(tmp_path: Path) -> None:
    talk = Conversation()
    talk.handshake()
    talk.send(1, application_data(500) + application_data(19))
    packet = talk.packets[-1]
    packet.length, packet.data = len(packet.data), packet.data[:200]
    talk.send(1, flags=FIN | ACK)
    (connection,) = look_at(talk.packets, tmp_path).connections
    assert connection.server.close_notify is CloseNotify.UNKNOWN


def test_a_hello_in_two_segments_is_found_after_plain_text(tmp_path: Path) -> None:
    talk = Conversation(server_port=25)
    talk.open()
    talk.send(1, b"220 ready\r\n")
    talk.send(0, b"STARTTLS\r\n")
    hello = client_hello(0x0304, padding=1500)
    talk.send(0, hello[:1400])
    talk.send(0, hello[1400:])
    tls = look(talk, tmp_path).tls
    assert tls is not None
    assert tls.offered == ("TLS 1.3",)


def test_missing_packets_leave_close_notify_unknown_unless_the_end_is_whole(tmp_path: Path) -> None:
    talk = Conversation()
    talk.handshake()
    talk.seq[1] += 5000
    talk.send(1, b"\x5a" * 300)
    talk.send(1, flags=FIN | ACK)
    assert look(talk, tmp_path).server.close_notify is CloseNotify.UNKNOWN


def test_fragments_are_noticed_and_the_later_ones_skipped(tmp_path: Path) -> None:
    segment = tcp(40000, 443, 1, 1, ACK, b"x" * 100)
    extension = struct.pack(">BBHI", 0, 0, 0, 0)  # destination options of 8 bytes, then a fragment header
    packets = [
        ip("192.0.2.1", "192.0.2.2", segment, fragment=0x2000),
        ip("192.0.2.1", "192.0.2.2", b"\xff" * 80, fragment=100),
        ip(CLIENT6, SERVER6, b"\xff" * 80, extensions=b"\x2c" + extension[1:] + struct.pack(">BBHI", 6, 0, 800, 1)),
    ]
    capture = look_at([Captured(START, frame(packet)) for packet in packets], tmp_path)
    assert capture.fragments == 3
    assert len(capture.connections) == 1
    assert "3 packets are IP fragments" in capture.problems[0]


def test_ipv6_extension_headers_are_skipped(tmp_path: Path) -> None:
    chain = b"\x3c\0" + bytes(6) + b"\x2b\1" + b"\xff" * 14 + b"\x06\0" + bytes(6)
    packet = ip(CLIENT6, SERVER6, tcp(40000, 443, 1, 0, SYN), extensions=chain)
    capture = look_at([Captured(START, frame(packet))], tmp_path)
    assert capture.problems == ()
    assert capture.connections[0].server.port == 443


def test_a_card_that_does_the_segmentation_leaves_the_length_empty(tmp_path: Path) -> None:
    talk = Conversation()
    talk.handshake()
    big = bytearray(talk.packet(1, ACK, application_data(3000)))
    big[2:4] = b"\0\0"
    talk.put(bytes(big))
    talk.seq[1] += 3005
    talk.close()
    connection = look(talk, tmp_path)
    assert connection.server.gaps == 0
    assert connection.server.close_notify is CloseNotify.LIKELY


def test_a_segment_full_of_alerts_takes_no_longer_than_its_length(tmp_path: Path) -> None:
    talk = Conversation()
    talk.handshake()
    alerts = 150_000
    segment = bytearray(talk.packet(1, ACK) + alert(1, 0) * alerts)
    segment[2:4] = b"\0\0"  # as a card leaves it that does the segmentation: a packet may be longer than 64 KiB
    talk.put(bytes(segment))
    began = time.process_time()
    connection = look(talk, tmp_path)
    assert connection.server.tls_records > alerts
    assert time.process_time() - began < 10  # several times that if each alert copies those before it


def test_what_is_not_understood_is_told(tmp_path: Path) -> None:
    assert look_at([Captured(START, b"x" * 60)] * 3, tmp_path, link=105).problems == (
        "3 packets have link type 105, which is not understood: skipped.",
    )
    arp = Captured(START, b"\2" * 12 + b"\x08\x06" + bytes(28))
    broken = Captured(START, frame(ip("192.0.2.1", "192.0.2.2", b"\0" * 8)))
    assert look_at([arp, broken], tmp_path).problems == (
        "1 packets are malformed or cut inside their headers: skipped.",
    )


def test_memory_is_bounded_and_broken_connections_are_kept_before_healthy_ones(tmp_path: Path) -> None:
    packets: list[Captured] = []
    for n in range(300):
        talk = Conversation(client_port=10000 + n, now=START + n)
        talk.handshake()
        talk.exchange()
        if n >= 290:
            talk.send(1, flags=RST)
        else:
            talk.close()
        packets += talk.packets
    path = tmp_path / "capture.pcap"
    path.write_bytes(pcap(packets))
    capture = analyse(path, max_live=16, max_kept=40)
    assert len(capture.connections) + capture.connections_left_out == 300
    assert sum(connection.server.rst_at is not None for connection in capture.connections) == 10
    assert len(capture.connections) == 30
    assert len(analyse(path, max_live=16, max_kept=6).connections) == 6


@pytest.mark.parametrize("data", [b"", b"the last words"])
def test_a_fin_that_is_sent_twice_counts_once_whatever_it_carries(tmp_path: Path, data: bytes) -> None:
    talk = Conversation()
    talk.handshake()
    talk.exchange()
    talk.send(1, data, flags=FIN | ACK)
    talk.again(1, data, flags=FIN | ACK)
    connection = look(talk, tmp_path)
    assert (connection.server.retransmissions, connection.server.out_of_order) == (1, 0)


@pytest.mark.parametrize("max_live", [1, 2, 16, 4096])
def test_a_scan_crowds_out_nobody_and_each_of_its_packets_is_counted(tmp_path: Path, max_live: int) -> None:
    talk = Conversation(client_port=9, now=START)
    talk.handshake()
    scan = [Conversation(client_port=10000 + n, now=START + 1 + n / 1000) for n in range(300)]
    for one in scan:
        one.send(0, flags=SYN)
    answered = scan[-1]
    answered.send(1, flags=RST | ACK)
    path = tmp_path / "capture.pcap"
    path.write_bytes(pcap(talk.packets + [packet for one in scan for packet in one.packets]))
    capture = analyse(path, max_live=max_live, max_kept=1000)
    assert len(capture.connections) == 301
    assert [one.client.port for one in capture.connections] == [9, *range(10000, 10300)]
    assert [one.established for one in capture.connections] == [True, *[False] * 300]
    assert [one.client.packets for one in capture.connections][1:] == [1] * 300
    assert capture.connections[-1].server.rst_at is not None, "the answer belongs to the SYN before it"
    few = analyse(path, max_live=max_live, max_kept=100)
    assert (len(few.connections), few.connections_left_out) == (100, 201)


def test_a_long_story_keeps_its_beginning_and_its_end(tmp_path: Path) -> None:
    talk = Conversation()
    talk.handshake()
    for _ in range(200):
        talk.send(1, window=0)
        talk.send(1)
    talk.send(1, flags=RST)
    connection = look(talk, tmp_path)
    assert len(connection.events) == 64
    assert connection.events[0].kind is EventKind.SYN
    assert connection.events[-1].kind is EventKind.RST
    assert connection.events_left_out == 6 + 400 + 1 - 64


def test_a_stream_with_a_hole_that_is_never_filled_does_not_grow(tmp_path: Path) -> None:
    talk = Conversation()
    talk.handshake()
    talk.seq[1] += 100
    for _ in range(3000):
        talk.send(1, application_data(1000))
    talk.close()
    connection = look(talk, tmp_path)
    assert connection.server.gaps == 1
    assert connection.server.close_notify is CloseNotify.LIKELY
    assert connection.server.tls_records > 2900


def test_the_result_is_ready_for_json(tmp_path: Path) -> None:
    talk = Conversation()
    talk.handshake()
    talk.send(1, alert(2, 80))
    document = json.loads(json.dumps(dataclasses.asdict(analyse(talk.write(tmp_path / "c.pcap")))))
    assert document["connections"][0]["events"][0]["kind"] == "syn"
    assert document["connections"][0]["server"]["alerts"] == [{"level": 2, "description": 80, "name": "internal_error"}]


def test_a_connection_to_itself_is_no_trouble(tmp_path: Path) -> None:
    packet = ip("192.0.2.1", "192.0.2.1", tcp(7, 7, 1, 0, SYN))
    assert len(look_at([Captured(START, frame(packet))] * 2, tmp_path).connections) == 1


def test_a_missing_file_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        analyse(tmp_path / "absent.pcap")
