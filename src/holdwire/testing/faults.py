"""The vocabulary of faults: what goes wrong, where, and a text form for scripts. Data only.

A *fault* is an action at a point; a *script* is a list of faults for one connection. Their text form serves command
lines, test parameters and reports::

    request:0 rst                       reset when the first byte of a request arrives
    response:100 fin                    close when 100 bytes of the answer are out and a 101st is due
    response#2:0 rst                    the second exchange on the connection is executed, then reset
    idle:55 fin_without_close_notify    close after 55 s of idling and leave out TLS's close_notify
    frame#2:1 rst_stream=REFUSED_STREAM the second frame of the second answer on an HTTP/2 connection
    handshake rst; connect stall=0.5    several faults are joined by semicolons
    send()#3 errno=EPIPE; recv() short  for ``FaultySocket``: the third send fails, each recv gets one byte

The grammar of one fault is ``POINT[#NTH][:AT] ACTION[=VALUE]``. ``parse`` and ``str`` are each other's inverse.

Which component honours which point: ``ChaosServer`` and ``ChaosProxy`` all but the calls, and ``frame`` with
``http2=True``; ``FaultySocket`` the calls; ``faulty_stream_pair`` ``request`` and ``response``. A component refuses a
script that it cannot carry out. Not responsible for carrying anything out.
"""

from __future__ import annotations

import enum
import errno as errno_numbers
import math
import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Self, TypeVar, final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = [
    "ACTIONS",
    "CALLS",
    "END",
    "Action",
    "ActionRule",
    "Fault",
    "Point",
    "Script",
    "close_after_bytes",
    "idle_limit",
]

_T = TypeVar("_T", bound=enum.StrEnum)

END = math.inf
"""As ``Fault.at``: when the whole request has arrived, or the whole answer is out. Written ``end``."""


@final
class Point(enum.StrEnum):
    """Where a fault strikes."""

    CONNECT = "connect"
    """Before (refuse, black_hole) or right after the connection is accepted. A reset then may reach the client inside
    its connect or after it."""
    HANDSHAKE = "handshake"
    """In the TLS handshake, when byte ``at`` of our side of it is due; 0 is after the ClientHello."""
    IDLE = "idle"
    """After ``at`` seconds without a byte, counted from the end of an exchange."""
    REQUEST = "request"
    """When byte ``at`` from the client has arrived."""
    RESPONSE = "response"
    """When byte ``at`` to the client is due; 0 is after the request was executed."""
    FRAME = "frame"
    """When HTTP/2 frame number ``at`` to the client is due: of the connection, whose frame 0 is SETTINGS; with ``#n``
    of the n-th answer, whose frame 0 is HEADERS."""
    CALL_SOCKET = "socket()"
    CALL_CONNECT = "connect()"
    CALL_SEND = "send()"
    CALL_RECV = "recv()"
    CALL_SHUTDOWN = "shutdown()"
    CALL_GETSOCKOPT = "getsockopt()"


CALLS = frozenset(
    {
        Point.CALL_SOCKET,
        Point.CALL_CONNECT,
        Point.CALL_SEND,
        Point.CALL_RECV,
        Point.CALL_SHUTDOWN,
        Point.CALL_GETSOCKOPT,
    },
)
"""The points that are system calls of the side under test."""
_CONNECTION = frozenset(Point) - CALLS
HTTP2_CODES: Final = (
    *("NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED"),
    *("FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM"),
    *("INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED"),
)
"""The error codes of HTTP/2 by their numbers (RFC 9113, section 7)."""
_BYTES = frozenset({Point.HANDSHAKE, Point.REQUEST, Point.RESPONSE})


