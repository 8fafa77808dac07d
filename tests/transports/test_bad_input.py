"""Wrong arguments and requests: refused at once, by a message that names what is wrong and says what to give."""

from __future__ import annotations

import math
import re
import traceback
from typing import TYPE_CHECKING, Any

import httpx
import httpx2
import pytest

import holdwire
from holdwire.testing import ChaosServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.transports.conftest import Family

ARGUMENTS = [
    ({"profile": "aws-nlbb"}, ValueError, "'aws-nlbb' is unknown; the profiles are"),
    ({"profile": ""}, ValueError, "'' is unknown; the profiles are"),
    ({"profile": 3}, TypeError, "profile=3: give the name of a profile"),
    ({"keepalive": 60}, TypeError, "keepalive=60: give holdwire.Keepalive(...), or None"),
    ({"keepalive": -1}, TypeError, "keepalive=-1: give holdwire.Keepalive(...), or None"),
    ({"keepalive": False}, TypeError, "keepalive=False: give holdwire.Keepalive(...), or None"),
    ({"heartbeat": 30}, TypeError, "heartbeat=30: give holdwire.Heartbeat(...), or None"),
    ({"pool": 55}, TypeError, "pool=55: give holdwire.PoolPolicy(...)"),
    ({"retry": 4}, TypeError, "retry=4: give holdwire.RetryPolicy(...), or None"),
    ({"retries": -1}, ValueError, "retries=-1: give the number"),
    ({"retries": None}, ValueError, "retries=None: give the number"),
    ({"limits": 5}, TypeError, "limits=5: give Limits(...)"),
    ({"limits": httpx.Limits(max_connections=-1)}, ValueError, "max_connections=-1: give a number of at least 1"),
    ({"limits": httpx.Limits(max_connections=0)}, ValueError, "max_connections=0: give a number of at least 1"),
    ({"limits": httpx.Limits(keepalive_expiry=-5)}, ValueError, "keepalive_expiry=-5: give a number of at least 0"),
    ({"observers": 3}, TypeError, "observers=3: give a list of observers"),
    ({"observers": None}, TypeError, "observers=None: give a list of observers"),
    ({"observers": [3]}, TypeError, "an observer needs a method on_event(event)"),
    ({"tls_truncation": "ignore"}, ValueError, "tls_truncation='ignore': give \"error\""),
    ({"tls_truncation": {"error"}}, ValueError, "tls_truncation={'error'}: give \"error\""),
    ({"verify": 5}, TypeError, "verify=5: give True, False or an ssl.SSLContext"),
    ({"verify": b"ca.pem"}, TypeError, "verify=b'ca.pem': give True, False or an ssl.SSLContext"),
    ({"uds": "/x", "local_address": "127.0.0.1"}, ValueError, "uds and local_address do not go together"),
    ({"uds": "/x", "proxy": "http://127.0.0.1:1"}, ValueError, "uds and proxy do not go together"),
    ({"uds": 3}, TypeError, "uds=3: give the path of a Unix socket"),
    ({"local_address": 3}, TypeError, "local_address=3: give an IP address"),
    ({"socket_options": 3}, TypeError, "socket_options: give setsockopt's arguments as tuples"),
    ({"socket_options": [(1, 2)]}, TypeError, "socket_options: give setsockopt's arguments as tuples"),
    ({"http1": False}, ValueError, "http1=False and http2=False leave no version of HTTP"),
    ({"keepaliv": None}, TypeError, "keepaliv"),
]


@pytest.mark.parametrize(("arguments", "error", "words"), ARGUMENTS, ids=[str(row[0])[:50] for row in ARGUMENTS])
def test_a_wrong_argument_is_named_with_what_to_give_instead(
    family: Family, arguments: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=re.escape(words)):
        family.transport(**arguments)


KEEPALIVE = holdwire.Keepalive()


def made(name: str, /, **arguments: object) -> Callable[[], object]:
    """What makes a setting with arguments that a type checker would refuse."""
    maker: Any = getattr(holdwire, name)
    return lambda: maker(**arguments)


