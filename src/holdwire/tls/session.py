"""``SessionCache``: TLS sessions to resume, so that a reconnect costs a round trip and a certificate check less.

A resumed session skips the certificate: so one is never used across contexts, host names, ways of verification,
client certificates or proxies. A session keeps its context alive, so the context's id in a key stays true as long as
the entry exists.

CPython before 3.13.1 (3.11 always) leaks a copy of the session, six kilobytes and more, whenever one is read from a
connection (gh-116810); on every version that takes as long as a good part of a handshake. So reading is what this
economizes: a session is offered for as long as the server resumes it, is read anew only where there is none, and every
key has a credit of reads, which its connections earn anew. A handshake that the peer ended is tried once more without
it, by whoever connects. A session whose handshake met an alert is dropped; after any other failure it rests until there
is a full one, and is offered again: mostly it was the path that failed. That gives up single use of tickets (RFC 8446,
C.4): who watches the network can link connections that share one. One that is refused, or fails, time and again is
given up, and the server given peace.

Not responsible for when a session is taken (``stream``: after the first application data, because TLS 1.3 sends its
tickets after the handshake).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from ..policy.kind import Kind

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Hashable

    from ..policy.failure import Failure
    from .engine import Engine

__all__ = ["SessionCache", "SessionKey"]

_SIZE: Final = 256
_STRIKES: Final = 3
"""After so many refusals and failed handshakes in a row a session is given up."""
_PRICE: Final = 64
"""So many connections earn one read."""
_CREDIT: Final = 3 * _PRICE
"""What a key begins with, and has at most."""


class SessionKey(NamedTuple):
    """Everything that two connections must have in common to share a session."""

    context: int
    server_hostname: str
    verify_mode: int
    check_hostname: bool
    client_certificate: Hashable
    proxy: str | None


@dataclass(slots=True)
class _Entry:
    """What is known of one key."""

    session: ssl.SSLSession | None = None
    resting: bool = False
    """A handshake that offered it has failed, and there was no full one since."""
    strikes: int = 0
    """Refusals and failed handshakes since a session was last resumed."""
    credit: int = _CREDIT
    """In connections."""

    def strike(self) -> None:
        """The session was refused, or its handshake failed."""
        self.strikes += 1
        if self.strikes >= _STRIKES:
            self.session = None
            self.credit = 0


class SessionCache:
    """The session of each key; the least recently used ones go first.

    Args:
        size: Keys at most.
    """

    def __init__(self, size: int = _SIZE) -> None:
        self._size = size
        self._entries: OrderedDict[SessionKey, _Entry] = OrderedDict()

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
        """The session to offer, if there is one."""
        entry = self._entries.get(key)
        return None if entry is None or entry.resting else entry.session

    def fail(self, key: SessionKey, offered: ssl.SSLSession, failure: Failure | None) -> None:
        """A handshake that offered ``offered`` has failed by ``failure``: let it rest, or give it up."""
        entry = self._entries.get(key)
        if entry is None or entry.session is not offered or entry.resting:
            return  # it was offered on several at once, and another one was first
        entry.resting = True
        if failure is not None and failure.kind is Kind.TLS_ALERT_RECEIVED:
            entry.session = None
        entry.strike()

    def keeper(
        self, key: SessionKey, *, offered: ssl.SSLSession | None, resumed: bool
    ) -> Callable[[Engine], None] | None:
        """What a stream is given as ``on_session`` once its handshake is over: it reads a session, if still needed.

        None where there is a session, or reading one costs more than was earned.
        """
        entry = self._entries.setdefault(key, _Entry())
        self._entries.move_to_end(key)
        while len(self._entries) > self._size:
            self._entries.popitem(last=False)
        entry.credit = min(entry.credit + 1, _CREDIT)
        if resumed or offered is None:
            entry.resting = False
        if resumed:
            entry.strikes = 0
        elif offered is not None and offered is entry.session:
            entry.strike()
            if entry.credit >= _PRICE:  # else the old one is offered on: the server may be one of several
                entry.session = None
        if entry.session is not None or entry.credit < _PRICE:
            return None

        def keep(engine: Engine) -> None:
            if entry.session is None and entry.credit >= _PRICE:  # another connection may have been first
                entry.credit -= _PRICE
                entry.session = engine.session

        return keep
