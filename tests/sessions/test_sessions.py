"""``holdwire.sessions``: one session after another, and how that ends."""

from __future__ import annotations

import collections
import gc
import time
from typing import TYPE_CHECKING, Any

import anyio
import anyio.abc
import anyio.lowlevel
import pytest
import tenacity
from anyio.streams.buffered import BufferedByteStream

import holdwire
from holdwire import Backoff, Heartbeat, ReconnectPolicy, Session
from holdwire.events import FailureRecorded, Reconnected
from holdwire.net.dial import dial
from holdwire.net.ticker import current_ticker
from tests.conftest import open_sockets
from tests.ports import free_port
from tests.seen import Seen
from tests.sessions.peers import echo, line_server, serve, silent

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from anyio.abc import ByteStream


pytestmark = pytest.mark.usefixtures("clean_runtime", "no_leaks")

QUICK = ReconnectPolicy(wait=tenacity.wait_fixed(0.01))


def sayer(*messages: bytes) -> Callable[[ByteStream], Any]:
    """A server that says one message to each connection, and closes."""
    left = list(messages)

    async def say(stream: ByteStream) -> None:
        await stream.send(left.pop(0) if left else b"none\n")

    return say


async def exhaust(sessions: holdwire.Sessions) -> None:
    async for _ in sessions:
        pytest.fail("there is no session")


async def test_one_session_after_another_each_with_its_number_and_the_end_of_the_last() -> None:
    seen: list[tuple[int, str | None, bytes]] = []
    watcher = Seen()
    async with serve(sayer(b"a", b"b", b"c")) as port:
        async for session in holdwire.sessions(f"tcp://127.0.0.1:{port}", reconnect=QUICK, observers=[watcher]):
            async with session:
                data = await session.receive()
                previous = session.previous
                seen.append((session.number, None if previous is None else str(previous.kind), data))
                if session.number == 3:
                    assert 0 < session.down_for < 10
                    break
                await session.receive()
    assert seen == [(1, None, b"a"), (2, "unexpected_eof", b"b"), (3, "unexpected_eof", b"c")]
    assert [event.ok for event in watcher.of(Reconnected)] == [True, True]


async def test_the_login_hook_runs_before_the_session_is_given_out_and_its_result_is_kept() -> None:
    async def login(session: Session) -> bytes:
        await session.send(b"hello")
        return await session.receive()

    async with serve(echo) as port:
        sessions = holdwire.sessions(f"tcp://127.0.0.1:{port}", on_connect=login)
        await anyio.sleep(0.1)
        wanted = time.monotonic()
        async for session in sessions:
            async with session:
                assert session.login == b"hello"
                assert session.down_for <= time.monotonic() - wanted, "nobody wanted a session before the loop began"
                break


async def test_a_server_that_comes_up_later_is_waited_for_and_the_attempts_are_counted() -> None:
    port = free_port()
    attempts: list[tuple[float, str]] = []
    watcher = Seen()

    async def use() -> None:
        async for session in holdwire.sessions(f"tcp://127.0.0.1:{port}", reconnect=QUICK, observers=[watcher]):
            async with session:
                attempts.extend(watcher.of(Reconnected)[0].attempts)
                assert session.attempts == len(attempts) > 1
                break

    async with anyio.create_task_group() as group:
        group.start_soon(use)
        await watcher.until(lambda seen: len(seen.failures) > 1)
        async with serve(echo, port=port):
            with anyio.fail_after(5):
                while not attempts:  # noqa: ASYNC110 - it ends with the task
                    await anyio.sleep(0.01)
    assert [outcome for _, outcome in attempts] == ["connection_refused"] * (len(attempts) - 1) + ["ok"]