@pytest.mark.parametrize(
    "url",
    [
        "user:s3cret@proxy:3128",
        "ftp://user:s3cret@proxy:3128",
        "http://user:s3cret#1@proxy:3128",
        "http://user:s3cret/1@proxy:3128",
        "http://user:s3cret?1@proxy:3128",
    ],
)
@pytest.mark.parametrize("taker", ["ResilientTransport", "AsyncClient"])
def test_a_wrong_proxy_is_told_how_one_is_written_and_its_password_is_not_repeated(
    family: Family, url: str, taker: str
) -> None:
    with pytest.raises(
        ValueError, match="proxy: a proxy's URL is scheme://host:port with one of http, https"
    ) as caught:
        getattr(family.ours, taker)(proxy=url)
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("taker", ["ResilientTransport", "AsyncClient"])
def test_a_proxy_of_another_type_is_named_without_being_repeated(family: Family, taker: str) -> None:
    url = b"http://user:s3cret@proxy:3128"
    with pytest.raises(TypeError, match="proxy: give the URL as str, or a Proxy, not bytes") as caught:
        getattr(family.ours, taker)(proxy=url)
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


async def test_a_client_of_the_other_family_is_told_which_transport_it_takes(family: Family) -> None:
    other: Any = httpx2 if family.name == "httpx" else httpx
    async with other.AsyncClient(transport=family.transport()) as client:
        with pytest.raises(TypeError, match=f"this transport is for {family.name}, and what came is no request"):
            await client.get("http://127.0.0.1:1/")


