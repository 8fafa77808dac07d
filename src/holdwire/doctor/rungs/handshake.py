"""The rung ``tls``: does the handshake work, with which version, certificate and alert; what changes it if not?

One handshake as a client of holdwire makes it. Where the certificate is what fails, a second one that verifies nothing
shows the certificate; where something else fails, one without the server's name tells a filter on names apart. Each
version is then tried alone. OCSP stapling is asked for through the ``openssl`` program where there is one: the standard
library cannot.
"""

from __future__ import annotations

import contextlib
import datetime
import shutil
import ssl
import subprocess
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.to_thread

from ...errors import HoldwireError
from ...policy.kind import Kind
from ...policy.phase import Phase
from ..case import is_timeout
from ..record import Check, Sign, Verdict
from .addresses import later_sign

if TYPE_CHECKING:
    from ...policy.failure import Failure
    from ...tls.stream import TLSStream
    from ..case import Case
    from ..record import Rung

__all__ = ["alert_sign", "look", "stapled"]

_CHECK: Final = Check("tls", 3, Phase.TLS_HANDSHAKE, "Renew the certificate.")
_VERSIONS: Final = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}
_VERIFY: Final = {
    9: "certificate_not_yet_valid",
    10: "certificate_expired",
    62: "certificate_name_mismatch",
    64: "certificate_name_mismatch",
}
_ALERTS: Final[dict[str, frozenset[int]]] = {
    "tls_version_mismatch": frozenset({40, 70, 71, 86}),
    "client_certificate_required": frozenset({42, 43, 44, 45, 46, 48, 49, 116}),
    "server_name_filtered": frozenset({112}),
}
"""What an alert of the server's means (RFC 8446, section 6)."""
_PROTOCOLS: Final = ("h2", "http/1.1")
_SOON: Final = 21
"""Days."""


async def look(case: Case) -> Rung:
    """See the module."""
    began = time.monotonic()
    evidence: dict[str, Any] = {}
    signs: list[Sign] = []
    context = case.context(alpn=_PROTOCOLS)
    evidence["messages"] = _overheard(context)
    try:
        stream = await case.secure(await case.connect(), context)
    except HoldwireError as exc:
        return await _failed(case, exc, evidence)
    took = time.monotonic() - began
    try:
        evidence |= _description(stream) | {"took_ms": round(took * 1000, 1)}
        signs += _dates(evidence)
    finally:
        case.close(stream)
    evidence["versions"] = await _versions(case)
    evidence["protocols"] = await _protocols(case)
    evidence["without_sni"] = await _without_name(case)
    evidence["ocsp_stapled"] = await stapled(case)
    if evidence["without_sni"] != "ok":
        evidence["note"] = "clients without SNI do not get this certificate"
    days = evidence.get("certificate", {}).get("days_left")
    summary = f"{evidence['version']}, {evidence['cipher']}, ALPN {evidence['alpn'] or 'none'}, {took * 1000:.0f} ms"
    if days is not None:
        summary += f", certificate good for {days} days"
    return _CHECK(Verdict.WARNING if signs else Verdict.OK, summary, evidence, signs=signs)


async def _failed(case: Case, exc: HoldwireError, evidence: dict[str, Any]) -> Rung:
    failure = exc.failure
    sign = _sign(case, exc)
    signs = [sign]
    if failure is not None:
        evidence |= {
            "errno": failure.errno_name,
            "reason": None if failure.tls is None else failure.tls.reason,
            "alert": None if failure.tls is None else failure.tls.alert_name,
            "alert_direction": None if failure.tls is None else failure.tls.alert_direction,
        }
    if failure is not None and failure.kind is Kind.CERTIFICATE_INVALID:
        evidence |= await _unverified(case)
    elif failure is not None and failure.phase is Phase.TLS_HANDSHAKE and sign.name != "not_tls":
        evidence["versions"] = await _versions(case)
        evidence["without_sni"] = without = await _without_name(case)
        if without == "ok":
            signs.append(Sign("server_name_filtered", 0.8, f"SNI {case.server_name}: fails; without SNI: works"))
    compare = f"Compare: openssl s_client -connect {case.target} -servername {case.server_name} -status -msg"
    return _CHECK(Verdict.FAILED, str(failure or exc), evidence, signs=signs, action=compare)


