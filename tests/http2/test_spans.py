"""The one ERROR span that each fate of an HTTP/2 request leaves, and what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest
from h2.errors import ErrorCodes
from opentelemetry.trace import StatusCode

from holdwire.telemetry import instrument, uninstrument
from holdwire.telemetry.totals import Totals
from tests.garbage import collect_everything
from tests.http2.clients import client_of, misbehaving
from tests.http2.server import serve
from tests.http2.test_fates import close, goaway_with, reset_with, rst
from tests.http2.test_heartbeat import beat, deaf, quick, say_nothing
from tests.telemetry_samples import Memory

if TYPE_CHECKING:
    from collections.abc import Iterator

FATES: dict[str, tuple[Any, str, str]] = {
    "GOAWAY below the request": (goaway_with(0), "http2_goaway", "goaway"),
    "REFUSED_STREAM": (reset_with(ErrorCodes.REFUSED_STREAM), "http2_stream_reset", "refused_stream"),
    "RST_STREAM": (reset_with(ErrorCodes.INTERNAL_ERROR), "http2_stream_reset", "stream_reset"),
    "FIN": (close, "unexpected_eof", "connection_lost"),
    "RST": (rst, "connection_reset", "connection_lost"),
}


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Memory]:
    collect_everything()  # pools of earlier tests too
    monkeypatch.setattr("holdwire.telemetry.totals._TOTALS", Totals())
    memory = Memory()
    instrument(tracer_provider=memory.tracers, meter_provider=memory.meters)
    yield memory
    uninstrument()
    memory.close()


def errors(memory: Memory) -> list[Any]:
    return [span for span in memory.spans if span.status.status_code is StatusCode.ERROR]


@pytest.mark.parametrize("fate", FATES)
async def test_a_get_that_met_a_fate_and_was_answered_left_one_error_span_that_names_it(
    fate: str, memory: Memory
) -> None:
    handler, kind, reason = FATES[fate]
    async with serve(misbehaving(handler)) as server, client_of() as client:
        assert (await client.get(f"{server.url}/x")).text == "/x"
    (span,) = errors(memory)
    attributes = dict(span.attributes)
    assert attributes["error.type"].lower() in {kind, "econnreset"}, attributes
    assert attributes["holdwire.retry.reason"] == reason


async def test_a_missed_heartbeat_is_one_error_span_with_what_earlier_ones_took(memory: Memory) -> None:
    async with serve(say_nothing, greet=deaf) as server, client_of(heartbeat=beat(0.1)) as client:
        quick(client)
        with pytest.raises(httpx.ReadError):
            await client.post(f"{server.url}/x", timeout=None)
    (span,) = errors(memory)
    assert span.attributes["error.type"] == "heartbeat_lost"
