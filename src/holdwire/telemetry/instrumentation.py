"""``instrument_client``: the CLIENT span around a client's requests, through OpenTelemetry's own instrumentation.

That package (``opentelemetry-instrumentation-httpx``) wraps either the class of the transport, for all clients, or
one client. Both at once double every CLIENT span; this finds out which is there. It imports no HTTP library: clients
are looked at, not imported. Not responsible for holdwire's own spans.
"""

from __future__ import annotations

import enum
import importlib
import logging
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

__all__ = [
    "Instrumented",
    "family_of",
    "instrument_client",
    "instrumentation_of",
    "warn_if_doubled",
    "warn_if_instrumented",
]

logger = logging.getLogger("holdwire")

_INSTRUMENTORS: Final = {"httpx": "HTTPXClientInstrumentor", "httpx2": "HTTPX2ClientInstrumentor"}
_METHOD: Final = "handle_async_request"
_OURS: Final = __name__.partition(".")[0]
_DOUBLED: Final = (
    "a client is instrumented globally and by itself: each request makes two CLIENT spans. "
    "Use either HTTPXClientInstrumentor().instrument() or instrument_client(client)"
)


_INSTRUMENTED: Final = (
    "emit_client_spans=True, and a client is instrumented, too: its CLIENT spans are the instrumentation's, and "
    "holdwire makes none. Take emit_client_spans out"
)


class Instrumented(enum.Flag):
    """How a client is instrumented; both flags mean that every CLIENT span and every duration comes twice."""

    NOT = 0
    GLOBALLY = enum.auto()
    """Its requests pass the wrapped class of its transport: ``HTTPXClientInstrumentor().instrument()``. A client that
    was wrapped by itself before that call passes it by."""
    PER_CLIENT = enum.auto()
    """This client is wrapped: ``HTTPXClientInstrumentor.instrument_client(client)``."""


def instrumentation_of(client: object) -> Instrumented:
    """How ``client``, an ``AsyncClient`` of httpx or httpx2, is instrumented.

    Raises:
        TypeError: It is no such client.
    """
    family_of(client)
    found = Instrumented.NOT
    for transport in _transports(client):
        found |= _of_transport(transport)
    if getattr(client, "_is_instrumented_by_opentelemetry", False):
        found |= Instrumented.PER_CLIENT
    return found


def _of_transport(transport: object) -> Instrumented:
    found = Instrumented.NOT
    own = vars(transport).get(_METHOD)
    if own is not None:
        found |= Instrumented.PER_CLIENT
    reached = getattr(type(transport), _METHOD, None) if own is None else getattr(own, "__wrapped__", None)
    passes_on = (getattr(reached, "__module__", None) or "").startswith(f"{_OURS}.")  # to what its base has by then
    classes = type(transport).__mro__ if passes_on else ()
    if hasattr(reached, "__wrapped__") or any(hasattr(vars(one).get(_METHOD), "__wrapped__") for one in classes):
        found |= Instrumented.GLOBALLY
    return found


def warn_if_doubled(transport: object) -> bool:
    """Say it if every request through ``transport`` makes two CLIENT spans; whether it does."""
    doubled = _of_transport(transport) is Instrumented.GLOBALLY | Instrumented.PER_CLIENT
    if doubled:
        logger.warning(_DOUBLED)
    return doubled


def warn_if_instrumented(transport: object, *, said: bool) -> bool:
    """Whether requests through ``transport`` have a CLIENT span already; says so where it was not ``said`` yet."""
    instrumented = _of_transport(transport) is not Instrumented.NOT
    if instrumented and not said:
        logger.warning(_INSTRUMENTED)
    return instrumented


def instrument_client(
    client: object, *, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
) -> Instrumented:
    """Give every request of ``client`` a CLIENT span, unless it gets one already.

    Returns:
        How the client was instrumented before. If it was in both ways, that is logged: one of them must go.

    Raises:
        TypeError: It is no ``AsyncClient`` of httpx or httpx2.
        ImportError: ``opentelemetry-instrumentation-httpx`` is not installed, or too old for this client.
    """
    before = instrumentation_of(client)
    if before is Instrumented.GLOBALLY | Instrumented.PER_CLIENT:
        logger.warning(_DOUBLED)
    if before is not Instrumented.NOT:
        return before
    name = _INSTRUMENTORS[family_of(client)]
    try:
        module = importlib.import_module("opentelemetry.instrumentation.httpx")
    except ModuleNotFoundError as exc:
        raise ImportError(
            "instrument_client needs the package opentelemetry-instrumentation-httpx: pip install it"
        ) from exc
    instrumentor = getattr(module, name, None)
    if instrumentor is None:
        raise ImportError(
            f"the installed opentelemetry-instrumentation-httpx has no {name}: upgrade it to instrument this client"
        )
    instrumentor.instrument_client(client, tracer_provider=tracer_provider, meter_provider=meter_provider)
    return before


def family_of(client: object) -> str:
    """``httpx`` or ``httpx2``, by where the class of ``client``, or a base of it, comes from."""
    for base in type(client).__mro__:
        family = base.__module__.partition(".")[0]
        if family in _INSTRUMENTORS and base.__name__ == "AsyncClient":
            return family
    raise TypeError(f"expected an AsyncClient of httpx or httpx2, got {type(client).__name__}")


def _transports(client: object) -> Iterator[object]:
    """The transports of ``client``: its private attributes, where the instrumentation looks, too."""
    known: Any = client
    yield known._transport  # noqa: SLF001
    for transport in known._mounts.values():  # noqa: SLF001
        if transport is not None:
            yield transport
