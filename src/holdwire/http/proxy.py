"""``Proxy``: the way to an origin through an HTTP or SOCKS5 proxy: absolute targets, CONNECT, the SOCKS5 handshake.

Theory of operation. An HTTP proxy forwards requests for http://: they go to it with the absolute URL as their target,
on a connection of their own for each origin. For every other scheme it is asked for a tunnel with CONNECT, and what
follows (TLS with the origin, then HTTP) is as on a connection without it. A SOCKS5 proxy is asked for a tunnel always;
it is given the name of the host, which it resolves.
Whatever goes wrong on the way is the proxy's failure: ``ProxyError``, phase ``proxy``, ``via`` on the record; nothing
of the request has left then. All of it happens within the connect time-out.
Not responsible for dialling the proxy or for TLS, with it or through it (``connector``).
"""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from ..errors import ConnectionLost, DeadlineExceeded, LocalProtocolError, ProxyError
from ..policy import diagnosis
from ..policy.authority import authority
from ..policy.kind import Action, Kind
from ..policy.phase import Phase
from .head import encode_head
from .messages import Request
from .parser import ResponseReader, Truncated, Violation
from .trace import Traced

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable

    from ..net.wire import Wire
    from ..policy.failure import Failure
    from .messages import Headers, Origin

__all__ = ["NOT_A_PROXY", "PROXY_SCHEMES", "Proxy", "basic_credentials"]

PROXY_SCHEMES: Final = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
"""What a proxy may be, and its usual port."""
NOT_A_PROXY: Final = (
    f"a proxy's URL is scheme://host:port with one of {', '.join(PROXY_SCHEMES)}; "
    "in its user name and password /, ?, #, [ and ] are written as %2F, %3F, %23, %5B and %5D"
)
"""What to tell of any other; its own words may hold the password."""
_READ_SIZE: Final = 65_536
_LONGEST: Final = 255
"""Bytes of a host name, user name or password in SOCKS5: each has one byte for its length."""
_HOPELESS_REPLIES: Final = frozenset({b"\x02", b"\x07", b"\x08"})
"""Not allowed by the rules, command or address type not supported: asking again changes nothing."""
_REPLIES: Final = {
    b"\x01": "General SOCKS server failure",
    b"\x02": "Connection not allowed by ruleset",
    b"\x03": "Network unreachable",
    b"\x04": "Host unreachable",
    b"\x05": "Connection refused",
    b"\x06": "TTL expired",
    b"\x07": "Command not supported",
    b"\x08": "Address type not supported",
}
_METHODS: Final = {
    b"\x00": "NO AUTHENTICATION REQUIRED",
    b"\x01": "GSSAPI",
    b"\x02": "USERNAME/PASSWORD",
    b"\xff": "NO ACCEPTABLE METHODS",
}

_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}


