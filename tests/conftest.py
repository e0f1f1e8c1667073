"""For all tests: hypothesis may take its time, because a test never says how long something takes."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("barnraise", deadline=None)
settings.load_profile("barnraise")
