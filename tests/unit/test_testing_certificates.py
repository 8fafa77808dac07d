"""Throw-away certificates: a client that trusts the authority, and only such a client, can connect."""

from __future__ import annotations

import ssl
import sys
from typing import TYPE_CHECKING

import pytest

from holdwire.testing.certificates import Identity, self_signed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["trustme", "cryptography"])
def maker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "cryptography":
        monkeypatch.setitem(sys.modules, "trustme", None)
    self_signed.cache_clear()
    yield request.param
    self_signed.cache_clear()


def shake_hands(client: ssl.SSLContext, identity: Identity, name: str) -> ssl.SSLObject:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    left = client.wrap_bio(to_client, to_server, server_hostname=name)
    right = identity.server_context(alpn=("x",)).wrap_bio(to_server, to_client, server_side=True)
    pending = [left, right, left, right]
    for side in pending:
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return left


@pytest.mark.usefixtures("maker")
@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1"])
def test_its_own_client_trusts_it(name: str) -> None:
    identity = self_signed()
    assert shake_hands(identity.client_context(), identity, name).getpeercert()


@pytest.mark.usefixtures("maker")
def test_others_and_other_names_are_not_trusted() -> None:
    identity = self_signed("one.test")
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"):
        shake_hands(ssl.create_default_context(), identity, "one.test")
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(identity.client_context(), identity, "two.test")
    assert shake_hands(identity.client_context(), identity, "one.test").getpeercert()


@pytest.mark.usefixtures("maker")
def test_the_same_names_give_the_same_identity() -> None:
    assert self_signed("a.test") is self_signed("a.test")
    assert self_signed("a.test") is not self_signed("b.test")


def test_the_authority_can_be_a_file(tmp_path: Path) -> None:
    path = self_signed().write_authority(tmp_path / "ca.pem")
    assert ssl.create_default_context(cafile=str(path)).cert_store_stats()["x509_ca"] >= 1


def test_without_the_libraries_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trustme", None)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    self_signed.cache_clear()
    with pytest.raises(ImportError, match="pip install trustme"):
        self_signed()
