"""Whatever is in a capture file, analysing it ends with a result, and the order of its segments does not matter."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from itertools import pairwise
from pathlib import Path
from random import Random  # noqa: TC003 - hypothesis resolves the annotation

from hypothesis import example, given
from hypothesis import strategies as st

from holdwire.doctor.pcap import Capture, CloseNotify, analyse, conclude
from tests.pcap_writer import (
    ACK,
    CLIENT6,
    COOKED,
    COOKED2,
    ETHERNET,
    FIN,
    LOOPBACK,
    RAW,
    SERVER6,
    START,
    Captured,
    Conversation,
    application_data,
    frame,
    icmp_too_big,
    ip,
    pcap,
    pcapng,
)


def digest(raw: bytes) -> Capture:
    """Analyse, conclude and serialise; any exception is the failure looked for."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "capture")
        path.write_bytes(raw)
        capture = analyse(path, max_live=8, max_kept=8)
    json.dumps(dataclasses.asdict(capture), allow_nan=False)
    conclude(capture)
    return capture


def conversation(client: str = "192.0.2.1", server: str = "192.0.2.2", *, tls12: bool = False) -> Conversation:
    talk = Conversation(client, server)
    talk.handshake(tls12=tls12)
    talk.exchange()
    big = talk.packet(1, ACK, application_data(1400))
    talk.put(big)
    talk.put(icmp_too_big(server, big, 1300))
    talk.close()
    return talk


TALKS = [conversation(), conversation(tls12=True), conversation(CLIENT6, SERVER6)]
FILES = [make(talk.packets) for talk in TALKS for make in (pcap, pcapng)]
LINKS = st.sampled_from([ETHERNET, COOKED, COOKED2, LOOPBACK, RAW, 105])


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_no_trouble(raw: bytes) -> None:
    capture = digest(raw)
    assert capture.packets or capture.problems


@given(st.sampled_from(FILES), st.data())
def test_a_damaged_capture_is_no_trouble(raw: bytes, data: st.DataObject) -> None:
    damaged = bytearray(raw)
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(raw) - 1))
        damaged[at] = data.draw(st.integers(0, 255))
    del damaged[data.draw(st.integers(0, len(raw))) :]
    digest(bytes(damaged))


@given(st.lists(st.binary(max_size=120), max_size=8), LINKS)
def test_arbitrary_frames_are_no_trouble(frames: list[bytes], link: int) -> None:
    capture = digest(pcap([Captured(START, data) for data in frames], link=link))
    assert capture.packets == len(frames)


@given(
    st.lists(st.tuples(st.binary(max_size=120), st.sampled_from([6, 1, 58, 0, 43, 44, 51, 60]), LINKS), max_size=8),
    st.booleans(),
)
@example([(b"\0" * 20, 6, RAW)], False)  # noqa: FBT003 - an example of the strategies above
def test_arbitrary_payloads_of_ip_are_no_trouble(payloads: list[tuple[bytes, int, int]], six: bool) -> None:  # noqa: FBT001
    ends = (CLIENT6, SERVER6) if six else ("192.0.2.1", "192.0.2.2")
    for link in {link for _, _, link in payloads}:
        packets = [
            Captured(START, frame(ip(*ends, payload, protocol=protocol), link)) for payload, protocol, _ in payloads
        ]
        digest(pcap(packets, link=link))


@given(st.sampled_from(TALKS), st.data())
def test_lost_repeated_and_reordered_packets_are_no_trouble(talk: Conversation, data: st.DataObject) -> None:
    packets = data.draw(st.lists(st.sampled_from(talk.packets), max_size=40))
    digest(pcap(packets))


@given(
    st.lists(st.integers(1, 400), min_size=1, max_size=12),
    st.lists(st.integers(1, 300), max_size=10),
    st.sampled_from([(19, CloseNotify.LIKELY), (20, CloseNotify.NO)]),
    st.randoms(use_true_random=False),
)
def test_a_stream_is_told_alike_however_it_was_cut_repeated_and_reordered(
    records: list[int], cuts: list[int], last: tuple[int, CloseNotify], random: Random
) -> None:
    talk = Conversation()
    talk.handshake()
    stream = b"".join(application_data(size) for size in records) + application_data(last[0])
    marks = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    pieces = [(a, stream[a:b]) for a, b in pairwise(marks)]
    pieces += pieces[::2]
    random.shuffle(pieces)
    for at, piece in pieces:
        talk.put(talk.packet(1, ACK, piece, ahead=at))
    talk.seq[1] += len(stream)
    talk.send(1, flags=FIN | ACK)
    server = digest(pcap(talk.packets)).connections[0].server
    assert server.close_notify is last[1]
    assert server.tls_records == 4 + len(records) + 1
