"""What the end of an attempt tells the retry table: of its evidence, its error or response, and its request."""

from __future__ import annotations

from typing import Any

import pytest

from holdwire.errors import ConnectFailed, ConnectionLost, DeadlineExceeded, HoldwireError, ProxyError
from holdwire.http import outcomes
from holdwire.http.connection import Attempt
from holdwire.http.messages import Origin, Request, Response
from holdwire.policy import diagnosis
from holdwire.policy.kind import Kind
from holdwire.policy.phase import Phase, Sent

ORIGIN = Origin("http", "a.test", 80)


def attempt(method: bytes = b"GET", headers: tuple[tuple[bytes, bytes], ...] = (), **evidence: Any) -> Attempt:
    made = Attempt(Request(method, ORIGIN, b"/", list(headers)))
    for name, value in evidence.items():
        setattr(made, name, value)
    return made


def lost(phase: Phase) -> ConnectionLost:
    facts = diagnosis.Facts(host="a.test", port=80, at=1.0)
    return ConnectionLost("lost", failure=diagnosis.local(Kind.HEARTBEAT_LOST, phase=phase, facts=facts))


@pytest.mark.parametrize(
    ("phase", "sent"), [(Phase.CONNECT, Sent.NONE), (Phase.RESPONSE_WAIT, Sent.PART)], ids=["setup", "exchange"]
)
def test_what_was_sent_is_the_attempts_own_knowledge_once_there_is_a_connection(phase: Phase, sent: Sent) -> None:
    outcome = outcomes.of_error(attempt(phase=phase, sent=Sent.PART, reused=True), lost(phase))
    assert (outcome.phase, outcome.sent, outcome.reused) == (phase, sent, phase is Phase.RESPONSE_WAIT)


def test_an_error_without_a_failure_is_judged_by_where_the_attempt_was() -> None:
    outcome = outcomes.of_error(attempt(phase=Phase.REQUEST_BODY, sent=Sent.PART), HoldwireError("?"))
    assert (outcome.phase, outcome.sent, outcome.kind) == (Phase.REQUEST_BODY, Sent.PART, None)


def test_what_only_some_errors_tell_is_told() -> None:
    assert outcomes.of_error(attempt(), DeadlineExceeded("late", limit="read")).user_timeout
    refused, failed = ProxyError("no"), ConnectFailed("no")
    refused.status, failed.address_left = 407, True
    assert outcomes.of_error(attempt(), refused).status == 407
    assert outcomes.of_error(attempt(), failed).other_address_left
    assert outcomes.of_error(attempt(received=1), lost(Phase.RESPONSE_WAIT)).answered


def response(status: int, *headers: tuple[bytes, bytes], stream_id: int | None = None) -> Response:
    unread: Any = None
    return Response(status, list(headers), unread, http_version=b"1.1", is_ascii=True, stream_id=stream_id)


def test_a_response_tells_when_to_come_back_and_whether_its_connection_ends() -> None:
    given = response(503, (b"Retry-After", b"7"), (b"Connection", b"Close"))
    outcome = outcomes.of_response(attempt(), given)
    assert (outcome.status, outcome.retry_after, outcome.connection_close) == (503, 7.0, True)
    assert (outcome.sent, outcome.early_response, outcome.multiplexed) == (Sent.ALL, False, False)


def test_a_response_that_came_early_leaves_the_request_unfinished() -> None:
    outcome = outcomes.of_response(attempt(response_early=True), response(408, stream_id=1))
    assert (outcome.sent, outcome.early_response, outcome.multiplexed) == (Sent.PART, True, True)
    assert (outcome.retry_after, outcome.connection_close) == (None, False)


@pytest.mark.parametrize(
    ("method", "headers", "idempotent", "caller_retries"),
    [
        (b"GET", (), True, False),
        (b"POST", (), False, False),
        (b"POST", ((b"Idempotency-Key", b"1"),), True, False),
        (b"POST", ((b"X-Stainless-Retry-Count", b"0"),), False, True),
    ],
)
def test_every_outcome_says_what_kind_of_request_it_is(
    method: bytes, headers: tuple[tuple[bytes, bytes], ...], *, idempotent: bool, caller_retries: bool
) -> None:
    made = attempt(method, headers)
    for outcome in (
        outcomes.of_error(made, lost(Phase.RESPONSE_WAIT)),
        outcomes.of_response(made, response(503)),
        outcomes.of_suspect(made),
    ):
        assert (outcome.idempotent, outcome.caller_retries) == (idempotent, caller_retries)
        assert (outcome.replayable, outcome.body_consumed) == (True, False)


@pytest.mark.parametrize(
    ("phase", "judged"), [(Phase.POOL, Phase.RESPONSE_WAIT), (Phase.REQUEST_BODY, Phase.REQUEST_BODY)]
)
def test_a_path_that_looks_dead_is_judged_as_one_that_carries_a_request(phase: Phase, judged: Phase) -> None:
    outcome = outcomes.of_suspect(attempt(phase=phase))
    assert outcome.path_suspect
    assert outcome.phase is judged


def test_what_was_delivered_or_can_still_be_read_is_told() -> None:
    failure = lost(Phase.RESPONSE_BODY).failure
    assert failure is not None
    outcome = outcomes.of_broken_body(attempt(), [], failure)
    assert (outcome.response_started, outcome.idempotent, outcome.event_stream) == (True, True, False)
    assert not outcomes.of_broken_body(attempt(b"POST"), [], failure).idempotent
    assert outcomes.of_cut_upload(failure).response_readable


@pytest.mark.parametrize("value", [b"text/event-stream", b"Text/Event-Stream; charset=utf-8"])
def test_a_cut_stream_of_events_is_known_by_its_content_type(value: bytes) -> None:
    failure = lost(Phase.RESPONSE_BODY).failure
    assert failure is not None
    assert outcomes.of_broken_body(attempt(), [(b"Content-Type", value)], failure).event_stream