SETTINGS: list[tuple[Callable[[], object], type[Exception], str]] = [
    (lambda: holdwire.Keepalive(idle=-1), ValueError, "Keepalive: idle=-1 is out of range"),
    (lambda: holdwire.Keepalive(idle="60"), TypeError, "Keepalive: idle must be a number of seconds, not str"),  # type: ignore[arg-type]
    (lambda: holdwire.Heartbeat(interval=-1), ValueError, "Heartbeat: interval=-1 is out of range"),
    (lambda: holdwire.PoolPolicy(idle=-1), ValueError, "PoolPolicy: idle=-1 is out of range"),
    (lambda: holdwire.PoolPolicy(max_requests=0), ValueError, "PoolPolicy: max_requests=0 is too small"),
    (lambda: holdwire.RetryPolicy(stop=3), TypeError, "RetryPolicy: stop must be a tenacity strategy"),  # type: ignore[arg-type]
    (lambda: holdwire.RetryPolicy(statuses=503), TypeError, "RetryPolicy: statuses=503 must be a set"),  # type: ignore[arg-type]
    (lambda: holdwire.RetryPolicy(statuses=frozenset({99})), ValueError, "error statuses 400 to 599"),
    (lambda: holdwire.RetryPolicy(deadline=0), ValueError, "RetryPolicy: deadline=0 is out of range"),
    (made("RetryPolicy", timeouts="yes"), TypeError, "RetryPolicy: timeouts must be True or False, not str"),
    (made("RetryPolicy", any_method_429=1), TypeError, "RetryPolicy: any_method_429 must be True or False, not int"),
    (made("RetryPolicy", stale_proof=None), TypeError, "RetryPolicy: stale_proof must be True or False"),
    (made("RetryPolicy", names_may_appear="no"), TypeError, "RetryPolicy: names_may_appear must be True or False"),
    (made("RetryPolicy", deadline="5"), TypeError, "RetryPolicy: deadline must be a number of seconds, not str"),
    (made("RetryPolicy", retry_after_cap=None), TypeError, "RetryPolicy: retry_after_cap must be a number of seconds"),
    (made("RetryPolicy", retry_after_cap=-1), ValueError, "RetryPolicy: retry_after_cap=-1 is out of range"),
    (made("RetryPolicy", statuses="503"), TypeError, "RetryPolicy: statuses='503' must be a set"),
    (made("RetryPolicy", never=3), TypeError, "RetryPolicy: never=3 must be a set of holdwire.Kind"),
    (
        made("RetryPolicy", never={"boredom"}),
        ValueError,
        "RetryPolicy: never={'boredom'}: 'boredom' is not a valid Kind",
    ),
    (made("RetryPolicy", share="20 %"), TypeError, "share must be a number from 0 to 1, not str"),
    (made("RetryPolicy", floor="1"), TypeError, "floor must be a number of retries a second, not str"),
    (made("RetryPolicy", floor=-1), ValueError, "floor=-1 is out of range"),
    (
        made("RetryPolicy", budget=0.2),
        TypeError,
        "RetryPolicy: budget must be a holdwire.RetryBudget or None, not float",
    ),
    (
        made("RetryPolicy", connect_rounds=2.5),
        TypeError,
        "RetryPolicy: connect_rounds must be a whole number, not float",
    ),
    (made("RetryPolicy", connect_rounds=0), ValueError, "RetryPolicy: connect_rounds=0 is too small"),
    (made("RetryBudget", window="10"), TypeError, "window must be a number of seconds, not str"),
    (
        made("Heartbeat", interval=5, while_idle="yes"),
        TypeError,
        "Heartbeat: while_idle must be True or False, not str",
    ),
    (made("PoolPolicy", learn=True), ValueError, "PoolPolicy: learn=True is unknown"),
    (made("PoolPolicy", idle="55"), TypeError, "PoolPolicy: idle must be a number of seconds, not str"),
    (made("Backoff", cap="30"), TypeError, "Backoff: cap must be a number of seconds, not str"),
    (made("ReconnectPolicy", stop=None), TypeError, "ReconnectPolicy: stop must be a tenacity strategy"),
    (made("ReconnectPolicy", waits=[]), TypeError, "ReconnectPolicy: waits must be a mapping of kinds or categories"),
    (
        made("ReconnectPolicy", waits={"tired": None}),
        ValueError,
        "ReconnectPolicy: waits holds 'tired', which is neither",
    ),
    (made("ReconnectPolicy", backoff=1.5), TypeError, "ReconnectPolicy: backoff must be a holdwire.Backoff, not float"),
    (made("Profile", name=3, keepalive=KEEPALIVE), TypeError, "Profile: name must be a str, not int"),
    (
        made("Profile", name="mine", keepalive=None),
        TypeError,
        "Profile: keepalive must be a holdwire.Keepalive, not None",
    ),
    (
        made("Profile", name="mine", keepalive=KEEPALIVE, idle_limit=0),
        ValueError,
        "Profile: idle_limit=0 is out of range",
    ),
    (
        made("Profile", name="mine", keepalive=KEEPALIVE, pool_idle="50"),
        TypeError,
        "Profile: pool_idle must be a number",
    ),
    (
        made("Profile", name="mine", keepalive=KEEPALIVE, reset_by="luck"),
        ValueError,
        "Profile: reset_by='luck' is unknown",
    ),
    (made("Profile", name="mine", keepalive=KEEPALIVE, heartbeat=30), TypeError, "Profile: heartbeat must be a"),
    (made("Profile", name="mine", keepalive=KEEPALIVE, variants=60), TypeError, "Profile: variants must be a tuple"),
    (made("Profile", name="mine", keepalive=KEEPALIVE, fixed="yes"), TypeError, "Profile: fixed must be True or False"),
    (made("Tunnel", url=8080), TypeError, "Tunnel: url must be a str, not int"),
    (
        made("Tunnel", url="https://proxy", tls=True),
        TypeError,
        "Tunnel: tls must be an ssl.SSLContext or None, not bool",
    ),
    (made("set_testing", attempts="1"), TypeError, "set_testing: attempts must be a whole number, not str"),
    (
        made("connect", url="tcp://x:1", heartbeat=5),
        TypeError,
        "connect: heartbeat must be a holdwire.Heartbeat or None",
    ),
    (made("connect", url=5), TypeError, "connect: url must be a str, not int"),
    (made("connect", url=b"tcp://x:1"), TypeError, "connect: url must be a str, not bytes"),
    (made("connect", host=b"x", port=1), TypeError, "connect: host must be a str, not bytes"),
    (made("connect", host="x", port="1"), TypeError, "connect: port must be a whole number, not str"),
    (made("connect", url="tls://x:1", alpn="h2"), TypeError, "connect: alpn must be a list of names, ['h2'], not str"),
    (made("connect", url="tls://x:1", alpn=[b"h2"]), TypeError, "connect: alpn must be a list of names, ['h2']"),
    (made("connect", url="tls://x:1", server_hostname=5), TypeError, "connect: server_hostname must be a str or None"),
    (made("connect", url="tcp://x:1", local_address=5), TypeError, "connect: local_address must be an IP address"),
    (made("connect", url="tcp://x:1", tls_truncation=[]), ValueError, 'tls_truncation=[]: give "error"'),
    (made("connect", url="tcp://x:1", socket_options="x"), TypeError, "socket_options: give setsockopt's arguments as"),
    (made("connect", url="tcp://x:1", socket_options=[(1, 2)]), TypeError, "socket_options: give setsockopt's"),
    (made("connect", url="tcp://x:1", observers=3), TypeError, "observers=3: give a list of observers, [observer]"),
    (lambda: holdwire.probes.line("PING"), TypeError, "probes.line: probe must be bytes, not str"),  # type: ignore[arg-type]
    (lambda: holdwire.probes.line(b"PING", reply="PONG"), TypeError, "probes.line: reply must be bytes, not str"),  # type: ignore[arg-type]
    (made("connect", url="tcp://x:1", keepalive=5), TypeError, "connect: keepalive must be a holdwire.Keepalive"),
    (made("connect", url="tcp://x:1", profile=5), TypeError, "connect: profile must be a holdwire.Profile or its name"),
    (made("connect", url="tcp://x:1", resume="no"), TypeError, "connect: resume must be True or False, not str"),
    (
        made("connect", url="tcp://x:1", tls="yes"),
        TypeError,
        "connect: tls must be True, False, None or an ssl.SSLContext",
    ),
    (made("connect", url="tcp://x:1", connect_timeout="5"), TypeError, "connect: connect_timeout must be a number"),
    (made("connect", url="tcp://x:1", connect_timeout=0), ValueError, "connect: connect_timeout=0 is out of range"),
    (made("connect", url="tcp://x:1", proxy="http://proxy"), TypeError, "connect: proxy must be a holdwire.Tunnel"),
    (
        made("sessions", url="tcp://x:1", reconnect=5),
        TypeError,
        "sessions: reconnect must be a holdwire.ReconnectPolicy",
    ),
    (
        made("sessions", url="tcp://x:1", max_age="1"),
        TypeError,
        "sessions: max_age must be a number of seconds, not str",
    ),
    (made("sessions", url="tcp://x:1", login_timeout=0), ValueError, "sessions: login_timeout=0 is out of range"),
    (
        made("sessions", url="tcp://x:1", on_connect=1),
        TypeError,
        "sessions: on_connect must be an async function, not int",
    ),
    (made("sse", client=None, url="/", idle="1"), TypeError, "sse: idle must be a number of seconds, not str"),
    (made("sse", client=None, url="/", progress=0), ValueError, "sse: progress=0 is out of range"),
    (lambda: holdwire.sse(httpx.Client(), "/"), TypeError, "sse: client must be an AsyncClient of httpx or httpx2"),
    (lambda: holdwire.sse(httpx.AsyncClient(), "/", timeout=5), TypeError, "sse: timeout is that of the client, but"),
    (made("sse", client=None, url="/", headers=[("a", "b")]), TypeError, "sse: headers must be a mapping or None"),
    (made("sse", client=None, url="/", last_event_id=5), TypeError, "sse: last_event_id must be a str, not int"),
    (made("sse", client=None, url="/", reconnect=True), TypeError, "sse: reconnect must be a holdwire.ReconnectPolicy"),
]


