"""The rung ``mtu``: do packets of full size reach the server, or do they vanish without a word?

A connection of its own sends three full segments of a request that is legal but large (of a ClientHello, in TLS). The
server's kernel acknowledges them whatever the server thinks of them. If they stay unacknowledged and are sent again and
again while small ones have passed, and the path's MTU has not moved, something on the way drops large packets and its
ICMP message is lost (kernel: TCP_INFO). Linux only.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import anyio

from ...errors import HoldwireError
from ...policy.phase import Phase
from ...tls.context import make_engine
from ..record import Check, Sign, Verdict

if TYPE_CHECKING:
    from ...net.stream import SocketStream
    from ...policy.tcp_info import TcpInfo
    from ..case import Case
    from ..record import Rung

__all__ = ["look"]

_CHECK: Final = Check("mtu", 5, Phase.REQUEST_BODY, "Send a smaller packet: ping -M do -s 1200, or tracepath.")
_SEGMENTS: Final = 3
_LARGEST: Final = 60_000
_PATIENCE: Final = 2.0
_RETRANSMITS: Final = 2
_LABEL: Final = 200
"""Bytes of one made-up ALPN protocol: what makes a ClientHello large."""


async def look(case: Case) -> Rung:
    """See the module. A suspicion is looked into with a second connection: packets also get lost by chance."""
    first = await _once(case)
    return await _once(case) if first.verdict is Verdict.FAILED else first


async def _once(case: Case) -> Rung:
    try:
        stream = await case.connect()
        try:
            return await _probe(case, stream)
        finally:
            stream.abort()
    except HoldwireError as exc:
        return _CHECK(Verdict.UNKNOWN, f"no connection that lasted: {exc}")


async def _probe(case: Case, stream: SocketStream) -> Rung:
    before = stream.facts().get("tcp")
    if before is None or before.snd_mss is None:
        return _CHECK(Verdict.SKIPPED, "this system has no TCP_INFO")
    size = before.snd_mss * _SEGMENTS
    if size > _LARGEST:
        return _CHECK(Verdict.OK, f"{before.pmtu} bytes: nothing on the way is smaller", {"pmtu_bytes": before.pmtu})
    await stream.write(await _large(case, size), case.timeout)
    info = await _settled(stream) or before
    numbers: dict[str, object] = {
        "pmtu_bytes": info.pmtu,
        "mss_bytes": info.snd_mss,
        "sent_bytes": size,
        "unacknowledged_segments": info.unacked,
        "retransmissions": info.retransmits,
    }
    if info.unacked and (info.retransmits or 0) >= _RETRANSMITS:
        evidence = f"{size} bytes in full segments: {info.retransmits} retransmissions, nothing acknowledged"
        return _CHECK(
            Verdict.FAILED,
            f"full segments of {info.snd_mss} bytes are not acknowledged, path MTU still {info.pmtu}",
            numbers,
            signs=[Sign("mtu_black_hole", 0.9, evidence)],
        )
    return _CHECK(Verdict.OK, f"path MTU {info.pmtu} bytes, full segments are acknowledged", numbers)


async def _large(case: Case, size: int) -> bytes:
    if not case.target.secure:
        return case.request(padding=size)
    names = [f"{number:04d}{'x' * (_LABEL - 4)}" for number in range(size // _LABEL + 1)]
    engine = await make_engine(case.context(verify=False, alpn=names), server_hostname=case.server_name)
    engine.handshake()
    return engine.take()


async def _settled(stream: SocketStream) -> TcpInfo | None:
    """What the kernel knows once everything is acknowledged, or is clearly not going to be."""
    deadline = time.monotonic() + _PATIENCE
    info = stream.facts().get("tcp")
    while info is not None and info.unacked and (info.retransmits or 0) < _RETRANSMITS and time.monotonic() < deadline:
        with suppress(HoldwireError):
            await anyio.sleep(0.05)
        info = stream.facts().get("tcp")
    return info
