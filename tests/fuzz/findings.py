"""A plugin of pytest that shows a failure at once, and keeps the names of the tests that failed.

Fuzzing is stopped when its time is over, which may be before the end of the run.
"""

import pytest

from support import draws


def pytest_configure(config: pytest.Config) -> None:
    if draws.FOUND is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Findings(config))


class Findings:
    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            with draws.FOUND.open("a") as names:
                names.write(f"{report.nodeid}\n")
            terminal = self._config.pluginmanager.get_plugin("terminalreporter")
            terminal.write_sep("_", report.nodeid, red=True)
            terminal.write_line(report.longreprtext)