@pytest.mark.parametrize(("make", "error", "words"), SETTINGS, ids=[row[2][:60] for row in SETTINGS])
def test_a_wrong_setting_is_named_with_its_owner(
    make: Callable[[], object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=re.escape(words)):
        make()


@pytest.fixture
def server() -> Iterator[ChaosServer]:
    with ChaosServer() as server:
        yield server


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("/path", "no scheme and host; write it as https://host/path"),
        ("", "no scheme and host; write it as https://host/path"),
        ("http://:80/", "no scheme and host; write it as https://host/path"),
        ("ftp://host/", "unsupported protocol 'ftp://'"),
        ("http://host:99999/", "port 99999 does not exist"),
    ],
)
async def test_a_url_that_leads_nowhere_says_what_it_lacks(family: Family, url: str, words: str) -> None:
    async with family.client() as client:
        with pytest.raises(family.http.TransportError, match=words):
            await client.get(url)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        (3, TypeError, "must be a dict with some of deadline, idempotent, tls_truncation, not int"),
        ({"idempotnt": "s3cret"}, TypeError, "may have deadline, idempotent, tls_truncation, not 'idempotnt'"),
        ({"idempotent": "yes"}, TypeError, "idempotent='yes': give True, False or None"),
        ({"deadline": "soon"}, ValueError, "deadline='soon': give the seconds"),
        ({"deadline": -1}, ValueError, "deadline=-1: give the seconds"),
        ({"tls_truncation": "ignore"}, ValueError, "tls_truncation='ignore': give \"error\""),
    ],
)
async def test_a_wrong_option_of_a_request_is_named(
    family: Family, server: ChaosServer, options: object, error: type[Exception], words: str
) -> None:
    async with family.client() as client:
        with pytest.raises(error, match=re.escape(words)):
            await client.get(server.url, extensions={"holdwire": options})
    assert server.accepted == 0


