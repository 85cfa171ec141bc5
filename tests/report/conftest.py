import pytest

from tests.report import synthetic


@pytest.fixture(scope="session")
def run() -> synthetic.Run:
    """A finished run; nobody changes it."""
    return synthetic.run()
