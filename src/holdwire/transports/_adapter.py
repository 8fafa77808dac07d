"""``Adapter``: translates between a family and ``http/``: requests, responses, time-outs, trace events, exceptions.

``send`` takes the client's own request. ``handle_async_request`` takes the core's: it is what the inherited
``AsyncHTTPTransport.handle_async_request`` calls its pool, for those who have patched that method. Both give the same
responses and raise the same exceptions. Not responsible for anything that happens to a request.
"""

from __future__ import annotations

import contextvars
import time
import weakref
from typing import TYPE_CHECKING, Any, Final

from ..errors import ConnectFailed, HoldwireError, UnsupportedProtocol
from ..http.attempt_span import AttemptSpans
from ..http.messages import Origin, Request, Timeouts
from ..net.wire import Wire
from ..telemetry import ClientSpans, warn_if_doubled, warn_if_instrumented
from ._body import body_of
from ._checks import check_options, timeouts_of
from ._stream import NetworkStream

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from ..events import SpanMaker
    from ..http.body import Body
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
    """See the module. ``transport`` is what it works for, and is looked at for double instrumentation only."""

    def __init__(self, family: Family, client: HttpClient, transport: object) -> None:
        self.client = client
        self._transport = weakref.ref(transport)
        self._is_doubled = False
        self._is_instrumented = False
        self._family = family
        self._origins: dict[tuple[tuple[bytes, bytes, int | None], str | None], Origin] = {}

    async def handle_async_request(self, core_request: Any) -> CoreResponse:
        """Send a core request; raises the core's exceptions, with ours behind them."""
        url = core_request.url
        try:
            request = self._request(
                core_request.method,
                (url.scheme, url.host, url.port),
                url.target,
                core_request.headers,
                core_request.stream,
                core_request.extensions,
                self._family.core_stream,
            )
            trace = core_request.extensions.get("trace")
            if trace is not None:
                request.trace = self._trace(trace, request, core_request)
            response = await self.client.send(request)
        except HoldwireError as exc:
            raise self._family.translate(exc) from exc
        return CoreResponse(response.status, response.headers, response.body, self._extensions(response))

    async def send(self, client_request: Any) -> Any:
        """The client's response to the client's request, with no core objects in between."""
        family = self._family
        url = client_request.url
        extensions = client_request.extensions
        target = extensions.get("target") or url.raw_path
        if isinstance(target, str):
            target = target.encode("ascii")
        try:
            response = await self.client.send(
                self._request(
                    client_request.method.encode("ascii"),
                    (url.raw_scheme, url.raw_host, url.port),
                    target,
                    client_request.headers.raw,
                    client_request.stream,
                    extensions,
                    family.response_stream,
                )
            )
        except HoldwireError as exc:
            surfaced = family.surface(exc)
            raise surfaced from surfaced.__cause__
        made = family.response(
            response.status,
            headers=response.headers,
            stream=response.body,
            extensions=self._extensions(response),
        )
        if response.is_ascii:  # which the family would find out by decoding every header
            made.headers.encoding = "ascii"
        return made

    def _request(
        self,
        method: bytes,
        place: tuple[bytes, bytes, int | None],
        target: bytes,
        headers: Headers,
        stream: Any,
        extensions: Any,
        body_type: type[Body],
    ) -> Request:
        """Our request; ``place`` is the URL's scheme, host and port.

        Raises:
            UnsupportedProtocol, ConnectFailed: The URL leads nowhere.
            TypeError, ValueError: An extension is wrong.
        """
        server_name = extensions.get("sni_hostname")
        origin = self._origins.get((place, server_name))
        if origin is None:
            origin = self._origin(place, server_name)
        limits = extensions.get("timeout")
        request = Request(
            method,
            origin,
            target,
            headers,
            body_of(stream, self._family.byte_stream),
            timeouts=_NO_LIMITS if limits is None else timeouts_of(limits),
            context=contextvars.copy_context(),
            body_type=body_type,
        )
        options = extensions.get("holdwire")
        if options is not None:
            _apply(request, options)
        if ClientSpans.in_use:
            maker = self._span_maker()
            request.spans = None if maker is None else AttemptSpans(maker, request)
        return request

    def _span_maker(self) -> SpanMaker | None:
        """What makes the CLIENT spans, if holdwire shall make them."""
        maker = self.client.settings.observers.span_maker
        if maker is None:
            return None
        self._is_instrumented = warn_if_instrumented(self._transport(), said=self._is_instrumented)
        return None if self._is_instrumented else maker

    def _origin(self, place: tuple[bytes, bytes, int | None], server_name: object) -> Origin:
        if not isinstance(server_name, str | None):
            message = f'extensions["sni_hostname"]={server_name!r:.80}: give a str'
            raise TypeError(message)
        scheme = place[0].decode("ascii")
        host = place[1].decode("ascii")
        if not host:
            lacks = f"no host, only the scheme {scheme!r}" if scheme else "no scheme and host"
            raise UnsupportedProtocol(
                f"the URL has {lacks}; write it as https://host/path, or give the client a base_url"
            )
        port = place[2] if place[2] is not None else _PORTS.get(scheme, 0)
        if port > _LAST_PORT:
            raise ConnectFailed(f"the URL's port {port} does not exist: ports go from 1 to {_LAST_PORT}")
        if len(self._origins) >= _ORIGINS_LIMIT:
            self._origins.clear()
        if not self._is_doubled:  # looked at seldom, said once
            self._is_doubled = warn_if_doubled(self._transport())
        origin = self._origins[place, server_name] = Origin(scheme, host, port, server_name)
        return origin

    def _extensions(self, response: Response) -> dict[str, Any]:
        extensions: dict[str, Any] = {"http_version": response.http_version}
        if response.reason is not None:
            extensions["reason_phrase"] = response.reason
        if response.wire is not None:
            extensions["network_stream"] = NetworkStream(self._family, response.wire, response.leftover)
        if response.stream_id is not None:
            extensions["stream_id"] = response.stream_id
        return extensions

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
