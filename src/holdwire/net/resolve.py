"""From a host name to the addresses to try, in order: name resolution, interleaving, memory of failed addresses.

An IP literal costs no thread and no await. What the resolver says is classified by name (EAI_*), never by number:
numbers differ between platforms and overlap with errno. Not responsible for connecting (``dial``).
"""

from __future__ import annotations

import itertools
import math
import socket
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import anyio

from ..policy import diagnosis
from ..policy.kind import Action

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..policy.diagnosis import Facts
    from ..policy.failure import Failure

__all__ = ["Address", "AddressMemory", "NameNotResolved", "interleave", "literal", "resolve"]

_EAI_NAMES: Final = {number: name for name, number in vars(socket).items() if name.startswith("EAI_")}
_NOT_FOUND: Final = frozenset({"EAI_NONAME", "EAI_NODATA"})
_KNOWN_LIMIT: Final = 4096
_known: OrderedDict[str, None] = OrderedDict()
"""Names that have resolved in this process."""


@dataclass(frozen=True, slots=True)
class Address:
    """One address to connect to. ``host`` is numeric; a link-local IPv6 address has its scope (``fe80::1%eth0``)."""

    family: int
    host: str
    port: int

    @property
    def sockaddr(self) -> tuple[str, int] | tuple[str, int, int, int]:
        """What ``socket.connect`` takes. An interface that does not exist has the number 0, which is no scope."""
        host, _, scope = self.host.partition("%")
        if not scope:
            return host, self.port
        try:
            number = int(scope) if scope.isdecimal() else socket.if_nametoindex(scope)
        except OSError:
            number = 0
        return host, self.port, 0, number


class NameNotResolved(Exception):
    """The resolver gave no address; ``failure`` says why. Internal: ``dial`` makes it a ``ConnectFailed``."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(str(failure))
        self.failure = failure


def literal(host: str, port: int) -> Address | None:
    """The address that ``host`` spells, None if it is a name."""
    for family, spelling in ((socket.AF_INET, host), (socket.AF_INET6, host.partition("%")[0])):
        try:
            socket.inet_pton(family, spelling)
        except (OSError, ValueError):  # ValueError: a null character, or not ASCII
            continue
        return Address(family, host, port)
    return None


async def resolve(host: str, port: int, *, facts: Facts) -> list[Address]:
    """The addresses of ``host`` in the resolver's order, each once.

    Raises:
        NameNotResolved: There is none.
    """
    try:
        found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as exc:
        name = _EAI_NAMES.get(exc.errno or 0, "EAI_FAIL")
        raise NameNotResolved(_unresolved(host, name, facts, detail=exc.strerror)) from exc
    except OSError as exc:  # CPython raises the errno behind EAI_SYSTEM
        failure = diagnosis.from_eai("EAI_SYSTEM", facts=_now(facts), errno=exc.errno, detail=exc.strerror)
        raise NameNotResolved(failure) from exc
    except ValueError as exc:  # UnicodeError: not a legal name; ValueError: it holds a null character
        raise NameNotResolved(diagnosis.from_eai("UnicodeError", facts=_now(facts))) from exc
    addresses = list(dict.fromkeys(Address(family, sockaddr[0], sockaddr[1]) for family, _, _, _, sockaddr in found))
    if not addresses:
        raise NameNotResolved(_unresolved(host, "EAI_NODATA", facts))
    _known[host] = None
    _known.move_to_end(host)
    if len(_known) > _KNOWN_LIMIT:
        _known.popitem(last=False)
    return addresses


def _unresolved(host: str, name: str, facts: Facts, *, detail: str | None = None) -> Failure:
    failure = diagnosis.from_eai(name, facts=_now(facts), detail=detail)
    if name in _NOT_FOUND and host in _known:  # glibc says so too when the network is down
        said = f"{detail}; " if detail else ""
        failure = failure.evolve(action=Action.BACK_OFF, detail=f"{said}it has resolved before in this process")
    return failure


def _now(facts: Facts) -> Facts:
    return {**facts, "at": time.time()}


def interleave(addresses: Iterable[Address]) -> list[Address]:
    """Alternate between the families, beginning with the resolver's first choice (RFC 8305, section 4)."""
    families: dict[int, list[Address]] = {}
    for address in addresses:
        families.setdefault(address.family, []).append(address)
    rounds = itertools.zip_longest(*families.values())
    return [address for row in rounds for address in row if address is not None]


class AddressMemory:
    """Which addresses have failed of late: they are tried last for ``span`` seconds.

    Bounded, and safe to share between threads. Times are seconds of any clock that does not go back.
    """

    __slots__ = ("_failed", "_limit", "_span")

    def __init__(self, *, span: float = 60.0, limit: int = 256) -> None:
        self._span = span
        self._limit = limit
        self._failed: OrderedDict[str, float] = OrderedDict()

    def failed(self, address: str, now: float) -> None:
        """A connection to ``address`` did not come about."""
        self._failed.pop(address, None)
        self._failed[address] = now
        if len(self._failed) > self._limit:
            self._failed.popitem(last=False)

    def worked(self, address: str) -> None:
        """A connection to ``address`` came about: forget its failure."""
        if self._failed:
            self._failed.pop(address, None)

    def order(self, addresses: list[Address], now: float) -> list[Address]:
        """``addresses`` as they are, but with those that failed at the end, the oldest failure first."""
        if not self._failed:
            return addresses
        oldest = now - self._span
        failed = self._failed.copy()

        def failed_at(address: Address) -> float:
            at = failed.get(address.host, oldest)
            return at if at > oldest else -math.inf

        return sorted(addresses, key=failed_at)
