"""What a user sees of a TLS handshake: sessions that are resumed or must not be, certificates, alerts, contexts."""

from __future__ import annotations

import random
import ssl
import threading
from typing import TYPE_CHECKING

import anyio
import pytest
import trustme

from holdwire.errors import ConnectFailed, ConnectionLost, DeadlineExceeded, LocalProtocolError
from holdwire.policy import diagnosis
from holdwire.policy.failure import TlsDetail
from holdwire.policy.kind import Kind
from holdwire.policy.phase import Phase
from holdwire.testing.certificates import self_signed
from holdwire.tls.context import ascii_name, offer_protocols, prepare
from holdwire.tls.session import SessionCache
from holdwire.tls.stream import TLSStream
from tests.net_helpers import clean_runtime
from tests.tls_helpers import VERSIONS, Contexts, secure, session_reads, socket_streams, together

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdwire.policy.failure import Failure
    from holdwire.tls.engine import Engine

__all__ = ["clean_runtime"]

pytestmark = pytest.mark.usefixtures("clean_runtime")


@pytest.fixture(params=list(VERSIONS))
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def contexts(version: str) -> Contexts:
    return Contexts.of(self_signed(), version)


async def exchanged(
    contexts: Contexts, *, session: ssl.SSLSession | None, keep: Callable[[Engine], None] | None = None
) -> bool:
    """Connect, exchange a word, close; whether the session was resumed."""
    client, server = await secure(socket_streams(), contexts, client={"session": session})
    client.on_session = keep
    await server.send(b"welcome")
    assert await client.receive() == b"welcome"
    reused = client.session_reused
    assert reused == server.session_reused
    await client.aclose()
    await server.aclose()
    return reused


async def some_session(contexts: Contexts) -> ssl.SSLSession:
    """A session that a connection has left."""
    kept: list[ssl.SSLSession | None] = []
    await exchanged(contexts, session=None, keep=lambda engine: kept.append(engine.session))
    assert len(kept) == 1
    assert kept[0] is not None
    return kept[0]


