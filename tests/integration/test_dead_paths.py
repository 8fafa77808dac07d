"""Paths that die, heal, forget and lie: what a user's requests come to, on real kernels in network namespaces."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

import holdwire
from holdwire.events import FailureRecorded, RequestRetried
from holdwire.policy.retry import RetryAction
from holdwire.testing import ChaosServer
from tests.netns import SERVER, Lab, lab

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdwire.events import Event
    from holdwire.http.connection import HttpConnection

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(60)]


class Seen:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_event(self, event: Event) -> None:
        self.events.append(event)

    @property
    def failures(self) -> list[holdwire.Failure]:
        return [event.failure for event in self.events if isinstance(event, FailureRecorded)]

    @property
    def verdicts(self) -> list[tuple[RetryAction, str]]:
        return [
            (event.verdict.action, event.verdict.reason) for event in self.events if isinstance(event, RequestRetried)
        ]


class Bench:
    """A server behind a router, and a client on the other side of it."""

    def __init__(self, net: Lab, server: ChaosServer) -> None:
        self.net = net
        self.server = server
        self.seen = Seen()
        self.url = server.url

    def client(self, **settings: Any) -> httpx.AsyncClient:
        transport = holdwire.ResilientTransport(observers=[self.seen], **settings)
        return httpx.AsyncClient(transport=transport, timeout=30)

    @staticmethod
    def connection(client: httpx.AsyncClient) -> HttpConnection:
        transport = client._transport
        assert isinstance(transport, holdwire.ResilientTransport)
        return transport._client.pools[0].connections[0]

    def cut(self, client: httpx.AsyncClient) -> None:
        """Silently cut the path under the client's only connection; new ones pass."""
        local = self.connection(client).wire.facts()["local_port"]
        assert local is not None
        self.net.drop_port(local)


@pytest.fixture
def bench() -> Iterator[Bench]:
    with lab() as net:
        with net.on(net.server):
            server = ChaosServer(host=SERVER)
            server.__enter__()
        try:
            with net.on(net.client):
                yield Bench(net, server)
        finally:
            server.__exit__(None, None, None)


async def test_a_get_over_a_path_that_died_is_answered_on_another_connection(bench: Bench) -> None:
    async with bench.client() as client:
        await client.get(bench.url)
        bench.cut(client)
        began = time.monotonic()
        response = await client.get(f"{bench.url}/again")
        took = time.monotonic() - began
    assert response.status_code == 200
    assert bench.server.ledger.count("/again") == 1
    assert 2.5 < took < 6, f"found after {took:.1f} s"
    assert (RetryAction.CONNECT_FIRST, "black_hole") in bench.seen.verdicts
    assert bench.seen.failures[0].kind == "heartbeat_lost"
    assert bench.seen.failures[0].phase == "response_wait"


async def test_after_long_idling_a_forgotten_flow_is_found_in_two_seconds(bench: Bench) -> None:
    async with bench.client() as client:
        await client.get(bench.url)
        bench.cut(client)
        self_idle = bench.connection(client)
        self_idle.idle_since -= 31
        began = time.monotonic()
        response = await client.get(f"{bench.url}/again")
        took = time.monotonic() - began
    assert response.status_code == 200
    assert took < 3, f"found after {took:.1f} s"


async def test_a_post_over_a_path_that_died_waits_and_is_executed_once_when_the_path_heals(bench: Bench) -> None:
    async with bench.client() as client:
        await client.get(bench.url)
        bench.cut(client)
        async with anyio.create_task_group() as group:
            responses: list[httpx.Response] = []

            async def post() -> None:
                responses.append(await client.post(f"{bench.url}/order", content=b"1"))

            group.start_soon(post)
            with anyio.fail_after(10):
                while not bench.seen.verdicts:  # noqa: ASYNC110 - events come without a loop to set one in
                    await anyio.sleep(0.05)
            bench.net.heal()
    assert bench.seen.verdicts[0][0] is RetryAction.KEEP_WAITING
    assert responses[0].status_code == 200
    assert bench.server.ledger.count("/order") == 1
    assert bench.seen.failures == []


