"""``instrument_client``: the CLIENT span once, never twice; what is missing is said."""

from __future__ import annotations

import functools
import sys
import types
from typing import TYPE_CHECKING, Any

import httpx
import httpx2
import pytest

from holdwire.telemetry import Instrumented, instrument_client, instrumentation_of

if TYPE_CHECKING:
    from collections.abc import Callable

MODULE = "opentelemetry.instrumentation.httpx"
BOTH = Instrumented.GLOBALLY | Instrumented.PER_CLIENT


class Instrumentor:
    """Wraps a client as the real one does, and notes with which providers."""

    calls: list[dict[str, Any]]

    @classmethod
    def instrument_client(cls, client: Any, **providers: Any) -> None:
        cls.calls.append(providers)
        client._transport.handle_async_request = wrapped(client._transport.handle_async_request)
        client._is_instrumented_by_opentelemetry = True


def wrapped(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def wrapper(*args: Any) -> Any:
        return method(*args)

    return wrapper


@pytest.fixture(autouse=True)
def package(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """Stands for opentelemetry-instrumentation-httpx."""
    module = types.ModuleType(MODULE)
    names = ("HTTPXClientInstrumentor", "HTTPX2ClientInstrumentor")
    for name in names:
        setattr(module, name, type(name, (Instrumentor,), {"calls": []}))
    monkeypatch.setitem(sys.modules, "opentelemetry.instrumentation", types.ModuleType("opentelemetry.instrumentation"))
    monkeypatch.setitem(sys.modules, MODULE, module)
    return module


def make(family: Any, **options: Any) -> Any:
    class Transport(family.AsyncHTTPTransport):  # type: ignore[misc]
        """A class of the test's own, so that wrapping it harms nobody."""

        async def handle_async_request(self, request: Any) -> Any:
            raise AssertionError(request)

    return family.AsyncClient(transport=Transport(), **options)


def wrap_class(client: Any) -> None:
    """As global instrumentation does."""
    cls: type[Any] = client._transport.__class__
    cls.handle_async_request = wrapped(cls.handle_async_request)


@pytest.fixture(params=[httpx, httpx2], ids=["httpx", "httpx2"])
def family(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_a_bare_client_is_instrumented_once_with_the_given_providers(family: Any, package: Any) -> None:
    client = make(family)
    name = "HTTPXClientInstrumentor" if family is httpx else "HTTPX2ClientInstrumentor"
    assert instrument_client(client) is Instrumented.NOT
    assert instrument_client(client) is Instrumented.PER_CLIENT
    assert getattr(package, name).calls == [{"tracer_provider": None, "meter_provider": None}]


def test_a_globally_wrapped_class_is_left_alone(family: Any, package: Any) -> None:
    client = make(family)
    wrap_class(client)
    assert instrument_client(client) is Instrumented.GLOBALLY
    assert not package.HTTPXClientInstrumentor.calls
    assert not package.HTTPX2ClientInstrumentor.calls


def test_both_at_once_is_found_and_said(family: Any, caplog: pytest.LogCaptureFixture) -> None:
    client = make(family)
    wrap_class(client)
    Instrumentor.calls = []
    Instrumentor.instrument_client(client)
    assert instrumentation_of(client) == BOTH
    assert not caplog.records
    assert instrument_client(client) == BOTH
    assert "two CLIENT spans" in caplog.records[0].getMessage()


def test_a_client_that_was_wrapped_before_its_class_passes_the_class_by_and_nothing_is_said(
    family: Any, caplog: pytest.LogCaptureFixture
) -> None:
    client = make(family)
    instrument_client(client)
    wrap_class(client)
    assert instrument_client(client) is Instrumented.PER_CLIENT
    assert not caplog.records


def test_transports_of_mounts_count_too(family: Any) -> None:
    client = make(family, mounts={"https://a.example": make(family)._transport, "https://b.example": None})
    mounted = next(one for one in client._mounts.values() if one is not None)
    mounted.handle_async_request = wrapped(mounted.handle_async_request)
    assert instrumentation_of(client) is Instrumented.PER_CLIENT


def test_a_subclass_of_a_client_is_a_client(family: Any) -> None:
    class Mine(family.AsyncClient):  # type: ignore[misc]
        pass

    assert instrumentation_of(Mine(transport=make(family)._transport)) is Instrumented.NOT


@pytest.mark.parametrize("wrong", [object(), httpx.Client(), "client"], ids=["object", "sync", "text"])
def test_what_is_no_async_client_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="expected an AsyncClient of httpx or httpx2, got "):
        instrument_client(wrong)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, MODULE, None)
    with pytest.raises(ImportError, match="pip install"):
        instrument_client(make(httpx))


def test_a_package_that_is_too_old_for_httpx2_is_named(package: Any) -> None:
    del package.HTTPX2ClientInstrumentor
    with pytest.raises(ImportError, match="no HTTPX2ClientInstrumentor: upgrade it"):
        instrument_client(make(httpx2))
