"""``Adapter``: what a family's ``AsyncHTTPTransport`` calls its pool.

Translates requests, responses, time-outs, trace events, network streams and exceptions between a family's core and
``http/``. The inherited ``handle_async_request`` stays untouched, so that whoever patches it (OpenTelemetry's
instrumentation, pytest-httpx) keeps working. Not responsible for anything that happens to a request.
"""

from __future__ import annotations

import contextvars
import time
from typing import TYPE_CHECKING, Any, Final

from ..errors import HoldwireError
from ..http.messages import Origin, Request, Timeouts
from ..net.wire import Wire
from ._body import body_of
from ._checks import check_options
from ._stream import NetworkStream

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from ..http.client import HttpClient
    from ..http.messages import Headers, Response, ResponseBody, Trace
    from ._family import Family

__all__ = ["Adapter", "CoreResponse"]

_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_ORIGINS_LIMIT: Final = 1024
_LAST_PORT: Final = 65_535
_NO_LIMITS: Final = Timeouts()


class CoreResponse:
    """What the inherited method makes the family's response of."""

    __slots__ = ("extensions", "headers", "status", "stream")

    def __init__(self, status: int, headers: Headers, stream: ResponseBody, extensions: dict[str, Any]) -> None:
        self.status = status
        self.headers = headers
        self.stream = stream
        self.extensions = extensions


class Adapter:
    """See the module."""

    def __init__(self, family: Family, client: HttpClient) -> None:
        self.client = client
        self._family = family
        self._origins: dict[tuple[bytes, bytes, int | None, str | None], Origin] = {}

    async def handle_async_request(self, core_request: Any) -> CoreResponse:
        """Send a core request; raises the core's exceptions, with ours behind them."""
        request = self._request(core_request)
        try:
            response = await self.client.send(request)
        except HoldwireError as exc:
            raise self._family.translate(exc) from exc
        return self._response(response)

    def _request(self, core: Any) -> Request:
        url = core.url
        extensions = core.extensions
        origin = self._origins.get((url.scheme, url.host, url.port, extensions.get("sni_hostname")))
        if origin is None:
            origin = self._origin(url, extensions.get("sni_hostname"))
        limits = extensions.get("timeout")
        request = Request(
            core.method,
            origin,
            url.target,
            core.headers,
            body_of(core.stream, self._family.byte_stream),
            timeouts=_NO_LIMITS
            if limits is None
            else Timeouts(limits.get("connect"), limits.get("read"), limits.get("write"), limits.get("pool")),
            context=contextvars.copy_context(),
        )
        options = extensions.get("holdwire")
        if options is not None:
            _apply(request, options)
        trace = extensions.get("trace")
        if trace is not None:
            request.trace = self._trace(trace, request, core)
        return request

    def _origin(self, url: Any, server_name: str | None) -> Origin:
        scheme = url.scheme.decode("ascii")
        host = url.host.decode("ascii")
        if not host:
            lacks = f"no host, only the scheme {scheme!r}" if scheme else "no scheme and host"
            message = f"the URL has {lacks}; write it as https://host/path, or give the client a base_url"
            raise self._family.error("UnsupportedProtocol")(message)
        port = url.port if url.port is not None else _PORTS.get(scheme, 0)
        if port > _LAST_PORT:
            message = f"the URL's port {port} does not exist: ports go from 1 to {_LAST_PORT}"
            raise self._family.error("ConnectError")(message)
        if len(self._origins) >= _ORIGINS_LIMIT:
            self._origins.clear()
        origin = self._origins[url.scheme, url.host, url.port, server_name] = Origin(scheme, host, port, server_name)
        return origin

    def _response(self, response: Response) -> CoreResponse:
        extensions: dict[str, Any] = {"http_version": response.http_version}
        if response.reason is not None:
            extensions["reason_phrase"] = response.reason
        if response.wire is not None:
            extensions["network_stream"] = NetworkStream(self._family, response.wire, response.leftover)
        if response.stream_id is not None:
            extensions["stream_id"] = response.stream_id
        body = response.body
        body.translate = self._family.translate
        return CoreResponse(response.status, response.headers, body, extensions)

    def _trace(self, callback: Any, request: Request, core: Any) -> Trace:
        """The caller's trace hook, shown the family's own objects."""
        family = self._family

        async def trace(name: str, info: dict[str, Any]) -> None:
            shown = dict(info)
            if "request" in shown:
                own = shown["request"] is request and request.target == core.url.target
                shown["request"] = core if own else family.core_request(shown["request"])
            if isinstance(shown.get("stream"), Wire):
                shown["stream"] = NetworkStream(family, shown["stream"])
            if isinstance(shown.get("return_value"), Wire):
                shown["return_value"] = NetworkStream(family, shown["return_value"])
            if isinstance(shown.get("exception"), HoldwireError):
                shown["exception"] = family.translate(shown["exception"])
            await callback(name, shown)

        return trace

    async def aclose(self) -> None:
        """Close every connection."""
        await self.client.aclose()

    async def __aenter__(self) -> Self:
        self.client.open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.client.aclose()


def _apply(request: Request, options: Any) -> None:
    """The request's own options, ``extensions={"holdwire": {...}}``."""
    check_options(options)
    request.marked = options.get("idempotent")
    deadline = options.get("deadline")
    if deadline is not None:
        request.deadline = time.monotonic() + float(deadline)
    request.truncation = options.get("tls_truncation")
