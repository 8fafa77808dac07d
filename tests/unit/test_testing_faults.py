"""The vocabulary of faults: what can be written, what it means, what is refused."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdwire.testing._faulty import Cursor
from holdwire.testing.faults import ACTIONS, CALLS, END, Action, Fault, Point, Script, close_after_bytes, idle_limit


@st.composite
def any_fault(draw: st.DrawFn) -> Fault:
    action = draw(st.sampled_from(Action))
    rule = ACTIONS[action]
    point = draw(st.sampled_from(sorted(rule.points)))
    at: float = 0
    if point is Point.IDLE:
        at = draw(st.floats(min_value=0, max_value=1e9))
    elif point in {Point.REQUEST, Point.RESPONSE}:
        at = draw(st.integers(min_value=0, max_value=2**60) | st.just(END))
    elif point in {Point.HANDSHAKE, Point.FRAME}:
        at = draw(st.integers(min_value=0, max_value=2**60))
    value: float | None = None
    if rule.required or (rule.value is not None and draw(st.booleans())):
        value = draw(st.integers(min_value=1, max_value=200) if rule.integral else st.floats(1e-9, 1e9))
    return Fault(point=point, at=at, nth=draw(st.none() | st.integers(1, 99)), action=action, value=value)


@given(st.lists(any_fault(), max_size=5).map(tuple))
def test_what_is_printed_is_read_back_the_same(faults: tuple[Fault, ...]) -> None:
    script = Script(faults)
    assert Script.parse(str(script)) == script


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("request:0 rst", Fault(point=Point.REQUEST, action=Action.RST)),
        ("request rst", Fault(point=Point.REQUEST, action=Action.RST)),
        ("  response:100   fin ", Fault(point=Point.RESPONSE, at=100, action=Action.FIN)),
        ("response#2:end rst", Fault(point=Point.RESPONSE, nth=2, at=END, action=Action.RST)),
        ("idle:0.5 expire", Fault(point=Point.IDLE, at=0.5, action=Action.EXPIRE)),
        ("send()#3 errno=EPIPE", Fault(point=Point.CALL_SEND, nth=3, action=Action.ERRNO, value=errno.EPIPE)),
        ("send() errno=EWOULDBLOCK", Fault(point=Point.CALL_SEND, action=Action.ERRNO, value=errno.EAGAIN)),
        ("recv() errno=9999", Fault(point=Point.CALL_RECV, action=Action.ERRNO, value=9999)),
        (
            "frame#2:1 rst_stream=refused_stream",
            Fault(point=Point.FRAME, nth=2, at=1, action=Action.RST_STREAM, value=7),
        ),
        ("frame goaway=NO_ERROR", Fault(point=Point.FRAME, action=Action.GOAWAY, value=0)),
        ("frame goaway=99", Fault(point=Point.FRAME, action=Action.GOAWAY, value=99)),
        ("connect stall=0.25", Fault(point=Point.CONNECT, action=Action.STALL, value=0.25)),
    ],
)
def test_a_fault_is_read(text: str, fault: Fault) -> None:
    assert Fault.parse(text) == fault


def test_scripts_have_semicolons_lines_and_comments() -> None:
    text = """
    request:0 stall=1   # first it hangs
    response#2 rst; ;   # then it breaks
    """
    assert str(Script.parse(text)) == "request stall=1; response#2 rst"
    assert Script.parse("") == Script()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("rst", "cannot read the fault 'rst'"),
        ("request:0rst", "cannot read"),
        ("requests rst", "'requests' is not a known point; choose from: connect, handshake"),
        ("request explode", "'explode' is not a known action; choose from: refuse"),
        ("request refuse", "refuse cannot happen at request, only at: connect"),
        ("request errno=EPIPE", r"errno cannot happen at request, only at: socket\(\), connect\(\)"),
        ("send() errno=EWHAT", "'EWHAT' is not the name of an errno"),
        ("send() errno", "errno needs a value"),
        ("request drip", "drip needs a value, bytes per second"),
        ("request drip=0", "must be a positive number"),
        ("request corrupt=1.5", "must be a positive whole number"),
        ("request drip=nan", "'nan' in 'request drip=nan' is not a number"),
        ("request rst=1", "rst takes no value"),
        ("request:x rst", "'x' in 'request:x rst' is not a number"),
        ("request:-1 rst", "not negative"),
        ("request:1.5 rst", "counted in whole numbers"),
        ("request#0 rst", "counted from 1"),
        ("idle:end rst", "not a position"),
        ("connect:3 rst", "happens at one moment"),
        ("send():3 errno=EPIPE", "happens at one moment"),
    ],
)
def test_what_has_no_meaning_is_refused_and_explained(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Script.parse(text)


def test_every_action_is_described_and_every_point_is_used() -> None:
    assert set(ACTIONS) == set(Action)
    assert all(rule.meaning.endswith(".") and rule.points for rule in ACTIONS.values())
    assert frozenset().union(*(rule.points for rule in ACTIONS.values())) == frozenset(Point)


def test_limits_of_middleboxes_have_names() -> None:
    assert str(idle_limit(350)) == "idle:350 expire"
    assert str(idle_limit(60, Action.FIN)) == "idle:60 fin"
    assert str(close_after_bytes(10)) == "response:10 fin"
    assert str(close_after_bytes(10, Action.RST)) == "response:10 rst"


def test_a_component_refuses_points_that_it_does_not_have() -> None:
    script = Script.parse("request rst")
    assert script.require(Point, "anybody") is script
    with pytest.raises(ValueError, match=r"sockets has no point request \(in 'request rst'\)"):
        script.require(CALLS, "sockets")


@given(st.lists(st.integers(0, 30), max_size=4), st.lists(st.binary(min_size=1, max_size=9), max_size=6))
def test_faults_strike_at_their_byte_however_the_bytes_are_cut(positions: list[int], chunks: list[bytes]) -> None:
    cursor = Cursor(Script(tuple(Fault(point=Point.REQUEST, at=at, action=Action.HEAL) for at in positions)))
    data = b"".join(chunks)
    passed, struck = b"", []
    for chunk in chunks:
        for part in cursor.split(Point.REQUEST, 1, len(passed), chunk):
            if isinstance(part, Fault):
                struck.append(part.at)
                assert len(passed) == part.at
            else:
                passed += part
    assert passed == data
    assert struck == sorted(at for at in positions if at < len(data))


def test_a_fault_waits_for_the_byte_at_its_position() -> None:
    cursor = Cursor(Script.parse("request:3 rst"))
    assert list(cursor.split(Point.REQUEST, 1, 0, b"abc")) == [b"abc"]
    assert list(cursor.split(Point.REQUEST, 1, 3, b"d")) == [Fault.parse("request:3 rst"), b"d"]


def test_faults_of_another_exchange_wait() -> None:
    cursor = Cursor(Script.parse("request#2 rst"))
    assert list(cursor.split(Point.REQUEST, 1, 0, b"x")) == [b"x"]
    assert list(cursor.split(Point.REQUEST, 2, 0, b"x")) == [Fault.parse("request#2 rst"), b"x"]
