"""Conclusions from captures: the staged cause comes first, and what is normal is no finding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from holdwire.doctor.pcap import analyse, conclude
from tests.pcap_writer import (
    ACK,
    CHANGE_CIPHER_SPEC,
    FIN,
    RST,
    SYN,
    Conversation,
    alert,
    application_data,
    client_hello,
    icmp_too_big,
    record,
    server_hello,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from holdwire.doctor.cause import Cause


def causes(scene: Callable[[Conversation], None], folder: Path) -> list[Cause]:
    talk = Conversation()
    scene(talk)
    return conclude(analyse(talk.write(folder / "capture.pcap")))


def clean(talk: Conversation) -> None:
    talk.handshake()
    talk.exchange()
    talk.close()


def clean_tls12(talk: Conversation) -> None:
    talk.handshake(tls12=True)
    talk.exchange()
    talk.send(0, record(21, b"\x77" * 26), FIN | ACK)
    talk.send(1, record(21, b"\x77" * 26), FIN | ACK)


def plain_http(talk: Conversation) -> None:
    talk.open()
    talk.send(0, b"GET / HTTP/1.1\r\n\r\n")
    talk.send(1, b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello")
    talk.send(1, flags=FIN | ACK)
    talk.send(0, flags=FIN | ACK)


def server_ends_idle_connection(talk: Conversation) -> None:
    talk.handshake()
    talk.exchange()
    talk.wait(75)
    talk.send(1, application_data(19))
    talk.send(1, flags=FIN | ACK)
    talk.send(0, application_data(19))
    talk.send(1, flags=RST)  # Linux: our alert met a closed socket


def reset_after_both_were_through(talk: Conversation) -> None:
    talk.handshake()
    talk.exchange()
    talk.send(0, application_data(19))
    talk.send(0, flags=FIN | ACK)
    talk.send(1, application_data(19))
    talk.send(0, flags=RST)


def still_running(talk: Conversation) -> None:
    talk.handshake()
    for _ in range(3):
        talk.wait(30)
        talk.exchange()


def path_mtu_discovery(talk: Conversation) -> None:
    talk.handshake()
    talk.send(0, application_data(100))
    answer = application_data(1400)
    big = talk.packet(1, ACK, answer)
    talk.put(big)
    talk.put(icmp_too_big("198.51.100.9", big, 1300))
    talk.put(talk.packet(1, ACK, answer[:1200]))
    talk.seq[1] += 1200
    talk.send(1, answer[1200:])
    talk.close()


HEALTHY = [
    clean,
    clean_tls12,
    plain_http,
    server_ends_idle_connection,
    reset_after_both_were_through,
    still_running,
    path_mtu_discovery,
]


@pytest.mark.parametrize("scene", HEALTHY)
def test_healthy_connections_give_no_cause(scene: Callable[[Conversation], None], tmp_path: Path) -> None:
    assert causes(scene, tmp_path) == []


def refused(talk: Conversation) -> None:
    talk.send(0, flags=SYN)
    talk.send(1, flags=RST | ACK)


def syn_dropped(talk: Conversation) -> None:
    talk.send(0, flags=SYN)
    for wait in (1, 2, 4):
        talk.wait(wait)
        talk.put(talk.packet(0, SYN, back=1))


def syn_ack_lost(talk: Conversation) -> None:
    talk.send(0, flags=SYN)
    talk.send(1, flags=SYN | ACK)
    for _ in range(3):
        talk.wait(1)
        talk.put(talk.packet(1, SYN | ACK, back=1))


def unreachable(talk: Conversation) -> None:
    talk.send(0, flags=SYN)
    message = bytearray(icmp_too_big("198.51.100.9", talk.packet(0, SYN, back=1), 0))
    message[21] = 13
    talk.put(bytes(message))


def not_tls(talk: Conversation) -> None:
    talk.open()
    talk.send(0, client_hello(0x0304))
    talk.send(1, b"HTTP/1.1 400 Bad Request\r\n\r\n")
    talk.send(0, alert(2, 70))
    talk.send(0, flags=FIN | ACK)


def version_alert(talk: Conversation) -> None:
    talk.open()
    talk.send(0, client_hello(0x0302))
    talk.send(1, alert(2, 70), FIN | ACK)


def certificate_alert(talk: Conversation) -> None:
    talk.open()
    talk.send(0, client_hello())
    talk.send(1, server_hello(0x0303) + record(22, b"\x0b" * 900))
    talk.send(0, alert(2, 48), FIN | ACK)


def hidden_certificate_alert(talk: Conversation) -> None:
    talk.open()
    talk.send(0, client_hello(0x0304))
    talk.send(1, server_hello() + CHANGE_CIPHER_SPEC + application_data(1200))
    talk.send(0, CHANGE_CIPHER_SPEC + application_data(19))
    talk.send(0, flags=FIN | ACK)


def unknown_name(talk: Conversation) -> None:
    talk.open()
    talk.send(0, client_hello(0x0304))
    talk.send(1, alert(2, 112), FIN | ACK)


def reset_in_handshake(talk: Conversation) -> None:
    talk.open()
    talk.send(0, client_hello(0x0304))
    talk.send(1, flags=RST)


def closed_in_handshake(talk: Conversation) -> None:
    talk.open()
    talk.send(0, client_hello(0x0304))
    talk.send(1, flags=FIN | ACK)
    talk.send(0, alert(2, 50))
    talk.send(1, flags=RST)


def no_handshake_answer(talk: Conversation) -> None:
    talk.open()
    talk.send(0, client_hello(0x0304))
    talk.send(1)
    talk.wait(10)
    talk.send(0, flags=FIN | ACK)


def middlebox_reset(talk: Conversation) -> None:
    talk.handshake()
    talk.send(0, application_data(100))
    talk.send(1, flags=RST, ttl=60)


def reset_while_idle(talk: Conversation) -> None:
    talk.handshake()
    talk.exchange()
    talk.wait(60)
    talk.send(1, flags=RST)


def reset_on_send_after_idle(talk: Conversation) -> None:
    talk.handshake()
    talk.exchange()
    talk.wait(60)
    talk.send(0, application_data(100))
    talk.send(1, flags=RST)


def silent_drop_after_idle(talk: Conversation) -> None:
    talk.handshake()
    talk.exchange()
    talk.wait(350)
    request = application_data(100)
    talk.send(0, request)
    for wait in (0.2, 0.4, 0.8):
        talk.wait(wait)
        talk.again(0, request)


def stale_connection(talk: Conversation) -> None:
    talk.handshake()
    talk.exchange()
    talk.wait(5)
    talk.send(1, application_data(19))
    talk.send(1, flags=FIN | ACK)
    talk.send(0, application_data(100))
    talk.send(1, flags=RST)


def reset_in_data(talk: Conversation) -> None:
    talk.handshake()
    talk.send(0, application_data(100))
    talk.send(1, application_data(3000)[:1000])
    talk.send(1, flags=RST)


def client_abort(talk: Conversation) -> None:
    talk.handshake()
    talk.exchange()
    talk.send(0, flags=RST)


def closed_without_answer(talk: Conversation) -> None:
    talk.handshake()
    talk.send(0, application_data(100))
    talk.send(1, flags=FIN | ACK)


def truncated(talk: Conversation) -> None:
    talk.handshake()
    talk.send(0, application_data(100))
    talk.send(1, application_data(3000)[:1000])
    talk.send(1, flags=FIN | ACK)


def no_close_notify(talk: Conversation) -> None:
    talk.handshake()
    talk.exchange()
    talk.send(1, flags=FIN | ACK)


def client_certificate_missing(talk: Conversation) -> None:
    talk.handshake()
    talk.send(1, application_data(19))
    talk.send(1, flags=FIN | ACK)


def no_answer(talk: Conversation) -> None:
    talk.handshake()
    talk.send(0, application_data(100))
    talk.send(1)
    talk.wait(30)
    talk.send(0, application_data(19))
    talk.send(0, flags=FIN | ACK)


def mtu_black_hole(talk: Conversation) -> None:
    talk.handshake()
    talk.send(0, application_data(100))
    talk.send(1)
    answer = application_data(1443)
    talk.send(1, answer)
    for wait in (0.2, 0.4, 0.8):
        talk.wait(wait)
        talk.again(1, answer)


def mtu_complaints_not_heard(talk: Conversation) -> None:
    talk.handshake()
    big = talk.packet(1, ACK, application_data(1400))
    for _ in range(4):
        talk.put(big)
        talk.put(icmp_too_big("198.51.100.9", big, 1300))
        talk.wait(0.5)


def path_dead(talk: Conversation) -> None:
    talk.handshake()
    talk.exchange()
    talk.send(0, application_data(100))
    for wait in (0.2, 0.4, 0.8):
        talk.wait(wait)
        talk.again(0, application_data(100))


def keepalive_unanswered(talk: Conversation) -> None:
    talk.handshake()
    talk.exchange()
    for _ in range(4):
        talk.wait(15)
        talk.put(talk.packet(0, ACK, back=1))


def slow_receiver(talk: Conversation) -> None:
    talk.handshake()
    talk.exchange()
    talk.send(1, window=0)
    talk.wait(20)
    talk.send(1)
    talk.close()


def packet_loss(talk: Conversation) -> None:
    talk.handshake()
    for turn in range(200):
        talk.exchange(answer=500)
        if turn % 10 == 0:
            talk.wait(0.3)
            talk.again(1, application_data(500))
    talk.close()


STAGED = [
    (refused, "refused"),
    (syn_dropped, "syn_dropped"),
    (syn_ack_lost, "syn_ack_lost"),
    (unreachable, "unreachable"),
    (not_tls, "not_tls"),
    (version_alert, "tls_version_mismatch"),
    (certificate_alert, "certificate_rejected"),
    (hidden_certificate_alert, "certificate_rejected"),
    (unknown_name, "server_name_rejected"),
    (reset_in_handshake, "reset_in_handshake"),
    (closed_in_handshake, "closed_in_handshake"),
    (no_handshake_answer, "no_handshake_answer"),
    (middlebox_reset, "middlebox_reset"),
    (reset_while_idle, "idle_limit"),
    (reset_on_send_after_idle, "idle_limit"),
    (silent_drop_after_idle, "idle_limit"),
    (stale_connection, "stale_connection"),
    (reset_in_data, "reset_by_server"),
    (client_abort, "reset_by_client"),
    (closed_without_answer, "closed_without_answer"),
    (truncated, "truncated"),
    (no_close_notify, "no_close_notify"),
    (client_certificate_missing, "client_certificate_rejected"),
    (no_answer, "no_answer"),
    (mtu_black_hole, "mtu_black_hole"),
    (mtu_complaints_not_heard, "mtu_black_hole"),
    (path_dead, "path_dead"),
    (keepalive_unanswered, "path_dead"),
    (slow_receiver, "slow_receiver"),
    (packet_loss, "packet_loss"),
]


@pytest.mark.parametrize(("scene", "expected"), STAGED, ids=[scene.__name__ for scene, _ in STAGED])
def test_the_staged_cause_comes_first_and_alone(
    scene: Callable[[Conversation], None], expected: str, tmp_path: Path
) -> None:
    (cause,) = causes(scene, tmp_path)
    assert cause.name == expected
    assert 0 < cause.confidence <= 1
    assert cause.evidence[0].startswith("192.0.2.1:40000 -> 192.0.2.2:443: ")
    assert cause.advice.endswith(".")
    assert 1 <= cause.guide_step <= 9


def test_the_same_cause_of_many_connections_is_one_with_some_of_the_evidence(tmp_path: Path) -> None:
    talk = Conversation()
    for n in range(8):
        other = Conversation(client_port=30000 + n, now=talk.now + n)
        (refused if n else no_close_notify)(other)
        talk.packets += other.packets
    first, second = conclude(analyse(talk.write(tmp_path / "capture.pcap")))
    assert (first.name, second.name) == ("refused", "no_close_notify")
    assert len(first.evidence) == 6
    assert first.evidence[-1] == "and 2 more connections"
