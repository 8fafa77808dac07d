"""What a broken stream or session says of its cause, in the light of what happened to others of the same target."""

from __future__ import annotations

import re
import socket
import struct
import time
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import tenacity
from anyio.abc import SocketAttribute

import holdwire
from holdwire.policy.history import OriginHistory
from holdwire.policy.idle_limit import YOUNG
from holdwire.policy.kind import Confidence, Kind
from holdwire.sessions.memory import TargetMemory, Witness, memory_of
from tests.garbage import finalize, in_time
from tests.ports import free_port
from tests.seen import Seen
from tests.sessions.peers import echo, serve
from tests.unit.test_history import failure

if TYPE_CHECKING:
    import ssl

    from anyio.abc import ByteStream

    from holdwire.policy.failure import Failure

pytestmark = pytest.mark.usefixtures("clean_runtime", "no_leaks")


class Quiet:
    """A wire that was used ``quiet`` seconds ago."""

    def __init__(self, quiet: float) -> None:
        self.last_read = self.last_write = time.monotonic() - quiet


async def reset_at_once(stream: ByteStream) -> None:
    """Greet, and reset at the first word."""
    await stream.send(b"hello")
    await stream.receive()
    sock = stream.extra(SocketAttribute.raw_socket)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await anyio.aclose_forcefully(stream)


def shift(stream: holdwire.Stream, seconds: float) -> None:
    """Let the last use of ``stream`` be so long ago."""
    stream._wire.last_read -= seconds
    stream._wire.last_write -= seconds


def test_a_stream_that_is_collected_while_another_to_its_target_tells_why_it_broke_waits_for_no_lock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory = TargetMemory()
    told: list[Failure] = []
    original = OriginHistory.stream_failed

    def collecting(self: OriginHistory, *arguments: Any, **keywords: Any) -> Failure:
        finalize(lambda: memory.answered(1.0))
        return original(self, *arguments, **keywords)

    monkeypatch.setattr(OriginHistory, "stream_failed", collecting)
    assert in_time(lambda: told.append(memory.lost(failure(), idle=1.0, used=False)))
    assert told


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
async def test_a_stream_that_is_found_dead_after_350_silent_seconds_names_the_balancer(
    secure: bool,  # noqa: FBT001
    client_context: ssl.SSLContext,
    server_context: ssl.SSLContext,
) -> None:
    seen = Seen()
    async with serve(reset_at_once, tls=server_context if secure else None) as port:
        url = f"{'tls' if secure else 'tcp'}://localhost:{port}"
        async with holdwire.connect(url, tls=client_context if secure else None, observers=[seen]) as stream:
            assert await stream.receive() == b"hello"
            shift(stream, 350.0)
            await stream.send(b"are you there")
            with pytest.raises(holdwire.ConnectionLost) as caught:
                await stream.receive()
            assert stream.failure is caught.value.failure
    told = caught.value.failure
    assert told is not None
    assert told.cause == "It died at 350 s idle, which is where AWS NLB drops idle flows."
    assert told.confidence is Confidence.POSSIBLE
    assert 'profile="aws-nlb"' in told.remedy
    assert told.cause in str(caught.value)
    assert [failure.cause for failure in seen.failures] == [told.cause]


async def test_a_session_whose_server_is_gone_hears_that_it_had_answered() -> None:
    seen = Seen()
    policy = holdwire.ReconnectPolicy(wait=tenacity.wait_fixed(0.01), stop=tenacity.stop_after_attempt(2))
    async with serve(echo, port=free_port()) as port:
        sessions = holdwire.sessions(f"tcp://127.0.0.1:{port}", reconnect=policy, observers=[seen])
        session = await anext(sessions)
        await session.send(b"hello")
        assert await session.receive() == b"hello"
    with pytest.raises(holdwire.ConnectionLost):
        await session.receive()
    await session.aclose()
    with pytest.raises(holdwire.ConnectFailed) as caught:
        await anext(sessions)
    assert caught.value.failure is not None
    causes = [failure.cause for failure in seen.failures]
    assert re.search(r"The peer answered \d s ago and refuses connections now", causes[-1])
    assert caught.value.failure.cause == causes[-1]
    assert caught.value.failures[-1].cause == causes[-1]
    (entry,) = sessions.snapshot()
    assert entry["idle_limit"] is None


async def test_a_loop_of_ones_own_around_connect_is_explained_as_well() -> None:
    async def greet(stream: ByteStream) -> None:
        await stream.send(b"hello")

    async with serve(greet, port=free_port()) as port, holdwire.connect(f"tcp://127.0.0.1:{port}") as stream:
        assert await stream.receive() == b"hello"
        with pytest.raises(anyio.EndOfStream):
            await stream.receive()
    with pytest.raises(holdwire.ConnectFailed, match=r"answered \d s ago and refuses connections now"):
        await holdwire.connect(f"tcp://127.0.0.1:{port}")
    assert memory_of("127.0.0.1", port, None) is memory_of("127.0.0.1", port, None)
    assert memory_of("127.0.0.1", port, None) is not memory_of("127.0.0.1", port, "proxy:3128")


async def test_a_stream_that_spoke_after_a_long_silence_refutes_a_limit() -> None:
    async with serve(echo) as port, holdwire.connect(f"tcp://127.0.0.1:{port}") as stream:
        memory = memory_of("127.0.0.1", port, None)
        for quiet in (100.0, 100.5):
            memory._history._idle._deaths.append((time.monotonic() - 3 * quiet, quiet))
        memory._history._idle.changes += 1
        assert memory.estimate is not None
        shift(stream, 200.0)
        await stream.send(b"hello")
        assert await stream.receive() == b"hello"
        assert memory.estimate is None


def test_a_peer_that_closes_in_good_order_is_counted_once_however_often_it_is_read() -> None:
    memory = TargetMemory()
    witness, wire = Witness(memory), Quiet(60.0)
    for _ in range(3):
        witness.closed(wire)  # type: ignore[arg-type]
    assert len(memory._history._idle._deaths) == 1


def test_a_silence_that_we_broke_counts_until_something_is_heard() -> None:
    memory = TargetMemory()
    witness = Witness(memory)
    witness.sending(Quiet(60.0))  # type: ignore[arg-type]
    witness.heard(0.0)
    lost = failure(Kind.CONNECTION_RESET, holdwire.Phase.UPGRADED, idle=0.1)
    assert witness.explain(lost).cause == "unexplained"
    witness.sending(Quiet(60.0))  # type: ignore[arg-type]
    assert "60 s idle" in witness.explain(lost).cause


def test_our_own_end_of_a_session_is_explained_by_nobody() -> None:
    witness = Witness(TargetMemory())
    witness.sending(Quiet(60.0))  # type: ignore[arg-type]
    ours = failure(Kind.CANCELLED, holdwire.Phase.UPGRADED, category=holdwire.Category.INTENTIONAL, idle=YOUNG)
    assert witness.explain(ours) is ours