async def test_an_untrusted_certificate_stops_at_once(server_context: ssl.SSLContext) -> None:
    async with serve(echo, tls=server_context) as port:
        with pytest.raises(holdwire.ConnectFailed) as raised:
            await exhaust(holdwire.sessions(f"tls://localhost:{port}", reconnect=QUICK))
    assert raised.value.failure is not None
    assert raised.value.failure.kind is holdwire.Kind.CERTIFICATE_INVALID
    assert "have stopped: another attempt would fail the same way" in raised.value.__notes__[0]


async def test_a_host_name_that_never_was_stops_and_says_so() -> None:
    with pytest.raises(holdwire.ConnectFailed) as raised:
        await exhaust(holdwire.sessions("tcp://does-not-exist.invalid:1", reconnect=QUICK))
    assert raised.value.failure is not None
    if raised.value.failure.errno_name == "EAI_NONAME":
        assert "check its spelling" in raised.value.__notes__[0]


async def test_tenacitys_stop_rule_ends_it_with_the_last_error() -> None:
    policy = ReconnectPolicy(wait=tenacity.wait_fixed(0.01), stop=tenacity.stop_after_attempt(3))
    watcher = Seen()
    with pytest.raises(holdwire.ConnectFailed, match="ECONNREFUSED") as raised:
        await exhaust(holdwire.sessions(f"tcp://127.0.0.1:{free_port()}", reconnect=policy, observers=[watcher]))
    assert "3 failures in a row" in raised.value.__notes__[0]
    assert len(watcher.of(FailureRecorded)) == 3
    assert [event.ok for event in watcher.of(Reconnected)] == [False]


async def test_a_strategy_for_one_kind_of_failure_and_none_to_stop_there() -> None:
    refused = holdwire.Kind.CONNECTION_REFUSED
    asked: list[int] = []

    def wait(state: tenacity.RetryCallState) -> float:
        asked.append(state.attempt_number)
        return 0.01

    policy = ReconnectPolicy(wait=tenacity.wait_fixed(99), waits={refused: wait}, stop=tenacity.stop_after_attempt(4))
    with pytest.raises(holdwire.ConnectFailed):
        await exhaust(holdwire.sessions(f"tcp://127.0.0.1:{free_port()}", reconnect=policy))
    assert asked == [1, 2, 3, 4]
    with pytest.raises(holdwire.ConnectFailed) as raised:
        await exhaust(
            holdwire.sessions(
                f"tcp://127.0.0.1:{free_port()}", reconnect=ReconnectPolicy(waits={holdwire.Category.REFUSED: None})
            )
        )
    assert "the policy says to stop" in raised.value.__notes__[0]


async def test_fatal_in_the_hook_stops_for_good() -> None:
    async def login(_: Session) -> None:
        raise holdwire.Fatal("the account is closed")

    async with serve(echo) as port:
        with pytest.raises(holdwire.Fatal, match="account is closed"):
            await exhaust(holdwire.sessions(f"tcp://127.0.0.1:{port}", on_connect=login))


async def test_the_same_refusal_twice_stops_and_a_different_one_does_not() -> None:
    answers = ["token expired", "wrong password", "wrong password"]

    async def login(_: Session) -> None:
        raise holdwire.LoginRefused(answers.pop(0))

    async with serve(echo) as port:
        with pytest.raises(holdwire.LoginRefused, match="wrong password") as raised:
            await exhaust(holdwire.sessions(f"tcp://127.0.0.1:{port}", on_connect=login, reconnect=QUICK))
    assert not answers
    assert "twice" in raised.value.__notes__[0]


async def test_an_exception_in_the_hook_reaches_the_caller_and_says_where_it_was_raised() -> None:
    async def login(_: Session) -> None:
        raise ValueError("a bug")

    async with serve(echo) as port:
        with pytest.raises(ValueError, match="a bug") as raised:
            await exhaust(holdwire.sessions(f"tcp://127.0.0.1:{port}", on_connect=login))
        assert f"on_connect of session 1 to 127.0.0.1:{port}" in raised.value.__notes__[0]


