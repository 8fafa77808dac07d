"""``SessionCache``: TLS sessions to resume, so that a reconnect costs a round trip and a certificate check less.

A resumed session skips the certificate: so one is never used across contexts, host names, ways of verification,
client certificates or proxies. A session keeps its context alive, so the context's id in a key stays true as long as
the entry exists.

CPython (3.11 to 3.13) loses some kilobytes with each session that is read from a connection, and reading takes as long
as a good part of a handshake. So a session is taken after a full handshake only, and offered until the server refuses
it. A handshake that the peer ended is tried once more without it, by whoever connects. A session whose handshake met
an alert is dropped; after any other failure it is set aside for a connection and offered once more: mostly it was the
path that failed, and a new session would lose memory each time. That gives up single use of tickets (RFC 8446, C.4):
who watches the network can link connections that share one. A server that keeps refusing is given peace. Not
responsible for when a session is taken (``stream``: after the first application data, because TLS 1.3 sends its tickets
after the handshake).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple

from ..policy.kind import Kind

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Hashable

    from ..policy.failure import Failure

__all__ = ["SessionCache", "SessionKey"]

_SIZE: Final = 256
_REFUSALS: Final = 3
"""After so many refused sessions in a row a server is taken to resume none."""
_TRIAL: Final = 64
"""Every so many connections it is tried again."""


class SessionKey(NamedTuple):
    """Everything that two connections must have in common to share a session."""

    context: int
    server_hostname: str
    verify_mode: int
    check_hostname: bool
    client_certificate: Hashable
    proxy: str | None


class SessionCache:
    """The latest session of each key; the least recently used ones go first.

    Args:
        size: Entries at most.
    """

    def __init__(self, size: int = _SIZE) -> None:
        self._size = size
        self._entries: OrderedDict[SessionKey, ssl.SSLSession] = OrderedDict()
        self._refusals: OrderedDict[SessionKey, int] = OrderedDict()
        """Sessions in a row that were refused, and once these are enough every connection since."""
        self._aside: OrderedDict[SessionKey, ssl.SSLSession] = OrderedDict()
        """With which a handshake has failed, until there is a full one."""
        self._doubted: set[SessionKey] = set()
        """Whose entry comes from there, and has not been resumed since."""

    def __len__(self) -> int:
        return len(self._entries)

    def key(
        self,
        context: ssl.SSLContext,
        server_hostname: str,
        *,
        client_certificate: Hashable = None,
        proxy: str | None = None,
    ) -> SessionKey:
        """The key of connections made with ``context`` to ``server_hostname``.

        ``client_certificate`` tells apart certificates that one context had loaded one after another.
        """
        return SessionKey(
            context=id(context),
            server_hostname=server_hostname.lower(),
            verify_mode=int(context.verify_mode),
            check_hostname=context.check_hostname,
            client_certificate=client_certificate,
            proxy=proxy,
        )

    def get(self, key: SessionKey) -> ssl.SSLSession | None:
        """The session to resume, if there is one."""
        session = self._entries.get(key)
        if session is not None:
            self._entries.move_to_end(key)
        return session

    def keep(self, key: SessionKey, session: ssl.SSLSession) -> None:
        """Remember ``session`` for later connections."""
        self._entries[key] = session
        self._entries.move_to_end(key)
        self._doubted.discard(key)
        while len(self._entries) > self._size:
            dropped, _ = self._entries.popitem(last=False)
            self._doubted.discard(dropped)

    def fail(self, key: SessionKey, failure: Failure | None) -> None:
        """A handshake that offered the session of ``key`` has failed: set it aside; the second time, or after an alert
        of the peer, drop it.
        """
        session = self._entries.get(key)
        if session is None:
            return  # it was offered on several at once, and another one was first
        alerted = failure is not None and failure.kind is Kind.TLS_ALERT_RECEIVED
        if key not in self._doubted and not alerted:
            self._aside[key] = session
            if len(self._aside) > self._size:
                self._aside.popitem(last=False)
        self.forget(key)

    def forget(self, key: SessionKey) -> None:
        """Drop the session of ``key``: the server refused it."""
        self._entries.pop(key, None)
        self._doubted.discard(key)
        self._refusals[key] = self._refusals.get(key, 0) + 1
        if len(self._refusals) > self._size:
            self._refusals.popitem(last=False)

    def keeper(self, key: SessionKey, *, offered: bool, resumed: bool) -> Callable[[ssl.SSLSession], None] | None:
        """What a stream is given as ``on_session`` once its handshake is over: it remembers a session under ``key``.

        None where the one that is remembered was just resumed or is to be tried once more, and where the server resumes
        none.
        """
        aside = self._aside.pop(key, None)
        if resumed:
            self._refusals.pop(key, None)
            self._doubted.discard(key)
            if key in self._entries:
                return None
        elif offered:
            self.forget(key)
        refusals = self._refusals.get(key, 0)
        if refusals >= _REFUSALS:
            self._refusals[key] = refusals + 1
            if refusals % _TRIAL:
                return None
        elif aside is not None and not offered:
            self.keep(key, aside)
            self._doubted.add(key)
            return None

        def keep(session: ssl.SSLSession) -> None:
            self.keep(key, session)

        return keep

    def clear(self) -> None:
        """Forget all sessions."""
        self._entries.clear()
        self._aside.clear()
        self._doubted.clear()
        self._refusals.clear()
