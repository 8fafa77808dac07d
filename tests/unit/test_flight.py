"""The ring of a connection: bounded, in order, and readable."""

from __future__ import annotations

from holdwire.policy.flight import SIZE, Flight, Mark, narrate


def test_it_reads_as_what_happened_before_the_failure() -> None:
    flight = Flight()
    for at, mark, number in (
        (100.0, Mark.CONNECTED, -1),
        (100.02, Mark.SECURED, -1),
        (101.5, Mark.REQUEST, 1),
        (101.75, Mark.RESPONSE, 200),
        (101.8, Mark.IDLE, -1),
        (102.0, Mark.PING, -1),
        (102.1, Mark.PONG, 12),
        (103.0, Mark.GOAWAY, 0),
    ):
        flight.append((at, mark, number))
    assert narrate(flight.before(104.0)) == (
        "-4.000 s connected; -3.980 s TLS established; -2.500 s request 1; -2.250 s response 200; -2.200 s idle; "
        "-2.000 s ping; -1.900 s ping answered (ms) 12; -1.000 s GOAWAY, code 0"
    )
    assert narrate(()) == ""


def test_it_can_be_read_while_another_thread_appends() -> None:
    flight = Flight()

    class Meanwhile(float):
        def __rsub__(self, other: float) -> float:
            flight.append((other, Mark.IDLE, -1))
            return other - float(self)

    flight.append((Meanwhile(100.0), Mark.CONNECTED, -1))
    flight.append((Meanwhile(101.0), Mark.REQUEST, 1))
    assert [one.number for one in flight.before(102.0)] == [-1, 1]


def test_it_keeps_the_last_moments_only() -> None:
    flight = Flight()
    for number in range(100):
        flight.append((float(number), Mark.REQUEST, number))
    kept = flight.before(100.0)
    assert len(kept) == SIZE
    assert [one.number for one in kept] == list(range(100 - SIZE, 100))