async def test_a_hook_that_hangs_is_ended_and_tried_again() -> None:
    calls = 0

    async def login(_: Session) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            await anyio.sleep_forever()

    watcher = Seen()
    async with serve(echo) as port:
        async for session in holdwire.sessions(
            f"tcp://127.0.0.1:{port}", on_connect=login, login_timeout=0.5, reconnect=QUICK, observers=[watcher]
        ):
            async with session:
                assert session.attempts == 2
                assert [outcome for _, outcome in watcher.of(Reconnected)[0].attempts] == ["local_timeout", "ok"]
                break


async def test_a_connection_that_is_lost_inside_the_hooks_task_group_is_tried_again() -> None:
    connections = 0

    async def first_closes(stream: ByteStream) -> None:
        nonlocal connections
        connections += 1
        if connections > 1:
            await echo(stream)

    async def login(session: Session) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(session.send, b"x")
            await session.receive()

    async with serve(first_closes) as port:
        async for session in holdwire.sessions(f"tcp://127.0.0.1:{port}", on_connect=login, reconnect=QUICK):
            async with session:
                assert session.attempts == 2
                break


async def test_the_first_probe_must_be_answered_before_a_session_is_given_out() -> None:
    connections = 0

    async def second_answers(stream: ByteStream) -> None:
        nonlocal connections
        connections += 1
        await (silent if connections == 1 else line_server)(stream)

    heartbeat = Heartbeat(interval=60, timeout=0.5, probe=b"PING\n", jitter=0)
    async with serve(second_answers) as port:
        async for session in holdwire.sessions(f"tcp://127.0.0.1:{port}", heartbeat=heartbeat, reconnect=QUICK):
            async with session:
                assert session.attempts == 2
                assert await session.receive() == b"PONG\n", "the answer stays in the stream"
                break


async def test_only_the_sessions_own_loss_is_swallowed() -> None:
    async with serve(sayer(b"a")) as port:
        other = await holdwire.connect(f"tcp://127.0.0.1:{port}")
        other._wire.latch(_failure_of_another())
        other.abort()

        async def another() -> None:
            async for session in holdwire.sessions(f"tcp://127.0.0.1:{port}"):
                async with session:
                    raise other._wire.latch(_failure_of_another())

        async def mixed() -> None:
            async for session in holdwire.sessions(f"tcp://127.0.0.1:{port}"):
                async with session, anyio.create_task_group() as group:
                    group.start_soon(session.receive)
                    await anyio.wait_all_tasks_blocked()
                    raise KeyError("mine")

        with pytest.raises(holdwire.ConnectionLost) as raised:
            await another()
        assert raised.value.failure is other.failure
        with pytest.raises(ExceptionGroup) as group_raised:
            await mixed()
        assert group_raised.group_contains(KeyError)


def _failure_of_another() -> holdwire.Failure:
    return holdwire.Failure(
        kind=holdwire.Kind.CONNECTION_RESET, category=holdwire.Category.PEER_CLOSED, phase=holdwire.Phase.UPGRADED
    )


async def test_a_loss_out_of_a_task_group_is_swallowed_too() -> None:
    async with serve(sayer(b"a", b"b")) as port:
        async for session in holdwire.sessions(f"tcp://127.0.0.1:{port}", reconnect=QUICK):
            async with session, anyio.create_task_group() as group:
                if session.number == 2:
                    break
                group.start_soon(_read_all, session)


async def _read_all(session: Session) -> None:
    async for _ in session:
        pass


@pytest.mark.parametrize("way", ["break", "return", "exception", "cancel"])
async def test_leaving_the_loop_closes_everything(way: str) -> None:
    ended = anyio.Event()

    async def watch(stream: ByteStream) -> None:
        try:
            await silent(stream)
        finally:
            ended.set()

    async def leave(port: int) -> None:
        with anyio.CancelScope() as scope:
            async for session in holdwire.sessions(f"tcp://127.0.0.1:{port}"):
                async with session:
                    if way == "break":
                        break
                    if way == "return":
                        return
                    if way == "exception":
                        raise KeyError
                    scope.cancel()
                    await session.receive()

    async with serve(watch) as port:
        if way == "exception":
            with pytest.raises(KeyError):
                await leave(port)
        else:
            await leave(port)
        with anyio.fail_after(5):
            await ended.wait()


