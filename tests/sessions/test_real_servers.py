"""Real servers, killed, restarted, frozen and cut off under a session; what it took is printed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import pytest
import tenacity
from anyio.streams.buffered import BufferedByteStream

import holdwire
from holdwire import Heartbeat, ReconnectPolicy, Session, probes
from tests.netns import SERVER, lab
from tests.sessions.programs import Program, mosquitto, redis_server, tls_line_server

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    import trustme

pytestmark = [
    pytest.mark.usefixtures("clean_runtime", "no_leaks"),
    pytest.mark.slow,
    pytest.mark.server,
]

QUICK = ReconnectPolicy(wait=tenacity.wait_fixed(0.05))


class Story:
    """When a session's end was noticed, when the next one was there, and what is printed about it."""

    def __init__(self, say: Callable[[str], None], title: str) -> None:
        self._say = say
        self._title = title
        self.broken = 0.0
        self.noticed = 0.0

    def breaks(self) -> None:
        self.broken = time.monotonic()

    def notices(self) -> None:
        if not self.noticed:
            self.noticed = time.monotonic()

    def tell(self, session: Session, lost: str) -> None:
        why = "a clean end" if session.previous is None else session.previous.kind
        noticed, back = ((at - self.broken) * 1e3 for at in (self.noticed, session.up_since))
        self._say(
            f"{self._title}: noticed after {noticed:.0f} ms ({why}), session {session.number} after {back:.0f} ms "
            f"in {session.attempts} attempts; lost: {lost}"
        )

    @property
    def detection(self) -> float:
        return self.noticed - self.broken


@pytest.fixture
def story(capsys: pytest.CaptureFixture[str], anyio_backend: tuple[str, dict[str, object]]) -> Callable[[str], Story]:
    loop = "uvloop" if anyio_backend[1].get("use_uvloop") else anyio_backend[0]

    def say(line: str) -> None:
        with capsys.disabled():
            print(f"\n[{loop}] {line}", end="")  # noqa: T201 - it is to be seen

    return lambda title: Story(say, title)


# --- Redis ---