@final
class Action(enum.StrEnum):
    """What goes wrong. What each means, where it may stand and what its value is: ``ACTIONS``."""

    REFUSE = "refuse"
    BLACK_HOLE = "black_hole"
    RST = "rst"
    FIN = "fin"
    FIN_WITHOUT_CLOSE_NOTIFY = "fin_without_close_notify"
    HALF_CLOSE = "half_close"
    STALL = "stall"
    DRIP = "drip"
    CORRUPT = "corrupt"
    EXPIRE = "expire"
    HEAL = "heal"
    RST_STREAM = "rst_stream"
    GOAWAY = "goaway"
    TRUNCATE = "truncate"
    FLOOD = "flood"
    ERRNO = "errno"
    SHORT = "short"
    EAGAIN = "eagain"
    EOF = "eof"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ActionRule:
    """What an action does and how it is written."""

    points: frozenset[Point]
    meaning: str
    value: str | None = None
    """What the value counts; None for an action without a value."""
    required: bool = False
    integral: bool = False


_FRAME = frozenset({Point.FRAME})
_HTTP2_CODE = "name or number of an HTTP/2 error code"
_UNTIL_HEALED = "seconds until it heals (without a value: until healed on command)"

ACTIONS: Mapping[Action, ActionRule] = MappingProxyType(
    {
        Action.REFUSE: ActionRule(
            points=frozenset({Point.CONNECT}),
            meaning="The port is closed, so that the kernel refuses connections; nobody can count them.",
            value=_UNTIL_HEALED,
        ),
        Action.BLACK_HOLE: ActionRule(
            points=_CONNECTION,
            meaning="Nothing that is sent to us arrives, not even in our kernel: no acknowledgement (Linux).",
            value=_UNTIL_HEALED,
        ),
        Action.RST: ActionRule(points=_CONNECTION, meaning="TCP reset, at once; what is queued is discarded."),
        Action.FIN: ActionRule(points=_CONNECTION, meaning="Orderly close; with TLS close_notify comes first."),
        Action.FIN_WITHOUT_CLOSE_NOTIFY: ActionRule(
            points=_CONNECTION, meaning="TCP close without TLS's close_notify; without TLS the same as fin."
        ),
        Action.HALF_CLOSE: ActionRule(
            points=_CONNECTION, meaning="As fin, but we go on reading, and executing what we read."
        ),
        Action.STALL: ActionRule(
            points=_CONNECTION,
            meaning="Stop reading (request) or writing (others); bytes wait and windows close.",
            value=_UNTIL_HEALED,
        ),
        Action.DRIP: ActionRule(
            points=_BYTES, meaning="From here on byte by byte.", value="bytes per second", required=True
        ),
        Action.CORRUPT: ActionRule(
            points=_BYTES,
            meaning="The next bytes arrive wrong; with TLS it is the record that is damaged.",
            value="bytes (default 1)",
            integral=True,
        ),
        Action.EXPIRE: ActionRule(
            points=frozenset({Point.IDLE}),
            meaning="A middlebox forgets the connection: nothing happens, but the next bytes are answered by a reset.",
        ),
        Action.HEAL: ActionRule(
            points=frozenset({Point.IDLE, Point.REQUEST, Point.RESPONSE}), meaning="The end of drip and corrupt."
        ),
        Action.RST_STREAM: ActionRule(
            points=_FRAME,
            meaning="The answer is reset instead; of the connection's frames the next one of an answer is meant.",
            value=f"{_HTTP2_CODE} (default CANCEL)",
            integral=True,
        ),
        Action.GOAWAY: ActionRule(
            points=_FRAME,
            meaning="GOAWAY comes first: requests that are here are answered, later ones are not executed.",
            value=f"{_HTTP2_CODE} (default NO_ERROR)",
            integral=True,
        ),
        Action.TRUNCATE: ActionRule(
            points=_FRAME,
            meaning="The frame is cut, and the connection closed in an orderly way.",
            value="bytes of it that are sent (default half)",
            integral=True,
        ),
        Action.FLOOD: ActionRule(
            points=_FRAME, meaning="PINGs come first.", value="how many (default 10000)", integral=True
        ),
        Action.ERRNO: ActionRule(
            points=CALLS, meaning="The call fails.", value="name or number of an errno", required=True, integral=True
        ),
        Action.SHORT: ActionRule(
            points=frozenset({Point.CALL_SEND, Point.CALL_RECV}),
            meaning="The call transfers at most so many bytes.",
            value="bytes (default 1)",
            integral=True,
        ),
        Action.EAGAIN: ActionRule(
            points=frozenset({Point.CALL_SEND, Point.CALL_RECV}),
            meaning="The call says EAGAIN so often before it is let through.",
            value="times (default 1)",
            integral=True,
        ),
        Action.EOF: ActionRule(
            points=frozenset({Point.CALL_RECV}), meaning="The call says that the peer has ended; nothing is read."
        ),
    }
)
"""The meaning of every action, as data."""
_CODED = frozenset({Action.RST_STREAM, Action.GOAWAY})


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """An action at a point.

    Without ``nth`` a fault at a system call holds for every call; any other fault strikes once, at the first chance.

    Raises:
        ValueError: The combination has no meaning.
    """

    point: Point
    action: Action
    nth: int | None = None
    """The n-th exchange of the connection, or the n-th call; from 1."""
    at: float = 0
    """Bytes (handshake, request, response), seconds (idle) or frames."""
    value: float | None = None
    """As ``ACTIONS`` says; for ``errno`` the number."""

    def __post_init__(self) -> None:
        """Refuse what has no meaning."""
        rule = ACTIONS[self.action]
        if self.point not in rule.points:
            allowed = ", ".join(point for point in Point if point in rule.points)
            message = f"{self.action} cannot happen at {self.point}, only at: {allowed}"
            raise ValueError(message)
        if self.nth is not None and self.nth < 1:
            message = f"{self.point}#{self.nth}: exchanges and calls are counted from 1"
            raise ValueError(message)
        if self.at and (self.point in CALLS or self.point is Point.CONNECT):
            message = f"{self.point} happens at one moment: {self.point}:{_number(self.at)} has no meaning"
            raise ValueError(message)
        if not self.at >= 0 or (self.at == END and self.point not in {Point.REQUEST, Point.RESPONSE}):
            message = f"{self.point}:{_number(self.at)} is not a position; give a number that is not negative"
            raise ValueError(message)
        if self.point is not Point.IDLE and self.at != END and not float(self.at).is_integer():
            message = f"{self.point}:{_number(self.at)} is not a position; {self.point} is counted in whole numbers"
            raise ValueError(message)
        self._check_value(rule)

    def _check_value(self, rule: ActionRule) -> None:
        value = self.value
        if value is None:
            if rule.required:
                message = f"{self.action} needs a value, {rule.value}: {self.action}=..."
                raise ValueError(message)
            return
        if rule.value is None:
            message = f"{self.action} takes no value, not {_number(value)}"
            raise ValueError(message)
        if self.action in _CODED and value == 0:  # NO_ERROR
            return
        if not (0 < value < math.inf) or (rule.integral and not float(value).is_integer()):
            message = f"{self.action}={_number(value)} must be a positive {'whole ' if rule.integral else ''}number"
            raise ValueError(message)

    def __str__(self) -> str:
        """The text form."""
        nth = "" if self.nth is None else f"#{self.nth}"
        at = f":{_number(self.at)}" if self.at else ""
        if self.value is None:
            value = ""
        elif self.action is Action.ERRNO:
            value = f"={errno_numbers.errorcode.get(int(self.value), int(self.value))}"
        elif self.action in _CODED and self.value < len(HTTP2_CODES):
            value = f"={HTTP2_CODES[int(self.value)]}"
        else:
            value = f"={_number(self.value)}"
        return f"{self.point}{nth}{at} {self.action}{value}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read one fault.

        Raises:
            ValueError: The text is not a fault; the message says what was expected.
        """
        match = _FAULT.fullmatch(text.strip())
        if match is None:
            form = "POINT[#NTH][:AT] ACTION[=VALUE], as in 'request:0 rst'"
            message = f"cannot read the fault {text.strip()!r}: write {form}"
            raise ValueError(message)
        action = _member(Action, match["action"], "action")
        point = _member(Point, match["point"], "point")
        nth = None if match["nth"] is None else int(match["nth"])
        at = END if match["at"] == "end" else _read_number(match["at"] or "0", text)
        value: float | None = None
        if match["value"] is not None:
            if action is Action.ERRNO:
                value = _read_errno(match["value"])
            elif action in _CODED and match["value"].upper() in HTTP2_CODES:
                value = HTTP2_CODES.index(match["value"].upper())
            else:
                value = _read_number(match["value"], text)
        return cls(point=point, action=action, nth=nth, at=at, value=value)


@final
@dataclass(frozen=True, slots=True)
class Script:
    """The faults of one connection (or of one request, or of one socket). An empty script is a healthy one."""

    faults: tuple[Fault, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read faults that are joined by semicolons or line ends; ``#`` after white space begins a comment.

        Raises:
            ValueError: As ``Fault.parse``.
        """
        lines = (re.sub(r"(^|\s)#.*", "", line) for line in text.splitlines())
        parts = (part for line in lines for part in line.split(";"))
        return cls(tuple(Fault.parse(part) for part in parts if part.strip()))

    @classmethod
    def of(cls, faults: Script | Fault | Iterable[Fault] | str) -> Script:
        """Make a script of anything that can stand for one.

        Raises:
            ValueError: As ``Fault.parse``.
        """
        if isinstance(faults, Script):
            return faults
        if isinstance(faults, Fault):
            return cls((faults,))
        if isinstance(faults, str):
            return cls.parse(faults)
        return cls(tuple(faults))

    def require(self, points: Iterable[Point], who: str) -> Self:
        """Return the script if ``who`` can carry it out.

        Raises:
            ValueError: A fault is at a point that is not among ``points``.
        """
        known = frozenset(points)
        for fault in self.faults:
            if fault.point not in known:
                message = f"{who} has no point {fault.point} (in {str(fault)!r}), only: {', '.join(sorted(known))}"
                raise ValueError(message)
        return self

    def __str__(self) -> str:
        """The text form."""
        return "; ".join(map(str, self.faults))

    def __iter__(self) -> Iterator[Fault]:
        """The faults in the order in which they were written."""
        return iter(self.faults)


