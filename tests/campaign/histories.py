"""``History``: what happens in one simulated run, as data drawn from a seed: requests, faults, restarts, settings.

A history is drawn whole from its seed; ``only`` leaves out requests and faults by number, which is how a failure is
made small. Not responsible for playing it (``player``).
"""

from __future__ import annotations

import errno
import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from holdwire.testing.faults import END, Action, Fault, Point, Script

from .origin import answer_body

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["Ask", "History", "Restart", "draw"]

METHODS: Final = ("GET", "GET", "GET", "PUT", "POST", "POST", "DELETE")
REPEATABLE: Final = frozenset({"GET", "PUT", "DELETE"})
_LOST: Final = (errno.ECONNRESET, errno.EPIPE, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENOBUFS)
_ANYWHERE: Final = (Action.RST, Action.RST, Action.FIN, Action.HALF_CLOSE, Action.STALL, Action.BLACK_HOLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request, and how it is to be answered."""

    name: str
    method: str
    at: float
    upload: int
    streamed: bool
    download: int
    framing: str
    """``length``, ``chunked`` or ``close``."""
    pieces: int
    instead: tuple[int, ...]
    """Statuses that say that it was not executed, before it is."""
    marked: bool | None
    deadline: float | None
    cancel_after: float | None

    @property
    def repeatable(self) -> bool:
        """Whether executing it twice is harmless."""
        return self.method in REPEATABLE if self.marked is None else self.marked

    @property
    def closes(self) -> bool:
        """Whether the connection ends with the answer."""
        return self.framing == "close"

    def expected(self, checksum: int) -> bytes:
        """The body of the answer."""
        return f"{checksum:08x}".encode() + answer_body(self.name, self.download)

    def answer(self, checksum: int) -> list[bytes]:
        """The bytes of the answer, in pieces."""
        body = self.expected(checksum)
        if self.framing == "length":
            raw = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        elif self.framing == "chunked":
            half = len(body) // 2
            chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:half], body[half:]) if part)
            raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
        else:
            raw = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        size = len(raw) // self.pieces + 1
        return [raw[start : start + size] for start in range(0, len(raw), size)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """The server goes away and comes back."""

    at: float
    down: float
    how: Action


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """See the module."""

    seed: str
    asks: tuple[Ask, ...]
    scripts: tuple[Script, ...]
    """For the connections in the order in which they are asked for; later ones are healthy."""
    restarts: tuple[Restart, ...]
    latency: float
    service: float
    max_connections: int
    max_idle: int
    attempts: int
    statuses: frozenset[int]
    timeout: float
    timeouts: bool
    max_requests: int | None
    close_at: float | None
    """When the transport is closed, whatever is still going on."""

    def script(self, number: int) -> Script:
        """The faults of the ``number``-th connection."""
        return self.scripts[number] if number < len(self.scripts) else _HEALTHY

    @property
    def faults(self) -> int:
        """How many faults it holds: scripts that are not empty, and restarts."""
        return sum(bool(script.faults) for script in self.scripts) + len(self.restarts)

    def only(self, asks: Collection[int] | None, faults: Collection[int] | None) -> History:
        """Some of the requests and of the faults, by number; the rest is left out."""
        kept = self.asks if asks is None else tuple(ask for number, ask in enumerate(self.asks) if number in asks)
        if faults is None:
            return replace(self, asks=kept)
        number = -1
        scripts: list[Script] = []
        for script in self.scripts:
            number += bool(script.faults)
            scripts.append(script if script.faults and number in faults else _HEALTHY)
        restarts = [one for index, one in enumerate(self.restarts, number + 1) if index in faults]
        return replace(self, asks=kept, scripts=tuple(scripts), restarts=tuple(restarts))

    def __str__(self) -> str:
        """For people."""
        lines = [
            (
                f"history {self.seed}: at most {self.max_connections} connections, {self.attempts} attempts, "
                f"time-outs {self.timeout:g} s{' (retried)' if self.timeouts else ''}, latency {self.latency:g} s, "
                f"service {self.service:g} s"
            )
        ]
        lines += [f"  connection {number + 1}: {script}" for number, script in enumerate(self.scripts) if script.faults]
        lines += [f"  restart at {one.at:.3f} for {one.down:.3f} s: {one.how}" for one in self.restarts]
        lines += [f"  {ask}" for ask in self.asks]
        return "\n".join(lines)


_HEALTHY = Script()


def draw(seed: str) -> History:
    """The history of ``seed``: always the same one."""
    dice = random.Random(seed)
    calm = dice.random() < 0.05
    span = dice.choice([0.05, 1.0, 10.0, 120.0])
    count = dice.choice([1, 3, 10, 40, 100, 200])
    latency = dice.choice([0.0001, 0.005, 0.05])
    asks = tuple(_ask(dice, number, span, calm=calm) for number in range(count))
    scripts = () if calm else tuple(_script(dice) for _ in range(dice.choice([1, 3, 10, 40])))
    restarts = tuple(
        Restart(at=dice.uniform(0, span), down=dice.choice([0.0, 0.05, 1.0]), how=dice.choice([Action.RST, Action.FIN]))
        for _ in range(0 if calm else dice.choice([0, 0, 0, 1, 2]))
    )
    return History(
        seed=seed,
        asks=asks,
        scripts=scripts,
        restarts=restarts,
        latency=latency,
        service=dice.choice([0.0, 0.002, 0.3]),
        max_connections=dice.randint(1, 8),
        max_idle=dice.randint(0, 8),
        attempts=dice.randint(1, 5),
        statuses=dice.choice([frozenset[int](), frozenset({503}), frozenset({429, 503})]),
        timeout=dice.choice([1.0, 5.0, 30.0]),
        timeouts=dice.random() < 0.2,
        max_requests=dice.choice([None, None, 3]),
        close_at=dice.uniform(0, span) if dice.random() < 0.05 and not calm else None,
    )


def _ask(dice: random.Random, number: int, span: float, *, calm: bool) -> Ask:
    method = dice.choice(METHODS)
    upload = 0 if method in {"GET", "DELETE"} else dice.choice([0, 10, 10, 700, 700, 700, 700, 30_000, 30_000, 100_000])
    rare = 0.0 if calm else dice.random()
    return Ask(
        name=f"/{number}",
        method=method,
        at=dice.uniform(0, span),
        upload=upload,
        streamed=upload > 0 and dice.random() < 0.3,
        download=dice.choice([0, 20, 20, 900, 20_000]),
        framing=dice.choice(["length", "length", "length", "chunked", "close"]),
        pieces=dice.choice([1, 1, 2, 5]),
        instead=(dice.choice([408, 413, 421, 425, 429, 503]),) if rare > 0.95 else (),
        marked=dice.choice([True, False]) if dice.random() < 0.1 else None,
        deadline=dice.choice([0.05, 1.0, 5.0]) if dice.random() < 0.1 and not calm else None,
        cancel_after=dice.choice([0.0, 0.001, 0.01, 0.3, 2.0]) if dice.random() < 0.15 and not calm else None,
    )


def _script(dice: random.Random) -> Script:
    if dice.random() < 0.35:
        return _HEALTHY
    return Script(tuple(_fault(dice) for _ in range(dice.choice([1, 1, 1, 2]))))


def _fault(dice: random.Random) -> Fault:
    point = dice.choice(
        [
            *(Point.CONNECT, Point.IDLE, Point.IDLE, Point.REQUEST, Point.REQUEST, Point.RESPONSE, Point.RESPONSE),
            *(Point.CALL_SEND, Point.CALL_RECV),
        ]
    )
    nth = dice.choice([None, 1, 2, 3, 5])
    if point in {Point.CALL_SEND, Point.CALL_RECV}:
        action = dice.choice([Action.ERRNO, Action.ERRNO, Action.SHORT, Action.EAGAIN])
        value = float(dice.choice(_LOST)) if action is Action.ERRNO else float(dice.choice([1, 3, 100]))
        return Fault(point=point, action=action, nth=nth or 1, value=value)
    if point is Point.CONNECT:
        action = dice.choice([Action.REFUSE, Action.REFUSE, Action.BLACK_HOLE, Action.RST, Action.FIN])
        return Fault(point=point, action=action)
    if point is Point.IDLE:
        at = dice.choice([0.0, 0.01, 0.5, 5.0, 40.0])
        return Fault(point=point, action=dice.choice([Action.RST, Action.FIN, Action.EXPIRE, Action.BLACK_HOLE]), at=at)
    action = dice.choice(_ANYWHERE)
    lasting = action in {Action.STALL, Action.BLACK_HOLE}
    seconds = dice.choice([None, 0.2, 3.0, 20.0]) if lasting else None
    where = dice.choice([0, 0, 1, 30, 100, 600, 20_000, END])
    return Fault(point=point, action=action, nth=nth, at=where, value=seconds)