_KINDS: Final[dict[Kind, tuple[str, float]]] = {
    Kind.CONNECTION_RESET: ("reset_in_handshake", 0.8),
    Kind.UNEXPECTED_EOF: ("closed_in_handshake", 0.8),
    Kind.LOCAL_TIMEOUT: ("server_not_answering", 0.75),
}


def _sign(case: Case, exc: HoldwireError) -> Sign:
    failure = exc.failure
    if failure is None:
        return Sign("closed_in_handshake", 0.4, str(exc))
    for sign in later_sign(case, exc):
        return sign
    tls = failure.tls
    reason = (tls.reason or "") if tls is not None else ""
    if failure.kind in _KINDS:
        name, confidence = _KINDS[failure.kind]
        silent = f"no answer to the ClientHello within {case.timeout:g} s"
        what = (
            silent if is_timeout(exc) else f"{failure.syscall}: {failure.errno_name or 'end of file'} in the handshake"
        )
        return Sign(name, confidence, what)
    if failure.kind is Kind.CERTIFICATE_INVALID:
        code = tls.verify_code if tls is not None else None
        return Sign(_VERIFY.get(code or 0, "certificate_untrusted"), 0.95, _verify_words(failure))
    if failure.kind is Kind.TLS_ALERT_RECEIVED:
        return alert_sign(failure)
    plain = reason == "WRONG_VERSION_NUMBER" or not any(word in reason for word in ("VERSION", "PROTOCOL", "CIPHER"))
    return Sign("not_tls" if plain else "tls_version_mismatch", 0.9, f"OpenSSL: {reason or failure.kind}")


def alert_sign(failure: Failure) -> Sign:
    """What an alert from the server is a sign of; TLS 1.3 refuses a client's certificate only after the handshake."""
    alert = None if failure.tls is None else failure.tls.alert
    name = next((name for name, alerts in _ALERTS.items() if alert in alerts), "tls_alert")
    return Sign(name, 0.85, f"the server sent the alert {'' if failure.tls is None else failure.tls.alert_name}")


def _verify_words(failure: Failure) -> str:
    tls = failure.tls
    return "the certificate does not verify" if tls is None else str(tls.verify_message or tls.reason)


def _description(stream: TLSStream) -> dict[str, Any]:
    cipher = stream.engine.object.cipher()
    described: dict[str, Any] = {
        "version": stream.version,
        "cipher": cipher[0] if cipher else None,
        "alpn": stream.alpn_protocol,
    }
    certificate = stream.engine.object.getpeercert(binary_form=True)
    if certificate:
        described["certificate"] = _certificate(certificate)
        described["chain_length"] = _chain_length(stream.engine.object)
    return described


def _chain_length(wire: ssl.SSLObject) -> int | None:
    """How many certificates the server sent: one alone, of an authority that is not a root, lacks its middle."""
    inner: Any = getattr(wire, "_sslobj", None)  # public from Python 3.13 on
    chain = inner.get_unverified_chain() if hasattr(inner, "get_unverified_chain") else None
    return None if chain is None else len(chain)


def _certificate(der: bytes) -> dict[str, Any]:
    """What is in a certificate; empty without the package cryptography."""
    try:
        from cryptography import x509  # noqa: PLC0415 - an extra
    except ImportError:
        return {}
    certificate = x509.load_der_x509_certificate(der)
    now = datetime.datetime.now(datetime.UTC)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        hosts = [str(name.value) for name in names]
    except x509.ExtensionNotFound:
        hosts = []
    return {
        "names": hosts[:20],
        "issuer": certificate.issuer.rfc4514_string(),
        "not_before": certificate.not_valid_before_utc.isoformat(),
        "not_after": certificate.not_valid_after_utc.isoformat(),
        "days_left": (certificate.not_valid_after_utc - now).days,
    }


