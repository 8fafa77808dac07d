"""The clients that are compared, each behind the same few methods; those that are not installed are left out.

Not responsible for what is asked of them (``compare``) or for servers (``servers``).
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.metadata
import ssl
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast
from urllib.parse import urlsplit

import httptools
import httpx

import holdwire

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["BARE", "MEMORY", "PEERS", "RAW", "Peer", "available", "from_memory", "versions"]

MEMORY: Final = "httpx from memory"
"""What httpx costs above any transport: no transport below httpx can be cheaper."""
RAW: Final = "asyncio + httptools"
"""An asyncio.Protocol and a parser, nothing else: one request at a time on each connection, no pool, no time-outs."""
BARE: Final = "httpx over that"
"""The same below httpx: the least that any transport of Python code takes, with none of what one is for."""

_CONNECTIONS: Final = 2000
_SECONDS: Final = 60


class Peer:
    """One client. ``name``, where it runs, and what it speaks; made with the file of an authority to trust."""

    name: ClassVar[str]
    module: ClassVar[str] = ""
    backends: ClassVar[frozenset[str]] = frozenset({"asyncio", "uvloop", "trio"})
    has_http2: ClassVar[bool] = True
    streams: ClassVar[bool] = True
    """Whether it can send and read large bodies."""

    def __init__(self, authority: Path, *, http2: bool) -> None:
        raise NotImplementedError

    async def get(self, url: str, *, close: bool = False) -> None:
        """One small GET, body and all; with ``close`` on a connection that ends with it."""
        raise NotImplementedError

    async def post(self, url: str, body: bytes) -> None:
        """One POST."""
        raise NotImplementedError

    async def download(self, url: str) -> int:
        """Read a body as it arrives; its size."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """Close everything."""
        raise NotImplementedError


_CLOSE: Final = {"connection": "close"}


class _HttpxLike(Peer):
    """Whatever has the interface of ``httpx.AsyncClient``."""

    client: Any

    async def get(self, url: str, *, close: bool = False) -> None:
        response = await (self.client.get(url, headers=_CLOSE) if close else self.client.get(url))
        assert response.status_code == 200

    async def post(self, url: str, body: bytes) -> None:
        response = await self.client.post(url, content=body)
        assert response.status_code == 200

    async def download(self, url: str) -> int:
        size = 0
        async with self.client.stream("GET", url) as response:
            async for piece in response.aiter_raw():
                size += len(piece)
        return size

    async def aclose(self) -> None:
        await self.client.aclose()


def trusting(authority: Path) -> ssl.SSLContext:
    """A context that trusts ``authority``."""
    return ssl.create_default_context(cafile=str(authority))


def _limits(family: Any) -> Any:  # noqa: ANN401 - httpx or httpx2
    return family.Limits(
        max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS, keepalive_expiry=_SECONDS
    )


class Holdwire(_HttpxLike):
    """httpx with our transport, every protection at its default."""

    name = "holdwire"

    def __init__(self, authority: Path, *, http2: bool) -> None:
        transport = holdwire.ResilientTransport(verify=trusting(authority), http2=http2, limits=_limits(httpx))
        self.client = httpx.AsyncClient(transport=transport, timeout=_SECONDS)


class HoldwireHttpx2(_HttpxLike):
    """httpx2 with our transport."""

    name = "holdwire in httpx2"
    module = "httpx2"

    def __init__(self, authority: Path, *, http2: bool) -> None:
        family = importlib.import_module("httpx2")
        ours = importlib.import_module("holdwire.transports.httpx2")
        transport = ours.ResilientTransport(verify=trusting(authority), http2=http2, limits=_limits(family))
        self.client = family.AsyncClient(transport=transport, timeout=_SECONDS)


class Httpx(_HttpxLike):
    """httpx with its own transport."""

    name = "httpx"

    def __init__(self, authority: Path, *, http2: bool) -> None:
        self.client = httpx.AsyncClient(
            verify=trusting(authority), http2=http2, limits=_limits(httpx), timeout=_SECONDS, trust_env=False
        )


class Httpx2(_HttpxLike):
    """httpx2 with its own transport."""

    name = "httpx2"
    module = "httpx2"

    def __init__(self, authority: Path, *, http2: bool) -> None:
        family = importlib.import_module("httpx2")
        self.client = family.AsyncClient(
            verify=trusting(authority), http2=http2, limits=_limits(family), timeout=_SECONDS, trust_env=False
        )


class HttpxAiohttp(_HttpxLike):
    """httpx with aiohttp below it."""

    name = "httpx-aiohttp"
    module = "httpx_aiohttp"
    backends = frozenset({"asyncio", "uvloop"})
    has_http2 = False

    def __init__(self, authority: Path, *, http2: bool) -> None:
        del http2
        family = importlib.import_module("httpx_aiohttp")
        self.client = family.HttpxAiohttpClient(
            verify=trusting(authority), limits=_limits(httpx), timeout=_SECONDS, trust_env=False
        )


class Aiohttp(Peer):
    """aiohttp alone."""

    name = "aiohttp"
    module = "aiohttp"
    backends = frozenset({"asyncio", "uvloop"})
    has_http2 = False

    def __init__(self, authority: Path, *, http2: bool) -> None:
        del http2
        family = importlib.import_module("aiohttp")
        connector = family.TCPConnector(limit=_CONNECTIONS, ssl=trusting(authority))
        self._session = family.ClientSession(connector=connector, timeout=family.ClientTimeout(total=_SECONDS))

    async def get(self, url: str, *, close: bool = False) -> None:
        async with self._session.get(url, headers=_CLOSE if close else None) as response:
            await response.read()
            assert response.status == 200

    async def post(self, url: str, body: bytes) -> None:
        async with self._session.post(url, data=body) as response:
            await response.read()
            assert response.status == 200

    async def download(self, url: str) -> int:
        size = 0
        async with self._session.get(url) as response:
            async for piece in response.content.iter_any():
                size += len(piece)
        return size

    async def aclose(self) -> None:
        await self._session.close()


class Niquests(Peer):
    """niquests alone."""

    name = "niquests"
    module = "niquests"
    backends = frozenset({"asyncio", "uvloop"})

    def __init__(self, authority: Path, *, http2: bool) -> None:
        family = importlib.import_module("niquests")
        self._session = family.AsyncSession(
            pool_maxsize=_CONNECTIONS, disable_http2=not http2, disable_http3=True, disable_ipv6=True, timeout=_SECONDS
        )
        self._session.trust_env = False
        self._session.verify = str(authority)

    async def get(self, url: str, *, close: bool = False) -> None:
        response = await self._session.get(url, headers=_CLOSE if close else None)
        assert response.content is not None
        assert response.status_code == 200

    async def post(self, url: str, body: bytes) -> None:
        response = await self._session.post(url, data=body)
        assert response.status_code == 200

    async def download(self, url: str) -> int:
        size = 0
        response = await self._session.get(url, stream=True)
        async for piece in await response.iter_content(65_536):
            size += len(piece)
        return size

    async def aclose(self) -> None:
        await self._session.close()


class Pyqwest(Peer):
    """pyqwest alone: reqwest on threads of its own, whose CPU counts too."""

    name = "pyqwest"
    module = "pyqwest"
    backends = frozenset({"asyncio", "uvloop"})

    def __init__(self, authority: Path, *, http2: bool) -> None:
        family = importlib.import_module("pyqwest")
        version = family.HTTPVersion.HTTP2 if http2 else family.HTTPVersion.HTTP1
        self._client = family.Client(
            family.HTTPTransport(
                tls_ca_cert=authority.read_bytes(), http_version=version, pool_max_idle_per_host=_CONNECTIONS
            )
        )

    async def get(self, url: str, *, close: bool = False) -> None:
        response = await self._client.get(url, headers=_CLOSE if close else None)
        assert response.content is not None
        assert response.status == 200

    async def post(self, url: str, body: bytes) -> None:
        response = await self._client.post(url, content=body)
        assert response.status == 200

    async def download(self, url: str) -> int:
        size = 0
        async with self._client.stream("GET", url) as response:
            async for piece in response.content:
                size += len(piece)
        return size

    async def aclose(self) -> None:
        pass


class _FromMemory(httpx.AsyncBaseTransport):
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        del request
        return httpx.Response(200, headers=[(b"content-length", b"13")], stream=httpx.ByteStream(b"x" * 13))


def from_memory() -> httpx.AsyncClient:
    """A client that asks nobody."""
    return httpx.AsyncClient(transport=_FromMemory())


class Memory(_HttpxLike):
    """See ``MEMORY``."""

    name = MEMORY
    has_http2 = False
    streams = False

    def __init__(self, authority: Path, *, http2: bool) -> None:
        del authority, http2
        self.client = from_memory()


class _RawConnection(asyncio.Protocol):
    """One request at a time."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.done: asyncio.Future[None] | None = None
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.lost = True

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        if self.done is not None:
            self.done.set_result(None)

    async def ask(self, data: bytes) -> None:
        """Send one request and read its answer."""
        self.done = asyncio.get_running_loop().create_future()
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.parser = httptools.HttpResponseParser(self)
        self.transport.write(data)
        await self.done


