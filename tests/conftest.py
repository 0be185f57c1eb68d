"""What holds for every test: in which order and beside which others it runs, and what is put back after it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Generator, Iterator

import hypothesis
import pytest
from tiers import LONG, examples

# A machine that is busy with other work is no failure: speed is measured in bench/, beside a rival.
hypothesis.settings.register_profile("ours", deadline=None, max_examples=examples(50, 10_000))
hypothesis.settings.load_profile("ours")

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)

# Started in the background by a script, as with nohup, we would ignore these, and so would every program that a test
# starts and then sends one to.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def _handlers_of_the_process() -> Iterator[None]:
    """What a task called in this process does about signals ends with its test."""
    handlers = {number: signal.getsignal(number) for number in HANDLED}
    hook = sys.unraisablehook
    yield
    sys.unraisablehook = hook
    for number, handler in handlers.items():
        signal.signal(number, handler)


GROUPS = ("docker", "sample")
"""The tests that share something which is dear to make, or the one engine: each group stays on one worker, and begins
first, because it takes longest."""


def _group(item: pytest.Item) -> str:
    """The group that a test belongs to; every other test of the integration tests goes with its module's."""
    if item.get_closest_marker("docker"):
        return "docker"
    if {"built", "sample_settings"} & set(getattr(item, "fixturenames", ())):
        return "sample"
    return item.path.stem if "integration" in item.path.parts else ""


class _Groups:
    """Told before xdist reads them; what is begun first is decided after pytest-randomly has shuffled."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            group = _group(item)
            if group:
                item.add_marker(pytest.mark.xdist_group(group))
            if LONG and getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
                item.add_marker("long")  # the same test, with many more examples


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The groups first, then the other integration tests, then the unit tests; within each, the order that there is."""
    rank = {group: place for place, group in enumerate((*GROUPS, "other", ""))}
    items.sort(key=lambda item: rank.get(_group(item), rank["other"]))


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_Groups())


NOTHING_TO_INSTALL = (
    "root may", "root can't", "only root", "mounting a small", "network namespaces are not permitted",
    "it is this machine", "the file is made to say", "a release is published for", "this is no git work tree",
    "it is the same file system", "no second file system", "another user can't read",
)  # fmt: skip
"""How the reasons begin for which a test may be skipped in CI as well: nothing that could be installed is missing."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a test that was skipped for want of something is a failure."""
    report = yield
    if report.skipped and os.environ.get("CI") == "true" and isinstance(report.longrepr, tuple):
        reason = str(report.longrepr[2]).removeprefix("Skipped: ")
        if not reason.startswith(NOTHING_TO_INSTALL):
            report.outcome = "failed"
            report.longrepr = f"Skipped in CI: {reason}\nLikely cause: .ci/run does not install what this test needs"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int) -> None:
    """Says at the end, where somebody looks, how the same order is had again."""
    seed = getattr(terminalreporter.config.option, "randomly_seed", None)
    shuffled = terminalreporter.config.pluginmanager.hasplugin("randomly")
    if exitstatus and shuffled and isinstance(seed, int):
        terminalreporter.write_line(f"The same random order again: ./inv test --seed {seed}")
