"""Does the shop's client survive bad moments, and never order twice?"""

from __future__ import annotations

import pytest
from shop import OrderUnknown, Shop

from holdwire.testing import Answer, ChaosServer
from holdwire.testing.pytest_plugin import StartProxy

pytestmark = pytest.mark.anyio


async def test_a_deployment_between_two_orders_costs_nothing(chaos_server: ChaosServer) -> None:
    async with Shop(chaos_server.url) as shop:
        await shop.order("tea")
        chaos_server.restart(down=0.2)
        await shop.order("cup")
    assert chaos_server.ledger.count("/order") == 2


async def test_an_answer_that_is_lost_is_told_and_the_order_is_not_repeated(chaos_server: ChaosServer) -> None:
    chaos_server.script("response:0 rst", path="/order")
    async with Shop(chaos_server.url) as shop:
        with pytest.raises(OrderUnknown):
            await shop.order("tea")
    assert chaos_server.ledger.count("/order") == 1


async def test_a_price_is_asked_for_again(chaos_server: ChaosServer) -> None:
    chaos_server.answer("/price/tea", Answer(body=b"3.50"))
    chaos_server.script("response:0 fin", path="/price/tea")
    async with Shop(chaos_server.url) as shop:
        assert await shop.price("tea") == "3.50"


@pytest.mark.parametrize("fault", ["idle:0 rst", "idle:0 fin", "idle:0 expire"])
async def test_a_balancer_that_forgets_the_connection_loses_no_order(
    chaos_server: ChaosServer, chaos_proxy: StartProxy, fault: str
) -> None:
    proxy = chaos_proxy(chaos_server.address)
    proxy.script(fault)
    chaos_server.answer("/price/tea", Answer(body=b"3.50"))
    async with Shop("http://{}:{}".format(*proxy.address)) as shop:
        await shop.price("tea")
        await proxy.until("fault")
        try:
            await shop.order("tea")
        except OrderUnknown:  # forgotten without a word: the order was on its way when that showed
            assert fault == "idle:0 expire"
    assert chaos_server.ledger.count("/order") == (0 if fault == "idle:0 expire" else 1)