def basic_credentials(user: bytes, password: bytes) -> tuple[bytes, bytes]:
    """The header that tells an HTTP proxy who asks."""
    return b"Proxy-Authorization", b"Basic " + base64.b64encode(user + b":" + password)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """See the module.

    Args:
        scheme: One of ``PROXY_SCHEMES``.
        host: Its host, without brackets.
        port: Its port.
        headers: What an HTTP proxy gets with every request that it sees, credentials included.
        credentials: User and password for a SOCKS5 proxy.
        tls_context: Makes the context for TLS with the proxy itself, where its scheme is https.

    Raises:
        ValueError: The scheme is unknown, or the credentials are longer than SOCKS5 can say.
    """

    scheme: str
    host: str
    port: int
    headers: tuple[tuple[bytes, bytes], ...] = field(default=(), repr=False)
    credentials: tuple[bytes, bytes] | None = field(default=None, repr=False)
    tls_context: Callable[[], ssl.SSLContext] | None = None

    def __post_init__(self) -> None:
        if self.scheme not in PROXY_SCHEMES:
            raise ValueError(f"a proxy's scheme must be one of {', '.join(PROXY_SCHEMES)}, not {self.scheme!r}")
        if self.credentials is not None and not all(0 < len(part) <= _LONGEST for part in self.credentials):
            raise ValueError("a SOCKS5 proxy takes a user name and a password of 1 to 255 bytes each")

    @property
    def name(self) -> str:
        """``host:port``, as records have it in ``via``."""
        return authority(self.host, self.port)

    @property
    def is_socks(self) -> bool:
        """Whether it speaks SOCKS5 and not HTTP."""
        return self.scheme.startswith("socks")

    def forwards(self, origin: Origin) -> bool:
        """Whether requests for ``origin`` are sent to the proxy itself, without a tunnel."""
        return origin.scheme == "http" and not self.is_socks

    def prepare(self, request: Request) -> None:
        """Make ``request`` one that the proxy forwards, if it does: absolute URL, the proxy's headers."""
        if self.forwards(request.origin):
            if request.target.startswith(b"/"):  # "*" and what is absolute already go as they are
                request.target = b"http://" + _authority(request.origin, default=80) + request.target
            request.headers = _merged(self.headers, request.headers)

    async def open_tunnel(self, wire: Wire, request: Request, deadline: float | None) -> None:
        """Have the proxy at the other end of ``wire`` connect it to the request's origin.

        ``deadline`` is a monotonic time.

        Raises:
            ProxyError: The proxy refused, broke its protocol, or its connection was lost.
            DeadlineExceeded: It took too long; ``limit`` is ``connect``.
        """
        wire.phase = Phase.PROXY
        talk = _Talk(wire, self.name, deadline)
        if self.is_socks:
            info = {
                "stream": wire,
                "host": request.origin.host,
                "port": request.origin.port,
                "auth": self.credentials,
                "timeouts": request.timeouts.as_dict(),
            }
            async with Traced(request.trace, "socks.setup_socks5_connection", info) as step:
                await self._ask_socks(talk, request.origin)
                step.result = wire
        else:
            await self._ask_http(talk, request)

    async def _ask_http(self, talk: _Talk, request: Request) -> None:
        authority = _authority(request.origin)
        headers = _merged([(b"Host", authority), (b"Accept", b"*/*")], self.headers)
        connect = Request(b"CONNECT", request.origin, authority, headers)
        encode_head(connect)
        hook = request.trace
        reader = ResponseReader()
        reader.begin(b"CONNECT")
        info = {"request": connect}
        async with Traced(hook, "http11.send_request_headers", info):
            await talk.send(connect.head)
        async with Traced(hook, "http11.send_request_body", info):
            pass
        async with Traced(hook, "http11.receive_response_headers", info) as step:
            await talk.receive_head(reader)
            step.result = (reader.http_version, reader.status, reader.reason, reader.headers)
        if not 200 <= reader.status < 300:
            said = f"{reader.status} {_PHRASES.get(reader.status, '')}".strip()  # its own words may be anything
            raise talk.refused(said, status=reader.status)
        if reader.leftover and request.origin.scheme != "tcp":
            raise talk.refused("it sent bytes into the tunnel before anybody asked", hopeless=True)
        talk.put_back(reader.leftover)

    async def _ask_socks(self, talk: _Talk, origin: Origin) -> None:
        import socksio  # noqa: PLC0415 - an extra, looked for when the proxy was given
        from socksio import socks5  # noqa: PLC0415

        host = origin.host
        if len(host.encode()) > _LONGEST:
            raise LocalProtocolError(f"the host name has more than {_LONGEST} bytes, which SOCKS5 cannot say")
        methods = [socks5.SOCKS5AuthMethod.NO_AUTH_REQUIRED]
        if self.credentials is not None:
            methods.append(socks5.SOCKS5AuthMethod.USERNAME_PASSWORD)
        command = socks5.SOCKS5CommandRequest.from_address(socks5.SOCKS5Command.CONNECT, (host, origin.port))
        try:
            await talk.send(socks5.SOCKS5AuthMethodsRequest(methods).dumps())
            chosen = socks5.SOCKS5AuthReply.loads(await talk.receive(2)).method
            if chosen not in methods:
                asked = _METHODS[bytes(methods[-1])]
                got = _METHODS.get(bytes(chosen), "UNKNOWN")
                raise talk.refused(f"Requested {asked} from proxy server, but got {got}.", hopeless=True)
            if chosen is socks5.SOCKS5AuthMethod.USERNAME_PASSWORD and self.credentials is not None:
                await talk.send(socks5.SOCKS5UsernamePasswordRequest(*self.credentials).dumps())
                if not socks5.SOCKS5UsernamePasswordReply.loads(await talk.receive(2)).success:
                    raise talk.refused("Invalid username/password", hopeless=True)
            await talk.send(command.dumps())
            code = bytes(socks5.SOCKS5Reply.loads(await talk.receive_socks_reply()).reply_code)
        except socksio.ProtocolError as exc:
            raise talk.broken(f"no SOCKS5: {exc}") from exc
        if code != b"\x00":
            said = f"Proxy Server could not connect: {_REPLIES[code]}."
            raise talk.refused(said, hopeless=code in _HOPELESS_REPLIES)