def _dates(evidence: dict[str, Any]) -> list[Sign]:
    days = evidence.get("certificate", {}).get("days_left")
    if days is None or days > _SOON:
        return []
    return [Sign("certificate_expires_soon", 0.4, f"{days} days are left")]


async def _unverified(case: Case) -> dict[str, Any]:
    """The certificate that does not verify."""
    try:
        stream = await case.secure(await case.connect(), case.context(verify=False))
    except HoldwireError:
        return {}
    try:
        return _description(stream)
    finally:
        case.close(stream)


async def _versions(case: Case) -> dict[str, str]:
    """Each version alone: ``ok``, or what came instead."""
    found: dict[str, str] = {}

    async def probe(name: str) -> None:
        context = case.context(verify=False)
        context.minimum_version = context.maximum_version = _VERSIONS[name]
        found[name] = await _outcome(case, context, None)

    async with anyio.create_task_group() as group:
        for name in _VERSIONS:
            group.start_soon(probe, name)
    return dict(sorted(found.items()))


async def _protocols(case: Case) -> dict[str, str | None]:
    """What is agreed upon when each protocol alone is offered by ALPN; None for nothing."""
    found: dict[str, str | None] = {}

    async def probe(name: str) -> None:
        try:
            stream = await case.secure(await case.connect(), case.context(verify=False, alpn=(name,)))
        except HoldwireError as exc:
            found[name] = "failed" if exc.failure is None else str(exc.failure.kind)
            return
        found[name] = stream.alpn_protocol
        case.close(stream)

    async with anyio.create_task_group() as group:
        for name in _PROTOCOLS:
            group.start_soon(probe, name)
    return dict(sorted(found.items()))


def _overheard(context: ssl.SSLContext) -> list[str]:
    """The handshake's messages and alerts, as ``openssl s_client -msg`` tells them, while they are exchanged."""
    messages: list[str] = []

    def note(_: object, direction: str, __: object, content: object, kind: object, ___: bytes) -> None:
        if getattr(content, "name", "") in {"HANDSHAKE", "ALERT"}:
            messages.append(f"{'sent' if direction == 'write' else 'received'} {getattr(kind, 'name', kind)}".lower())

    with contextlib.suppress(AttributeError):  # CPython's own, and private: without it there is less to tell
        context._msg_callback = note  # type: ignore[attr-defined]  # noqa: SLF001 # pyright: ignore[reportAttributeAccessIssue, reportPrivateUsage]
    return messages


async def _without_name(case: Case) -> str:
    return await _outcome(case, case.context(verify=False), "")


async def _outcome(case: Case, context: ssl.SSLContext, name: str | None) -> str:
    try:
        stream = await case.secure(await case.connect(), context, name=name)
    except HoldwireError as exc:
        failure = exc.failure
        if failure is None:
            return type(exc).__name__
        tls = failure.tls
        return (tls.alert_name if tls is not None else None) or failure.errno_name or str(failure.kind)
    case.close(stream)
    return "ok"


async def stapled(case: Case) -> str:
    """Whether the server staples an OCSP response: ``yes``, ``no``, or why nobody can tell."""
    program = shutil.which("openssl")
    if program is None or case.proxy is not None:
        return "unknown: needs the openssl program and a direct way"
    where = replace(case.target, host=case.address or case.target.host)
    command = [program, "s_client", "-connect", str(where), "-servername", case.server_name, "-status"]
    case.opened += 1

    def run() -> str:
        try:
            done = subprocess.run(  # noqa: S603 - a fixed program, the target was checked
                command, input="", capture_output=True, text=True, errors="replace", timeout=case.timeout, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return "unknown: openssl did not answer"
        if "OCSP response: no response sent" in done.stdout:
            return "no"
        return "yes" if "OCSP Response" in done.stdout else "unknown: openssl came to no handshake"

    return await anyio.to_thread.run_sync(run)
