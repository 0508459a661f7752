"""Settings of the whole suite."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import settings

# the first example of a test may compile a kernel: no time limit per example
settings.register_profile("dchw", deadline=None)
settings.load_profile("dchw")


@pytest.fixture(autouse=True)
def short_explanations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failing comparisons are explained in a few lines everywhere.

    Where a CI system names itself in the environment, pytest writes out every difference in full: half an hour for one
    planted fault in a list of some thousands.
    """
    for name in ("CI", "BUILD_NUMBER"):
        monkeypatch.delenv(name, raising=False)


class OptionalModule(pytest.Module):
    """A test module that is skipped, with the reason, where it imports torch and that is not installed."""

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        """What the module holds."""
        try:
            return super().collect()
        except self.CollectError as error:
            missing = error.__cause__
            if isinstance(missing, ModuleNotFoundError) and missing.name == "torch":
                pytest.skip("needs the extra 'torch'", allow_module_level=True)
            raise


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module:
    """The hook by which pytest makes a module of a file."""
    return OptionalModule.from_parent(parent, path=module_path)