async def test_a_line_that_is_cut_is_an_error_of_the_session_and_never_joined_to_the_next_one() -> None:
    lines: list[bytes] = []
    async with serve(sayer(b"one\ntw", b"o\nthree\n")) as port:
        async for session in holdwire.sessions(f"tcp://127.0.0.1:{port}", reconnect=QUICK):
            async with session:
                reader = BufferedByteStream(session)
                while True:
                    lines.append(await reader.receive_until(b"\n", 100))
                    if len(lines) == 3:
                        break
            if len(lines) == 3:
                break
    assert lines == [b"one", b"o", b"three"]


async def test_sending_while_down_fails_fast_or_waits_up_to_a_limit() -> None:
    port = free_port()
    watcher = Seen()
    sessions = holdwire.sessions(f"tcp://127.0.0.1:{port}", reconnect=QUICK, observers=[watcher])
    received = anyio.Event()

    async def take(stream: ByteStream) -> None:
        assert await stream.receive() == b"late"
        received.set()

    async def loop() -> None:
        async for session in sessions:
            async with session:
                await session.receive()
            break

    async with anyio.create_task_group() as group:
        group.start_soon(loop)
        await watcher.until(lambda seen: seen.failures)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(holdwire.SessionDown, match="ECONNREFUSED") as raised:
            await sessions.send(b"now")
        assert raised.value.failure is not None
        began = time.monotonic()
        with pytest.raises(holdwire.SessionDown, match="nothing was sent"):
            await sessions.send(b"soon", wait=0.1)
        assert 0.09 < time.monotonic() - began < 10
        async with serve(take, port=port):
            with anyio.fail_after(5):
                await sessions.send(b"late", wait=5)
                await received.wait()


async def test_waiting_to_send_ends_when_the_sessions_end() -> None:
    sessions = holdwire.sessions(f"tcp://127.0.0.1:{free_port()}", reconnect=QUICK)

    async def loop() -> None:
        await exhaust(sessions)

    async with anyio.create_task_group() as group:
        group.start_soon(loop)
        await anyio.sleep(0.05)
        group.start_soon(sessions.drain)
        with anyio.fail_after(10), pytest.raises(holdwire.SessionDown, match="for good"):
            await sessions.send(b"x", wait=60)


async def test_wake_cuts_the_pause_short() -> None:
    port = free_port()
    watcher = Seen()
    policy = ReconnectPolicy(wait=tenacity.wait_fixed(60))
    sessions = holdwire.sessions(f"tcp://127.0.0.1:{port}", reconnect=policy, observers=[watcher])
    up = anyio.Event()

    async def loop() -> None:
        async for session in sessions:
            async with session:
                up.set()
            break

    async with anyio.create_task_group() as group:
        group.start_soon(loop)
        await watcher.until(lambda seen: seen.failures)
        await anyio.wait_all_tasks_blocked()  # the pause has begun
        async with serve(echo, port=port):
            sessions.wake()
            with anyio.fail_after(5):
                await up.wait()


async def test_drain_ends_the_session_at_its_boundary_and_the_loop_with_it() -> None:
    handled: list[bytes] = []
    go = anyio.Event()

    async def two(stream: ByteStream) -> None:
        await stream.send(b"one")
        await go.wait()
        await stream.send(b"two")
        await silent(stream)

    async with serve(two) as port:
        sessions = holdwire.sessions(f"tcp://127.0.0.1:{port}")

        async def drain() -> None:
            await sessions.drain()
            assert handled == [b"onetwo"], "not in the middle of a message"

        async with anyio.create_task_group() as group:
            async for session in sessions:
                async with session:
                    message = await session.receive()
                    group.start_soon(drain)
                    await anyio.wait_all_tasks_blocked()
                    assert not session.closed
                    go.set()
                    message += await session.receive()
                    handled.append(message)
                    session.boundary()
                    pytest.fail("the boundary ends it")
    with pytest.raises(StopAsyncIteration):
        await anext(sessions)


