"""The retry verdicts: the 32 rows as data, every refusal, what else a verdict asks for."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest

from holdwire.policy.failure import Failure
from holdwire.policy.kind import Action, Category, Kind
from holdwire.policy.phase import Delivery, Phase, Sent
from holdwire.policy.retry import (
    REASONS,
    Evidence,
    History,
    Http2Signal,
    Outcome,
    RetryAction,
    Rules,
    decide,
    has_retrier,
    is_idempotent,
    permit,
)
from holdwire.retrying import RetryPolicy

if TYPE_CHECKING:
    from holdwire.policy.retry import Verdict

NOW, BACKOFF, OTHER = RetryAction.RETRY_NOW, RetryAction.RETRY_BACKOFF, RetryAction.RETRY_OTHER_ADDRESS
FIRST, WAIT = RetryAction.CONNECT_FIRST, RetryAction.KEEP_WAITING
SURFACE, DELIVER = RetryAction.SURFACE, RetryAction.DELIVER
PROOF, ASSUMED, NONE = Evidence.PROOF, Evidence.ASSUMED, Evidence.NONE

PEER = {"category": Category.PEER_CLOSED, "kind": Kind.CONNECTION_RESET}
SLOW = {"category": Category.TIMED_OUT, "kind": Kind.TIMED_OUT}
GET = {"idempotent": True, "replayable": True}
POST = {"replayable": True}
HEADERS, BODY, WAITING = Phase.REQUEST_HEADERS, Phase.REQUEST_BODY, Phase.RESPONSE_WAIT
UNSENT: dict[str, Any] = {"sent": Sent.NONE}
PART: dict[str, Any] = {"sent": Sent.PART}
LISTED = Rules(statuses=frozenset({429, 500, 502, 503, 504}))


def outcome(phase: Phase, *facts: dict[str, Any], **more: Any) -> Outcome:
    merged: dict[str, Any] = {}
    for fact in facts:
        merged |= fact
    return Outcome(phase=phase, **(merged | more))


def used(*rows: int, **more: Any) -> History:
    return History(rows=rows, **more)


H = History()
R = Rules()
DNS_TEMP = outcome(Phase.DNS, UNSENT, category=Category.DNS, kind=Kind.NAME_RESOLUTION_ERROR)
DNS_NONE = dataclasses.replace(DNS_TEMP, name_not_found=True)
REFUSED = outcome(Phase.CONNECT, UNSENT, category=Category.REFUSED, kind=Kind.CONNECTION_REFUSED)
NO_FILES = outcome(Phase.CONNECT, UNSENT, category=Category.LOCAL_RESOURCE, kind=Kind.NO_FILE_DESCRIPTORS)
HANDSHAKE = outcome(Phase.TLS_HANDSHAKE, UNSENT, PEER)
BAD_CERT = outcome(Phase.TLS_HANDSHAKE, UNSENT, category=Category.CONFIGURATION, kind=Kind.CERTIFICATE_INVALID)
STALE = {"fin_before_write": True, "reused": True}
TRUSTING = Rules(stale_proof=True)
BELOW = {"http2": Http2Signal.GOAWAY_BELOW}

# name, outcome, history, rules -> action, evidence, row, cost, counted
ROWS: list[tuple[str, Outcome, History, Rules, RetryAction, Evidence, int, int, bool]] = [
    ("1 name server busy", DNS_TEMP, H, R, BACKOFF, PROOF, 1, 0, True),
    ("1 last round", DNS_TEMP, History(connect_rounds=4), R, SURFACE, PROOF, 1, 0, False),
    ("2 no such name", DNS_NONE, H, R, SURFACE, PROOF, 2, 0, False),
    ("2 no such name yet", DNS_NONE, H, Rules(names_may_appear=True), BACKOFF, PROOF, 2, 0, True),
    ("3 refused, other address", dataclasses.replace(REFUSED, other_address_left=True), H, R, OTHER, PROOF, 3, 0, True),
    ("3 refused, last address", REFUSED, used(3), R, BACKOFF, PROOF, 3, 0, True),
    ("3 refused, rounds used up", REFUSED, History(connect_rounds=4), R, SURFACE, PROOF, 3, 0, False),
    (
        "3 refused, last round, other address",
        dataclasses.replace(REFUSED, other_address_left=True),
        History(connect_rounds=4), R, OTHER, PROOF, 3, 0, True,
    ),
    ("3 refused, pauses used up", REFUSED, History(connect_pauses=3.0), R, SURFACE, PROOF, 3, 0, False),
    ("4 out of descriptors", NO_FILES, H, R, BACKOFF, PROOF, 4, 0, True),
    ("4 still out of descriptors", NO_FILES, used(4), R, SURFACE, PROOF, 4, 0, False),
    ("5 handshake cut", HANDSHAKE, H, R, BACKOFF, PROOF, 5, 0, True),
    ("5 other address", dataclasses.replace(HANDSHAKE, other_address_left=True), used(5), R, OTHER, PROOF, 5, 0, True),
    ("5 third time", HANDSHAKE, used(5, 5), R, SURFACE, PROOF, 5, 0, False),
    ("6 certificate", BAD_CERT, H, R, SURFACE, PROOF, 6, 0, False),
    (
        "6 client certificate refused late",
        outcome(Phase.POST_HANDSHAKE, category=Category.CONFIGURATION, kind=Kind.TLS_ALERT_RECEIVED),
        H, R, SURFACE, PROOF, 6, 0, False,
    ),
    ("7 FIN seen before the write", outcome(Phase.POOL, UNSENT, PEER, reused=True), H, R, NOW, PROOF, 7, 0, False),
    (
        "7 the fourth",
        outcome(Phase.IDLE, UNSENT, PEER, reused=True),
        History(uncounted=3), R, BACKOFF, PROOF, 7, 0, True,
    ),
    ("8 nothing written", outcome(HEADERS, UNSENT, PEER, reused=True), H, R, NOW, PROOF, 8, 0, False),
    ("8 the fourth", outcome(HEADERS, UNSENT, PEER, reused=True), History(uncounted=3), R, BACKOFF, PROOF, 8, 0, True),
    ("9 fresh and closed", outcome(HEADERS, UNSENT, PEER), H, R, BACKOFF, PROOF, 9, 0, True),
    ("9 again", outcome(HEADERS, UNSENT, PEER), used(9), R, SURFACE, PROOF, 9, 0, False),
    (
        "9 again, other address",
        outcome(HEADERS, UNSENT, PEER, other_address_left=True),
        used(9), R, BACKOFF, PROOF, 9, 1, True,
    ),
    ("10 stale, GET", outcome(WAITING, PEER, STALE, GET), H, R, NOW, ASSUMED, 11, 0, True),
    ("10 stale, POST", outcome(WAITING, PEER, STALE, POST), H, R, SURFACE, NONE, 12, 0, False),
    ("10 accepted", outcome(WAITING, PEER, STALE, POST), H, TRUSTING, NOW, NONE, 10, 1, True),
    (
        "10 accepted twice",
        outcome(WAITING, PEER, STALE, POST),
        used(10), TRUSTING, BACKOFF, NONE, 10, 1, True,
    ),
    (
        "10 accepted, but no FIN was seen",
        outcome(WAITING, PEER, POST, reused=True),
        H, TRUSTING, SURFACE, NONE, 12, 0, False,
    ),
    ("11 reused, GET", outcome(WAITING, PEER, GET, reused=True), H, R, NOW, ASSUMED, 11, 0, True),
    ("11 again", outcome(WAITING, PEER, GET, reused=True), used(11), R, BACKOFF, ASSUMED, 11, 1, True),
    ("12 reused, POST", outcome(WAITING, PEER, POST, reused=True), H, R, SURFACE, NONE, 12, 0, False),
    ("13 fresh, GET", outcome(BODY, PART, PEER, GET), H, R, BACKOFF, ASSUMED, 13, 1, True),
    ("14 fresh, POST", outcome(BODY, PART, PEER, POST), H, R, SURFACE, NONE, 14, 0, False),
    ("15 refused stream", outcome(WAITING, POST, http2=Http2Signal.REFUSED_STREAM), H, R, NOW, PROOF, 15, 0, False),
    (
        "15 after three uncounted ones",
        outcome(WAITING, POST, http2=Http2Signal.REFUSED_STREAM),
        History(uncounted=3), R, NOW, PROOF, 15, 0, True,
    ),
    ("15 again", outcome(WAITING, POST, http2=Http2Signal.REFUSED_STREAM), used(15), R, BACKOFF, PROOF, 15, 1, True),
    ("16 GOAWAY below", outcome(WAITING, POST, BELOW), H, R, NOW, PROOF, 16, 0, False),
    ("16 again", outcome(WAITING, POST, BELOW), used(16), R, BACKOFF, PROOF, 16, 1, True),
    (
        "16 error on the first stream",
        outcome(WAITING, POST, BELOW, first_stream=True, goaway_error=True),
        H, R, SURFACE, PROOF, 16, 0, False,
    ),
    ("16 error on a later stream", outcome(WAITING, POST, BELOW, goaway_error=True), H, R, NOW, PROOF, 16, 0, False),
    ("16 in peace on the first", outcome(WAITING, POST, BELOW, first_stream=True), H, R, NOW, PROOF, 16, 0, False),
    ("17 GOAWAY covers", outcome(WAITING, POST, http2=Http2Signal.GOAWAY_COVERS), H, R, WAIT, NONE, 17, 0, False),
    (
        "17 GOAWAY covers, and is the failure",
        outcome(WAITING, POST, http2=Http2Signal.GOAWAY_COVERS, kind=Kind.HTTP2_GOAWAY),
        H, R, WAIT, NONE, 17, 0, False,
    ),
    (
        "17 then lost, GET",
        outcome(WAITING, PEER, GET, http2=Http2Signal.GOAWAY_COVERS, reused=True),
        H, R, NOW, ASSUMED, 11, 0, True,
    ),
    (
        "17 then lost, POST",
        outcome(WAITING, PEER, POST, http2=Http2Signal.GOAWAY_COVERS, reused=True),
        H, R, SURFACE, NONE, 12, 0, False,
    ),
    ("18 reset, GET", outcome(WAITING, GET, http2=Http2Signal.RESET), H, R, BACKOFF, ASSUMED, 18, 1, True),
    ("18 reset, POST", outcome(WAITING, POST, http2=Http2Signal.RESET), H, R, SURFACE, NONE, 18, 0, False),
    (
        "18 asked for calm, GET",
        outcome(WAITING, GET, reused=True, http2=Http2Signal.ENHANCE_YOUR_CALM),
        H, R, BACKOFF, ASSUMED, 18, 1, True,
    ),
    ("18 reset unsent", outcome(WAITING, POST, UNSENT, http2=Http2Signal.RESET), H, R, BACKOFF, PROOF, 18, 1, True),
    (
        "18 reset unsent and yet answered",
        outcome(WAITING, POST, UNSENT, http2=Http2Signal.RESET, answered=True),
        H, R, SURFACE, NONE, 18, 0, False,
    ),
    ("19 wants 1.1, GET", outcome(WAITING, GET, http2=Http2Signal.HTTP_1_1_REQUIRED), H, R, NOW, ASSUMED, 19, 1, True),
    (
        "19 wants 1.1, POST",
        outcome(WAITING, POST, http2=Http2Signal.HTTP_1_1_REQUIRED),
        H, R, SURFACE, NONE, 19, 0, False,
    ),
    ("20 ETIMEDOUT, GET", outcome(WAITING, SLOW, GET), H, R, BACKOFF, ASSUMED, 20, 1, True),
    ("20 ETIMEDOUT, POST", outcome(WAITING, SLOW, POST), H, R, SURFACE, NONE, 20, 0, False),
    ("20 heartbeat lost", outcome(Phase.HEARTBEAT, SLOW, GET), H, R, BACKOFF, ASSUMED, 20, 1, True),
    ("20 read time-out", outcome(WAITING, SLOW, GET, user_timeout=True), H, R, SURFACE, ASSUMED, 20, 0, False),
    (
        "20 read time-out, asked for",
        outcome(WAITING, SLOW, GET, user_timeout=True),
        H, Rules(timeouts=True), BACKOFF, ASSUMED, 20, 1, True,
    ),
    ("21 write time-out, PUT", outcome(BODY, PART, SLOW, GET), H, R, BACKOFF, ASSUMED, 21, 1, True),
    ("21 write time-out, POST", outcome(BODY, PART, SLOW, POST), H, R, SURFACE, NONE, 21, 0, False),
    ("22 early 413", outcome(BODY, PART, PEER, POST, response_readable=True), H, R, DELIVER, NONE, 22, 0, False),
    ("23 too early", outcome(WAITING, POST, status=425), H, R, NOW, PROOF, 23, 0, False),
    ("23 again", outcome(WAITING, POST, status=425), used(23), R, DELIVER, PROOF, 23, 0, False),
    ("24 misdirected", outcome(WAITING, POST, status=421, reused=True), H, R, NOW, PROOF, 24, 0, False),
    ("24 again", outcome(WAITING, POST, status=421, reused=True), used(24), R, DELIVER, PROOF, 24, 0, False),
    ("24 fresh", outcome(WAITING, GET, status=421), H, R, DELIVER, ASSUMED, 27, 0, False),
    (
        "25 408 before all was written",
        outcome(BODY, PART, POST, status=408, reused=True, connection_close=True, early_response=True),
        H, R, NOW, PROOF, 25, 0, False,
    ),
    (
        "25 408, GET",
        outcome(WAITING, GET, status=408, reused=True, connection_close=True),
        H, R, NOW, ASSUMED, 25, 1, True,
    ),
    (
        "25 408, POST",
        outcome(WAITING, POST, status=408, reused=True, connection_close=True),
        H, R, DELIVER, NONE, 25, 0, False,
    ),
    (
        "25 408 with Retry-After",
        outcome(WAITING, GET, status=408, reused=True, connection_close=True, retry_after=1.0),
        H, R, DELIVER, ASSUMED, 25, 0, False,
    ),
    (
        "25 408 with Retry-After: 0",
        outcome(WAITING, GET, status=408, reused=True, connection_close=True, retry_after=0.0),
        H, R, NOW, ASSUMED, 25, 1, True,
    ),
    (
        "25 second 408",
        outcome(WAITING, GET, status=408, reused=True, connection_close=True),
        used(25), R, DELIVER, ASSUMED, 25, 0, False,
    ),
    (
        "27 408 that lets the connection live",
        outcome(WAITING, GET, status=408, reused=True),
        H, R, DELIVER, ASSUMED, 27, 0, False,
    ),
    ("26 503", outcome(WAITING, GET, status=503, retry_after=7.0), H, LISTED, BACKOFF, ASSUMED, 26, 1, True),
    ("26 503, not listed", outcome(WAITING, GET, status=503, retry_after=7.0), H, R, DELIVER, ASSUMED, 26, 0, False),
    (
        "26 503, too long",
        outcome(WAITING, GET, status=503, retry_after=31.0),
        H, LISTED, DELIVER, ASSUMED, 26, 0, False,
    ),
    ("26 429, POST", outcome(WAITING, POST, status=429, retry_after=1.0), H, LISTED, DELIVER, NONE, 26, 0, False),
    (
        "26 429, POST, asked for",
        outcome(WAITING, POST, status=429, retry_after=1.0),
        H, dataclasses.replace(LISTED, any_method_429=True), BACKOFF, ASSUMED, 26, 1, True,
    ),
    ("27 502", outcome(WAITING, GET, status=502), H, LISTED, BACKOFF, ASSUMED, 27, 1, True),
    ("27 502, POST", outcome(WAITING, POST, status=502), H, LISTED, DELIVER, NONE, 27, 0, False),
    ("27 500, not listed", outcome(WAITING, GET, status=500), H, R, DELIVER, ASSUMED, 27, 0, False),
    (
        "28 body cut",
        outcome(Phase.RESPONSE_BODY, PEER, GET, response_started=True),
        H, R, SURFACE, ASSUMED, 28, 0, False,
    ),
    (
        "28 unsent and yet answered",
        outcome(Phase.RESPONSE_BODY, UNSENT, PEER, response_started=True),
        H, R, SURFACE, NONE, 28, 0, False,
    ),
    (
        "29 event stream cut",
        outcome(Phase.RESPONSE_BODY, PEER, GET, response_started=True, event_stream=True),
        H, R, SURFACE, ASSUMED, 29, 0, False,
    ),
    (
        "28 body cut, as a heartbeat noticed",
        outcome(Phase.HEARTBEAT, SLOW, GET, response_started=True),
        H, R, SURFACE, ASSUMED, 28, 0, False,
    ),
    ("28 body cut before it came", outcome(Phase.RESPONSE_BODY, PEER, GET), H, R, SURFACE, ASSUMED, 28, 0, False),
    (
        "29 event stream cut, as a heartbeat noticed",
        outcome(Phase.HEARTBEAT, SLOW, GET, response_started=True, event_stream=True),
        H, R, SURFACE, ASSUMED, 29, 0, False,
    ),
    (
        "29 event stream cut before an event",
        outcome(Phase.RESPONSE_BODY, PEER, GET, event_stream=True),
        H, R, SURFACE, ASSUMED, 29, 0, False,
    ),
    (
        "11 event stream that did not begin",
        outcome(WAITING, PEER, GET, reused=True, event_stream=True),
        H, R, NOW, ASSUMED, 11, 0, True,
    ),
    ("30 upgraded", outcome(Phase.UPGRADED, PEER, GET), H, R, SURFACE, ASSUMED, 30, 0, False),
    (
        "31 tunnel refused",
        outcome(Phase.PROXY, UNSENT, kind=Kind.PROXY_REFUSED, status=502),
        H, R, BACKOFF, PROOF, 31, 0, True,
    ),
    ("31 proxy reset", outcome(Phase.PROXY, UNSENT, PEER, other_address_left=True), H, R, OTHER, PROOF, 31, 0, True),
    ("31 407", outcome(Phase.PROXY, UNSENT, kind=Kind.PROXY_REFUSED, status=407), H, R, SURFACE, PROOF, 31, 0, False),
    ("32 path dead, GET", outcome(WAITING, GET, path_suspect=True), H, R, FIRST, ASSUMED, 32, 1, True),
    ("32 again", outcome(WAITING, GET, path_suspect=True), used(32), R, WAIT, ASSUMED, 32, 0, False),
    ("32 path dead, POST", outcome(WAITING, POST, path_suspect=True), H, R, WAIT, NONE, 32, 0, False),
]  # fmt: skip


@pytest.mark.parametrize(
    ("ended", "history", "rules", "action", "evidence", "row", "cost", "counted"),
    [row[1:] for row in ROWS],
    ids=[row[0] for row in ROWS],
)
def test_a_row_of_the_table(
    ended: Outcome,
    history: History,
    rules: Rules,
    action: RetryAction,
    evidence: Evidence,
    row: int,
    cost: int,
    *,
    counted: bool,
) -> None:
    verdict = decide(ended, history, rules)
    assert (verdict.action, verdict.evidence, verdict.row, verdict.cost, verdict.counted) == (
        action,
        evidence,
        row,
        cost,
        counted,
    )
    assert verdict.reason in REASONS
    assert verdict.safe_to_retry is (evidence is PROOF)


def test_every_number_of_the_table_is_covered() -> None:
    assert {int(name.split()[0]) for name, *_ in ROWS} == set(range(1, 33))


GET_LOST = outcome(WAITING, PEER, GET, reused=True)


@pytest.mark.parametrize(
    ("ended", "history", "rules", "action", "reason"),
    [
        (dataclasses.replace(GET_LOST, cancelled=True), H, R, SURFACE, "cancelled"),
        (outcome(WAITING, GET, path_suspect=True, cancelled=True), H, R, SURFACE, "cancelled"),
        (outcome(WAITING, GET, category=Category.LOCAL_BUG), H, R, SURFACE, "not_retryable"),
        (outcome(WAITING, GET, category=Category.INTENTIONAL), H, R, SURFACE, "not_retryable"),
        (outcome(WAITING, GET, UNSENT, PEER, action=Action.NEVER), H, R, SURFACE, "not_retryable"),
        (
            outcome(WAITING, GET, category=Category.VIOLATION, kind=Kind.HTTP_PROTOCOL_ERROR),
            H, R, SURFACE, "not_retryable",
        ),
        (
            outcome(WAITING, GET, category=Category.VIOLATION, kind=Kind.TLS_PROTOCOL_ERROR),
            H, R, BACKOFF, "connection_lost",
        ),
        (
            outcome(WAITING, GET, category=Category.VIOLATION, kind=Kind.TLS_PROTOCOL_ERROR),
            used(13), R, SURFACE, "not_retryable",
        ),
        (outcome(WAITING, GET, status=500, retry_after=31.0), H, LISTED, DELIVER, "retry_after_too_long"),
        (GET_LOST, H, Rules(never=frozenset({Kind.CONNECTION_RESET})), SURFACE, "kind_excluded"),
        (DNS_NONE, H, R, SURFACE, "name_not_found"),
        (dataclasses.replace(GET_LOST, caller_retries=True), H, R, SURFACE, "caller_retries"),
        (outcome(WAITING, GET, status=503, caller_retries=True), H, LISTED, DELIVER, "caller_retries"),
        (outcome(WAITING, GET, path_suspect=True, caller_retries=True), H, R, WAIT, "caller_retries"),
        (outcome(HEADERS, UNSENT, PEER, reused=True, caller_retries=True), H, R, NOW, "not_sent"),
        (outcome(WAITING, PEER, reused=True), H, R, SURFACE, "may_have_been_processed"),
        (dataclasses.replace(GET_LOST, replayable=False, body_consumed=True), H, R, SURFACE, "body_not_replayable"),
        (outcome(WAITING, PEER, idempotent=True, body_consumed=True), H, R, SURFACE, "body_not_replayable"),
        (dataclasses.replace(GET_LOST, replayable=False), H, R, NOW, "reused_connection_lost"),
        (outcome(Phase.CONNECT, UNSENT, SLOW, user_timeout=True), H, R, SURFACE, "timeout"),
        (outcome(Phase.POOL, UNSENT, SLOW, kind=Kind.POOL_TIMEOUT), H, Rules(timeouts=True), SURFACE, "timeout"),
        (REFUSED, History(connect_rounds=4), R, SURFACE, "connect"),
        (dataclasses.replace(DNS_TEMP, other_address_left=True), History(connect_rounds=4), R, SURFACE, "connect"),
        (REFUSED, History(connect_rounds=2), Rules(connect_rounds=2), SURFACE, "connect"),
        (outcome(WAITING, GET, category=Category.UNKNOWN, reused=True), H, R, BACKOFF, "reused_connection_lost"),
        (outcome(WAITING, GET, category=Category.UNKNOWN), History(attempts=3), R, SURFACE, "attempts"),
        (dataclasses.replace(GET_LOST, answered=True), H, R, SURFACE, "response_started"),
        (GET_LOST, H, Rules(switched_off=True), SURFACE, "switched_off"),
        (outcome(WAITING, GET, status=502), H, dataclasses.replace(LISTED, switched_off=True), DELIVER, "switched_off"),
        (outcome(WAITING, GET, path_suspect=True), H, Rules(switched_off=True), WAIT, "switched_off"),
        (outcome(HEADERS, UNSENT, PEER, reused=True), H, Rules(switched_off=True), NOW, "not_sent"),
        (
            outcome(WAITING, POST, http2=Http2Signal.REFUSED_STREAM),
            used(15), Rules(switched_off=True), SURFACE, "switched_off",
        ),
    ],
)  # fmt: skip
def test_a_refusal_says_why(ended: Outcome, history: History, rules: Rules, action: RetryAction, reason: str) -> None:
    verdict = decide(ended, history, rules)
    assert (verdict.action, verdict.reason) == (action, reason)
    if not verdict.retries:
        assert asks_for(verdict) == NOTHING


def asks_for(verdict: Verdict) -> tuple[object, ...]:
    """What a verdict wants done beside its action."""
    return (verdict.min_delay, verdict.exact_delay, verdict.fresh_connection, verdict.free_idle)


NOTHING = (0.0, False, False, False)


def test_an_address_family_that_this_host_lacks_goes_to_the_next_address() -> None:
    no_ipv6 = outcome(Phase.CONNECT, UNSENT, category=Category.CONFIGURATION, action=Action.ADDRESS)
    assert decide(dataclasses.replace(no_ipv6, other_address_left=True), H, R).action is OTHER
    assert decide(no_ipv6, H, R).action is SURFACE


def test_a_connection_refused_after_the_request_was_sent_is_no_proof() -> None:
    icmp = outcome(WAITING, POST, category=Category.REFUSED, kind=Kind.CONNECTION_REFUSED)
    assert decide(icmp, H, R).evidence is NONE


def test_what_the_server_asked_for_is_in_the_verdict() -> None:
    told = decide(outcome(WAITING, GET, status=503, retry_after=7.0), H, LISTED)
    assert (told.min_delay, told.exact_delay) == (7.0, True)
    calm = decide(outcome(WAITING, GET, http2=Http2Signal.ENHANCE_YOUR_CALM), H, R)
    assert (calm.action, calm.min_delay, calm.exact_delay) == (BACKOFF, 1.0, False)
    assert decide(outcome(WAITING, POST, status=421, reused=True), H, R).fresh_connection
    assert decide(NO_FILES, H, R).free_idle
    assert not decide(outcome(WAITING, SLOW, GET, multiplexed=True), H, R).fresh_connection


def test_history_counts_what_was_done() -> None:
    free = decide(outcome(HEADERS, UNSENT, PEER, reused=True), H, R)
    after = H.after(free, delay=0.0)
    assert (after.attempts, after.uncounted, after.rows) == (1, 1, (8,))
    after = after.after(decide(REFUSED, after, R), delay=0.1)
    assert (after.attempts, after.uncounted, after.connect_rounds, after.connect_pauses) == (2, 1, 2, 0.1)
    after = after.after(decide(GET_LOST, after, R), delay=9.0)
    assert (after.attempts, after.connect_rounds, after.connect_pauses) == (3, 2, 0.1)


@pytest.mark.parametrize(
    "ended",
    [
        pytest.param(DNS_TEMP, id="name server busy"),
        pytest.param(DNS_NONE, id="no such name yet"),
        pytest.param(REFUSED, id="refused"),
        pytest.param(NO_FILES, id="out of descriptors"),
        pytest.param(HANDSHAKE, id="handshake cut"),
        pytest.param(outcome(Phase.PROXY, UNSENT, PEER), id="no tunnel"),
    ],
)
def test_each_pause_before_the_next_try_to_connect_is_a_round(ended: Outcome) -> None:
    rules = Rules(names_may_appear=True)
    after = H.after(decide(ended, H, rules), delay=0.25)
    assert (after.connect_rounds, after.connect_pauses) == (2, 0.25)
    assert decide(ended, History(connect_rounds=4), rules).reason == "connect"


@pytest.mark.parametrize(
    "ended",
    [
        pytest.param(dataclasses.replace(REFUSED, other_address_left=True), id="next address of the same round"),
        pytest.param(outcome(WAITING, SLOW, GET), id="a pause that is not for connecting"),
        pytest.param(GET_LOST, id="no pause"),
    ],
)
def test_no_other_retry_is_a_round_of_connecting(ended: Outcome) -> None:
    verdict = decide(ended, H, R)
    assert verdict.retries
    after = H.after(verdict, delay=0.25)
    assert (after.connect_rounds, after.connect_pauses) == (1, 0.0)


def test_the_rules_of_a_policy_without_wishes_are_those_without_wishes() -> None:
    assert RetryPolicy().rules() == Rules()


PAID = decide(GET_LOST, used(11), R)
FREE = decide(outcome(HEADERS, UNSENT, PEER, reused=True), H, R)


@pytest.mark.parametrize(
    ("verdict", "facts", "reason"),
    [
        (PAID, {}, None),
        (PAID, {"stop": True}, "attempts"),
        (PAID, {"budget_left": False}, "budget"),
        (PAID, {"deadline": 10.1}, None),
        (PAID, {"deadline": 9.0}, "deadline"),
        (PAID, {"deadline": 10.5, "delay": 0.5}, "deadline"),
        (PAID, {"deadline": 10.5, "least_attempt": 0.5}, "deadline"),
        (PAID, {"deadline": 10.5, "delay": 0.4}, None),
        (FREE, {"stop": True, "budget_left": False}, None),
        (FREE, {"deadline": 10.0}, "deadline"),
    ],
)
def test_stop_rule_budget_and_deadline_can_refuse(verdict: Verdict, facts: dict[str, Any], reason: str | None) -> None:
    settings: dict[str, Any] = {"stop": False, "budget_left": True, "now": 10.0, "deadline": None} | facts
    allowed = permit(verdict, **settings)
    if reason is None:
        assert allowed is verdict
    else:
        assert (allowed.action, allowed.reason, allowed.cost) == (SURFACE, reason, 0)
        assert allowed.evidence is verdict.evidence


def test_a_refused_replacement_leaves_the_old_connection_alone() -> None:
    verdict = decide(outcome(WAITING, GET, path_suspect=True), H, R)
    allowed = permit(verdict, stop=False, budget_left=False, now=0, deadline=None)
    assert (allowed.action, allowed.reason) == (WAIT, "budget")


def test_a_refused_status_retry_delivers_the_response() -> None:
    verdict = decide(outcome(WAITING, GET, status=502), H, LISTED)
    assert permit(verdict, stop=True, budget_left=True, now=0, deadline=None).action is DELIVER


def test_a_verdict_that_is_no_retry_needs_no_permission() -> None:
    verdict = decide(outcome(WAITING, PEER, POST), H, R)
    assert permit(verdict, stop=True, budget_left=False, now=9, deadline=0) is verdict


@pytest.mark.parametrize(
    ("method", "headers", "marked", "expected"),
    [
        *((method, [], None, True) for method in ("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE")),
        ("POST", [], None, False),
        ("PATCH", [], None, False),
        ("get", [], None, False),  # methods are case-sensitive
        ("POST", [(b"Idempotency-Key", b"1")], None, True),
        ("POST", [(b"accept", b"*/*"), (b"x-idempotency-KEY", b"1")], None, True),
        ("POST", [(b"accept", b"*/*")], None, False),
        ("POST", [], True, True),
        ("GET", [], False, False),
    ],
)
def test_idempotence(method: str, headers: list[tuple[bytes, bytes]], marked: Any, *, expected: bool) -> None:
    assert is_idempotent(method, headers, marked=marked) is expected


def test_a_retrier_above_announces_itself() -> None:
    assert has_retrier([(b"accept", b"*/*"), (b"X-Stainless-Retry-Count", b"0")])
    assert not has_retrier([(b"accept", b"*/*")])


def test_an_outcome_knows_what_the_failure_knows() -> None:
    failure = Failure(
        kind=Kind.NAME_RESOLUTION_ERROR, category=Category.DNS, phase=Phase.DNS, errno_name="EAI_NONAME", reused=False
    )
    ended = Outcome.of(failure)
    assert (ended.sent, ended.name_not_found) == (Sent.NONE, True)
    failure = Failure(
        kind=Kind.CONNECTION_RESET,
        category=Category.PEER_CLOSED,
        phase=WAITING,
        action=Action.BACK_OFF,
        delivery=Delivery.ANSWERED,
        reused=True,
    )
    ended = Outcome.of(failure)
    assert (ended.sent, ended.answered, ended.reused, ended.action) == (Sent.ALL, True, True, Action.BACK_OFF)
    assert Outcome.of(failure.evolve(sent=Sent.NONE)).sent is Sent.NONE
    assert [Outcome.of(one).cancelled for one in (failure, failure.evolve(kind=Kind.CANCELLED))] == [False, True]


@pytest.mark.parametrize(
    ("name", "action", "again"),
    [
        ("EAI_NONAME", Action.PHASE_TABLE, False),
        ("EAI_NODATA", Action.PHASE_TABLE, False),
        ("WSAHOST_NOT_FOUND", Action.PHASE_TABLE, False),
        ("WSANO_DATA", Action.PHASE_TABLE, False),
        ("EAI_NONAME", Action.BACK_OFF, True),  # it has resolved before in this process
        ("EAI_AGAIN", Action.PHASE_TABLE, True),
        ("EAI_FAIL", Action.LONG_BACK_OFF, True),
    ],
)
def test_a_name_that_never_was_is_not_asked_for_again(name: str, action: Action, *, again: bool) -> None:
    failure = Failure(
        kind=Kind.NAME_RESOLUTION_ERROR, category=Category.DNS, phase=Phase.DNS, errno_name=name, action=action
    )
    assert decide(Outcome.of(failure), H, R).retries is again


def test_a_restart_that_ends_every_connection_at_once_is_survived_whatever_the_budget() -> None:
    lost = decide(GET_LOST, H, R)
    assert (lost.action, lost.cost, lost.counted) == (NOW, 0, True)
    assert permit(lost, stop=False, budget_left=False, now=10.0, deadline=None).retries
    assert not decide(GET_LOST, H, Rules(switched_off=True)).retries, "free, and yet no proof"


@pytest.mark.parametrize(("status", "again"), [(502, True), (503, True), (504, True), (501, False), (505, False)])
def test_a_tunnel_is_tried_again_for_the_troubles_of_a_gateway(status: int, *, again: bool) -> None:
    refused = outcome(Phase.PROXY, UNSENT, kind=Kind.PROXY_REFUSED, status=status)
    assert decide(refused, H, R).retries is again


@pytest.mark.parametrize(
    "category", [Category.CONFIGURATION, Category.LOCAL_BUG, Category.INTENTIONAL, Category.NOT_AN_ERROR]
)
def test_what_another_attempt_cannot_cure_is_not_repeated(category: Category) -> None:
    verdict = decide(outcome(WAITING, GET, category=category, kind=Kind.OTHER, reused=True), H, R)
    assert (verdict.action, verdict.reason) == (SURFACE, "not_retryable")


@pytest.mark.parametrize(
    "category", [Category.TIMED_OUT, Category.UNREACHABLE, Category.REFUSED, Category.LOCAL_RESOURCE]
)
@pytest.mark.parametrize(("phase", "row"), [(HEADERS, 21), (BODY, 21), (WAITING, 20), (Phase.HEARTBEAT, 20)])
def test_what_will_not_be_better_at_once_is_repeated_after_a_pause(category: Category, phase: Phase, row: int) -> None:
    verdict = decide(outcome(phase, GET, reused=True, category=category, kind=Kind.OTHER), H, R)
    assert (verdict.action, verdict.row) == (BACKOFF, row)


@pytest.mark.parametrize(("action", "least"), [(Action.BACK_OFF, 0.0), (Action.LONG_BACK_OFF, 1.0)])
def test_a_failure_that_wants_a_pause_gets_one(action: Action, least: float) -> None:
    verdict = decide(dataclasses.replace(GET_LOST, action=action), H, R)
    assert (verdict.action, verdict.min_delay, verdict.exact_delay) == (BACKOFF, least, False)


def test_only_a_time_out_that_is_repeated_needs_a_pause() -> None:
    repeats = Rules(timeouts=True)
    assert decide(GET_LOST, H, repeats).action is NOW
    assert decide(dataclasses.replace(GET_LOST, user_timeout=True), H, repeats).action is BACKOFF


def test_what_the_server_says_of_a_stream_counts_more_than_what_became_of_the_connection() -> None:
    refused = outcome(WAITING, POST, http2=Http2Signal.REFUSED_STREAM, category=Category.VIOLATION, kind=Kind.OTHER)
    assert decide(refused, H, R).action is NOW


def test_a_goaway_that_covers_the_request_says_nothing_of_its_failure() -> None:
    covered = outcome(WAITING, PEER, GET, reused=True, http2=Http2Signal.GOAWAY_COVERS)
    hopeless = dataclasses.replace(covered, category=Category.LOCAL_BUG)
    assert decide(covered, H, R).retries
    assert decide(hopeless, H, R).reason == "not_retryable"


def test_the_pause_that_a_server_asks_for_is_taken_to_the_letter() -> None:
    for status in (429, 500, 503):
        verdict = decide(outcome(WAITING, GET, status=status, retry_after=7.0), H, LISTED)
        assert (verdict.min_delay, verdict.exact_delay) == (7.0, True), status


def test_after_what_a_request_goes_out_on_a_connection_that_no_request_has_used() -> None:
    verdicts = [decide(ended, history, rules) for _, ended, history, rules, *_ in ROWS if not history.rows]
    fresh = {verdict.row for verdict in verdicts if verdict.fresh_connection}
    others = {verdict.row for verdict in verdicts if verdict.retries and not verdict.fresh_connection}
    assert fresh == {8, 9, 10, 11, 13, 16, 19, 20, 21, 24, 25, 32}
    assert others == {1, 2, 3, 4, 5, 7, 15, 18, 23, 26, 27, 31}


def test_only_a_host_that_has_run_out_of_something_gives_up_its_idle_connections() -> None:
    assert {row for _, ended, history, rules, *_, row, _, _ in ROWS if decide(ended, history, rules).free_idle} == {4}


def test_who_needs_a_connection_that_no_request_has_used() -> None:
    unusable = outcome(Phase.POOL, UNSENT, PEER, reused=True)
    assert [decide(unusable, history, R).fresh_connection for history in (H, used(7))] == [False, True]
    reused = outcome(WAITING, PEER, GET, reused=True)
    assert [decide(one, H, R).fresh_connection for one in (reused, dataclasses.replace(reused, multiplexed=True))] == [
        True,
        True,
    ]
    for slow in (outcome(WAITING, SLOW, GET), outcome(BODY, PART, SLOW, GET)):
        streams = dataclasses.replace(slow, multiplexed=True)
        assert [decide(one, H, R).fresh_connection for one in (slow, streams)] == [True, False]
    busy = outcome(WAITING, GET, status=503)
    assert not decide(busy, used(26), LISTED).fresh_connection
