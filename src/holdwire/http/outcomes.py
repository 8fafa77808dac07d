"""The ``Outcome`` of an attempt, out of its evidence, of what it ended in, and of its request.

Functions of what they are given: nothing is decided, told or changed here. Not responsible for gathering the evidence
(``Attempt``), for what follows from it (``policy.retry``) or for doing that (``exchange``).
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, TypedDict

from ..errors import ConnectFailed, DeadlineExceeded, ProxyError
from ..policy.outcome import Outcome, has_retrier, is_idempotent
from ..policy.phase import Phase, Sent
from ..policy.retry_after import parse_retry_after

if TYPE_CHECKING:
    from ..errors import HoldwireError
    from ..policy.failure import Failure
    from .connection import Attempt
    from .messages import Headers, Request, Response

__all__ = ["of_broken_body", "of_cut_upload", "of_error", "of_response", "of_suspect"]


def of_error(attempt: Attempt, error: HoldwireError) -> Outcome:
    """Of an attempt that ended in ``error``."""
    failure = error.failure
    if failure is None:
        outcome = Outcome(phase=attempt.phase, sent=attempt.sent, reused=attempt.reused)
    else:
        outcome = Outcome.of(failure)
    if failure is None or not failure.phase.is_setup:
        outcome = replace(outcome, sent=attempt.sent, reused=attempt.reused)
    return replace(
        outcome,
        path_suspect=attempt.replaced,
        user_timeout=isinstance(error, DeadlineExceeded),
        multiplexed=attempt.multiplexed,
        http2=attempt.http2,
        first_stream=attempt.first_stream,
        goaway_error=attempt.goaway_error,
        answered=attempt.received > 0,
        status=error.status if isinstance(error, ProxyError) else None,
        other_address_left=isinstance(error, ConnectFailed) and error.address_left,
        **_of_request(attempt.request),
    )


def of_response(attempt: Attempt, response: Response) -> Outcome:
    """Of one that ended in a response, which may not be the answer."""
    headers = response.headers
    return Outcome(
        phase=Phase.RESPONSE_WAIT,
        sent=Sent.ALL if not attempt.response_early else Sent.PART,
        reused=attempt.reused,
        multiplexed=response.stream_id is not None,
        status=response.status,
        retry_after=parse_retry_after(_header(headers, b"retry-after").decode("latin-1"), now=time.time()),
        connection_close=b"close" in _header(headers, b"connection").lower(),
        early_response=attempt.response_early,
        **_of_request(attempt.request),
    )


def of_broken_body(attempt: Attempt, headers: Headers, failure: Failure) -> Outcome:
    """Of one whose answer, with these ``headers``, was delivered; ``failure`` came while the body was read."""
    return replace(
        Outcome.of(failure),
        response_started=True,
        event_stream=_header(headers, b"content-type").lower().startswith(b"text/event-stream"),
        idempotent=_is_idempotent(attempt.request),
    )


def of_cut_upload(failure: Failure) -> Outcome:
    """Of one that was answered although ``failure`` kept its request from being written to its end."""
    return replace(Outcome.of(failure), response_readable=True)


def of_suspect(attempt: Attempt) -> Outcome:
    """Of one that has not ended: its path looks dead."""
    return Outcome(
        phase=attempt.phase if attempt.phase.is_exchange else Phase.RESPONSE_WAIT,
        path_suspect=True,
        reused=attempt.reused,
        **_of_request(attempt.request),
    )


class _RequestFacts(TypedDict):
    """What an ``Outcome`` says of the request alone."""

    idempotent: bool
    replayable: bool
    body_consumed: bool
    caller_retries: bool


def _of_request(request: Request) -> _RequestFacts:
    body = request.body
    return {
        "idempotent": _is_idempotent(request),
        "replayable": isinstance(body, bytes) or body.replayable,
        "body_consumed": not isinstance(body, bytes) and body.started,
        "caller_retries": has_retrier(request.headers),
    }


def _is_idempotent(request: Request) -> bool:
    """Whether doing the request again does no more than doing it once."""
    return is_idempotent(request.method.decode("ascii"), request.headers, marked=request.marked)


def _header(headers: Headers, name: bytes) -> bytes:
    """The first value of ``name`` (lower case); empty if there is none."""
    return next((value for key, value in headers if key.lower() == name), b"")