async def test_recycling_waits_for_no_message_where_none_is_under_way() -> None:
    async with serve(echo) as port:
        policy = ReconnectPolicy(wait=tenacity.wait_fixed(50))
        sessions = holdwire.sessions(f"tcp://127.0.0.1:{port}", reconnect=policy)
        async with anyio.create_task_group() as group:
            async for session in sessions:
                async with session:
                    assert session.previous is None
                    if session.number == 2:
                        assert session.down_for < 25, "there is no pause"
                        break
                    await session.send(b"x")
                    await session.receive()
                    session.boundary()
                    group.start_soon(_later, sessions.recycle)
                    await session.receive()


async def _later(call: Callable[[], None]) -> None:
    await anyio.wait_all_tasks_blocked()
    call()


async def test_a_session_is_recycled_at_its_maximum_age_and_the_next_comes_at_once() -> None:
    ages: list[float] = []
    async with serve(echo) as port:
        async for session in holdwire.sessions(f"tcp://127.0.0.1:{port}", max_age=0.3):
            async with session:
                began = time.monotonic()
                session.boundary()
                if session.number == 3:
                    break
                try:
                    await session.receive()
                finally:
                    ages.append(time.monotonic() - began)
    assert 0.15 < min(ages) < 0.6, ages  # the other one may have met a busy machine


async def test_a_host_that_slept_recycles_only_what_became_too_old_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    slept = 0.0
    ticker = current_ticker()

    def boottime() -> float:
        return time.monotonic() + slept

    async def sleep_of_the_host(seconds: float) -> None:
        nonlocal slept
        slept += seconds
        ticks = ticker.ticks
        with anyio.fail_after(5):
            while ticker.ticks == ticks:  # noqa: ASYNC110 - the ticker tells nobody
                await anyio.sleep(0.01)

    monkeypatch.setattr("holdwire.net.ticker.PULSE", 0.05)
    monkeypatch.setattr("holdwire.sessions.session.boottime_clock", boottime)
    monkeypatch.setattr(ticker, "_boottime", boottime)
    async with serve(echo) as port:
        session = await anext(holdwire.sessions(f"tcp://127.0.0.1:{port}", max_age=1000))
        async with session:
            session.boundary()
            await sleep_of_the_host(60)
            assert not session.recycled
            assert session.scheduled > time.monotonic() + 500, "nor is it soon"
            await sleep_of_the_host(2000)
            assert session.recycled


async def test_close_from_another_task_ends_session_and_loop() -> None:
    async with serve(silent) as port:
        sessions = holdwire.sessions(f"tcp://127.0.0.1:{port}")
        async with anyio.create_task_group() as group:
            group.start_soon(_later, sessions.close)
            async for session in sessions:
                async with session:
                    await session.receive()


@pytest.mark.parametrize("how", ["close", "drain"])
async def test_a_login_that_hangs_is_given_up_when_they_are_closed_or_drained(how: str) -> None:
    begun = anyio.Event()

    async def login(session: Session) -> None:
        begun.set()
        await session.receive()

    async with serve(silent) as port:
        sessions = holdwire.sessions(f"tcp://127.0.0.1:{port}", on_connect=login, login_timeout=None)
        async with anyio.create_task_group() as group:
            group.start_soon(exhaust, sessions)
            await begun.wait()
            with anyio.fail_after(5):
                if how == "close":
                    sessions.close()
                else:
                    await sessions.drain()
                while not sessions._over:
                    await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()


