"""Calls that would block, by the thousand: a user sees an answer, and nobody is told of any failure."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import httpx
import pytest

import holdwire
from holdwire.telemetry import instrument, uninstrument
from holdwire.testing import ChaosServer
from holdwire.testing.faults import Point
from holdwire.testing.sockets import SocketPlan
from tests.seen import Seen
from tests.telemetry_samples import Memory

if TYPE_CHECKING:
    from collections.abc import Iterator


BODY = random.Random(0).randbytes(2**18)
PLAN = "send() short=512; send() eagain=1; recv() short=512; recv() eagain=1"
"""Every call says EAGAIN first, and then takes or gives 512 bytes at most."""


@pytest.fixture
def memory() -> Iterator[Memory]:
    memory = Memory()
    instrument(tracer_provider=memory.tracers, meter_provider=memory.meters)
    yield memory
    uninstrument()
    memory.close()


@pytest.mark.parametrize("scheme", ["plain", "tls"])
async def test_thousands_of_calls_that_would_block_are_no_failure_and_make_no_span(memory: Memory, scheme: str) -> None:
    seen = Seen()
    plan = SocketPlan(PLAN)
    with ChaosServer(tls=scheme == "tls") as server, plan.installed():
        verify = server.client_context() if scheme == "tls" else True
        transport = holdwire.ResilientTransport(verify=verify, observers=[seen])
        async with httpx.AsyncClient(transport=transport, base_url=server.url, timeout=15) as http:
            for _ in range(2):
                response = await http.post("/echo", content=BODY)
                assert response.content == BODY
    assert seen.failures == []
    assert [span.name for span in memory.spans if "failure" in span.name or not span.status.is_ok] == []
    assert plan.blocked[Point.CALL_SEND] > 1000
    assert plan.blocked[Point.CALL_RECV] > 1000
