"""Ready-made heartbeats: what to send to peers of well-known protocols, and what their answer looks like.

Each function returns a ``Heartbeat`` for ``holdwire.connect`` and ``holdwire.sessions``. The answers stay in the
stream: whoever reads it sees a PONG now and then, and skips it. Not responsible for speaking the protocols.
"""

from __future__ import annotations

import itertools
import re
import secrets
import struct
import time
from typing import TYPE_CHECKING, Final

from ..policy.checks import check_type
from ..policy.profiles import Profile
from ..policy.profiles import profile as named_profile
from ..policy.settings import Heartbeat

if TYPE_CHECKING:
    from ..policy.settings import Sender

__all__ = ["imap", "imap_idle", "line", "mqtt", "redis", "websocket"]

_TIMEOUT: Final = 20.0
_REDIS_PONG: Final = (b"+PONG", b"*2\r\n$4\r\npong\r\n", b">2\r\n$4\r\npong\r\n", b"$4\r\nPONG\r\n")


def redis(*, interval: float = 30.0, timeout: float = _TIMEOUT) -> Heartbeat:
    """PING, which Redis answers with PONG: on a connection for commands, and in pub/sub (RESP2 and RESP3)."""

    def is_reply(data: bytes) -> bool | None:
        return any(pong in data for pong in _REDIS_PONG) or None

    return Heartbeat(interval=interval, timeout=timeout, probe=b"*1\r\n$4\r\nPING\r\n", is_reply=is_reply)


def mqtt(*, keepalive: float = 60.0, timeout: float | None = None) -> Heartbeat:
    """PINGREQ whenever nothing was sent for the Keep Alive of CONNECT (or what the server made of it, in MQTT 5).

    Dead if PINGRESP, or anything else, does not come within ``timeout``; by default that is Keep Alive as well.
    """
    # with the jitter at most 0.98 of it
    return Heartbeat(
        interval=keepalive * 0.85,
        timeout=keepalive if timeout is None else timeout,
        probe=b"\xc0\x00",
        is_reply=lambda data: b"\xd0\x00" in data or None,
        direction="write",
    )


def imap(*, interval: float = 300.0, timeout: float = _TIMEOUT) -> Heartbeat:
    """NOOP with a tag of its own (``hwN``), for a connection that is not in IDLE. Keep it below 29 minutes."""
    numbers = itertools.count(1)

    async def probe(stream: Sender) -> None:
        await stream.send(b"hw%d NOOP\r\n" % next(numbers))

    return Heartbeat(interval=interval, timeout=timeout, probe=probe, is_reply=_imap_answered)


def imap_idle(*, interval: float = 300.0, timeout: float = _TIMEOUT) -> Heartbeat:
    """DONE and IDLE anew with a tag of its own (``hwN``), for a connection in IDLE. Keep it below 29 minutes."""
    numbers = itertools.count(1)

    async def probe(stream: Sender) -> None:
        await stream.send(b"DONE\r\nhw%d IDLE\r\n" % next(numbers))

    return Heartbeat(interval=interval, timeout=timeout, probe=probe, is_reply=lambda data: b"+ " in data or None)


def _imap_answered(data: bytes) -> bool | None:
    return re.search(rb"hw\d+ (OK|NO|BAD)", data) is not None or None


def line(
    probe: bytes, *, reply: bytes | None = None, interval: float = 30.0, timeout: float = _TIMEOUT, end: bytes = b"\n"
) -> Heartbeat:
    """``probe`` as a line, for protocols of lines; ``reply`` is what its answer begins with, if that is known."""
    for name, value in (("probe", probe), ("reply", b"" if reply is None else reply), ("end", end)):
        check_type("probes.line", name, value, bytes, give="bytes")

    def is_reply(data: bytes) -> bool | None:
        return reply is None or any(part.startswith(reply) for part in data.split(end)) or None

    return Heartbeat(interval=interval, timeout=timeout, probe=probe.removesuffix(end) + end, is_reply=is_reply)


_WEBSOCKET_INTERVAL: Final = 20.0
_SHARE_OF_LIMIT: Final = 0.4
_PONG: Final = b"\x8a\x0c"
"""FIN and opcode 10, no mask, 12 bytes (RFC 6455, section 5.2)."""


def websocket(
    *, interval: float | None = None, timeout: float = _TIMEOUT, profile: str | Profile = "default"
) -> Heartbeat:
    """A client's Ping frame with a counter and a time stamp, each 20 s or 0.4 of the profile's idle limit.

    Not below a WebSocket library that sends Pings of its own: that would be a second heartbeat.
    """
    if interval is None:
        chosen = profile if isinstance(profile, Profile) else named_profile(profile)
        limit = chosen.idle_limit
        interval = _WEBSOCKET_INTERVAL if limit is None else min(_WEBSOCKET_INTERVAL, _SHARE_OF_LIMIT * limit)
    numbers = itertools.count(1)

    async def probe(stream: Sender) -> None:
        payload = struct.pack("!Id", next(numbers) & 0xFFFF_FFFF, time.monotonic())
        mask = secrets.token_bytes(4)
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        await stream.send(b"\x89\x8c" + mask + masked)

    return Heartbeat(interval=interval, timeout=timeout, probe=probe, is_reply=lambda data: _PONG in data or None)
