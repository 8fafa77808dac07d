"""A real nginx that says GOAWAY all the time, under 100 concurrent requests: none fails, none is executed twice."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import anyio
import httpx
import pytest

import holdwire
from tests.http2.clients import Watch
from tests.net_helpers import clean_runtime
from tests.nginx import nginx

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["clean_runtime"]

CONCURRENCY = 100
pytestmark = [pytest.mark.server, pytest.mark.slow]


@pytest.mark.parametrize(("requests", "reloads"), [(7, 0), (1000, 5)], ids=["keepalive_requests 7", "reloads"])
async def test_every_post_is_answered_once_while_nginx_says_goaway(
    tmp_path: Path, requests: int, reloads: int, clean_runtime: object, no_leaks: None
) -> None:
    watch = Watch()
    total = 1500
    answered: Counter[str] = Counter()
    log = tmp_path / "access.log"
    with nginx(tmp_path, keepalive_requests=requests, listen="http2", more=f"access_log {log};") as server:
        transport = holdwire.ResilientTransport(verify=server.identity.client_context(), http2=True, observers=[watch])
        async with httpx.AsyncClient(transport=transport, timeout=30) as client:

            async def worker(number: int) -> None:
                for count in range(total // CONCURRENCY):
                    path = f"/{number}/{count}"
                    response = await client.post(server.url + path, content=b"x" * 100)
                    assert (response.status_code, response.http_version) == (200, "HTTP/2")
                    answered[path] += 1
                    if reloads and number == 0 and count % (total // CONCURRENCY // reloads) == 1:
                        server.reload()

            async with anyio.create_task_group() as group:
                for number in range(CONCURRENCY):
                    group.start_soon(worker, number)
        served = Counter(line.split('"')[1].split()[1] for line in log.read_text().splitlines())
    assert len(answered) == total
    assert [path for path, times in served.items() if times > 1] == []
    print(f"{watch.opened} connections, on the way: {Counter(watch.kinds)}")  # noqa: T201 - for the report
