"""Paths that die silently and may heal: what a user's requests come to, on real kernels in network namespaces."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio
import httpx
import pytest

import holdwire
from holdwire.events import CloseReason
from holdwire.policy.retry import RetryAction
from tests.lab import ASYNCIO, LOOPS, MARKS, TRIO, UVLOOP, bench, tls_bench

if TYPE_CHECKING:
    from tests.lab import Bench

__all__ = ["bench", "tls_bench"]

pytestmark = MARKS

FOUND = (RetryAction.CONNECT_FIRST, "black_hole")


@LOOPS
async def test_a_get_over_a_path_that_died_is_answered_on_one_other_connection(bench: Bench) -> None:
    async with bench.client() as client:
        await client.get(bench.url)
        bench.cut(client)
        began = time.monotonic()
        response = await client.get(f"{bench.url}/again")
        took = time.monotonic() - began
        bench.net.heal()
        await anyio.sleep(0.5)  # what the old copy would need to arrive
    assert response.status_code == 200
    assert 2.5 < took < 4.5, f"found after {took:.1f} s"
    assert bench.server.ledger.count("/again") == 1
    assert bench.server.accepted == 2
    assert FOUND in bench.seen.verdicts
    (failure,) = bench.seen.failures
    assert (failure.kind, failure.phase, failure.reused) == ("heartbeat_lost", "response_wait", True)
    assert failure.delivery == "sent_unacked"
    assert "the path drops what we send" in (failure.detail or "")
    assert failure.tcp is not None
    assert (failure.tcp.retransmits or 0) >= 3


@LOOPS
async def test_after_long_idling_a_forgotten_flow_is_found_in_two_seconds(bench: Bench) -> None:
    async with bench.client() as client:
        await client.get(bench.url)
        bench.cut(client)
        bench.connection(client).idle_since -= 31
        began = time.monotonic()
        response = await client.get(f"{bench.url}/again")
        took = time.monotonic() - began
    assert response.status_code == 200
    assert took < 2.5, f"found after {took:.1f} s"
    assert bench.server.ledger.count("/again") == 1


@UVLOOP
async def test_a_full_pool_gets_off_its_dead_connections(bench: Bench) -> None:
    async with bench.client(limits=httpx.Limits(max_connections=2)) as client:
        async with anyio.create_task_group() as group:
            group.start_soon(client.get, bench.url)
            group.start_soon(client.get, bench.url)
        bench.cut(client)
        began = time.monotonic()
        async with anyio.create_task_group() as group:
            for number in range(4):  # two on the dead connections, two that wait for one
                group.start_soon(client.get, f"{bench.url}/{number}")
        took = time.monotonic() - began
        assert bench.pool(client).size == 2
    assert took < 5.5, f"all answered after {took:.1f} s"
    assert [bench.server.ledger.count(f"/{number}") for number in range(4)] == [1, 1, 1, 1]


@TRIO
async def test_a_path_that_heals_in_time_costs_nothing_but_the_time(bench: Bench) -> None:
    async with bench.client() as client:
        await client.get(bench.url)
        bench.cut(client)
        async with anyio.create_task_group() as group:
            group.start_soon(client.get, f"{bench.url}/again")
            await anyio.sleep(1)
            bench.net.heal()
    assert bench.server.ledger.count("/again") == 1
    assert bench.server.accepted == 1
    assert bench.seen.failures == []


@LOOPS
async def test_a_get_whose_replacement_cannot_be_had_keeps_its_connection_and_is_answered_when_the_path_heals(
    bench: Bench,
) -> None:
    async with bench.client() as client:
        await client.get(bench.url)
        bench.net.drop_all()
        bench.connection(client).idle_since -= 31  # found after one second
        responses: list[httpx.Response] = []
        async with anyio.create_task_group() as group:

            async def get() -> None:
                responses.append(await client.get(f"{bench.url}/again", timeout=httpx.Timeout(30, connect=0.5)))

            group.start_soon(get)
            await bench.seen.until(lambda seen: seen.failures)
            bench.net.heal()
    assert responses[0].status_code == 200
    assert bench.server.ledger.count("/again") == 1
    assert bench.server.accepted == 1
    (failure,) = bench.seen.failures
    assert (failure.kind, failure.phase) == ("local_timeout", "connect"), "the replacement's failure is told"


@LOOPS
async def test_a_post_over_a_path_that_died_waits_and_is_executed_once_when_the_path_heals(bench: Bench) -> None:
    async with bench.client() as client:
        await client.get(bench.url)
        bench.cut(client)
        bench.connection(client).idle_since -= 31  # found after one second
        responses: list[httpx.Response] = []
        async with anyio.create_task_group() as group:

            async def post() -> None:
                responses.append(await client.post(f"{bench.url}/order", content=b"1"))

            group.start_soon(post)
            await bench.seen.until(lambda seen: seen.verdicts)
            bench.net.heal()
    assert bench.seen.verdicts == [(RetryAction.KEEP_WAITING, "may_have_been_processed")]
    assert responses[0].status_code == 200
    assert bench.server.ledger.count("/order") == 1
    assert bench.seen.failures == []


async def assert_a_post_that_timed_out_is_never_delivered(bench: Bench, client: httpx.AsyncClient) -> None:
    await client.get(bench.url)
    bench.cut(client)
    with pytest.raises(httpx.ReadTimeout) as caught:
        await client.post(f"{bench.url}/order", content=b"1", timeout=1)
    bench.net.heal()
    await client.get(f"{bench.url}/after")
    await anyio.sleep(2.5)  # the kernel's next three retransmissions, if there were any
    failure = holdwire.failure_of(caught.value)
    assert failure is not None
    assert (failure.delivery, failure.safe_to_retry) == ("sent_unacked", False)
    assert bench.server.ledger.count("/order") == 0


@LOOPS
async def test_a_post_that_timed_out_is_never_delivered_when_the_path_heals(bench: Bench) -> None:
    async with bench.client() as client:
        await assert_a_post_that_timed_out_is_never_delivered(bench, client)


@ASYNCIO
async def test_a_post_that_timed_out_is_never_delivered_over_tls_either(tls_bench: Bench) -> None:
    async with tls_bench.client(verify=False) as client:
        await assert_a_post_that_timed_out_is_never_delivered(tls_bench, client)


@LOOPS
async def test_keepalive_finds_a_dead_connection_that_nobody_uses(bench: Bench) -> None:
    keepalive = holdwire.Keepalive(idle=1, interval=1, dead_after=5)
    async with bench.client(keepalive=keepalive) as client:
        await client.get(bench.url)
        bench.cut(client)
        began = time.monotonic()
        await bench.seen.until(lambda seen: seen.closed)
        took = time.monotonic() - began
        assert bench.pool(client).size == 0
    assert keepalive.idle_death - 0.5 < took < keepalive.idle_death + 1.5, f"found after {took:.1f} s"
    (closed,) = bench.seen.closed
    assert closed.reason is CloseReason.FAILURE
    assert closed.failure is not None
    assert (closed.failure.errno_name, closed.failure.phase) == ("ETIMEDOUT", "idle")
    assert closed.failure.tcp is not None
    assert closed.failure.outq == 0, "nothing was on its way"
