"""A server of trials by tests: pytest collects once, and each trial runs some of the tests."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence

import pytest

from jepsen_lite.mutation.trial import ChildReport
from jepsen_lite.mutation.trial_server import Step, TrialServer

LEFT_OUT = "not cluster and not docker and not slow and not alone"
ARGUMENTS = ("-q", "--capture=sys", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", LEFT_OUT)


class _TrialPlugin:
    """Takes the place of pytest's loop over the tests."""

    def __init__(self, server: TrialServer) -> None:
        self._server = server
        self._failure = ""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self._items = {item.nodeid: item for item in session.items}
        if self._server.order.records:
            self._server.record(self._each_alone())
        else:
            self._server.serve(self._run)
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self._failure:
            crash = getattr(report.longrepr, "reprcrash", None)
            text = crash.message if crash is not None else report.longreprtext
            self._failure = text[:500] or "failed"

    def _run(self, steps: Sequence[Step], report: ChildReport) -> None:
        with tempfile.TemporaryDirectory(prefix="jepsen-lite-mutation-") as directory:
            _keep_no_examples(directory)
            items = [self._items[name] for name, _ in steps]
            for (name, limit_s), item, following in zip(
                steps, items, [*items[1:], None], strict=True
            ):
                report.begins(name, limit_s)
                item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
                if self._failure:
                    report.failed(self._failure)
                    return

    def _each_alone(self) -> Iterator[tuple[str, float]]:
        """Each test with all its fixtures, so that what these reach counts for each test; a test
        that fails is left out.
        """
        with tempfile.TemporaryDirectory(prefix="jepsen-lite-mutation-") as directory:
            _keep_no_examples(directory)
            for name, item in self._items.items():
                self._failure = ""
                began_s = time.perf_counter()
                item.ihook.pytest_runtest_protocol(item=item, nextitem=None)
                if not self._failure:
                    yield name, time.perf_counter() - began_s


def _keep_no_examples(directory: str) -> None:
    """What one trial's search for examples has found must not speed up another's."""
    try:
        from hypothesis.configuration import set_hypothesis_home_dir
    except ImportError:
        return
    set_hypothesis_home_dir(directory)


def main() -> None:
    server = TrialServer()
    arguments = [*ARGUMENTS, "--hypothesis-seed=0", *server.order.steps]
    raise SystemExit(pytest.main(arguments, plugins=[_TrialPlugin(server)]))


if __name__ == "__main__":
    main()
