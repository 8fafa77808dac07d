"""``History``: what happens in one simulated run, as data drawn from a seed: requests, faults, restarts, settings.

A history is drawn whole from its seed; ``only`` leaves out requests and faults by number, which is how a failure is
made small. Not responsible for playing it (``player``).
"""

from __future__ import annotations

import errno
import random
import ssl
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from holdwire.testing.faults import END, HTTP2_CODES, Action, Fault, Point, Script

from .origin import answer_body
from .origin_http2 import GOAWAYS

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["Ask", "History", "Http2Terms", "Restart", "draw"]

METHODS: Final = ("GET", "GET", "GET", "PUT", "POST", "POST", "DELETE")
REPEATABLE: Final = frozenset({"GET", "PUT", "DELETE"})
_LOST: Final = (errno.ECONNRESET, errno.EPIPE, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENOBUFS)
_POINTS: Final = (
    *(Point.CONNECT, Point.IDLE, Point.IDLE, Point.REQUEST, Point.REQUEST, Point.RESPONSE, Point.RESPONSE),
    *(Point.CALL_SEND, Point.CALL_RECV),
)
_POINTS_TLS: Final = (Point.HANDSHAKE, Point.HANDSHAKE)
_POINTS_HTTP2: Final = (Point.FRAME, Point.FRAME, Point.FRAME, Point.FRAME)
_ANYWHERE: Final = (Action.RST, Action.RST, Action.FIN, Action.HALF_CLOSE, Action.STALL, Action.BLACK_HOLE)
_CALL: Final = (Action.ERRNO, Action.ERRNO, Action.SHORT, Action.EAGAIN)
_ACTIONS: Final = {
    Point.CONNECT: (Action.REFUSE, Action.REFUSE, Action.BLACK_HOLE, Action.RST, Action.FIN),
    Point.HANDSHAKE: (Action.RST, Action.STALL, Action.BLACK_HOLE),
    Point.IDLE: (Action.RST, Action.FIN, Action.EXPIRE, Action.BLACK_HOLE),
    Point.REQUEST: _ANYWHERE,
    Point.RESPONSE: _ANYWHERE,
    Point.FRAME: (
        *(Action.RST_STREAM, Action.RST_STREAM, Action.RST_STREAM, Action.GOAWAY, Action.GOAWAY, Action.TRUNCATE),
        *(Action.FLOOD, Action.STALL, Action.RST),
    ),
    Point.CALL_SEND: _CALL,
    Point.CALL_RECV: _CALL,
}
"""What can go wrong, and where."""
_ACTIONS_TLS: Final = {
    Point.HANDSHAKE: (Action.FIN_WITHOUT_CLOSE_NOTIFY, Action.CORRUPT),
    Point.IDLE: (Action.FIN_WITHOUT_CLOSE_NOTIFY,),
    Point.REQUEST: (Action.FIN_WITHOUT_CLOSE_NOTIFY, Action.CORRUPT),
    Point.RESPONSE: (Action.FIN_WITHOUT_CLOSE_NOTIFY, Action.CORRUPT),
}
"""Beside these, where there is TLS."""
_COUNTED: Final = frozenset(_ACTIONS) - {Point.CONNECT, Point.HANDSHAKE}
"""Where a fault may be meant for the n-th exchange or call."""
_BYTES: Final = (0, 0, 1, 30, 100, 600, 20_000, END)
_PLACES: Final[dict[Point, tuple[float, ...]]] = {
    Point.HANDSHAKE: (0, 0, 1, 100, 600, 1_000),
    Point.IDLE: (0.0, 0.01, 0.5, 5.0, 40.0),
    Point.REQUEST: _BYTES,
    Point.RESPONSE: _BYTES,
    Point.FRAME: (0, 0, 1, 2, 5),
}
_CODES: Final = {
    action: tuple(HTTP2_CODES.index(name) for name in names)
    for action, names in {
        Action.RST_STREAM: (
            *("REFUSED_STREAM", "REFUSED_STREAM", "REFUSED_STREAM", "CANCEL", "INTERNAL_ERROR", "NO_ERROR"),
            *("PROTOCOL_ERROR", "ENHANCE_YOUR_CALM", "HTTP_1_1_REQUIRED"),
        ),
        Action.GOAWAY: ("NO_ERROR", "NO_ERROR", "NO_ERROR", "INTERNAL_ERROR", "ENHANCE_YOUR_CALM"),
    }.items()
}


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
    """``length``, ``chunked`` or ``close``; over HTTP/2 ``chunked`` are trailers, and ``close`` is a GOAWAY."""
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

    def answer(self, body: bytes) -> list[bytes]:
        """The bytes of the answer in HTTP/1.1, in pieces."""
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
class Http2Terms:
    """What the servers of a history do in HTTP/2, and how often the client asks whether they live."""

    max_streams: int | None
    lowered: int | None
    """What that becomes after the third request of a connection."""
    window: int
    """The initial window of streams."""
    delay: float
    """Seconds before the SETTINGS."""
    goaway: str
    """One of ``GOAWAYS``."""
    pings: bool
    """Whether they are answered."""
    heartbeat: float | None
    """The client's interval; None for its own schedule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """See the module."""

    seed: str
    secure: bool
    tls: str
    """The highest version of TLS, if there is TLS."""
    http2: Http2Terms | None
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

    @property
    def protocol(self) -> str:
        """What is spoken: ``h1``, ``h1+tls``, ``h2`` or ``h2+tls``."""
        return ("h1" if self.http2 is None else "h2") + "+tls" * self.secure

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
                f"history {self.seed}, {self.protocol}: at most {self.max_connections} connections, "
                f"{self.attempts} attempts, "
                f"time-outs {self.timeout:g} s{' (retried)' if self.timeouts else ''}, latency {self.latency:g} s, "
                f"service {self.service:g} s"
            )
        ]
        if self.http2 is not None:
            lines.append(f"  {self.http2}")
        if self.secure:
            lines.append(f"  {self.tls}")
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
    secure = dice.random() < 0.5
    http2 = _http2(dice, calm=calm) if dice.random() < 0.5 else None
    points = _POINTS + _POINTS_TLS * secure + _POINTS_HTTP2 * (http2 is not None)
    asks = tuple(_ask(dice, number, span, calm=calm) for number in range(count))
    scripts = () if calm else tuple(_script(dice, points, secure=secure) for _ in range(dice.choice([1, 3, 10, 40])))
    restarts = tuple(
        Restart(at=dice.uniform(0, span), down=dice.choice([0.0, 0.05, 1.0]), how=dice.choice([Action.RST, Action.FIN]))
        for _ in range(0 if calm else dice.choice([0, 0, 0, 1, 2]))
    )
    return History(
        seed=seed,
        secure=secure,
        tls=dice.choice([ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]).name,
        http2=http2,
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


def _http2(dice: random.Random, *, calm: bool) -> Http2Terms:
    return Http2Terms(
        max_streams=dice.choice([1, 3, 10, 100, 100, None]),
        lowered=dice.choice([None, None, None, 0, 1, 2]),
        window=dice.choice([100, 5_000, 65_535, 65_535, 1_000_000]),
        delay=dice.choice([0.0, 0.0, 0.0, 0.05, 0.5]),
        goaway=dice.choice(list(GOAWAYS)),
        pings=calm or dice.random() < 0.8,
        heartbeat=dice.choice([None, None, 10.0]),
    )


def _script(dice: random.Random, points: tuple[Point, ...], *, secure: bool) -> Script:
    if dice.random() < 0.35:
        return _HEALTHY
    return Script(tuple(_fault(dice, points, secure=secure) for _ in range(dice.choice([1, 1, 1, 2]))))


def _fault(dice: random.Random, points: tuple[Point, ...], *, secure: bool) -> Fault:
    point = dice.choice(points)
    action = dice.choice(_ACTIONS[point] + _ACTIONS_TLS.get(point, ()) * secure)
    nth: int | None = None
    value: float | None = None
    at: float = 0
    if point in _COUNTED:
        nth = dice.choice([None, 1, 2, 3, 5, 20])
    if point in {Point.CALL_SEND, Point.CALL_RECV}:
        nth = nth or 1
        value = float(dice.choice(_LOST if action is Action.ERRNO else (1, 3, 100)))
    elif action is Action.CORRUPT:
        value = dice.choice([None, 1.0, 30.0])
    elif action in {Action.STALL, Action.BLACK_HOLE} and point is not Point.CONNECT and point is not Point.IDLE:
        value = dice.choice([None, 0.2, 3.0, 20.0])
    elif action in {Action.RST_STREAM, Action.GOAWAY}:
        value = float(dice.choice(_CODES[action]))
    elif action is Action.FLOOD:
        value = float(dice.choice([300, 2_000]))
    if point in _PLACES:
        at = dice.choice(_PLACES[point])
    return Fault(point=point, action=action, nth=nth, at=at, value=value)
