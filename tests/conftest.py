"""Settings of the whole suite."""

from __future__ import annotations

from hypothesis import settings

# the first example of a test may compile a kernel: no time limit per example
settings.register_profile("dchw", deadline=None)
settings.load_profile("dchw")
