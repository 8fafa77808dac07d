"""anyio's typed attributes of a TLS stream. Not responsible for those of the stream beneath."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anyio.streams.tls import TLSAttribute

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .engine import Engine

__all__ = ["tls_attributes"]


def tls_attributes(engine: Engine) -> Mapping[Any, Callable[[], Any]]:
    """The whole ``TLSAttribute`` set."""
    tls = engine.object
    attributes: list[tuple[Any, Callable[[], Any]]] = [
        (TLSAttribute.alpn_protocol, tls.selected_alpn_protocol),
        (TLSAttribute.channel_binding_tls_unique, tls.get_channel_binding),
        (TLSAttribute.cipher, tls.cipher),
        (TLSAttribute.peer_certificate, lambda: tls.getpeercert(binary_form=False)),
        (TLSAttribute.peer_certificate_binary, lambda: tls.getpeercert(binary_form=True)),
        (TLSAttribute.server_side, lambda: tls.server_side),
        (TLSAttribute.shared_ciphers, lambda: tls.shared_ciphers() if tls.server_side else None),
        (TLSAttribute.ssl_object, lambda: tls),
        (TLSAttribute.standard_compatible, lambda: not engine.forgiving),
        (TLSAttribute.tls_version, tls.version),
    ]
    return dict(attributes)  # pairs: type checkers differ on whether anyio's attributes are hashable
