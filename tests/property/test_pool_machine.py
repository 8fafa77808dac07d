"""The pool under any order of events: limits hold, nobody waits while there is room, who came first is served first."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from holdwire.errors import ConnectFailed
from holdwire.events import CloseReason, Observers
from holdwire.http.connection import Attempt
from holdwire.http.messages import Origin, Request
from holdwire.http.pool import Pool, PoolLimits
from tests.unit.test_pool import FakeConnection

if TYPE_CHECKING:
    from collections.abc import Awaitable

ORIGINS: Final = tuple(Origin("http", f"{name}.test", 80) for name in "abc")
origins = st.sampled_from(ORIGINS)
picks = st.integers(0, 100)


@dataclass(eq=False)
class User:
    """One request: it waits, connects, or holds a connection."""

    number: int
    origin: Origin
    task: asyncio.Task[Any] | None = None
    dialling: asyncio.Future[bool] | None = None
    connection: FakeConnection | None = None


class PoolMachine(RuleBasedStateMachine):
    """Users of one pool on an event loop that runs only between rules."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.users: list[User] = []
        self.idle: list[FakeConnection] = []
        self.opened = 0
        self.served: list[User] = []
        """Who stopped waiting in the present step, in order."""

    @initialize(most=st.integers(1, 4), idle=st.integers(0, 4))
    def make(self, most: int, idle: int) -> None:
        self.most = most
        limits = PoolLimits(max_connections=most, max_idle=idle, idle=None)

        async def make() -> Pool:
            return Pool(
                self.connect,
                limits=limits,
                sharable=lambda _: False,
                notify=Observers(),
            )

        self.pool = self.run(make())

    def run(self, what: Awaitable[Any]) -> Any:
        return self.loop.run_until_complete(what)

    def settle(self) -> None:
        """Let everything happen that can; whoever was served came before all who still wait."""
        before = [user for user in self.waiting if user.task is not None and not user.task.cancelling()]
        self.served.clear()

        async def turns() -> None:
            for _ in range(10):
                await asyncio.sleep(0)

        self.run(turns())
        waited = [user for user in self.served if user in before]
        assert waited == before[: len(waited)], "somebody who came later was served first"

    async def connect(self, attempt: Attempt) -> FakeConnection:
        user = self.users[int(attempt.request.target)]
        user.dialling = self.loop.create_future()
        self.served.append(user)
        try:
            if not await user.dialling:
                raise ConnectFailed("refused")
        finally:
            user.dialling = None
        self.opened += 1
        return FakeConnection(self.opened, attempt.request.origin)

    def pick(self, users: list[User], number: int) -> User:
        return users[number % len(users)]

    @property
    def dialling(self) -> list[User]:
        return [user for user in self.users if user.dialling is not None and not user.dialling.done()]

    @property
    def holding(self) -> list[User]:
        return [user for user in self.users if user.connection is not None]

    @property
    def waiting(self) -> list[User]:
        return [user for user in self.users if user.dialling is None and user.task is not None and not user.task.done()]

    @property
    def at_rest(self) -> list[FakeConnection]:
        held = {user.connection for user in self.holding}
        return [one for one in self.pool.connections if isinstance(one, FakeConnection) and one not in held]

    # --- what can happen ---

    @rule(origin=origins, fresh=st.booleans(), look=st.booleans())
    def ask(self, origin: Origin, *, fresh: bool, look: bool) -> None:
        user = User(len(self.users), origin)
        self.users.append(user)
        request = Request(b"GET", origin, b"%d" % user.number, [])

        async def acquire() -> None:
            try:
                connection = await self.pool.acquire(Attempt(request), fresh=fresh, look=look)
            except ConnectFailed:
                return
            assert isinstance(connection, FakeConnection)
            assert connection.close_reason is None
            assert connection.origin == origin
            if user not in self.served:
                self.served.append(user)
            user.connection = connection

        user.task = self.loop.create_task(acquire())
        self.settle()

    @precondition(lambda self: self.dialling)
    @rule(number=picks, works=st.booleans())
    def decide(self, number: int, *, works: bool) -> None:
        user = self.pick(self.dialling, number)
        assert user.dialling is not None
        user.dialling.set_result(works)
        self.settle()
        assert (user.connection is not None) is works

    @precondition(lambda self: self.holding)
    @rule(number=picks)
    def give_back(self, number: int) -> None:
        user = self.pick(self.holding, number)
        assert user.connection is not None
        connection, user.connection = user.connection, None
        connection.done()
        self.settle()

    @precondition(lambda self: self.holding)
    @rule(number=picks)
    def break_in_use(self, number: int) -> None:
        user = self.pick(self.holding, number)
        assert user.connection is not None
        connection, user.connection = user.connection, None
        connection.end(CloseReason.FAILURE)
        self.settle()

    @precondition(lambda self: self.at_rest)
    @rule(number=picks, noticed=st.booleans())
    def break_idle(self, number: int, *, noticed: bool) -> None:
        """The peer ends an idle connection, which is noticed now or by the next look."""
        connection = self.at_rest[number % len(self.at_rest)]
        if noticed:
            connection.end(CloseReason.PEER_IDLE)
        else:
            connection.alive = False
        self.settle()

    @precondition(lambda self: self.waiting or self.dialling)
    @rule(number=picks, late=st.booleans())
    def cancel(self, number: int, *, late: bool) -> None:
        """Somebody gives up; ``late``: in the very step in which room becomes free."""
        user = self.pick(self.waiting + self.dialling, number)
        assert user.task is not None
        if late and self.holding:
            other = self.holding[0]
            assert other.connection is not None
            connection, other.connection = other.connection, None
            connection.done()
        user.task.cancel()
        self.settle()
        if user.connection is not None:  # it had come together with the cancel
            connection, user.connection = user.connection, None
            connection.done()
            self.settle()

    # --- what must hold ---

    @invariant()
    def limits_hold(self) -> None:
        if not hasattr(self, "pool"):
            return
        assert self.pool.size <= self.most
        assert self.pool.size == len(self.pool.connections) + len(self.dialling)
        assert len(self.pool.connections) == len(self.holding) + len(self.at_rest)

    @invariant()
    def nobody_waits_while_there_is_room(self) -> None:
        if hasattr(self, "pool") and self.waiting:
            assert self.pool.size == self.most
            assert not self.at_rest

    def teardown(self) -> None:
        """Give everything back, one after the other: everybody is served in the end, and nothing is left."""
        if hasattr(self, "pool"):
            for _ in range(10 * len(self.users) + 10):
                if self.dialling:
                    self.decide(0, works=True)
                elif self.holding:
                    self.give_back(0)
            assert not self.waiting
            self.run(self._close())
            assert self.pool.size == 0
        self.loop.close()

    async def _close(self) -> None:
        self.pool.close()
        await asyncio.sleep(0)


PoolMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestPool = PoolMachine.TestCase