def idle_limit(seconds: float, action: Action = Action.EXPIRE) -> Fault:
    """What a load balancer or a firewall does to a connection that was idle for ``seconds``.

    ``Action.EXPIRE`` answers the next bytes with a reset (AWS NLB), ``Action.BLACK_HOLE`` drops them (most firewalls),
    ``Action.FIN`` and ``Action.RST`` act at once (proxies).

    Raises:
        ValueError: A negative time, or an action that cannot happen on an idle connection.
    """
    return Fault(point=Point.IDLE, at=seconds, action=action)


def close_after_bytes(count: int, action: Action = Action.FIN) -> Fault:
    """Close when ``count`` bytes of an answer are out and more are due.

    Raises:
        ValueError: A negative count, or an action that cannot happen there.
    """
    return Fault(point=Point.RESPONSE, at=count, action=action)


_FAULT = re.compile(
    r"(?P<point>[a-z_]+(?:\(\))?)(?:#(?P<nth>\d+))?(?::(?P<at>[^\s=]+))?\s+(?P<action>[a-z_]+)(?:=(?P<value>\S+))?"
)


def _number(value: float) -> str:
    if value == END:
        return "end"
    return str(int(value)) if float(value).is_integer() and not isinstance(value, int) else repr(value)


def _read_number(text: str, fault: str) -> float:
    if text.isdecimal():
        return int(text)
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        message = f"{text!r} in {fault.strip()!r} is not a number"
        raise ValueError(message)
    return int(number) if number.is_integer() else number


def _read_errno(text: str) -> int:
    if text.isdecimal():
        return int(text)
    for number, name in errno_numbers.errorcode.items():
        if name == text.upper():
            return number
    aliases: int | None = getattr(errno_numbers, text.upper(), None)  # EWOULDBLOCK, ENOTSUP: second names
    if aliases is None:
        message = f"{text!r} is not the name of an errno on this platform, as ECONNRESET is"
        raise ValueError(message)
    return aliases


def _member(kind: type[_T], text: str, what: str) -> _T:
    try:
        return kind(text)
    except ValueError:
        message = f"{text!r} is not a known {what}; choose from: {', '.join(kind)}"
        raise ValueError(message) from None
