"""Every socket call of a session fails once, each in its turn: it comes back, and tells the failure once."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import anyio
import pytest
import tenacity
from anyio.streams.buffered import BufferedByteStream

import holdwire
from holdwire import ReconnectPolicy, Session, probes
from holdwire.net.dial import substitute_sockets
from holdwire.testing import Action, Fault, Point, SocketPlan, sweep
from tests.seen import Seen
from tests.sessions.peers import line_server, serve

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator


pytestmark = [pytest.mark.usefixtures("clean_runtime", "no_leaks"), pytest.mark.slow]

QUICK = ReconnectPolicy(wait=tenacity.wait_none(), waits={holdwire.Category.PEER_CLOSED: tenacity.wait_none()})


def plans() -> Iterator[tuple[Fault, SocketPlan]]:
    for run in sweep(errnos=[errno.ECONNRESET, errno.ETIMEDOUT], limit=100):
        yield run.fault, run.plan
    for point, action, value in (
        (Point.CALL_RECV, Action.EOF, None),
        (Point.CALL_SEND, Action.SHORT, 1),
        (Point.CALL_RECV, Action.SHORT, 1),
        (Point.CALL_SEND, Action.EAGAIN, 3),
        (Point.CALL_RECV, Action.EAGAIN, 3),
    ):
        for nth in range(1, 100):
            fault = Fault(point=point, nth=nth, action=action, value=value)
            plan = SocketPlan((fault,))
            yield fault, plan
            if plan.calls[point] < nth:
                break


@pytest.mark.parametrize("scheme", ["tcp", "tls"])
async def test_every_call_fails_once(
    scheme: str, client_context: ssl.SSLContext, server_context: ssl.SSLContext
) -> None:
    async def login(session: Session) -> None:
        await session.send(b"PING\n")
        lines = BufferedByteStream(session)
        assert await lines.receive_until(b"\n", 100) == b"PONG"
        session.login = lines

    async def use(port: int, seen: Seen) -> int:
        async for session in holdwire.sessions(
            f"{scheme}://localhost:{port}",
            tls=client_context if scheme == "tls" else None,
            on_connect=login,
            heartbeat=probes.line(b"PING"),
            reconnect=QUICK,
            observers=[seen],
            resume=False,
        ):
            async with session:
                for _ in range(2):
                    await session.send(b"PING\n")
                    data = await session.receive()
                    assert data.replace(b"PONG\n", b"") == b"" or data.startswith((b"P", b"O", b"N", b"G", b"\n"))
                return session.attempts
        pytest.fail("the loop has ended")

    struck = 0
    async with serve(line_server, tls=server_context if scheme == "tls" else None) as port:
        for fault, plan in plans():
            seen = Seen()
            with substitute_sockets(plan.open), anyio.fail_after(10):
                await use(port, seen)
            story = (str(fault), [str(failure) for failure in seen.failures])
            struck += bool(plan.struck)
            if not plan.struck or fault.action in {Action.SHORT, Action.EAGAIN}:
                assert not seen.failures, story
            elif fault.action is Action.ERRNO and fault.point is not Point.CALL_CONNECT:
                told = [failure.errno for failure in seen.failures]
                assert told in ([fault.value], []), story  # a look at the end of a connection tells nobody
            else:
                assert len(seen.failures) <= 1, story
    assert struck > 20
