"""``Family``: what differs between httpx with httpcore and httpx2 with httpcore2: their classes, by the same names.

One implementation serves both; nothing here imports either. Not responsible for using the classes (``_adapter``).
"""

from __future__ import annotations

import ssl
import sys
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, cast

from ..errors import (
    ClosedError,
    ConnectFailed,
    ConnectionLost,
    DeadlineExceeded,
    HoldwireError,
    LocalProtocolError,
    ProxyError,
    RemoteProtocolError,
    TransportClosed,
    UnsupportedProtocol,
)
from ..http.body import Body

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType

    from ..http.messages import Request

__all__ = ["Family"]

_TIMEOUTS: Final = {"connect": "ConnectTimeout", "read": "ReadTimeout", "write": "WriteTimeout", "pool": "PoolTimeout"}
_CLASSES: Final[tuple[tuple[type[HoldwireError], str], ...]] = (
    (ConnectFailed, "ConnectError"),
    (ProxyError, "ProxyError"),
    (ConnectionLost, "ReadError"),
    (ClosedError, "ReadError"),
    (RemoteProtocolError, "RemoteProtocolError"),
    (LocalProtocolError, "LocalProtocolError"),
    (UnsupportedProtocol, "UnsupportedProtocol"),
)
_EVIDENCE: Final[dict[str, Any]] = {"failure": None, "safe_to_retry": False, "delivery": None, "attempts": 0}
"""What the family's exceptions carry for a retry layer above, and what it is where nothing is known."""


class _Worded(Exception):
    """Reads as what happened, also where its argument is the event of a protocol's library, which others look for."""

    words = ""

    def __str__(self) -> str:
        return self.words or super().__str__()


def _body_class(translate: Callable[[HoldwireError], Exception], *bases: type[Any]) -> type[Body]:
    """A body that is the family's stream, if that is a base, and raises what ``translate`` makes of our exceptions."""

    class ResponseStream(Body, *bases):  # type: ignore[misc]  # the family's, by name only
        """The body of one response."""

        __slots__ = ()

        def translate(self, exc: HoldwireError) -> Exception:
            return translate(exc)

    return ResponseStream


def _is_of(package: ModuleType, method: object) -> bool:
    """Whether ``method`` is a plain function of ``package``.

    A patch, though it takes its name, has other globals; a proxy of it (wrapt's), though ``isinstance`` takes it for
    one and it shows the same globals, is of another type.
    """
    if type(method) is not FunctionType or method.__module__.partition(".")[0] != package.__name__:
        return False
    return method.__globals__ is vars(sys.modules[method.__module__])


class Family:
    """The classes of one family.

    Args:
        client: The module ``httpx`` or ``httpx2``.
        core: The module ``httpcore`` or ``httpcore2``.
    """

    def __init__(self, client: ModuleType, core: ModuleType) -> None:
        self.name: str = client.__name__
        self.byte_stream: type[Any] = client.ByteStream
        self.transport: Any = client.AsyncHTTPTransport
        self.client: Any = client.AsyncClient
        self.proxy: Any = client.Proxy
        self.invalid_url: type[Exception] = client.InvalidURL
        self.limits: Any = client.Limits
        self.default_limits = client.Limits(max_connections=100, max_keepalive_connections=20)
        """What a client passes on when it was given none."""
        self._module = client
        self.async_stream: type[Any] = client.AsyncByteStream
        self.response: Any = client.Response
        self.response_stream = _body_class(self.surface, client.AsyncByteStream)
        """The body of a response of the client's."""
        self.core_stream = _body_class(self.translate)
        """The same for a response of the core's."""
        self._core = core
        self._errors: dict[str, type[Exception]] = {}
        self._methods = cast("Mapping[str, object]", vars(self.transport))
        method: object = self._methods.get("handle_async_request")
        self._own_method = method if _is_of(client, method) else None

    def ssl_context(self, verify: object, cert: Any, trust_env: bool) -> ssl.SSLContext:  # noqa: FBT001 - httpx's names
        """The family's own context for these arguments: ``verify`` is a context, a bool, or the path of authorities.

        Raises:
            TypeError: ``verify`` is none of these. A path and a client certificate together: the family cannot do both.
        """
        if verify is None:  # as in httpx: its default
            verify = True
        if not isinstance(verify, ssl.SSLContext | str | bool):
            message = f"verify={verify!r:.80}: give True, False or an ssl.SSLContext"
            raise TypeError(message)
        if cert is not None and isinstance(verify, str):
            message = (
                "verify=<path> and cert do not go together; make a context, load the certificate into it with "
                "load_cert_chain(), and give it as verify="
            )
            raise TypeError(message)
        context: ssl.SSLContext = self._module.create_ssl_context(verify=verify, cert=cert, trust_env=trust_env)
        return context

    def core_request(self, request: Request) -> Any:
        """The core's request for what a proxy is asked: CONNECT, or the caller's request with the whole URL."""
        origin = request.origin
        url = self._core.URL(scheme=origin.scheme, host=origin.host, port=origin.port, target=request.target)
        return self._core.Request(request.method, url, headers=request.headers)

    def error(self, name: str) -> type[Exception]:
        """A subclass of the core's exception ``name`` that carries evidence; the family maps it like its parent."""
        made = self._errors.get(name)
        if made is None:
            base: type[Exception] = getattr(self._core, name)
            made = self._errors[name] = type(name, (_Worded, base), {"__module__": base.__module__, **_EVIDENCE})
        return made

    @property
    def untouched(self) -> bool:
        """Whether nobody has patched the family's ``AsyncHTTPTransport.handle_async_request``."""
        return self._methods.get("handle_async_request") is self._own_method is not None

    def surface(self, exc: HoldwireError) -> Exception:
        """The client's exception, made as the inherited method makes it: of the core's, which is made of ours."""
        translated = self.translate(exc)
        translated.__cause__ = exc
        if isinstance(exc, TransportClosed):
            return translated
        surfaced: Exception = getattr(self._module, type(translated).__name__)(str(translated))
        surfaced.__cause__ = translated
        surfaced.__dict__.update({key: getattr(exc, key) for key in _EVIDENCE})
        return surfaced

    def translate(self, exc: HoldwireError) -> Exception:
        """The exception that a user of this family knows, with ours as what it was made of.

        What surfaces as ``httpx.ReadError`` has this one as its ``__cause__``, and ours behind that.
        """
        if isinstance(exc, TransportClosed):
            return RuntimeError(str(exc))
        if isinstance(exc, DeadlineExceeded):
            name = _TIMEOUTS.get(exc.limit, "ReadTimeout")
        else:
            name = next((name for kind, name in _CLASSES if isinstance(exc, kind)), "NetworkError")
        event = exc.protocol_event if isinstance(exc, RemoteProtocolError) else None
        translated = self.error(name)(str(exc) if event is None else event)
        translated.__dict__["words"] = str(exc)
        translated.__dict__.update({key: getattr(exc, key) for key in _EVIDENCE})
        return translated
