"""What a request gets beyond its first attempt: how often, after what, at whose cost, and what the caller is told."""

from __future__ import annotations

import io
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import httpx
import httpx2
import pytest
import tenacity

import holdwire
from holdwire.events import FailureRecorded, RequestRetried
from holdwire.policy.phase import Delivery, Phase
from holdwire.policy.retry import RetryAction
from holdwire.testing import Answer, ChaosServer
from holdwire.testing.sockets import SocketPlan
from holdwire.transports._body import StreamedBody
from tests.seen import Seen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


pytestmark = pytest.mark.anyio

QUICK = tenacity.wait_none()


@pytest.fixture
def server() -> Iterator[ChaosServer]:
    with ChaosServer() as server:
        yield server


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def testing_switch() -> Iterator[None]:
    yield
    holdwire.set_testing(enabled=False)


def client(server: ChaosServer, seen: Seen, **settings: Any) -> httpx.AsyncClient:
    transport = holdwire.ResilientTransport(observers=[seen], **settings)
    return httpx.AsyncClient(transport=transport, base_url=server.url)


# --- who may be sent again ---

MARKS: list[tuple[str, dict[str, Any], int]] = [
    ("a POST", {}, 1),
    ("with a key", {"headers": {"Idempotency-Key": "1"}}, 2),
    ("with the other key", {"headers": {"X-Idempotency-Key": "1"}}, 2),
    ("marked by the caller", {"extensions": {"holdwire": {"idempotent": True}}}, 2),
    (
        "with a key, under a retrier",
        {"headers": {"Idempotency-Key": "1", "x-stainless-retry-count": "0"}},
        1,
    ),
]


@pytest.mark.parametrize(("options", "executions"), [mark[1:] for mark in MARKS], ids=[mark[0] for mark in MARKS])
async def test_a_post_whose_answer_was_lost_is_repeated_only_if_that_is_harmless(
    server: ChaosServer, seen: Seen, options: dict[str, Any], executions: int
) -> None:
    server.script("response:0 rst", path="/order")
    async with client(server, seen) as http:
        if executions == 1:
            with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
                await http.post("/order", content=b"1", **options)
        else:
            assert (await http.post("/order", content=b"1", **options)).status_code == 200
    assert server.ledger.count("/order") == executions
    if "x-stainless-retry-count" in options.get("headers", {}):
        assert seen.reasons == ["caller_retries"]


async def test_what_surfaces_tells_a_retrier_above_all_it_needs(server: ChaosServer, seen: Seen) -> None:
    server.script("", "response:0 rst", "response:0 rst", path="/x")
    policy = holdwire.RetryPolicy(stop=tenacity.stop_after_attempt(2), wait=QUICK)
    async with client(server, seen, retry=policy) as http:
        await http.get("/x")
        with pytest.raises(httpx.ReadError) as caught:
            await http.get("/x")
    told: Any = caught.value.__cause__
    assert (told.safe_to_retry, told.attempts, told.delivery) == (False, 2, told.failure.delivery)
    failure = holdwire.failure_of(caught.value)
    assert failure is not None
    assert (failure.safe_to_retry, failure.attempts) == (False, 2)
    assert failure.delivery in {Delivery.SENT_UNACKED, Delivery.ACKED}
    notes = told.__cause__.__notes__
    assert len(notes) <= 5
    assert "2 attempts (before: ECONNRESET); not sent again because the stop rule" in notes[0]
    recorded = [event.failure for event in seen.events if isinstance(event, FailureRecorded)]
    assert recorded[-1] is failure
    assert [one.attempts for one in recorded] == [1, 2]


async def test_a_get_that_was_executed_is_not_called_safe_to_repeat_since_no_further_connection_came_about(
    server: ChaosServer, seen: Seen
) -> None:
    server.script("response:0 rst", "connect refuse")
    async with client(server, seen) as http:
        with pytest.raises(httpx.ConnectError) as caught:
            await http.get("/a")
    assert server.ledger.count("/a") == 1
    failure = holdwire.failure_of(caught.value)
    assert failure is not None
    assert failure.safe_to_retry is False


async def test_a_body_cut_while_the_caller_reads_says_how_often_it_was_tried(server: ChaosServer, seen: Seen) -> None:
    server.script("response:0 rst", "response:150 rst", path="/x")
    async with client(server, seen) as http:
        with pytest.raises(httpx.HTTPError) as caught:
            await http.put("/x", content=b"y" * 1000)
    failure = holdwire.failure_of(caught.value)
    assert failure is not None
    assert (failure.phase, failure.attempts, failure.safe_to_retry) == (Phase.RESPONSE_BODY, 2, False)


# --- statuses ---


