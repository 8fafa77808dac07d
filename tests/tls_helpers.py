"""What the tests of ``holdwire.tls`` share: connected pairs with TLS of a given version at both ends."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import anyio

from holdwire.net.stream import SocketStream
from holdwire.tls.engine import Engine
from holdwire.tls.stream import TLSStream
from tests.net_helpers import tcp_pair

if TYPE_CHECKING:
    import pytest
    from anyio.abc import ByteStream

    from holdwire.testing.certificates import Identity

__all__ = ["VERSIONS", "Contexts", "secure", "session_reads", "socket_streams", "together"]

T = TypeVar("T")
Step: TypeAlias = Callable[[], Coroutine[Any, Any, T]]

VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}


@dataclass(frozen=True)
class Contexts:
    """A client's and a server's context that agree on one version of TLS."""

    client: ssl.SSLContext
    server: ssl.SSLContext

    @classmethod
    def of(cls, identity: Identity, version: str) -> Contexts:
        client, server = identity.client_context(), identity.server_context()
        client.minimum_version = client.maximum_version = VERSIONS[version]
        return cls(client, server)


async def together(*steps: Step[T]) -> list[T]:
    """The results of all ``steps``, which run at once; a lone exception comes out without its group."""
    results: dict[int, T] = {}

    async def run(number: int, step: Step[T]) -> None:
        results[number] = await step()

    try:
        async with anyio.create_task_group() as group:
            for number, step in enumerate(steps):
                group.start_soon(run, number, step)
    except BaseExceptionGroup as exc:
        if len(exc.exceptions) == 1:
            raise exc.exceptions[0] from exc
        raise
    return [results[number] for number in range(len(steps))]


def socket_streams(*, buffers: int | None = None) -> tuple[SocketStream, SocketStream]:
    """Two ends of a TCP connection as our streams."""
    client, server = tcp_pair(buffers=buffers)
    return SocketStream(client, host="localhost", port=443), SocketStream(server, host="client")


async def secure(
    pair: tuple[ByteStream, ByteStream],
    contexts: Contexts,
    *,
    client: dict[str, Any] | None = None,
    server: dict[str, Any] | None = None,
) -> tuple[TLSStream, TLSStream]:
    """TLS over ``pair``: the client's end first."""
    options: dict[str, Any] = {"server_hostname": "localhost", **(client or {})}
    first, second = await together(
        lambda: TLSStream.connect(pair[0], context=contexts.client, **options),
        lambda: TLSStream.connect(
            pair[1], context=contexts.server, server_hostname=None, server_side=True, **(server or {})
        ),
    )
    return first, second


def session_reads(monkeypatch: pytest.MonkeyPatch) -> list[Engine]:
    """The engines whose session was read, from now on: CPython leaks some kilobytes each time."""
    reads: list[Engine] = []

    def read(engine: Engine) -> ssl.SSLSession | None:
        reads.append(engine)
        return engine.object.session

    monkeypatch.setattr(Engine, "session", property(read))
    return reads
