"""The pool under any sequence of events: limits hold, nobody waits beside room, who came first is served first."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from holdwire.errors import ConnectFailed, HoldwireError
from holdwire.events import CloseReason, Observers
from holdwire.http.connection import Attempt
from holdwire.http.messages import Origin, Request
from holdwire.http.pool import Pool, PoolLimits
from tests.unit.test_pool import A, B, FakeConnection

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anyio.abc import TaskGroup

C = Origin("http", "c.test", 80)
_TURNS = 12
"""Turns of the event loop after which everything has happened that can."""


class Shared(FakeConnection):
    """HTTP/2 made of nothing: two requests at a time."""

    http_version = "2"
    WIDTH = 2

    def __init__(self, number: int, origin: Origin) -> None:
        super().__init__(number, origin)
        self.begun: list[float] = []
        """When each request in progress was."""
        self.leaving: CloseReason | None = None
        self.held = 0
        """Places of requests that are over for us, and not yet for the server."""

    @property
    def width(self) -> int:
        return self.WIDTH

    @property
    def capacity(self) -> int:
        return self.WIDTH - len(self.begun) - self.held if self.leaving is None else 0

    @property
    def active(self) -> int:
        return len(self.begun)

    @property
    def busy_since(self) -> float | None:
        return min(self.begun, default=None)

    def reserve(self) -> None:
        self.begun.append(time.monotonic())

    def release(self) -> None:
        self.begun.pop()

    def retire(self, reason: CloseReason) -> None:
        self.leaving = reason
        if not self.begun:
            self.end(reason)

    def rest(self) -> None:
        pass

    def wake(self) -> None:
        pass

    def done(self) -> None:
        self.begun.pop(0)
        if self.leaving is not None and not self.begun:
            self.end(self.leaving)
        else:
            assert self.on_idle is not None
            self.on_idle(self)


class Asked:
    """A request, from when it asks for a connection until it is over."""

    def __init__(self, origin: Origin, number: int, *, fresh: bool) -> None:
        self.request = Request(b"GET", origin, b"/", [])
        self.number = number
        self.fresh = fresh
        self.scope = anyio.CancelScope()
        self.task: asyncio.Task[Any] | None = None
        self.connection: FakeConnection | None = None

    def cancel(self, *, natively: bool) -> None:
        """Give up; natively even where an answer has come and the task has not run since."""
        if natively and self.task is not None:
            self.task.cancel()
        else:
            self.scope.cancel()


class World:
    """A pool, whose connections are opened when the test says so."""

    def __init__(self, group: TaskGroup, *, version: str, max_connections: int, max_idle: int) -> None:
        self.group = group
        self.version = version
        self.limit = max_connections
        self.pool = Pool(
            self.connect,
            limits=PoolLimits(max_connections=max_connections, max_idle=max_idle),
            sharable=lambda _: version != "plain",
            notify=Observers(),
        )
        self.asked: list[Asked] = []
        self.dials: list[tuple[anyio.Event, list[bool], Request]] = []
        self.made: list[FakeConnection] = []
        self.spared = False

    # --- what the pool sees ---

    async def connect(self, attempt: Attempt) -> FakeConnection:
        entry: tuple[anyio.Event, list[bool], Request] = (anyio.Event(), [], attempt.request)
        self.dials.append(entry)
        try:
            await entry[0].wait()
        finally:
            self.dials.remove(entry)
        if not entry[1]:
            raise ConnectFailed("no")
        kind = Shared if self.version == "2" else FakeConnection
        self.made.append(kind(len(self.made), attempt.request.origin))
        return self.made[-1]

    # --- what happens ---

    def ask(self, origin: Origin, *, fresh: bool = False, look: bool = False) -> None:
        asked = Asked(origin, len(self.asked), fresh=fresh)
        self.asked.append(asked)

        async def run() -> None:
            asked.task = asyncio.current_task()
            with asked.scope, contextlib.suppress(asyncio.CancelledError):
                try:
                    connection = await self.pool.acquire(Attempt(asked.request), fresh=fresh, look=look)
                except HoldwireError:
                    return
                assert isinstance(connection, FakeConnection)
                assert connection.close_reason is None
                if connection.http_version == "2":
                    assert connection.active <= Shared.WIDTH
                else:
                    assert all(other.connection is not connection for other in self.asked), "it is taken"
                if fresh:
                    assert connection.served == 0
                if asked in self.asked:
                    asked.connection = connection
                else:  # it was cancelled when it had its connection already
                    connection.done()

        self.group.start_soon(run)

    def spare(self, index: int) -> None:
        held = self.holding
        if not held:
            return
        asked = held[index % len(held)]

        async def run() -> None:
            self.spared = True
            try:
                spare = await self.pool.open_spare(Attempt(asked.request), wanted=lambda: asked.connection is not None)
            except HoldwireError:
                return
            if spare is not None:
                if isinstance(spare, Shared):
                    self.pool.give_back(spare)
                else:
                    assert isinstance(spare, FakeConnection)
                    spare.busy = False
                    self.pool.give_back(spare)

        self.group.start_soon(run)

    @property
    def holding(self) -> list[Asked]:
        return [asked for asked in self.asked if asked.connection is not None]

    @property
    def waiting(self) -> list[Asked]:
        dialling = [request for *_, request in self.dials]
        return [asked for asked in self.asked if asked.connection is None and asked.request not in dialling]

    def finish(self, index: int, *, dead: bool = False) -> None:
        if held := self.holding:
            asked = held[index % len(held)]
            connection, asked.connection = asked.connection, None
            self.asked.remove(asked)
            assert connection is not None
            connection.alive = not dead
            if connection.close_reason is None:
                connection.done()

    def time_out(self, index: int) -> None:
        """A request is over, and its place on a shared connection is not free yet."""
        held = self.holding
        if held and isinstance(connection := held[index % len(held)].connection, Shared):
            connection.held += 1
        self.finish(index)

    def free(self) -> None:
        """The server proves alive: places that were held are free."""
        for connection in self.pool.connections:
            if isinstance(connection, Shared) and connection.held:
                connection.held = 0
                if connection.active and connection.on_idle is not None:
                    connection.on_idle(connection)

    def lose_idle(self, index: int, *, noticed: bool) -> None:
        """The peer ends an idle connection, which is noticed now or by the next look."""
        idle = list(self.pool.idle)
        if not idle:
            return
        connection = idle[index % len(idle)]
        if noticed:
            connection.end(CloseReason.PEER_IDLE)
        elif isinstance(connection, FakeConnection):
            connection.alive = False

    def lose(self, index: int) -> None:
        """A connection ends, whatever it does."""
        living = self.pool.connections
        if living:
            connection = living[index % len(living)]
            connection.end(CloseReason.FAILURE)
            self.asked = [asked for asked in self.asked if asked.connection is not connection]

    def cancel(self, index: int) -> None:
        candidates = [asked for asked in self.asked if asked.connection is None]
        if candidates:
            asked = candidates[index // 2 % len(candidates)]
            asked.cancel(natively=not index % 2)
            self.asked.remove(asked)

    def dial(self, index: int, *, succeeds: bool) -> None:
        undecided = [dial for dial in self.dials if not dial[0].is_set()]
        if undecided:
            event, outcome, request = undecided[index % len(undecided)]
            outcome.extend([True] * succeeds)
            event.set()
            if not succeeds:
                self.asked = [asked for asked in self.asked if asked.request is not request or asked.connection]

    # --- what must be ---

    async def settle(self) -> None:
        """Let everything happen that can, and see that all is well."""
        before = self.waiting
        await turns()
        here = [asked for asked in before if asked in self.asked]
        waiting = self.waiting
        served = [asked for asked in here if asked not in waiting]
        if self.version == "plain":
            assert served == here[: len(served)], "who came later was served first"
        self.check()

    def check(self) -> None:
        pool = self.pool
        connections = pool.connections
        assert pool.size == len(connections) + len(self.dials)
        assert pool.size <= self.limit + self.spared, "more than allowed"
        idle = list(pool.idle)
        for asked in self.waiting:
            usable = [one for one in idle if one.origin == asked.request.origin and not asked.fresh]
            assert not usable, f"{asked.number} waits beside an idle connection"
            if self.version == "plain":
                assert pool.size >= self.limit, f"{asked.number} waits beside room"
                assert not idle, f"{asked.number} waits although an idle connection could make room"


Step = tuple[str, int]
STEPS: dict[str, Callable[[World, int], None]] = {
    "ask A": lambda world, _: world.ask(A),
    "ask B": lambda world, _: world.ask(B),
    "ask C": lambda world, _: world.ask(C),
    "ask A, fresh": lambda world, _: world.ask(A, fresh=True),
    "ask A, look": lambda world, _: world.ask(A, look=True),
    "finish": lambda world, index: world.finish(index),
    "finish, dead": lambda world, index: world.finish(index, dead=True),
    "lose": lambda world, index: world.lose(index),
    "time out": lambda world, index: world.time_out(index),
    "free": lambda world, _: world.free(),
    "idle one dies": lambda world, index: world.lose_idle(index, noticed=True),
    "idle one dies unseen": lambda world, index: world.lose_idle(index, noticed=False),
    "cancel": lambda world, index: world.cancel(index),
    "connected": lambda world, index: world.dial(index, succeeds=True),
    "refused": lambda world, index: world.dial(index, succeeds=False),
    "spare": lambda world, index: world.spare(index),
}
FREQUENT = [*STEPS, *["ask A", "connected"] * 3]


async def turns() -> None:
    for _ in range(_TURNS):
        await anyio.lowlevel.checkpoint()


async def play(steps: list[tuple[str, int, bool]], limits: dict[str, Any]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("holdwire.http.waiters._PATIENCE", 0.0)
        await _play(steps, limits)


async def _play(steps: list[tuple[str, int, bool]], limits: dict[str, Any]) -> None:
    async with anyio.create_task_group() as group:
        world = World(group, **limits)
        for name, index, settled in steps:
            STEPS[name](world, index)
            if settled:
                await world.settle()
        await world.settle()
        for _ in range(4 * len(steps) + 8):  # everybody is served in the end
            if not world.asked and not world.dials:
                break
            world.dial(0, succeeds=True)
            await world.settle()
            world.free()
            world.finish(0)
            await world.settle()
        assert not world.waiting, "somebody was forgotten"
        world.pool.close()
        await turns()
        assert world.pool.size == 0
        assert all(connection.close_reason is not None for connection in world.made)


def run(function: Callable[..., Awaitable[None]], *arguments: Any) -> None:
    anyio.run(function, *arguments, backend="asyncio")


@settings(max_examples=300, phases=[Phase.explicit, Phase.generate, Phase.shrink])
@given(
    st.lists(st.tuples(st.sampled_from(FREQUENT), st.integers(0, 3), st.booleans()), max_size=25),
    st.fixed_dictionaries(
        {
            "version": st.sampled_from(["plain", "1.1", "2"]),
            "max_connections": st.integers(1, 3),
            "max_idle": st.integers(0, 3),
        }
    ),
)
@example(  # what was granted meets a request that is cancelled before it runs
    [
        ("ask A", 0, True),
        ("connected", 0, True),
        ("ask B", 0, True),
        ("ask A", 0, True),
        ("finish", 0, False),
        ("cancel", 0, True),
    ],
    {"version": "plain", "max_connections": 1, "max_idle": 1},
)
@example(  # both streams of the only connection time out, and the server may still count them
    [(step, 0, True) for step in ("ask A", "connected", "ask A", "ask A", "time out", "time out")],
    {"version": "2", "max_connections": 1, "max_idle": 1},
)
@example(  # who was handed a dead connection came before the other
    [(step, 0, True) for step in ("ask A", "connected", "ask A, look", "ask A", "finish, dead")],
    {"version": "plain", "max_connections": 1, "max_idle": 1},
)
@example(  # the connection that was handed over ends before the request that it was handed to runs
    [("ask A", 0, True)] * 3 + [("connected", 0, True), ("finish", 0, False), ("lose", 0, False)],
    {"version": "plain", "max_connections": 1, "max_idle": 0},
)
@example(
    [("ask A", 0, True)] * 3 + [("connected", 0, True), ("finish", 0, False), ("lose", 0, False)],
    {"version": "2", "max_connections": 1, "max_idle": 0},
)
@example(  # requests that came later give way
    [(step, 0, True) for step in ("ask A", "connected", "ask B", "ask A", "finish", "ask A", "finish", "connected")],
    {"version": "2", "max_connections": 1, "max_idle": 1},
)
def test_no_sequence_of_events_breaks_a_limit_or_forgets_a_waiter(
    steps: list[tuple[str, int, bool]], limits: dict[str, Any]
) -> None:
    run(play, steps, limits)


async def first_come(kinds: list[bool], cancelled: set[int]) -> None:
    """Requests queue behind a held connection; some give up; the rest is served in order."""
    async with anyio.create_task_group() as group:
        world = World(group, version="plain", max_connections=1, max_idle=1)
        world.ask(A)
        await turns()
        world.dial(0, succeeds=True)
        await turns()
        for is_a in kinds:
            world.ask(A if is_a else B)
        await turns()
        queue = list(world.asked[1:])
        for index in sorted(cancelled, reverse=True):
            if index < len(queue):
                queue[index].scope.cancel()
                world.asked.remove(queue.pop(index))
        await turns()
        served: list[Asked] = []
        while queue != served:
            world.finish(0)
            await turns()
            world.dial(0, succeeds=True)
            await turns()
            (holding,) = world.holding
            served.append(holding)
            assert served == queue[: len(served)]
        group.cancel_scope.cancel()


@settings(max_examples=100)
@given(st.lists(st.booleans(), min_size=1, max_size=8), st.sets(st.integers(0, 7), max_size=3))
def test_who_came_first_is_served_first(kinds: list[bool], cancelled: set[int]) -> None:
    run(first_come, kinds, cancelled)
