"""What the tests share: holdwire's fixtures, and the event loops."""

import pytest

pytest_plugins = ["holdwire.testing.pytest_plugin"]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Both event loops."""
    backend: str = request.param
    return backend
