"""``Seen``: the observer of the tests. It keeps every event, and picks some out."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import anyio

from holdwire.events import ConnectionClosed, FailureRecorded, RequestRetried

if TYPE_CHECKING:
    from collections.abc import Callable

    import holdwire
    from holdwire.events import Event
    from holdwire.policy.retry import RetryAction

__all__ = ["Seen"]

E = TypeVar("E", bound="Event")


class Seen:
    """See the module."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_event(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type[E]) -> list[E]:
        """The events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def failures(self) -> list[holdwire.Failure]:
        """One for each ERROR span."""
        return [event.failure for event in self.of(FailureRecorded)]

    @property
    def verdicts(self) -> list[tuple[RetryAction, str]]:
        return [(event.verdict.action, event.verdict.reason) for event in self.of(RequestRetried)]

    @property
    def reasons(self) -> list[str]:
        return [reason for _, reason in self.verdicts]

    @property
    def closed(self) -> list[ConnectionClosed]:
        return self.of(ConnectionClosed)

    async def until(self, condition: Callable[[Seen], object], *, limit: float = 10) -> None:
        """Wait until ``condition`` holds; events come from code that has no loop to set an event in."""
        with anyio.fail_after(limit):
            while not condition(self):  # noqa: ASYNC110 - see above
                await anyio.sleep(0.01)
