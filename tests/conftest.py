"""For all tests."""

from __future__ import annotations

import signal

from hypothesis import settings

# A busy machine is no failure; what hangs is ended by pytest-timeout.
settings.register_profile("any-speed", deadline=None)
settings.load_profile("any-speed")


def pytest_configure() -> None:
    # What a shell starts in the background ignores both, and so would all that tests start.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGQUIT) is signal.SIG_IGN:
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)