async def test_a_post_that_timed_out_is_not_delivered_when_the_path_heals(bench: Bench) -> None:
    async with bench.client() as client:
        await client.get(bench.url)
        bench.cut(client)
        with pytest.raises(httpx.ReadTimeout):
            await client.post(f"{bench.url}/order", content=b"1", timeout=1)
        bench.net.heal()
        await client.get(f"{bench.url}/after")
        await anyio.sleep(3)
    assert bench.server.ledger.count("/order") == 0


async def test_a_path_that_rejects_with_reset_costs_a_get_nothing(bench: Bench) -> None:
    async with bench.client() as client:
        await client.get(bench.url)
        port = bench.connection(client).wire.facts()["local_port"]
        bench.net.nft(f"add rule inet f fw tcp sport {port} reject with tcp reset")
        response = await client.get(f"{bench.url}/again")
    assert response.status_code == 200
    assert bench.seen.failures[0].errno_name == "ECONNRESET"


async def test_a_router_that_says_host_unreachable_is_named(bench: Bench) -> None:
    bench.net.nft("add rule inet f fw ip protocol tcp reject with icmp type host-unreachable")
    async with bench.client(retry=None) as client:
        with pytest.raises(httpx.ConnectError, match="EHOSTUNREACH") as caught:
            await client.get(bench.url)
    failure = holdwire.failure_of(caught.value)
    assert failure is not None
    assert failure.kind == "host_unreachable"
    assert "10.77.1.1" in (failure.detail or "")


async def test_a_firewall_that_drops_syns_is_a_connect_time_out(bench: Bench) -> None:
    bench.net.drop_all()
    async with bench.client() as client:
        began = time.monotonic()
        with pytest.raises(httpx.ConnectTimeout):
            await client.get(bench.url, timeout=1)
        assert time.monotonic() - began < 2


@pytest.mark.parametrize("answer", ["drop", "reset"])
async def test_a_firewall_that_forgets_idle_flows_costs_a_get_some_seconds_at_most(bench: Bench, answer: str) -> None:
    bench.net.forget_after(2, answer=answer)
    async with bench.client() as client:
        await client.get(bench.url)
        await anyio.sleep(4)
        began = time.monotonic()
        response = await client.get(f"{bench.url}/again")
        took = time.monotonic() - began
    assert response.status_code == 200
    assert took < (6 if answer == "drop" else 1), f"found after {took:.1f} s"
    assert bench.server.ledger.count("/again") == 1
    assert bench.seen.failures, "the failure on the way was recorded"


async def test_an_mtu_black_hole_lets_small_requests_pass_and_the_large_one_says_that_it_was_not_acknowledged(
    bench: Bench,
) -> None:
    bench.net.nft("add rule inet f fw ip length > 600 drop")
    async with bench.client() as client:
        assert (await client.get(bench.url)).status_code == 200
        with pytest.raises(httpx.ReadTimeout) as caught:
            await client.post(f"{bench.url}/large", content=b"x" * 20_000, timeout=1.5)
        failure = holdwire.failure_of(caught.value)
        assert failure is not None
        assert failure.tcp is not None
        assert failure.outq
        assert failure.delivery == "sent_unacked"
        assert (failure.tcp.retransmits or 0) >= 1
    assert bench.server.ledger.count("/large") == 0


async def test_a_slow_but_living_server_reaches_the_caller_as_no_error(bench: Bench) -> None:
    bench.server.script("response:0 stall=5", path="/slow")
    async with bench.client() as client:
        await client.get(bench.url)
        response = await client.get(f"{bench.url}/slow")
    assert response.status_code == 200
    assert bench.server.ledger.count("/slow") == 1
    assert bench.seen.failures == []


async def test_a_path_that_loses_a_fifth_of_its_packets_fails_no_request(bench: Bench) -> None:
    bench.net.nft(f"add rule inet f fw ip saddr {SERVER} numgen random mod 5 == 0 drop")
    answered = 0
    async with bench.client() as client:

        async def worker() -> None:
            nonlocal answered
            for _ in range(20):
                assert (await client.get(bench.url)).status_code == 200
                answered += 1

        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(worker)
    assert answered == 200
    aborted = [failure for failure in bench.seen.failures if failure.kind == "heartbeat_lost"]
    assert len(aborted) <= 6, f"{len(aborted)} of 200 requests were moved although their path was alive"
