"""A client of a shop: what a program built on holdwire looks like."""

from __future__ import annotations

from typing import Self

import httpx

import holdwire


class OrderUnknown(Exception):
    """The order may or may not have been placed: look before you order again."""


class Shop:
    """The shop at ``url``; use it in an ``async with``."""

    def __init__(self, url: str) -> None:
        self._http = httpx.AsyncClient(transport=holdwire.ResilientTransport(), base_url=url, timeout=2)

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def price(self, item: str) -> str:
        """What ``item`` costs."""
        response = await self._http.get(f"/price/{item}")
        return response.raise_for_status().text

    async def order(self, item: str) -> None:
        """Order ``item``, once.

        Raises:
            OrderUnknown: The connection broke, and the order may have been placed.
            httpx.TransportError: It has certainly not been placed.
        """
        try:
            response = await self._http.post("/order", content=item.encode())
        except httpx.TransportError as error:
            failure = holdwire.failure_of(error)
            if failure is not None and failure.safe_to_retry:
                raise
            raise OrderUnknown(item) from error
        response.raise_for_status()