async def test_a_server_name_that_is_no_text_is_named_before_anything_is_opened(
    family: Family, server: ChaosServer
) -> None:
    async with family.client() as client:
        with pytest.raises(TypeError, match=r"sni_hostname.*=b'name': give a str"):
            await client.get(server.url.replace("http", "https"), extensions={"sni_hostname": b"name"})
    assert server.accepted == 0


@pytest.mark.parametrize("name", ["connect", "read", "write", "pool"])
async def test_a_time_out_that_is_no_number_is_named(family: Family, server: ChaosServer, name: str) -> None:
    async with family.client() as client:
        with pytest.raises(ValueError, match=f"timeout: {name}=nan: give a number of seconds, or None"):
            await client.get(server.url, timeout=family.http.Timeout(5, **{name: math.nan}))
        assert server.accepted == 0
        assert (await client.get(server.url, timeout=family.http.Timeout(None, **{name: math.inf}))).status_code == 200


async def test_a_closed_transport_says_what_to_do_and_entering_it_anew_opens_it(
    family: Family, server: ChaosServer
) -> None:
    transport = family.transport()
    await transport.aclose()
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"closed.*make a new client, or enter this one anew"):
            await transport.handle_async_request(family.http.Request("GET", server.url))
    async with transport:
        response = await transport.handle_async_request(family.http.Request("GET", server.url))
        assert await response.aread() == b"hello\n"
        await response.aclose()
    with pytest.raises(RuntimeError, match="closed"):
        await transport.handle_async_request(family.http.Request("GET", server.url))


def test_a_sync_client_is_told_to_be_async_however_it_is_used(family: Family) -> None:
    with pytest.raises(TypeError, match="async only"):
        family.http.Client(transport=family.transport()).get("http://127.0.0.1:1/")
    with pytest.raises(TypeError, match="async only"), family.http.Client(transport=family.transport()):
        pass
