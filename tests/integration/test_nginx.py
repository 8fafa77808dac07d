"""Ten thousand requests to a real nginx that is reloaded twice and whose keep-alive limits bite."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import anyio
import httpx
import pytest

import holdwire
from holdwire.events import CloseReason, ConnectionClosed, ConnectionSetUp, FailureRecorded, RequestRetried
from tests.net_helpers import clean_runtime
from tests.nginx import nginx

if TYPE_CHECKING:
    from pathlib import Path

    from holdwire.events import Event
    from tests.nginx import Nginx

__all__ = ["clean_runtime"]

REQUESTS = 10_000
CONCURRENCY = 50
BATCHES = 4
REQUESTS_PER_CONNECTION = 37


class Counting:
    """Keeps what was told, and wakes who waits for the last connection to be gone."""

    def __init__(self) -> None:
        self.failures: list[FailureRecorded] = []
        self.retries: list[RequestRetried] = []
        self.closes: list[ConnectionClosed] = []
        self.opened = 0
        self.all_closed = anyio.Event()

    def on_event(self, event: Event) -> None:
        match event:
            case FailureRecorded():
                self.failures.append(event)
            case RequestRetried(verdict=verdict) if verdict.retries:
                self.retries.append(event)
            case ConnectionSetUp(connection_id=str()):
                self.opened += 1
                if self.all_closed.is_set():
                    self.all_closed = anyio.Event()
            case ConnectionClosed():
                self.closes.append(event)
                if len(self.closes) == self.opened:
                    self.all_closed.set()
            case _:
                pass


async def batch(client: httpx.AsyncClient, server: Nginx, *, reload: bool) -> int:
    """Requests from many tasks at once, nginx reloaded in their midst; how many were answered."""
    answered = 0
    wanted = REQUESTS // BATCHES

    async def worker() -> None:
        nonlocal answered
        for _ in range(wanted // CONCURRENCY):
            response = await client.get(server.url)
            assert response.status_code == 200
            assert response.text == "hello from nginx\n"
            answered += 1
            if reload and answered == wanted // 2:
                server.reload()

    async with anyio.create_task_group() as group:
        for _ in range(CONCURRENCY):
            group.start_soon(worker)
    return answered


@pytest.mark.usefixtures("clean_runtime", "no_leaks")
@pytest.mark.server
@pytest.mark.slow
async def test_every_get_is_answered_while_nginx_is_reloaded_and_its_keep_alive_limits_bite(tmp_path: Path) -> None:
    counting = Counting()
    answered = 0
    with nginx(tmp_path, keepalive_requests=REQUESTS_PER_CONNECTION, keepalive_timeout="1s") as server:
        transport = holdwire.ResilientTransport(
            verify=server.identity.client_context(),
            limits=httpx.Limits(max_keepalive_connections=CONCURRENCY, keepalive_expiry=60),
            observers=[counting],
        )
        async with httpx.AsyncClient(transport=transport, timeout=20) as client:
            for number in range(BATCHES):
                answered += await batch(client, server, reload=number in {1, 2})
                with anyio.fail_after(60):  # nginx's idle limit ends every connection
                    await counting.all_closed.wait()
                (pool,) = transport._client.pools
                assert pool.size == 0
    log = (tmp_path / "error.log").read_text()
    assert log.count("(SIGHUP) received") == 2
    assert answered == REQUESTS
    # each connection came to an end that is known, and each failure was told: with the retry that it led to, if any
    assert counting.opened == len(counting.closes) >= REQUESTS // REQUESTS_PER_CONNECTION
    ends = Counter(close.reason for close in counting.closes)
    assert ends[CloseReason.RESPONSE] >= 10, "keepalive_requests bites"
    assert ends[CloseReason.PEER_IDLE] + ends[CloseReason.FAILURE] >= BATCHES, "keepalive_timeout bites"
    died = sum(close.failure is not None for close in counting.closes)
    assert died == sum(event.deaths for event in counting.failures if event.step is None)
    assert len(counting.retries) == sum(
        event.verdict is not None and event.verdict.retries for event in counting.failures
    )
    told = Counter(
        f"{event.failure.phase} {event.failure.errno_name or event.failure.kind}" for event in counting.failures
    )
    print(  # noqa: T201 - for the report
        f"{counting.opened} connections, ends {dict(ends)}, failures {dict(told)}, {len(counting.retries)} retries"
    )
