"""Throw-away certificates for tests: an authority of its own and a server certificate. Not fit for anything else.

Made with ``trustme`` where it is installed, else with ``cryptography``. Neither is needed without TLS.
"""

from __future__ import annotations

import datetime as dt
import functools
import ipaddress
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import final

__all__ = ["Identity", "self_signed"]

_VALIDITY = dt.timedelta(days=30)
_MISSING = "ChaosServer and ChaosProxy make their certificates with trustme or cryptography: pip install trustme"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A server certificate and the authority that vouches for it, all in PEM."""

    certificate: bytes
    """The chain that the server presents."""
    key: bytes
    """The server's private key, without a password."""
    authority: bytes
    """What a client must trust; usable as ``SSL_CERT_FILE``."""

    def server_context(self, *, alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
        """A new context that presents this certificate; ``alpn`` are the protocols that it offers, best first."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.NamedTemporaryFile(suffix=".pem") as file:  # the ssl module reads keys from files only
            file.write(self.key + self.certificate)
            file.flush()
            context.load_cert_chain(file.name)
        if alpn:
            context.set_alpn_protocols(alpn)
        return context

    def client_context(self) -> ssl.SSLContext:
        """A new context that trusts this authority and nobody else."""
        return ssl.create_default_context(cadata=self.authority.decode("ascii"))

    def write_authority(self, path: str | Path) -> Path:
        """Write the authority's certificate to ``path``, for programs that want a file."""
        target = Path(path)
        target.write_bytes(self.authority)
        return target

    def write_server(self, path: str | Path) -> Path:
        """Write the key and the chain to ``path``, readable by nobody else, for servers that want a file."""
        target = Path(path)
        target.touch(mode=0o600)
        target.write_bytes(self.key + self.certificate)
        return target


@functools.lru_cache(maxsize=8)
def self_signed(*names: str) -> Identity:
    """An identity for the host names and addresses ``names`` (default: localhost, 127.0.0.1 and ::1).

    The same names give the same identity within one process.

    Raises:
        ImportError: Neither trustme nor cryptography is installed.
    """
    names = names or ("localhost", "127.0.0.1", "::1")
    try:
        import trustme  # noqa: PLC0415 - optional
    except ImportError:
        return _with_cryptography(names)
    authority = trustme.CA()
    leaf = authority.issue_cert(*names)
    return Identity(
        certificate=b"".join(blob.bytes() for blob in leaf.cert_chain_pems),
        key=leaf.private_key_pem.bytes(),
        authority=authority.cert_pem.bytes(),
    )


def _with_cryptography(names: tuple[str, ...]) -> Identity:
    try:
        from cryptography import x509  # noqa: PLC0415 - optional
        from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415
        from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID  # noqa: PLC0415
    except ImportError as missing:
        raise ImportError(_MISSING) from missing

    now = dt.datetime.now(dt.UTC)

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, text)])

    def general_name(text: str) -> x509.GeneralName:
        try:
            return x509.IPAddress(ipaddress.ip_address(text))
        except ValueError:
            return x509.DNSName(text)

    def usage(*, signs_certificates: bool) -> x509.KeyUsage:
        return x509.KeyUsage(
            digital_signature=not signs_certificates,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=signs_certificates,
            crl_sign=signs_certificates,
            encipher_only=False,
            decipher_only=False,
        )

    def builder(subject: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name("holdwire.testing authority"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + _VALIDITY)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
            )
        )

    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = (
        builder("holdwire.testing authority", authority_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage(signs_certificates=True), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    leaf_key = ec.generate_private_key(ec.SECP256R1())
    leaf = (
        builder("holdwire.testing server", leaf_key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([general_name(text) for text in names]), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    return Identity(
        certificate=leaf.public_bytes(pem),
        key=leaf_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        authority=authority.public_bytes(pem),
    )
