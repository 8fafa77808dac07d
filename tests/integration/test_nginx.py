"""Ten thousand requests to a real nginx that is reloaded and whose keep-alive limits bite."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import httpx
import pytest

import holdwire
from holdwire.events import ConnectionClosed, ConnectionSetUp, FailureRecorded
from tests.nginx import nginx

if TYPE_CHECKING:
    from pathlib import Path

    from holdwire.events import Event

REQUESTS = 10_000
CONCURRENCY = 50


class Counting:
    def __init__(self) -> None:
        self.failures: list[str] = []
        self.opened = self.closed = 0

    def on_event(self, event: Event) -> None:
        if isinstance(event, FailureRecorded):
            self.failures.append(f"{event.failure.phase} {event.failure.errno_name or event.failure.kind}")
        elif isinstance(event, ConnectionSetUp):
            self.opened += event.connection_id is not None
        elif isinstance(event, ConnectionClosed):
            self.closed += 1


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_every_get_is_answered_while_nginx_is_reloaded_and_its_keep_alive_limits_bite(
    tmp_path: Path, no_leaks: None
) -> None:
    counting = Counting()
    answered = 0
    with nginx(tmp_path, keepalive_requests=37, keepalive_timeout="1s") as server:
        transport = holdwire.ResilientTransport(verify=server.identity.client_context(), observers=[counting])
        async with httpx.AsyncClient(transport=transport, timeout=20) as client:

            async def worker(number: int) -> None:
                nonlocal answered
                for _ in range(REQUESTS // CONCURRENCY):
                    response = await client.get(server.url)
                    assert response.status_code == 200
                    assert response.text == "hello from nginx\n"
                    answered += 1
                    if number == 0 and answered * 3 % REQUESTS < CONCURRENCY:
                        server.reload()

            async with anyio.create_task_group() as group:
                for number in range(CONCURRENCY):
                    group.start_soon(worker, number)
            server.reload()
            await client.get(server.url)
    assert answered == REQUESTS
    assert counting.opened == counting.closed
    print(f"{counting.opened} connections, failures on the way: {counting.failures}")  # noqa: T201 - for the report