async def test_every_verdict_on_a_status_is_told(server: ChaosServer, seen: Seen) -> None:
    server.answer("/x", Answer(status=425), Answer(status=425))
    async with client(server, seen) as http:
        response = await http.post("/x", content=b"1")
    assert response.status_code == 425
    assert seen.verdicts == [(RetryAction.RETRY_NOW, "too_early"), (RetryAction.DELIVER, "too_early")]


async def test_a_408_on_a_reused_connection_is_not_the_answer_of_a_get(server: ChaosServer, seen: Seen) -> None:
    server.answer("/x", Answer(), Answer(status=408, close=True), Answer())
    async with client(server, seen) as http:
        assert [(await http.get("/x")).status_code for _ in range(2)] == [200, 200]
        server.answer("/y", Answer(status=408, close=True))
        assert (await http.post("/y", content=b"1")).status_code == 408
    assert server.ledger.count("/y") == 1


async def test_a_421_is_repeated_on_a_connection_of_its_own(server: ChaosServer, seen: Seen) -> None:
    server.answer("/x", Answer(status=421), Answer())
    async with client(server, seen) as http:
        await http.get("/")
        assert (await http.post("/x", content=b"1")).status_code == 200
    first, second = server.ledger.executions("/x")
    assert first.connection != second.connection


@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_a_listed_503_waits_as_long_as_it_is_told(server: ChaosServer, seen: Seen, form: str) -> None:
    if form == "seconds":
        value, least = "0", 0.0
    else:
        moment = datetime.now(UTC) + timedelta(seconds=2)  # 1 to 2 s, for a date has no fractions
        value, least = moment.strftime("%a, %d %b %Y %H:%M:%S GMT"), 0.3
    server.answer("/x", Answer(status=503, headers=(("Retry-After", value),)), Answer())
    async with client(server, seen, retry=holdwire.RetryPolicy(statuses={503})) as http:
        began = time.monotonic()
        assert (await http.get("/x")).status_code == 200
    assert time.monotonic() - began >= least
    server.answer("/y", Answer(status=503, headers=(("Retry-After", "31"),)))
    async with client(server, seen, retry=holdwire.RetryPolicy(statuses={503})) as http:
        assert (await http.get("/y")).status_code == 503
    assert seen.reasons[-1] == "retry_after_too_long"


async def test_draining_lets_a_request_that_pauses_before_its_next_attempt_come_to_its_end(
    server: ChaosServer, seen: Seen
) -> None:
    server.answer("/x", Answer(status=503), Answer())
    statuses: list[int] = []
    policy = holdwire.RetryPolicy(statuses={503}, wait=tenacity.wait_fixed(0.3))
    async with client(server, seen, retry=policy) as http, anyio.create_task_group() as group:

        async def get() -> None:
            statuses.append((await http.get("/x")).status_code)

        group.start_soon(get)
        await seen.until(lambda seen: seen.of(RequestRetried))
        transport: Any = http._transport
        await transport.drain()
    assert statuses == [200]


async def test_an_endless_body_of_a_discarded_response_costs_half_a_second_at_most(
    server: ChaosServer, seen: Seen
) -> None:
    server.answer("/slow", Answer(status=503, body=b"x" * 1000), Answer())
    server.script("response:200 stall", path="/slow")
    server.answer("/large", Answer(status=503, body=b"x" * 20_000_000), Answer())
    policy = holdwire.RetryPolicy(statuses={503}, wait=QUICK)
    async with client(server, seen, retry=policy) as http:
        for path in ("/slow", "/large"):
            began = time.monotonic()
            assert (await http.get(path)).status_code == 200
            assert time.monotonic() - began < 5  # the first body never ends
    first, second = server.ledger.executions("/large")
    assert first.connection != second.connection


async def test_a_small_body_of_a_discarded_response_is_read_so_that_the_connection_stays(
    server: ChaosServer, seen: Seen
) -> None:
    server.answer("/x", Answer(status=503, body=b"x" * 1000), Answer())
    policy = holdwire.RetryPolicy(statuses={503}, wait=QUICK)
    async with client(server, seen, retry=policy) as http:
        assert (await http.get("/x")).status_code == 200
    assert server.accepted == 1


# --- how often ---


@pytest.mark.usefixtures("testing_switch")
@pytest.mark.parametrize("retries", [1, 3, 9])
async def test_retries_of_httpx_are_further_rounds_of_connecting(seen: Seen, retries: int) -> None:
    holdwire.set_testing(attempts=100)
    plan = SocketPlan("connect() errno=ECONNREFUSED")
    async with httpx.AsyncClient(transport=holdwire.ResilientTransport(retries=retries, observers=[seen])) as http:
        with plan.installed(), pytest.raises(httpx.ConnectError):
            await http.get("http://127.0.0.1:9/")
    assert len(plan.struck) == retries + 1
    assert seen.reasons[-1] == "connect"