class Connections:
    """Connections of one key as the cache sees them; a session is read from ``engine``, and that is counted."""

    def __init__(self, contexts: Contexts, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cache = SessionCache()
        self.key = self.cache.key(contexts.client, "localhost")
        self.engine = engine
        self._reads = session_reads(monkeypatch)

    @property
    def reads(self) -> int:
        return len(self._reads)

    def offer(self) -> ssl.SSLSession | None:
        return self.cache.get(self.key)

    def fail(self, *offers: ssl.SSLSession | None, failure: Failure | None = None) -> None:
        """The handshakes of connections that offer ``offers`` fail."""
        for offered in offers:
            if offered is not None:
                self.cache.fail(self.key, offered, failure)

    def succeed(self, *offers: ssl.SSLSession | None, resumes: bool = True) -> None:
        """Connections shake hands at once, and then receive their first data."""
        made = [
            self.cache.keeper(self.key, offered=offered, resumed=resumes and offered is not None) for offered in offers
        ]
        for keep in made:
            if keep is not None:
                keep(self.engine)


@pytest.fixture
async def connections(contexts: Contexts, monkeypatch: pytest.MonkeyPatch) -> Connections:
    client, server = await secure(socket_streams(), contexts)
    await server.send(b"welcome")
    assert await client.receive() == b"welcome"
    await client.aclose()
    await server.aclose()
    return Connections(contexts, client.engine, monkeypatch)


class TestSessions:
    async def test_the_second_connection_resumes_the_first_ones_session(self, contexts: Contexts) -> None:
        cache = SessionCache()
        key = cache.key(contexts.client, "localhost")
        first = cache.keeper(key, offered=None, resumed=False)
        assert not await exchanged(contexts, session=cache.get(key), keep=first)
        for _ in range(2):
            session = cache.get(key)
            assert cache.keeper(key, offered=session, resumed=True) is None, "reading one anew loses memory"
            assert await exchanged(contexts, session=session)

    async def test_a_server_that_resumes_nothing_is_offered_sessions_now_and_then_only(
        self, connections: Connections
    ) -> None:
        offers = 0
        for _ in range(1000):
            offers += connections.offer() is not None
            connections.succeed(connections.offer(), resumes=False)
        assert 3 < offers <= 3 + 1000 // 64
        assert connections.reads <= 3 + 1000 // 64
        while connections.offer() is None:
            connections.succeed(None)
        reads = connections.reads
        for _ in range(64):  # it has learnt to
            connections.succeed(connections.offer())
        assert connections.reads == reads
        refused = connections.offer()
        assert refused is not None
        connections.succeed(refused, refused, refused, resumes=False)  # it has begun anew
        assert connections.reads == reads + 1, "refused: a new one is taken, once"
        assert connections.offer() is not None
        assert connections.offer() is not refused

    async def test_of_several_servers_behind_one_name_any_can_resume_and_few_sessions_are_read(
        self, connections: Connections
    ) -> None:
        dice = random.Random(7)
        offers = 0
        for _ in range(6400):
            offers += connections.offer() is not None
            connections.succeed(connections.offer(), resumes=dice.random() < 0.8)
        assert offers > 3200
        assert connections.reads <= 3 + 100

    async def test_a_session_with_which_a_handshake_failed_is_offered_again_and_not_read_anew(
        self, connections: Connections
    ) -> None:
        connections.succeed(None)
        session = connections.offer()
        assert session is not None
        for _ in range(20):  # an unlucky path: in between it is resumed
            for _ in range(2):
                connections.fail(*[session] * 5)  # on several connections at once
                assert connections.offer() is None, "the next one is to succeed"
                connections.succeed(None)
                assert connections.offer() is session
            connections.succeed(session)
        for _ in range(3):
            connections.fail(connections.offer())
            connections.succeed(None)
        assert connections.reads == 1
        for _ in range(60):
            assert connections.offer() is None, "given up: for some time it is offered none"
            connections.succeed(None)

    async def test_many_connections_at_once_on_a_failing_path_read_next_to_no_sessions(
        self, connections: Connections
    ) -> None:
        dice = random.Random(7)
        under_way = [connections.offer() for _ in range(6)]
        for _ in range(3000):
            offered = under_way.pop(dice.randrange(len(under_way)))
            (connections.fail if dice.random() < 0.05 else connections.succeed)(offered)
            under_way.append(connections.offer())
        assert connections.reads <= 3

    async def test_a_session_that_the_peer_answered_by_an_alert_is_dropped(self, connections: Connections) -> None:
        connections.succeed(None)
        alerted = connections.offer()
        alert = diagnosis.from_tls(phase=Phase.TLS_HANDSHAKE, facts={}, tls=TlsDetail(alert=40))
        connections.fail(alerted, failure=alert)
        assert connections.offer() is None
        connections.succeed(None)
        connections.fail(alerted, failure=alert)  # a slow one
        assert connections.offer() is not None
        assert connections.offer() is not alerted

    async def test_a_session_of_another_context_is_not_used_and_does_no_harm(
        self, contexts: Contexts, version: str
    ) -> None:
        other = Contexts(Contexts.of(self_signed(), version).client, contexts.server)
        assert not await exchanged(other, session=await some_session(contexts))

    def test_nothing_is_shared_across_contexts_names_verification_certificates_and_proxies(self) -> None:
        cache = SessionCache()
        context, other = ssl.create_default_context(), ssl.create_default_context()
        keys = [
            cache.key(context, "example.org"),
            cache.key(other, "example.org"),
            cache.key(context, "www.example.org"),
            cache.key(context, "example.org", client_certificate="mine"),
            cache.key(context, "example.org", proxy="proxy:3128"),
        ]
        context.check_hostname = False
        keys.append(cache.key(context, "example.org"))
        context.verify_mode = ssl.CERT_NONE
        keys.append(cache.key(context, "example.org"))
        assert len(set(keys)) == len(keys)

    async def test_the_least_recently_used_session_goes_first(
        self, contexts: Contexts, connections: Connections
    ) -> None:
        cache = SessionCache(size=2)
        first, second, third = (cache.key(contexts.client, name) for name in ("a", "b", "c"))
        for key in (first, second):
            keep = cache.keeper(key, offered=None, resumed=False)
            assert keep is not None
            keep(connections.engine)
        assert cache.keeper(first, offered=cache.get(first), resumed=True) is None
        cache.keeper(third, offered=None, resumed=False)
        assert cache.get(first) is not None
        assert cache.get(second) is None


class TestClientCertificates:
    """A server that wants one: under TLS 1.3 it says so after our side of the handshake is over."""

    async def refused(self, contexts: Contexts) -> Failure:
        lower = socket_streams()
        failures: list[Failure | None] = []

        async def client() -> None:
            try:
                stream = await TLSStream.connect(lower[0], context=contexts.client, server_hostname="localhost")
                with pytest.raises(ConnectionLost) as caught:
                    await stream.receive()
                failures.append(caught.value.failure)
                assert stream.phase is Phase.UPGRADED
                await stream.aclose()
            except ConnectFailed as exc:
                failures.append(exc.failure)

        async def server() -> None:
            with pytest.raises(ConnectFailed):
                await TLSStream.connect(lower[1], context=contexts.server, server_hostname=None, server_side=True)

        async with anyio.create_task_group() as group:
            group.start_soon(client)
            group.start_soon(server)
        assert failures[0] is not None
        return failures[0]

    @pytest.fixture
    def demanding(self, contexts: Contexts) -> Contexts:
        contexts.server.verify_mode = ssl.CERT_REQUIRED
        contexts.server.load_verify_locations(cadata=self_signed().authority.decode())
        return contexts

    async def test_none_is_told_as_the_alert_that_it_is_in_a_phase_of_its_own(
        self, demanding: Contexts, version: str
    ) -> None:
        failure = await self.refused(demanding)
        assert failure.kind is Kind.TLS_ALERT_RECEIVED
        assert failure.tls is not None
        assert failure.tls.alert_direction == "received"
        assert failure.errno is None
        expected = (Phase.POST_HANDSHAKE, 116) if version == "TLSv1.3" else (Phase.TLS_HANDSHAKE, 40)
        assert (failure.phase, failure.tls.alert) == expected

    async def test_one_of_an_unknown_authority_is_told_likewise(self, demanding: Contexts, version: str) -> None:
        trustme.CA().issue_cert("client@example.org").configure_cert(demanding.client)
        failure = await self.refused(demanding)
        assert failure.tls is not None
        assert (failure.tls.alert, failure.tls.alert_name) == (48, "unknown_ca")
        assert failure.phase is (Phase.POST_HANDSHAKE if version == "TLSv1.3" else Phase.TLS_HANDSHAKE)


@pytest.mark.usefixtures("clean_runtime", "no_leaks")
class TestFailedHandshakes:
    async def test_an_untrusted_certificate_fails_with_code_and_words_and_the_peer_is_told(
        self, contexts: Contexts
    ) -> None:
        stranger = Contexts(ssl.create_default_context(), contexts.server)
        lower = socket_streams()
        told: list[Failure | None] = []
        ours: list[Failure | None] = []

        async def server() -> None:
            try:
                stream = await TLSStream.connect(
                    lower[1], context=contexts.server, server_hostname=None, server_side=True
                )
                await stream.receive()
            except (ConnectFailed, ConnectionLost) as exc:
                told.append(exc.failure)
            lower[1].abort()

        async def client() -> None:
            with pytest.raises(ConnectFailed) as caught:
                await TLSStream.connect(lower[0], context=stranger.client, server_hostname="localhost")
            ours.append(caught.value.failure)

        await together(server, client)
        failure = ours[0]
        assert failure is not None
        assert (failure.kind, failure.phase) == (Kind.CERTIFICATE_INVALID, Phase.TLS_HANDSHAKE)
        assert failure.tls is not None
        assert failure.tls.verify_code == 20
        assert failure.tls.verify_message == "unable to get local issuer certificate"
        assert (failure.tls.alert, failure.tls.alert_direction) in {(48, "sent"), (None, None)}
        assert lower[0].closed
        assert told[0] is not None
        assert told[0].tls is not None
        assert (told[0].tls.alert_name, told[0].tls.alert_direction) == ("unknown_ca", "received")

    async def test_a_peer_that_says_nothing_is_given_up_in_time_with_its_name_and_ours_is_closed(
        self, contexts: Contexts
    ) -> None:
        ours, theirs = socket_streams()
        with pytest.raises(DeadlineExceeded, match=r"handshake with localhost:443 .* not over within 0.05 s") as caught:
            await TLSStream.connect(ours, context=contexts.client, server_hostname="localhost", timeout=0.05)
        assert caught.value.limit == "connect"
        assert caught.value.failure is not None
        assert caught.value.failure.kind is Kind.LOCAL_TIMEOUT
        assert ours.closed
        theirs.abort()

    async def test_a_handshake_that_is_cancelled_leaves_nothing_behind(self, contexts: Contexts) -> None:
        ours, theirs = socket_streams()
        with anyio.move_on_after(0.02):
            await TLSStream.connect(ours, context=contexts.client, server_hostname="localhost")
        assert ours.closed
        theirs.abort()


class TestContexts:
    async def test_a_context_of_another_class_makes_its_engines_in_a_thread(self, contexts: Contexts) -> None:
        threads: list[int] = []

        class Blocking(ssl.SSLContext):
            """As truststore's, which asks the system's store."""

            def wrap_bio(self, *args: object, **kwargs: object) -> ssl.SSLObject:
                threads.append(threading.get_ident())
                return super().wrap_bio(*args, **kwargs)  # type: ignore[arg-type]

        context = Blocking(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=self_signed().authority.decode())
        client, server = await secure(socket_streams(), Contexts(context, contexts.server))
        assert threads
        assert threading.get_ident() not in threads
        client.abort()
        server.abort()

    async def test_a_servers_context_is_refused_for_a_client_with_a_hint(self, contexts: Contexts) -> None:
        ours, theirs = socket_streams()
        with pytest.raises(LocalProtocolError, match="context's purpose"):
            await TLSStream.connect(ours, context=contexts.server, server_hostname="localhost")
        assert ours.closed
        theirs.abort()

    @pytest.mark.parametrize(
        ("host", "name"),
        [
            ("example.org", "example.org"),
            ("example.org.", "example.org"),
            ("", None),
            ("straße.de", "xn--strae-oqa.de"),  # IDNA 2003, as the ssl module has it, says strasse.de: another host
            ("127.0.0.1", "127.0.0.1"),
        ],
    )
    async def test_host_names_are_made_ascii_by_idna_2008(self, host: str, name: str | None) -> None:
        assert ascii_name(host) == name

    async def test_what_cannot_be_a_host_name_is_refused_by_name(self) -> None:
        with pytest.raises(LocalProtocolError, match="not a valid host name"):
            ascii_name("ex ample.ö")

    @pytest.mark.parametrize("wrong", ["", "h\u00fc", "x" * 256])
    async def test_a_wrong_protocol_name_is_refused_with_an_example(self, wrong: str) -> None:
        with pytest.raises(ValueError, match="such as 'h2'"):
            offer_protocols(ssl.create_default_context(), ["h2", wrong])

    async def test_the_protocol_that_both_offer_is_agreed_upon(self, contexts: Contexts) -> None:
        offer_protocols(contexts.client, ["h2", "http/1.1"])
        offer_protocols(contexts.server, ["http/1.1"])
        client, server = await secure(socket_streams(), contexts)
        assert client.alpn_protocol == server.alpn_protocol == "http/1.1"
        client.abort()
        server.abort()

    async def test_contexts_of_ours_do_not_ignore_truncation(self) -> None:
        context = ssl.create_default_context()
        flag = getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
        context.options |= flag
        assert not prepare(context).options & flag