class _Talk:
    """Question and answer with the proxy; every failure comes out as the proxy's."""

    def __init__(self, wire: Wire, name: str, deadline: float | None) -> None:
        self._wire = wire
        self._name = name
        self._deadline = deadline

    def _left(self) -> float | None:
        return None if self._deadline is None else max(self._deadline - time.monotonic(), 0.0)

    async def send(self, data: bytes) -> None:
        try:
            await self._wire.write(data, self._left())
        except DeadlineExceeded:
            raise self._too_late() from None
        except ConnectionLost as lost:
            raise self._lost(lost.failure) from lost

    async def _read(self, most: int) -> bytes:
        """Up to ``most`` bytes; ``b""`` at the end."""
        try:
            return await self._wire.read(most, self._left())
        except DeadlineExceeded:
            raise self._too_late() from None
        except ConnectionLost as lost:
            raise self._lost(lost.failure) from lost

    async def receive(self, size: int) -> bytes:
        """Exactly ``size`` bytes: what follows belongs to the next answer, or to the tunnel."""
        data = b""
        while len(data) < size:
            piece = await self._read(size - len(data))
            if not piece:
                raise self._lost(diagnosis.from_eof(phase=Phase.PROXY, facts=self._wire.facts()))
            data += piece
        return data

    async def receive_socks_reply(self) -> bytes:
        """A whole reply, as long as its address makes it (RFC 1928, section 6)."""
        start = await self.receive(5)
        kind = start[3]
        address = {1: 4, 3: 1 + start[4], 4: 16}.get(kind)
        if start[0] != 5 or address is None:
            raise self.broken("no SOCKS5 reply")
        return start + await self.receive(4 + address + 2 - len(start))

    def put_back(self, data: bytes) -> None:
        """What was read behind the answer is the server's, who may be the first to speak (IMAP, SMTP, MySQL)."""
        self._wire.put_back(data)

    async def receive_head(self, reader: ResponseReader) -> None:
        """Read until ``reader`` has the head of a final response."""
        try:
            while not reader.head_complete:
                data = await self._read(_READ_SIZE)
                if data:
                    reader.feed(data)
                else:
                    reader.feed_eof()
        except Truncated:
            raise self._lost(diagnosis.from_eof(phase=Phase.PROXY, facts=self._wire.facts())) from None
        except Violation as violation:
            raise self.broken(str(violation)) from None

    # --- what can go wrong ---

    def refused(self, said: str, *, status: int | None = None, hopeless: bool = False) -> ProxyError:
        """The proxy answered, and the answer is no."""
        failure = diagnosis.local(
            Kind.PROXY_REFUSED, phase=Phase.PROXY, facts=self._wire.facts(), detail=said.rstrip(".")
        )
        if hopeless:
            failure = failure.evolve(action=Action.NEVER)
        error = ProxyError(f"{said} [{failure.endpoint}] {failure.remedy}", failure=failure)
        error.status = status
        return error

    def broken(self, what: str) -> ProxyError:
        """The proxy's answer makes no sense."""
        failure = diagnosis.from_protocol(phase=Phase.PROXY, facts=self._wire.facts(), detail=what)
        return ProxyError(f"the proxy {self._name} does not speak its protocol: {failure}", failure=failure)

    def _lost(self, failure: Failure | None) -> ProxyError:
        return ProxyError(f"the proxy {self._name} opened no tunnel: {failure}", failure=failure)

    def _too_late(self) -> DeadlineExceeded:
        failure = diagnosis.local(Kind.LOCAL_TIMEOUT, phase=Phase.PROXY, facts=self._wire.facts())
        message = f"the proxy {self._name} opened no tunnel in time: {failure}"
        return DeadlineExceeded(message, limit="connect", failure=failure)


def _authority(origin: Origin, *, default: int | None = None) -> bytes:
    """Host and port as a URL writes them; the port is left out where it is ``default``."""
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    return (host if origin.port == default else f"{host}:{origin.port}").encode("ascii")


def _merged(defaults: Iterable[tuple[bytes, bytes]], own: Iterable[tuple[bytes, bytes]]) -> Headers:
    """``defaults`` that ``own`` does not name, then ``own``."""
    last = list(own)
    names = {name.lower() for name, _ in last}
    return [(name, value) for name, value in defaults if name.lower() not in names] + last