async def test_the_pauses_of_many_rounds_come_to_three_seconds_at_most(
    seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_pause(_: float) -> None:
        await anyio.lowlevel.checkpoint()

    monkeypatch.setattr("holdwire.http.exchange.pause", no_pause)
    plan = SocketPlan("connect() errno=ECONNREFUSED")
    async with httpx.AsyncClient(transport=holdwire.ResilientTransport(retries=9, observers=[seen])) as http:
        with plan.installed(), pytest.raises(httpx.ConnectError):
            await http.get("http://127.0.0.1:9/", timeout=None)
    assert sum(event.delay for event in seen.events if isinstance(event, RequestRetried)) <= 3
    assert len(plan.struck) == 10


async def test_a_connect_time_out_bounds_all_rounds_together(seen: Seen) -> None:
    plan = SocketPlan("connect() errno=ECONNREFUSED")
    async with httpx.AsyncClient(transport=holdwire.ResilientTransport(retries=9, observers=[seen])) as http:
        with plan.installed(), pytest.raises(httpx.ConnectError, match="ECONNREFUSED"):
            await http.get("http://127.0.0.1:9/", timeout=httpx.Timeout(5, connect=0.5))
    assert 1 < len(plan.struck) < 10


async def test_the_budget_ends_retries_and_is_shared_on_request_only(server: ChaosServer, seen: Seen) -> None:
    server.handle("*", lambda _: Answer(status=502))
    shared = holdwire.RetryBudget(share=0.0, floor=0.1)  # one retry in ten seconds
    settings: dict[str, Any] = {"statuses": frozenset({502}), "wait": QUICK}
    for policy, expected in (
        (holdwire.RetryPolicy(share=0.0, floor=0.1, **settings), 2),
        (holdwire.RetryPolicy(share=0.0, floor=0.1, **settings), 2),
        (holdwire.RetryPolicy(budget=shared, **settings), 2),
        (holdwire.RetryPolicy(budget=shared, **settings), 1),
    ):
        server.ledger.clear()
        async with client(server, seen, retry=policy) as http:
            assert (await http.get("/x")).status_code == 502
        assert server.ledger.count() == expected
        assert seen.reasons[-1] == "budget"


async def test_a_host_out_of_descriptors_gives_back_idle_connections_and_tries_once_more(
    server: ChaosServer, seen: Seen
) -> None:
    plan = SocketPlan("socket()#2 errno=EMFILE")
    async with client(server, seen) as http:
        with plan.installed(), ChaosServer() as other:
            await http.get("/")
            assert (await http.post(f"{other.url}/x", content=b"1")).status_code == 200
            await server.journal.until("closed")
    assert seen.verdicts == [(RetryAction.RETRY_BACKOFF, "local_resource")]


async def test_a_kind_of_failure_that_the_policy_excludes_is_surfaced(server: ChaosServer, seen: Seen) -> None:
    server.script("response:0 rst", path="/x")
    policy = holdwire.RetryPolicy(never=frozenset({holdwire.Kind.CONNECTION_RESET}))
    async with client(server, seen, retry=policy) as http:
        with pytest.raises(httpx.ReadError):
            await http.get("/x")
    assert seen.reasons == ["kind_excluded"]


# --- deadlines ---


@pytest.mark.parametrize("where", ["request", "policy"])
async def test_a_deadline_cuts_an_attempt_that_takes_longer(server: ChaosServer, seen: Seen, where: str) -> None:
    server.script("response:0 stall", path="/x")
    settings: dict[str, Any] = {}
    if where == "policy":
        settings["retry"] = holdwire.RetryPolicy(deadline=0.2)
    else:
        settings = {}
    extensions = {"holdwire": {"deadline": 0.2}} if where == "request" else {}
    async with client(server, seen, **settings) as http:
        began = time.monotonic()
        with pytest.raises(httpx.TimeoutException, match=r"deadline.*response_wait") as caught:
            await http.get("/x", extensions=extensions, timeout=30)
    assert 0.15 < time.monotonic() - began < 5
    failure = holdwire.failure_of(caught.value)
    assert failure is not None
    assert (failure.kind, failure.delivery, failure.safe_to_retry) == ("local_timeout", Delivery.ACKED, False)
    assert seen.reasons == ["timeout"]


async def test_a_deadline_leaves_no_room_for_a_pause_that_passes_it(server: ChaosServer, seen: Seen) -> None:
    server.answer("/x", Answer(status=503, headers=(("Retry-After", "5"),)))
    async with client(server, seen, retry=holdwire.RetryPolicy(statuses={503}, deadline=1.0)) as http:
        began = time.monotonic()
        assert (await http.get("/x")).status_code == 503
    assert time.monotonic() - began < 4
    assert seen.reasons == ["deadline"]


async def test_a_request_within_its_deadline_notices_nothing(server: ChaosServer, seen: Seen) -> None:
    async with client(server, seen, retry=holdwire.RetryPolicy(deadline=5.0)) as http:
        assert (await http.post("/x", content=b"1")).content == b"1"
    assert seen.reasons == []


# --- switches ---


async def test_with_retries_off_only_proven_ones_are_made(
    server: ChaosServer, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOLDWIRE_RETRIES", "off")
    server.script("", "response:0 rst", path="/x")
    async with client(server, seen) as http:
        await http.get("/x")
        with pytest.raises(httpx.ReadError):
            await http.get("/x")
        server.answer("/y", Answer(status=425), Answer())
        assert (await http.post("/y", content=b"1")).status_code == 200
    assert seen.reasons == ["switched_off", "too_early"]


@pytest.mark.usefixtures("testing_switch")
async def test_set_testing_makes_one_attempt_and_puts_everything_back(server: ChaosServer, seen: Seen) -> None:
    holdwire.set_testing()
    server.answer("/y", Answer(status=425), Answer())
    async with client(server, seen) as http:
        assert (await http.post("/y", content=b"1")).status_code == 425
        holdwire.set_testing(attempts=3)
        server.answer("/y", Answer(status=425), Answer())
        assert (await http.post("/y", content=b"1")).status_code == 200
    assert seen.reasons == ["attempts", "too_early"]


async def test_holdwire_off_is_the_stock_pool(server: ChaosServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDWIRE", "off")
    transport = holdwire.ResilientTransport()
    assert type(transport._pool).__module__.startswith("httpcore")
    async with httpx.AsyncClient(transport=transport) as http:
        assert (await http.get(server.url)).status_code == 200


# --- bodies ---


async def pieces() -> AsyncIterator[bytes]:
    yield b"one"
    yield b"two"


class Unseekable(io.BytesIO):
    """A file that cannot go back."""

    def seekable(self) -> bool:
        return False


def moved() -> io.BytesIO:
    file = io.BytesIO(b"0123456789")
    file.seek(3)
    return file


BODIES: list[tuple[str, dict[str, Any], bool]] = [
    ("bytes", {"content": b"onetwo"}, True),
    ("json", {"json": {"a": 1}}, True),
    ("form", {"data": {"a": "1"}}, True),
    ("nothing", {}, True),
    ("a file", {"files": {"f": ("n", io.BytesIO(b"abc"))}}, True),
    ("text in parts", {"files": {"f": (None, "abc")}}, True),
    ("an unseekable file", {"files": {"f": ("n", Unseekable(b"abc"))}}, False),
    ("a file not at its start", {"files": {"f": ("n", moved())}}, False),
    ("an async generator", {"content": pieces()}, False),
]


@pytest.mark.parametrize("family", [httpx, httpx2], ids=["httpx", "httpx2"])
@pytest.mark.parametrize(("body", "replayable"), [case[1:] for case in BODIES], ids=[case[0] for case in BODIES])
def test_whether_a_body_can_be_replayed_is_told_by_its_type(family: Any, body: Any, *, replayable: bool) -> None:
    stream = family.Request("PUT", "http://h/", **body).stream
    assert type(stream) is family.ByteStream or StreamedBody(stream).replayable is replayable
    if type(stream) is family.ByteStream:
        assert replayable


@pytest.mark.parametrize("kind", ["generator", "file", "parts"])
async def test_a_second_copy_of_a_body_is_whole_or_not_sent(server: ChaosServer, seen: Seen, kind: str) -> None:
    server.script("response:0 rst", path="/up")
    bodies: dict[str, dict[str, Any]] = {
        "generator": {"content": pieces()},
        "file": {"files": {"f": ("n", io.BytesIO(b"abc" * 50_000))}},
        "parts": {"files": {"f": (None, "abc")}},
    }
    body = bodies[kind]
    async with client(server, seen) as http:
        if kind == "generator":
            with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
                await http.put("/up", **body)
            assert seen.reasons == ["body_not_replayable"]
        else:
            assert (await http.put("/up", **body)).status_code == 200
    assert len({execution.digest for execution in server.ledger.executions("/up")}) == 1


async def test_a_generator_that_nobody_asked_yet_goes_out_after_a_refused_connect(
    server: ChaosServer, seen: Seen
) -> None:
    plan = SocketPlan("connect()#1 errno=ECONNREFUSED")
    async with client(server, seen) as http:
        with plan.installed():
            assert (await http.post("/up", content=pieces())).content == b"onetwo"
    assert server.ledger.count("/up") == 1