@pytest.mark.parametrize("how", ["close", "drain"])
async def test_a_handshake_that_hangs_is_given_up_when_they_are_closed_or_drained(how: str) -> None:
    begun = anyio.Event()

    async def hang(stream: ByteStream) -> None:
        begun.set()
        await silent(stream)

    async with serve(hang) as port:
        sessions = holdwire.sessions(f"tls://127.0.0.1:{port}", connect_timeout=None)
        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(exhaust, sessions)
                await begun.wait()
                await anyio.wait_all_tasks_blocked()
                if how == "close":
                    sessions.close()
                else:
                    await sessions.drain()


@pytest.mark.parametrize("how", ["close", "drain"])
async def test_a_session_that_is_logged_in_after_they_were_closed_or_drained_is_not_given_out(how: str) -> None:
    begun, go = anyio.Event(), anyio.Event()

    async def login(_: Session) -> None:
        begun.set()
        with anyio.CancelScope(shield=True):
            await go.wait()

    async def end() -> None:
        await begun.wait()
        if how == "close":
            sessions.close()
        else:
            await sessions.drain()
        go.set()

    async with serve(silent) as port:
        sessions = holdwire.sessions(f"tcp://127.0.0.1:{port}", on_connect=login)
        async with anyio.create_task_group() as group:
            group.start_soon(end)
            with anyio.fail_after(5):
                await exhaust(sessions)


async def test_a_pause_goes_on_after_a_time_limit_of_the_caller_cut_it_short() -> None:
    attempts: list[int] = []
    paused = anyio.Event()

    def wait(state: tenacity.RetryCallState) -> float:
        attempts.append(state.attempt_number)
        paused.set()
        return 60

    sessions = holdwire.sessions(f"tcp://127.0.0.1:{free_port()}", reconnect=ReconnectPolicy(wait=wait))
    async with anyio.create_task_group() as group:
        group.start_soon(anext, sessions)
        with anyio.fail_after(5):
            await paused.wait()
        group.cancel_scope.cancel()
    for _ in range(2):
        with anyio.move_on_after(0.1):
            await anext(sessions)
    assert attempts == [1]


async def test_how_a_session_ended_is_known_though_the_wait_for_the_next_one_was_cancelled() -> None:
    scope = anyio.CancelScope()

    def wait(_: tenacity.RetryCallState) -> float:
        scope.cancel()
        return 0.01

    async with serve(sayer(b"a", b"b")) as port:
        sessions = holdwire.sessions(f"tcp://127.0.0.1:{port}", reconnect=ReconnectPolicy(wait=wait))
        async with await anext(sessions) as first:
            while True:
                await first.receive()
        with anyio.CancelScope() as at_once:
            at_once.cancel()
            await anext(sessions)
        with scope:
            await anext(sessions)
        assert scope.cancelled_caught, "in the pause"
        async with await anext(sessions) as second:
            assert second.number == 2
            assert second.previous is first.failure is not None
            assert second.down_for == pytest.approx(second.up_since - first.ended_at)


async def test_a_session_that_was_not_used_is_closed_when_the_next_one_is_wanted() -> None:
    async with serve(silent) as port:
        sessions = holdwire.sessions(f"tcp://127.0.0.1:{port}", reconnect=QUICK)
        first = await anext(sessions)
        second = await anext(sessions)
        assert first.closed
        assert second.number == 2
        await second.aclose()


async def test_two_loops_over_the_same_sessions_are_refused() -> None:
    sessions = holdwire.sessions(f"tcp://127.0.0.1:{free_port()}", reconnect=QUICK)
    async with anyio.create_task_group() as group:
        group.start_soon(anext, sessions)
        await anyio.sleep(0.05)
        with pytest.raises(anyio.BusyResourceError):
            await anext(sessions)
        group.cancel_scope.cancel()


