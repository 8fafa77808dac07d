"""Firewalls and routers that reject, forget, or pass small packets only: how soon it shows, and as what."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio
import httpx
import pytest

import holdwire
from holdwire.policy.retry import RetryAction
from tests.lab import ASYNCIO, LOOPS, MARKS, TRIO, bench

if TYPE_CHECKING:
    from tests.lab import Bench

__all__ = ["bench"]

pytestmark = MARKS


@LOOPS
async def test_a_firewall_that_drops_syns_is_a_connect_time_out(bench: Bench) -> None:
    bench.net.drop_all()
    async with bench.client() as client:
        began = time.monotonic()
        with pytest.raises(httpx.ConnectTimeout) as caught:
            await client.get(bench.url, timeout=1)
        assert time.monotonic() - began < 5
    failure = holdwire.failure_of(caught.value)
    assert failure is not None
    assert (failure.kind, failure.phase, failure.safe_to_retry) == ("local_timeout", "connect", True)
    assert "Check firewall" in str(failure)


@LOOPS
async def test_a_router_that_says_host_unreachable_is_named(bench: Bench) -> None:
    bench.net.nft("add rule inet f fw ip protocol tcp reject with icmp type host-unreachable")
    async with bench.client(retry=None) as client:
        with pytest.raises(httpx.ConnectError, match="EHOSTUNREACH") as caught:
            await client.get(bench.url)
    failure = holdwire.failure_of(caught.value)
    assert failure is not None
    assert failure.kind == "host_unreachable"
    assert failure.detail == "said by 10.77.1.1"


@LOOPS
@pytest.mark.parametrize(("method", "status"), [("GET", 200), ("POST", None)])
async def test_a_path_that_rejects_with_reset_costs_a_get_nothing_and_a_post_itself(
    bench: Bench, method: str, status: int | None
) -> None:
    async with bench.client() as client:
        await client.get(bench.url)
        port = bench.connection(client).wire.facts().get("local_port")
        bench.net.nft(f"add rule inet f fw tcp sport {port} reject with tcp reset")
        began = time.monotonic()
        if status is None:
            with pytest.raises(httpx.ReadError, match="ECONNRESET"):
                await client.request(method, f"{bench.url}/again")
        else:
            assert (await client.request(method, f"{bench.url}/again")).status_code == status
        assert time.monotonic() - began < 2
    assert bench.server.ledger.count("/again") == int(status is not None)
    (failure,) = bench.seen.failures
    assert (failure.errno_name, failure.phase) == ("ECONNRESET", "response_wait")
    expected = (RetryAction.RETRY_NOW, "reused_connection_lost")
    assert bench.seen.verdicts[0] == (expected if status else (RetryAction.SURFACE, "may_have_been_processed"))


@ASYNCIO
async def test_icmp_on_a_connection_that_stands_ends_nothing_that_heals(bench: Bench) -> None:
    async with bench.client() as client:
        await client.get(bench.url)
        bench.net.nft("add rule inet f fw ip protocol tcp reject with icmp type host-unreachable")
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: client.post(f"{bench.url}/order", content=b"1"))
            await anyio.sleep(1)
            bench.net.heal()
    assert bench.server.ledger.count("/order") == 1
    assert bench.server.accepted == 1
    assert bench.seen.failures == []


@TRIO
async def test_icmp_on_a_connection_that_stands_names_the_errno_when_time_is_up(bench: Bench) -> None:
    async with bench.client(keepalive=holdwire.Keepalive(dead_after=5)) as client:
        await client.get(bench.url)
        bench.net.nft("add rule inet f fw ip protocol tcp reject with icmp type host-unreachable")
        began = time.monotonic()
        with pytest.raises(httpx.ReadError, match="EHOSTUNREACH"):
            await client.post(f"{bench.url}/order", content=b"1")
        took = time.monotonic() - began
    assert 4.5 < took < 8, f"given up after {took:.1f} s"
    (failure,) = bench.seen.failures
    assert (failure.kind, failure.phase, failure.delivery) == ("host_unreachable", "response_wait", "sent_unacked")
    assert bench.seen.verdicts[-1] == (RetryAction.SURFACE, "may_have_been_processed")


@LOOPS
@pytest.mark.parametrize("answer", ["drop", "reset"])
async def test_a_firewall_that_forgets_idle_flows_costs_a_get_some_seconds_at_most(bench: Bench, answer: str) -> None:
    bench.net.forget_after(1, answer=answer)
    async with bench.client() as client:
        await client.get(bench.url)
        await anyio.sleep(2.5)
        began = time.monotonic()
        response = await client.get(f"{bench.url}/again")
        took = time.monotonic() - began
    assert response.status_code == 200
    assert took < (4.5 if answer == "drop" else 2), f"found after {took:.1f} s"
    assert bench.server.ledger.count("/again") == 1
    (failure,) = bench.seen.failures
    assert failure.kind == ("heartbeat_lost" if answer == "drop" else "connection_reset")
    assert failure.idle is not None


@ASYNCIO
async def test_keepalive_holds_a_flow_that_a_firewall_would_forget(bench: Bench) -> None:
    bench.net.forget_after(2, answer="drop")
    async with bench.client(keepalive=holdwire.Keepalive(idle=1, interval=1, dead_after=5)) as client:
        await client.get(bench.url)
        await anyio.sleep(4)
        began = time.monotonic()
        await client.get(f"{bench.url}/again")
        assert time.monotonic() - began < 2
    assert bench.server.accepted == 1
    assert bench.seen.failures == []


@LOOPS
async def test_an_mtu_black_hole_lets_small_requests_pass_and_the_large_one_says_that_it_was_not_acknowledged(
    bench: Bench,
) -> None:
    bench.net.nft("add rule inet f fw ip length > 600 drop")
    async with bench.client() as client:
        assert (await client.get(bench.url)).status_code == 200
        with pytest.raises(httpx.ReadTimeout) as caught:
            await client.post(f"{bench.url}/large", content=b"x" * 20_000, timeout=1.5)
        assert (await client.get(bench.url)).status_code == 200
    failure = holdwire.failure_of(caught.value)
    assert failure is not None
    assert failure.delivery == "sent_unacked"
    assert failure.outq
    assert failure.tcp is not None
    assert (failure.tcp.retransmits or 0) >= 1
    assert failure.tcp.pmtu == 1500, "nobody told the kernel"
    assert failure.tcp.unacked == failure.tcp.lost
    assert bench.server.ledger.count("/large") == 0
