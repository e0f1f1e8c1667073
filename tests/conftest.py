"""The lanes of tests: which tests run, and on how many examples."""

from __future__ import annotations

import pytest
from hypothesis import settings

# No deadlines: a test never asserts how long something takes.
settings.register_profile("gate", deadline=None)
settings.register_profile("full", deadline=None, max_examples=500)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare `--full`, the option of `scripts/test --full`."""
    parser.addoption(
        "--full", action="store_true", help="also run tests marked `full`, and property tests on 500 examples"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Choose hypothesis's profile by the lane."""
    settings.load_profile("full" if config.getoption("--full") else "gate")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip tests marked `full` outside their lane, and run the files with slow tests first.

    A skip is printed with its reason, a deselected test is not. A slow test that starts last would run
    alone while the other worker is idle.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)  # stable: a file's tests stay together
    if config.getoption("--full"):
        return
    for item in items:
        if mark := item.get_closest_marker("full"):
            item.add_marker(pytest.mark.skip(reason=f"only in scripts/test --full: {mark.args[0]}"))
