"""Capture files: every format is read alike, and damage is told instead of crashed on."""

from __future__ import annotations

import io

import pytest

from holdwire.doctor.pcap.reader import read_packets
from tests.pcap_writer import START, Captured, block, enhanced, interface, pcap, pcapng, section

PACKETS = [Captured(START + 0.25, b"a" * 60), Captured(START + 1.5, b"b" * 61, 1500), Captured(START + 2, b"")]


def read(raw: bytes) -> tuple[list[tuple[float, int, bytes, int]], list[str]]:
    problems: list[str] = []
    return list(read_packets(io.BytesIO(raw), problems)), problems


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("unit", ["microseconds", "nanoseconds"])
def test_pcap_of_both_byte_orders_and_resolutions(order: str, unit: str) -> None:
    packets, problems = read(pcap(PACKETS, link=113, order=order, nanoseconds=unit == "nanoseconds"))
    assert problems == []
    assert [(data, length) for _, _, data, length in packets] == [(b"a" * 60, 60), (b"b" * 61, 1500), (b"", 0)]
    assert {link for _, link, _, _ in packets} == {113}
    assert [time for time, *_ in packets] == pytest.approx([START + 0.25, START + 1.5, START + 2])


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("tsresol", [None, 3, 9, 0x80 | 20])
def test_pcapng_of_both_byte_orders_and_any_resolution(order: str, tsresol: int | None) -> None:
    packets, problems = read(pcapng(PACKETS, link=276, order=order, tsresol=tsresol))
    assert problems == []
    assert [(data, length) for _, _, data, length in packets] == [(b"a" * 60, 60), (b"b" * 61, 1500), (b"", 0)]
    assert [time for time, *_ in packets] == pytest.approx([START + 0.25, START + 1.5, START + 2])


def test_pcapng_sections_may_change_byte_order_and_interfaces() -> None:
    raw = pcapng(PACKETS, link=1) + block(0xBAD, b"skipped") + pcapng(PACKETS, link=101, order=">")
    packets, problems = read(raw)
    assert problems == []
    assert [link for _, link, _, _ in packets] == [1, 1, 1, 101, 101, 101]


def test_pcapng_simple_and_obsolete_packets_are_read() -> None:
    simple = block(3, (4).to_bytes(4, "little") + b"abcd")
    obsolete = block(2, bytes(12) + (3).to_bytes(4, "little") * 2 + b"xyz")
    packets, problems = read(section() + interface() + simple + obsolete)
    assert [data for _, _, data, _ in packets] == [b"abcd", b"xyz"]
    assert problems == []


def test_packets_that_the_capturing_program_missed_are_told() -> None:
    statistics = block(5, bytes(12) + b"\5\0\x08\0" + (7).to_bytes(8, "little") + bytes(4))
    _, problems = read(pcapng(PACKETS) + statistics)
    assert problems == ["The capturing program says that it missed 7 packets: gaps may be the capture's own."]


def test_packet_of_an_interface_that_is_not_described_is_told() -> None:
    packets, problems = read(section() + interface() + enhanced(PACKETS[0], index=5))
    assert packets == []
    assert "not described" in problems[0]


@pytest.mark.parametrize("raw", [pcap(PACKETS), pcapng(PACKETS)])
def test_a_truncated_tail_is_told_with_the_packets_before_it(raw: bytes) -> None:
    whole, _ = read(raw)
    packets, problems = read(raw[:-3])
    assert packets == whole[:2]
    assert len(problems) == 1
    assert "cut short" in problems[0]
    assert "2 packets before it" in problems[0]


def test_an_absurd_packet_length_is_told_as_damage() -> None:
    raw = pcap(PACKETS[:1]) + b"\xff" * 40
    packets, problems = read(raw)
    assert len(packets) == 1
    assert f"damaged at byte {24 + 16 + 60}" in problems[0]


@pytest.mark.parametrize("change", [4, -2])
def test_a_damaged_pcapng_block_is_told(change: int) -> None:
    raw = bytearray(pcapng(PACKETS[:1]) + pcapng(PACKETS[:1]))
    at = len(raw) // 2 if change > 0 else 0
    raw[at + change if change > 0 else change] ^= 0x55
    packets, problems = read(bytes(raw))
    assert len(packets) == 1
    assert "damaged" in problems[0]


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "empty"),
        (b"GET / HTTP/1.1\r\n", "neither pcap nor pcapng"),
        (b"\x1f\x8b\x08\0", "gzip"),
        (pcap([])[:20], "header"),
    ],
)
def test_a_file_that_is_no_capture_is_told(raw: bytes, words: str) -> None:
    packets, problems = read(raw)
    assert packets == []
    assert words in problems[0]