class Raw(Peer):
    """See ``RAW``."""

    name = RAW
    backends = frozenset({"asyncio", "uvloop"})
    has_http2 = False
    streams = False

    def __init__(self, authority: Path, *, http2: bool) -> None:
        del http2
        self._context = trusting(authority)
        self._idle: list[_RawConnection] = []

    async def ask(self, url: str, data: bytes, *, close: bool = False) -> _RawConnection:
        """Send a request on a connection of its own or an idle one, and read the answer."""
        if self._idle and not close:
            connection = self._idle.pop()
        else:
            parts = urlsplit(url)
            context = self._context if parts.scheme == "https" else None
            assert parts.hostname is not None
            assert parts.port is not None
            _, connection = await asyncio.get_running_loop().create_connection(
                _RawConnection, parts.hostname, parts.port, ssl=context
            )
        await connection.ask(data)
        if close:
            connection.transport.abort()
        else:
            self._idle.append(connection)
        return connection

    async def get(self, url: str, *, close: bool = False) -> None:
        await self.ask(url, b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\n\r\n", close=close)

    async def post(self, url: str, body: bytes) -> None:
        head = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n" % len(body)
        await self.ask(url, head + body)

    async def aclose(self) -> None:
        for connection in self._idle:
            connection.transport.abort()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0)


