"""``NetworkStream``: a ``Wire`` as a family's network stream, for upgrades, CONNECT and inspection of the peer.

Its exceptions must be the core's ReadError, WriteError and time-outs and no others: httpx2's WebSocket catches just
these. Not responsible for the connection, which its response owns.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import SocketAttribute
from anyio.streams.tls import TLSAttribute

from ..errors import DeadlineExceeded, HoldwireError
from ..net.wire import Look
from ..tls.stream import TLSStream
from ._checks import check_timeout

if TYPE_CHECKING:
    import ssl
    from collections.abc import Generator

    from ..net.wire import Wire
    from ._family import Family

__all__ = ["NetworkStream"]


class NetworkStream:
    """See the module. ``leftover`` is what was already read behind the head of the response."""

    __slots__ = ("_family", "_leftover", "wire")

    def __init__(self, family: Family, wire: Wire, leftover: bytes = b"") -> None:
        self._family = family
        self._leftover = leftover
        self.wire = wire

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Up to ``max_bytes`` bytes, ``b""`` at the end; None as time-out means no limit."""
        if self._leftover:
            data, self._leftover = self._leftover[:max_bytes], self._leftover[max_bytes:]
            return data
        check_timeout("read", timeout)
        with self._mapped("ReadError", "ReadTimeout"):
            return await self.wire.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write all of ``buffer``."""
        check_timeout("write", timeout)
        if buffer:
            with self._mapped("WriteError", "WriteTimeout"):
                await self.wire.write(buffer, timeout)

    async def aclose(self) -> None:
        """Close; a task that is in ``read`` gets the core's ReadError."""
        await self.wire.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> NetworkStream:
        """TLS on top of this stream."""
        check_timeout("connect", timeout)
        with self._mapped("ConnectError", "ConnectTimeout"):
            secured = await TLSStream.connect(
                self.wire, context=ssl_context, server_hostname=server_hostname or "", timeout=timeout
            )
        return NetworkStream(self._family, secured)

    def get_extra_info(self, info: str) -> Any:
        """``ssl_object``, ``client_addr``, ``server_addr``, ``socket``, ``is_readable``; None for anything else."""
        if info == "is_readable":
            return self.wire.closed or self.wire.look() is not Look.QUIET
        attribute = _ATTRIBUTES.get(info)
        return None if attribute is None else self.wire.extra(attribute, None)  # noqa: S610 - anyio's typed attributes, no database

    @contextlib.contextmanager
    def _mapped(self, error: str, timeout: str) -> Generator[None]:
        try:
            yield
        except DeadlineExceeded as exc:
            raise self._family.error(timeout)(str(exc)) from exc
        except (HoldwireError, anyio.BusyResourceError) as exc:
            mapped = self._family.error(error)(str(exc))
            setattr(mapped, "failure", getattr(exc, "failure", None))  # noqa: B010 - the class was made with it
            raise mapped from exc


_ATTRIBUTES = {
    "ssl_object": TLSAttribute.ssl_object,
    "client_addr": SocketAttribute.local_address,
    "server_addr": SocketAttribute.remote_address,
    "socket": SocketAttribute.raw_socket,
}
