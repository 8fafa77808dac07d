"""``Failure``: everything that is known about one failure, as one frozen record.

Made once, at the system call or the protocol step that failed, before the socket is closed; every exception,
span, log line and retry verdict about it refers to the same record. Not responsible for classifying
(``taxonomy``) or for wording (``words``).
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from .authority import authority
from .kind import Action, Category, Confidence, FaultSide, Kind

if TYPE_CHECKING:
    from typing import Any

    from .flight import Moment
    from .phase import Delivery, Phase, Sent
    from .tcp_info import TcpInfo

__all__ = ["Failure", "TlsDetail"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsDetail:
    """What TLS says about a failure.

    ``error`` is OpenSSL's class (``SSL_ERROR_SSL``, ``SSL_ERROR_SYSCALL`` ...; SYSCALL is derived by holdwire),
    ``reason`` its reason name, ``alert`` the alert's number (RFC 8446, section 6), ``verify_code`` the
    X509_V_ERR_* number, ``close_notify`` one of ``none``, ``sent``, ``received``, ``both``.
    """

    error: str | None = None
    reason: str | None = None
    alert: int | None = None
    alert_name: str | None = None
    alert_direction: str | None = None
    verify_code: int | None = None
    verify_message: str | None = None
    close_notify: str = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One failure.

    ``errno`` 0 means an end of file without an errno; None means that no system call was involved.
    ``action`` is the most that may be done about it. ``confidence`` is how sure ``cause`` is.
    ``host`` and ``port`` are the logical origin, ``peer`` and ``peer_port`` the address in use (``peer`` is the
    path of a Unix socket), ``via`` the proxy's host and port when the connection goes through one. ``fin_before_write``
    tells that all signs are that the peer had closed before the request was written (they prove nothing), ``discarded``
    how many bytes waited, encrypted or in the kernel, when the connection was given up: they never arrive.
    ``safe_to_retry`` is whether sending the request again cannot execute it twice, None outside a request;
    ``attempts`` how often it had been tried when this happened, this time included. Times are in seconds; ``at`` and
    ``began`` are Unix times: of the failure, and of the later of attempt start and last successful I/O. ``detail``
    is text of our own or an operating system's message: never a URL, header or payload. ``flight`` is what happened
    on the connection last.
    """

    kind: Kind
    category: Category
    phase: Phase
    action: Action = Action.PHASE_TABLE
    cause: str = ""
    remedy: str = ""
    confidence: Confidence = Confidence.UNKNOWN
    syscall: str | None = None
    errno: int | None = None
    errno_name: str | None = None
    tls: TlsDetail | None = None
    fault_side: FaultSide = FaultSide.UNKNOWN
    host: str | None = None
    port: int | None = None
    via: str | None = None
    peer: str | None = None
    peer_port: int | None = None
    local_port: int | None = None
    network_type: str | None = None
    connection_id: str | None = None
    reused: bool = False
    requests: int = 0
    age: float | None = None
    idle: float | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    tcp: TcpInfo | None = None
    outq: int | None = None
    sent: Sent | None = None
    delivery: Delivery | None = None
    fin_before_write: bool = False
    discarded: int = 0
    safe_to_retry: bool | None = None
    attempts: int = 0
    at: float = 0.0
    began: float | None = None
    detail: str | None = None
    flight: tuple[Moment, ...] = field(default=(), repr=False)

    @property
    def is_syscall(self) -> bool:
        """Whether this is a SYSCALL failure: an errno or EAI code, or an end of file without close_notify."""
        return self.syscall is not None

    @property
    def ended_by_peer(self) -> bool:
        """Whether the peer ended it: by an alert, an end of file or a reset."""
        return self.kind is Kind.TLS_ALERT_RECEIVED or self.category is Category.PEER_CLOSED

    @property
    def endpoint(self) -> str:
        """The peer as a person would write it: ``host:port (address)``, ``host:port through the proxy ...``."""
        name = self.host or ""
        if self.port is not None:
            name = authority(name, self.port)
        if self.via is not None:
            name += f" through the proxy {self.via}"
        if not self.peer or self.peer == self.host:
            return name or self.peer or "unknown peer"
        return f"{name} ({self.peer})" if name else self.peer

    def evolve(self, **changes: Any) -> Failure:
        """A copy with ``changes``, for what only a higher layer knows (``sent``, ``delivery``, ``phase`` ...)."""
        made = object.__new__(Failure)
        for put, value in zip(_PUTTERS.values(), _ALL_OF(self), strict=True):
            put(made, value)
        for name, value in changes.items():
            put = _PUTTERS.get(name)
            if put is None:
                raise TypeError(f"a failure has no {name}; it has {', '.join(_PUTTERS)}")
            put(made, value)
        return made  # a fifth of what dataclasses.replace costs, and every failure passes here several times

    def __str__(self) -> str:
        """One sentence: what happened, where, to which peer, and what to do."""
        if self.syscall is not None:
            what = f"{self.syscall}: {self.errno_name or self.kind}"
            if self.errno:
                what += f" (errno {self.errno})"
        else:
            what = str(self.kind)
            if self.tls is not None and self.tls.reason:
                what += f" ({self.tls.reason})"
        text = f"{what} in phase {self.phase} with {self.endpoint}"
        if self.detail:
            text += f": {self.detail}"
        if self.cause:
            text += f". {_SURELY.get(self.confidence, '')}{self.cause}"
        if self.remedy:
            text += f" {self.remedy}"
        return text


_PUTTERS: Final = {one.name: getattr(Failure, one.name).__set__ for one in fields(Failure)}
_ALL_OF: Final = attrgetter(*_PUTTERS)
_SURELY: Final = {Confidence.LIKELY: "Likely cause: ", Confidence.POSSIBLE: "Possible cause: "}
