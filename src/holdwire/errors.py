"""The exceptions of holdwire: few classes, each a contract, each carrying its ``Failure`` where there is one.

Not responsible for deciding anything, and not for the exceptions that httpx users see: ``transports`` translates.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import anyio

from .policy.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .events import ConnectionSetUp
    from .policy.fate import Fate
    from .policy.phase import Delivery
    from .policy.retry import Verdict

__all__ = [
    "ClosedError",
    "ConnectFailed",
    "ConnectionLost",
    "DeadlineExceeded",
    "Fatal",
    "HeartbeatLost",
    "HoldwireError",
    "LocalProtocolError",
    "LoginRefused",
    "ProxyError",
    "RemoteProtocolError",
    "SessionDown",
    "TransportClosed",
    "UnsupportedProtocol",
    "failure_of",
]


class HoldwireError(Exception):
    """The root. ``failure`` is the record of what happened; None where nothing failed on a connection.

    The exchange that surfaces an error adds what a caller's own retry layer needs: ``attempts`` (how often the
    request was tried), ``verdict`` (why it was not tried again), ``earlier`` (the failures of earlier attempts).
    """

    failure: Failure | None = None
    attempts: int = 0
    verdict: Verdict | None = None
    earlier: tuple[Failure, ...] = ()
    setup: ConnectionSetUp | None = None
    """What was tried while no connection came about: told once it is decided whether an attempt follows."""

    def __init__(self, message: str = "", *, failure: Failure | None = None) -> None:
        super().__init__(message or (str(failure) if failure is not None else ""))
        self.failure = failure

    def __reduce__(self) -> tuple[Any, ...]:
        """To be copied, and pickled for another process: all but ``setup``, whose context belongs to this one."""
        return _again, (type(self), self.args), self.__dict__ | {"setup": None}

    @property
    def delivery(self) -> Delivery | None:
        """What became of the request's bytes; None where no request was sent or nobody knows."""
        return None if self.failure is None else self.failure.delivery

    def explain(self, failure: Failure) -> None:
        """``failure`` tells the same and says better what caused it: so does the message then."""
        before, self.failure = self.failure, failure
        if before is not None and before.cause != failure.cause and self.args:
            self.args = (str(self.args[0]).replace(str(before), str(failure)), *self.args[1:])

    def retell(self, better: Callable[[Failure], Failure]) -> None:
        """Let every record of what failed, in the set-up too, be what ``better`` makes of it; asked once for each."""
        known: dict[int, Failure] = {}

        def told(failure: Failure) -> Failure:
            if id(failure) not in known:
                known[id(failure)] = better(failure)
            return known[id(failure)]

        setup = self.setup
        if setup is not None:
            steps = [one if one.failure is None else replace(one, failure=told(one.failure)) for one in setup.steps]
            failure = None if setup.failure is None else told(setup.failure)
            self.setup = replace(setup, steps=tuple(steps), failure=failure)
        if isinstance(self, ConnectFailed):
            self.failures = tuple(map(told, self.failures))
        if self.failure is not None:
            self.explain(told(self.failure))

    @property
    def safe_to_retry(self) -> bool:
        """Whether sending the request again cannot execute it twice; False when that is not known."""
        return self.verdict is not None and self.verdict.safe_to_retry


class ConnectFailed(HoldwireError, ConnectionError):
    """No connection came about: name resolution, connect, proxy or TLS handshake failed.

    ``failures`` holds one record for each address that was tried, in order; ``failure`` is the one that counts.
    """

    failures: tuple[Failure, ...]

    def __init__(
        self, message: str = "", *, failure: Failure | None = None, failures: tuple[Failure, ...] = ()
    ) -> None:
        super().__init__(message, failure=failure)
        self.failures = failures or ((failure,) if failure is not None else ())
        self.address_left = False
        """Whether the host has an address that was not tried."""
        self.session_refused = False
        """Whether the peer ended a TLS handshake that offered a session: one without it may do better."""


class ConnectionLost(HoldwireError, ConnectionError, anyio.BrokenResourceError):
    """An established connection ended with a failure. Every later use of it raises the same failure again.

    It is anyio's BrokenResourceError and the built-in ConnectionError too; ``errno`` is the kernel's, if there was one.
    ``fate`` says what became of the bytes that were sent, where a stream of ``holdwire.connect`` or a session met its
    end.
    """

    fate: Fate | None = None

    def __init__(self, message: str = "", *, failure: Failure | None = None) -> None:
        super().__init__(message, failure=failure)
        if failure is not None and failure.errno:
            self.errno = failure.errno

    __str__ = Exception.__str__


class HeartbeatLost(ConnectionLost):
    """The peer did not answer a heartbeat in time; holdwire aborted the connection."""


class SessionDown(HoldwireError, ConnectionError):
    """There is no session to send on, and none came within the time that the caller gave; nothing was sent."""


class LoginRefused(HoldwireError):
    """Raise it from ``on_connect``: the server does not accept us. The same refusal twice ends the sessions."""


class Fatal(HoldwireError):
    """Raise it from ``on_connect``: trying again is pointless. It ends the sessions and reaches their caller."""


class RemoteProtocolError(HoldwireError):
    """The peer broke its protocol, or ended the connection where its message was not complete.

    ``protocol_event`` is what the protocol's library made of the peer's word (h2's StreamReset, ConnectionTerminated).
    """

    protocol_event: object = None


class LocalProtocolError(HoldwireError, ValueError):
    """What the caller asked to send is not legal; nothing of it was sent."""


class ProxyError(HoldwireError):
    """The proxy opened no tunnel: it refused, broke its protocol, or its connection was lost.

    ``status`` is what an HTTP proxy answered.
    """

    status: int | None = None


class UnsupportedProtocol(HoldwireError, ValueError):
    """The scheme of the URL is missing or unknown, or the proxy's scheme is."""


class DeadlineExceeded(HoldwireError, TimeoutError):
    """A time limit of the caller expired: ``limit`` is ``connect``, ``read``, ``write``, ``pool`` or ``total``."""

    def __init__(self, message: str = "", *, limit: str, failure: Failure | None = None) -> None:
        super().__init__(message, failure=failure)
        self.limit = limit


class ClosedError(HoldwireError, anyio.ClosedResourceError):
    """The transport, pool or stream was closed by its owner and cannot be used again."""


class TransportClosed(ClosedError):
    """The same, of a transport that was closed before the request came."""


def _again(kind: type[HoldwireError], args: tuple[Any, ...]) -> HoldwireError:
    error = kind.__new__(kind)
    error.args = args
    return error


def failure_of(exc: object) -> Failure | None:
    """The ``Failure`` behind any exception: through wrappers of SDKs, causes, contexts and exception groups.

    Returns None where holdwire recorded none, and for what is no exception.
    """
    for candidate in _walk(exc):
        failure: object = getattr(candidate, "failure", None)
        if isinstance(failure, Failure):
            return failure
    return None


def _walk(exc: object) -> Iterator[BaseException]:
    """Breadth first over causes, contexts and groups, each exception once."""
    queue = [exc]
    seen: set[int] = set()
    for candidate in queue:
        if not isinstance(candidate, BaseException) or id(candidate) in seen:
            continue
        seen.add(id(candidate))
        yield candidate
        if isinstance(candidate, BaseExceptionGroup):
            queue.extend(cast("BaseExceptionGroup[BaseException]", candidate).exceptions)
        queue.append(candidate.__cause__)
        queue.append(candidate.__context__)