class _BareTransport(httpx.AsyncBaseTransport):
    def __init__(self, raw: Raw) -> None:
        self._raw = raw

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        head = [b"%b: %b\r\n" % header for header in request.headers.raw]
        first = b"%b %b HTTP/1.1\r\n" % (request.method.encode(), request.url.raw_path)
        body = b"".join(request.stream) if isinstance(request.stream, httpx.ByteStream) else b""
        connection = await self._raw.ask(
            str(request.url),
            b"".join([first, *head, b"\r\n", body]),
            close="close" in request.headers.get("connection", ""),
        )
        stream = httpx.ByteStream(connection.body)
        return httpx.Response(connection.parser.get_status_code(), headers=connection.headers, stream=stream)

    async def aclose(self) -> None:
        await self._raw.aclose()


class Bare(_HttpxLike):
    """See ``BARE``."""

    name = BARE
    backends = frozenset({"asyncio", "uvloop"})
    has_http2 = False
    streams = False

    def __init__(self, authority: Path, *, http2: bool) -> None:
        self.client = httpx.AsyncClient(transport=_BareTransport(Raw(authority, http2=http2)))


PEERS: Final[tuple[type[Peer], ...]] = (
    Holdwire,
    HoldwireHttpx2,
    Httpx,
    Httpx2,
    HttpxAiohttp,
    Aiohttp,
    Niquests,
    Pyqwest,
    Memory,
    Raw,
    Bare,
)


def available(backend: str, *, http2: bool, streams: bool, names: list[str] | None = None) -> list[type[Peer]]:
    """The peers that are installed and can do this."""
    return [
        peer
        for peer in PEERS
        if backend in peer.backends
        and (peer.has_http2 or not http2)
        and (peer.streams or not streams)
        and (names is None or peer.name in names)
        and (not peer.module or importlib.util.find_spec(peer.module) is not None)
    ]


def versions() -> dict[str, str]:
    """What is measured, by distribution."""
    found: dict[str, str] = {}
    for name in (
        "holdwire",
        "httpx",
        "httpx2",
        "httpx-aiohttp",
        "aiohttp",
        "niquests",
        "pyqwest",
        "httptools",
        "uvloop",
    ):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