def command(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


async def read_reply(stream: BufferedByteStream) -> Any:
    """One value of RESP2."""
    line = await stream.receive_until(b"\r\n", 10_000)
    kind, rest = line[:1], line[1:]
    if kind == b"*":
        return [await read_reply(stream) for _ in range(int(rest))]
    if kind == b"$":
        if rest == b"-1":
            return None
        return (await stream.receive_exactly(int(rest) + 2))[:-2]
    return rest


class Subscriber:
    """Subscribes to a channel in the login hook; keeps the messages."""

    def __init__(self, url: str, story: Story, *, heartbeat: Heartbeat | None = None) -> None:
        self.sessions = holdwire.sessions(url, on_connect=self._login, heartbeat=heartbeat, reconnect=QUICK)
        self.story = story
        self.messages: list[object] = []
        self.heard = anyio.Event()
        self.subscribed = anyio.Event()
        self.over = False
        self.last: Session | None = None

    async def _login(self, session: Session) -> BufferedByteStream:
        stream = BufferedByteStream(session)
        await stream.send(command(b"SUBSCRIBE", b"news"))
        assert await read_reply(stream) == [b"subscribe", b"news", b"1"]
        return stream

    async def run(self) -> None:
        async for session in self.sessions:
            self.last = session
            self.subscribed.set()
            async with session:
                try:
                    while True:
                        reply = await read_reply(session.login)
                        if reply[0] == b"message":
                            self.messages.append(reply[2])
                            self.heard.set()
                            if reply[2] == b"end":
                                self.over = True
                                return
                        session.boundary()
                finally:
                    self.story.notices()
                    self.subscribed = anyio.Event()

    async def up(self) -> Session:
        with anyio.fail_after(15):
            await self.subscribed.wait()
        assert self.last is not None
        return self.last

    async def end(self, port: int, *, host: str = "127.0.0.1") -> None:
        """Publish the end until it was heard: another session may just have been lost, and Redis keeps nothing."""
        with anyio.fail_after(30):
            while not self.over:
                await publish(port, b"end", host=host)
                await anyio.sleep(0.05)


async def publish(port: int, message: bytes, *, host: str = "127.0.0.1") -> object:
    with anyio.fail_after(15):
        async with holdwire.connect(host=host, port=port) as stream:
            await stream.send(command(b"PUBLISH", b"news", message))
            return await read_reply(BufferedByteStream(stream))


@pytest.mark.parametrize("way", ["kill", "stop"])
async def test_redis_is_restarted_and_the_subscription_comes_back(way: str, story: Callable[[str], Story]) -> None:
    with redis_server() as redis:
        tale = story(f"redis ended by {way}")
        subscriber = Subscriber(f"tcp://127.0.0.1:{redis.port}", tale, heartbeat=probes.redis(interval=5))
        async with anyio.create_task_group() as group:
            group.start_soon(subscriber.run)
            await subscriber.up()
            assert await publish(redis.port, b"one") == b"1"
            with anyio.fail_after(15):
                await subscriber.heard.wait()  # Redis may answer who publishes before it writes to who subscribes
            tale.breaks()
            await anyio.to_thread.run_sync(redis.kill if way == "kill" else redis.stop)
            await anyio.to_thread.run_sync(redis.start)
            await publish(redis.port, b"while nobody listened")
            session = await subscriber.up()
            assert session.number == 2
            assert session.previous is not None, "the caller is told why"
            tale.tell(session, "what was published meanwhile; Redis keeps nothing for subscribers")
            await subscriber.end(redis.port)
    assert subscriber.messages[0] == b"one"
    assert subscriber.messages[-1] == b"end"
    assert tale.detection < 4, "a FIN or RST is noticed when it comes, and not by the heartbeat's five seconds"


async def test_a_frozen_redis_is_found_by_the_heartbeat_and_the_session_is_back_when_it_thaws(
    story: Callable[[str], Story],
) -> None:
    interval, timeout = 0.6, 0.4
    with redis_server() as redis:
        tale = story("redis frozen (SIGSTOP)")
        heartbeat = Heartbeat(interval=interval, timeout=timeout, probe=probes.redis().probe, jitter=0)
        subscriber = Subscriber(f"tcp://127.0.0.1:{redis.port}", tale, heartbeat=heartbeat)
        async with anyio.create_task_group() as group:
            group.start_soon(subscriber.run)
            first = await subscriber.up()
            await publish(redis.port, b"one")  # the clock of the heartbeat starts here
            redis.freeze()
            tale.breaks()
            with anyio.fail_after(5):
                while not tale.noticed:  # noqa: ASYNC110 - the subscriber runs on
                    await anyio.sleep(0.01)
            redis.thaw()
            assert first.failure is not None
            assert first.failure.kind is holdwire.Kind.HEARTBEAT_LOST
            session = await subscriber.up()
            tale.tell(session, "nothing")
            await subscriber.end(redis.port)
    assert tale.detection <= interval + timeout + 1.0, "how exactly is shown without other programs"


@pytest.mark.netns
async def test_a_path_that_is_cut_is_found_and_what_was_being_sent_is_accounted_for(
    story: Callable[[str], Story],
) -> None:
    fate: list[holdwire.Fate] = []
    with lab() as net:
        with net.on(net.server):
            redis = redis_server(host=SERVER).start()
        try:
            with net.on(net.client):
                tale = story("path cut (nft drop)")
                heartbeat = Heartbeat(interval=0.6, timeout=0.4, probe=probes.redis().probe, jitter=0)
                subscriber = Subscriber(f"tcp://{SERVER}:{redis.port}", tale, heartbeat=heartbeat)
                async with anyio.create_task_group() as group:
                    group.start_soon(subscriber.run)
                    first = await subscriber.up()
                    port = first._wire.facts().get("local_port")
                    assert port is not None
                    await anyio.to_thread.run_sync(net.drop_port, port)
                    tale.breaks()

                    async def send() -> None:
                        with pytest.raises(holdwire.HeartbeatLost) as raised:
                            await subscriber.sessions.send(command(b"PING", b"x" * 8_000_000))
                        assert raised.value.fate is not None
                        fate.append(raised.value.fate)

                    group.start_soon(send)
                    with anyio.fail_after(10):
                        while not fate:  # noqa: ASYNC110 - the subscriber runs on
                            await anyio.sleep(0.01)
                    session = await subscriber.up()
                    tale.tell(session, str(fate[0]))
                    await subscriber.end(redis.port, host=SERVER)
            assert fate[0].cut
            assert fate[0].acknowledged == 0, "nothing of it has passed the cut"
            assert tale.detection <= 1.0 + 1.5, "the write that is under way may ask for another look"
        finally:
            redis.kill()


# --- MQTT ---


def mqtt_string(text: bytes) -> bytes:
    return len(text).to_bytes(2, "big") + text


def packet(kind: int, body: bytes) -> bytes:
    assert len(body) < 128
    return bytes([kind, len(body)]) + body


async def read_packet(stream: BufferedByteStream) -> tuple[int, bytes]:
    head = await stream.receive_exactly(2)
    return head[0] & 0xF0, await stream.receive_exactly(head[1]) if head[1] else b""


async def mqtt_login(session: Session) -> BufferedByteStream:
    stream = BufferedByteStream(session)
    await stream.send(packet(0x10, mqtt_string(b"MQTT") + b"\x04\x02\x00\x01" + mqtt_string(b"holdwire")))
    kind, body = await read_packet(stream)
    if kind != 0x20 or body[1]:
        raise holdwire.LoginRefused(f"CONNACK says {body[1]}")
    await stream.send(packet(0x82, b"\x00\x01" + mqtt_string(b"news") + b"\x00"))
    assert (await read_packet(stream))[0] == 0x90
    return stream


async def test_mosquitto_is_kept_alive_killed_and_found_again(tmp_path: Path, story: Callable[[str], Story]) -> None:
    """Keep Alive is 1 s: without PINGREQ the broker would end the connection after 1.5 s."""
    with mosquitto(tmp_path) as broker:
        tale = story("mosquitto killed")
        pings = 0
        async for session in holdwire.sessions(
            f"tcp://127.0.0.1:{broker.port}", on_connect=mqtt_login, heartbeat=probes.mqtt(keepalive=1), reconnect=QUICK
        ):
            async with session:
                if session.number == 2:
                    tale.tell(session, "nothing: there was no message under way")
                    await session.send(packet(0x30, mqtt_string(b"news") + b"hello"))
                    kind, body = await read_packet(session.login)
                    while kind == 0xD0:
                        kind, body = await read_packet(session.login)
                    assert (kind, body) == (0x30, mqtt_string(b"news") + b"hello")
                    break
                assert session.number == 1, session.previous
                began = time.monotonic()
                while time.monotonic() - began < 2.5:
                    kind, _ = await read_packet(session.login)
                    assert kind == 0xD0
                    pings += 1
                    session.boundary()
                assert session.failure is None
                tale.breaks()
                await anyio.to_thread.run_sync(broker.kill)
                await anyio.to_thread.run_sync(broker.start)
                try:
                    await read_packet(session.login)
                finally:
                    tale.notices()
        assert pings >= 2


# --- our own server of lines, in TLS ---


async def test_a_tls_server_dies_in_the_middle_of_a_message_and_the_next_session_resumes(
    ca: trustme.CA, client_context: ssl.SSLContext, tmp_path: Path, story: Callable[[str], Story]
) -> None:
    identity = tmp_path / "identity.pem"
    identity.write_bytes(ca.issue_cert("localhost").private_key_and_cert_chain_pem.bytes())
    with tls_line_server(identity) as server:
        tale = story("TLS server frozen, then killed, under a message")
        cut: list[holdwire.ConnectionLost] = []
        heartbeat = probes.line(b"PING", reply=b"PONG", interval=5)
        async for session in holdwire.sessions(
            f"tls://localhost:{server.port}", tls=client_context, heartbeat=heartbeat, reconnect=QUICK
        ):
            async with session:
                lines = BufferedByteStream(session)
                assert await lines.receive_until(b"\n", 100) == b"PONG", "the first probe's"
                if session.number == 2:
                    assert cut[0].fate is not None
                    tale.tell(session, str(cut[0].fate))
                    await session.send(b"again\n")
                    assert await lines.receive_until(b"\n", 100) == b"ok again"
                    break
                assert session.number == 1, session.previous
                await session.send(b"hello\n")
                assert await lines.receive_until(b"\n", 100) == b"ok hello"
                session.boundary()
                server.freeze()

                async def die() -> None:
                    await anyio.sleep(0.2)  # until the buffers are full
                    tale.breaks()
                    await anyio.to_thread.run_sync(_restart, server)

                async with anyio.create_task_group() as group:
                    group.start_soon(die)
                    try:
                        await session.send(b"x" * 20_000_000 + b"\n")
                    except holdwire.ConnectionLost as lost:
                        tale.notices()
                        cut.append(lost)
        fate = cut[0].fate
        assert fate is not None
        assert fate.cut
        assert fate.acknowledged is not None
        assert 0 < fate.acknowledged <= fate.on_wire
        assert tale.detection < 4, "it is not the heartbeat that notices"


def _restart(server: Program) -> None:
    server.kill()
    server.start()
