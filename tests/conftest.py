"""For all tests: one thread (two cores are shared, and threads change the last bits), and a cache of the tests' own."""

import os

os.environ["OMP_NUM_THREADS"] = "1"

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first, then those of many: a long one begun last would keep one core busy alone."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: (item.path not in slow, -tests[item.path], item.path))


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test reads or fills the cache of the person who runs it."""
    before = os.environ.get("KKA_CACHE")
    folder = tmp_path_factory.mktemp("cache")
    os.environ["KKA_CACHE"] = str(folder)
    yield folder
    if before is None:
        del os.environ["KKA_CACHE"]
    else:
        os.environ["KKA_CACHE"] = before


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of one whole run with the fakes, never interrupted. Read it; do not change it."""
    from fakes import FAST, run_fake

    folder = tmp_path_factory.mktemp("finished") / "run"
    run_fake(FAST, folder)
    return folder
