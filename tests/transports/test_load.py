"""Many requests at once while connections are reset, and while a server restarts: nothing lost, nothing done twice."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import anyio
import httpx
import pytest

import holdwire
from holdwire.testing import ChaosServer

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

LOST: Final = (httpx.ReadError, httpx.RemoteProtocolError, httpx.WriteError)
OUTAGE: Final = 0.5


class Tally:
    """What the users of one client saw: answers, and what surfaced."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._wanted = 0
        self.answered: list[str] = []
        self.failed: Counter[str] = Counter()
        self.surfaced: list[tuple[str, holdwire.Failure | None]] = []

    async def ask(self, method: str, identity: str) -> None:
        """One request; only what may have been executed may surface, and only of a method that is not idempotent."""
        try:
            response = await self._http.request(
                method, "/x", content=identity if method != "GET" else None, headers={"x-request-id": identity}
            )
        except httpx.HTTPError as error:
            self.failed[f"{method} {type(error).__name__}: {error}"] += method != "POST" or not isinstance(error, LOST)
            self.surfaced.append((identity, holdwire.failure_of(error)))
        else:
            assert response.status_code == 200
            assert response.text == (identity if method != "GET" else "hello\n")
            self.answered.append(identity)
            if len(self.answered) == self._wanted:
                self._reached.set()

    async def until(self, count: int) -> None:
        """Wait for so many answers; more than there are now."""
        self._wanted = count
        self._reached = anyio.Event()
        await self._reached.wait()

    def check(self, server: ChaosServer) -> None:
        """Hold it against what the server executed."""
        assert not +self.failed, self.failed
        executed = Counter(one.identity for one in server.ledger.executions(method="POST"))
        assert all(count == 1 for count in executed.values()), server.ledger.duplicates()
        assert all(executed[identity] == 1 for identity in self.answered if identity.startswith("POST"))
        for identity, failure in self.surfaced:
            assert failure is not None
            assert failure.safe_to_retry is False, identity


@pytest.fixture(params=["plain", "tls"])
def server(request: pytest.FixtureRequest) -> Iterator[ChaosServer]:
    with ChaosServer(tls=request.param == "tls", seed=7) as server:
        yield server


def client(server: ChaosServer) -> httpx.AsyncClient:
    verify: ssl.SSLContext | bool = True if server.identity is None else server.client_context()
    transport = holdwire.ResilientTransport(verify=verify)
    return httpx.AsyncClient(transport=transport, base_url=server.url, timeout=20)


@pytest.mark.parametrize("fault", ["response#2:0 rst", "idle:0.01 rst"])
async def test_two_hundred_at_once_while_a_tenth_of_the_connections_is_reset(server: ChaosServer, fault: str) -> None:
    server.sprinkle(fault, share=0.1)
    async with client(server) as http:
        tally = Tally(http)

        async def user(number: int) -> None:
            for turn in range(3):
                method = ("GET", "POST", "PUT", "POST")[(number + turn) % 4]
                await tally.ask(method, f"{method} {number} {turn}")

        async with anyio.create_task_group() as group:
            for number in range(200):
                group.start_soon(user, number)
        assert server.journal.entries("fault")
    tally.check(server)
    assert len(tally.answered) > 500


async def test_a_rolling_restart_under_load_loses_no_idempotent_request_and_doubles_no_post(
    server: ChaosServer,
) -> None:
    async with client(server) as http:
        tally = Tally(http)
        over = False

        async def user(number: int) -> None:
            turn = 0
            while not over:
                method = ("GET", "POST", "PUT")[(number + turn) % 3]
                await tally.ask(method, f"{method} {number} {turn}")
                turn += 1
                await anyio.sleep(0.02)

        async with anyio.create_task_group() as group:
            for number in range(30):
                group.start_soon(user, number)
            await tally.until(100)
            server.refuse(OUTAGE)
            server.reset_all()
            await anyio.sleep(OUTAGE)
            await tally.until(len(tally.answered) + 100)
            over = True
    tally.check(server)