async def test_cancelled_anywhere_nothing_is_left() -> None:
    async def login(session: Session) -> bytes:
        await session.send(b"x")
        return await session.receive()

    async def use(port: int) -> None:
        async for session in holdwire.sessions(f"tcp://127.0.0.1:{port}", on_connect=login, reconnect=QUICK):
            async with session:
                await session.receive()

    async def cancel_after(steps: int, group: anyio.abc.TaskGroup) -> None:
        for _ in range(steps):
            await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()

    before = len(open_sockets())
    async with serve(sayer()) as port:
        for steps in range(0, 45, 5):
            async with anyio.create_task_group() as group:
                group.start_soon(cancel_after, steps, group)
                group.start_soon(use, port)
            ours = [one for one in gc.get_objects() if isinstance(one, Session) and not one.closed]
            assert not ours, f"cancelled after {steps} steps"
    assert len(open_sockets()) <= before + 1


async def test_the_name_is_asked_anew_for_each_session(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    original = dial

    async def spy(host: str, *arguments: Any, **options: Any) -> Any:
        asked.append(host)
        return await original(host, *arguments, **options)

    monkeypatch.setattr("holdwire.sessions.opener.dial", spy)
    async with serve(sayer(b"a", b"b", b"c")) as port:
        async for session in holdwire.sessions(f"tcp://localhost:{port}", reconnect=QUICK):
            async with session:
                if session.number == 3:
                    break
                await session.receive()
    assert asked == ["localhost"] * 3


@pytest.mark.slow
async def test_a_server_that_accepts_and_closes_is_not_stormed(capsys: pytest.CaptureFixture[str]) -> None:
    """100 sessions, scaled down ten times: pauses of 0.1 s growing to 3 s."""
    duration = 6.0
    attempts: list[float] = []

    async def slam(_: ByteStream) -> None:
        attempts.append(time.monotonic() - began)

    async def one(port: int) -> None:
        policy = ReconnectPolicy(backoff=Backoff(base=0.1, cap=3.0))
        async for session in holdwire.sessions(f"tcp://127.0.0.1:{port}", reconnect=policy):
            async with session:
                await session.receive()

    async with serve(slam) as port:
        began = time.monotonic()
        with anyio.move_on_after(duration):
            async with anyio.create_task_group() as group:
                for _ in range(100):
                    group.start_soon(one, port)
    histogram = collections.Counter(int(at * 2) for at in attempts)
    with capsys.disabled():
        print(f"\n{len(attempts)} attempts of 100 sessions in {duration:.0f} s, per half second:")  # noqa: T201 - the histogram
        for half in range(int(duration * 2)):
            print(f"  {half / 2:4.1f} s  {histogram[half]:4d} {'#' * (histogram[half] // 2)}")  # noqa: T201 - the histogram
    back = attempts[0] + 1.0  # a busy machine may take its time before the first one
    assert attempts[100] >= back, "after a refusal right after accept at least a second passes"
    since = collections.Counter(int((at - back) * 2) for at in attempts[100:])
    later = [since[half] for half in range(int(duration - back) * 2)]
    assert max(later) < 95, "no storm, which would be a hundred: they are spread"
    assert all(map(sum, zip(later[::2], later[1::2], strict=True))), "and they go on, second by second"
    assert len(attempts) < 100 * duration, "less than one a second each"


async def test_a_series_is_part_of_the_snapshot() -> None:
    async with serve(sayer(b"a", b"b")) as port:
        sessions = holdwire.sessions(f"tcp://127.0.0.1:{port}", reconnect=QUICK)

        def mine() -> dict[str, Any]:
            (entry,) = [entry for entry in holdwire.snapshot() if entry["port"] == port]
            return entry

        assert mine()["session"] == 0
        async for session in sessions:
            async with session:
                await session.receive()
                entry = mine()
                assert (entry["scheme"], entry["session"]) == ("tcp", session.number)
                assert entry["connections"][0]["bytes_in"] == 1
                if session.number == 2:
                    assert entry["last_failure"] == "unexpected_eof"
                    break
                await session.receive()
        assert mine()["connections"] == []
