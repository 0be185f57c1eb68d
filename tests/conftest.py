"""What holds for every test: in which order and beside which others it runs, and what is put back after it."""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from tensorflow_server import tensorflow_process, tensorflow_server  # noqa: F401  # one for all tests of a worker
from tiers import LONG, examples

# A machine that is busy with other work is no failure: speed is measured in bench/, beside a rival. In CI a test is
# given the same examples each time: new ones are for whoever can look at what they find.
hypothesis.settings.register_profile(
    "ours", deadline=None, max_examples=examples(50, 10_000), derandomize=os.environ.get("CI") == "true"
)
hypothesis.settings.load_profile("ours")

# gRPC would write into the standard error of each program that is started while a test's server runs, before its exec.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

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


UNIT = Path(__file__).parent / "unit"
BEGUN_FIRST = ("containers", "sample", "test_needed", "engine")
"""What takes longest. A worker is given two of these at the start: test_needed is short, so that they come out even."""


@functools.cache
def _group(path: Path) -> str:
    """What is done by one worker, one test after the other: the tests of a module, or of all that share something dear.

    That is the sample, which each worker builds for itself, and the one engine. "" where each test goes by itself.
    """
    if UNIT in path.parents:
        return ""
    text = path.read_text(encoding="utf-8")
    of_engine, of_sample = "mark.docker" in text, "sample_settings" in text
    if of_engine:
        return "containers" if of_sample else "engine"
    return "sample" if of_sample else path.stem


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Hands the tests out by their groups; xdist's own way, a mark in a test's name, does not work with pytest 9.2."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return _group(config.rootpath / nodeid.partition("::")[0]) or nodeid

    return Groups(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The groups first, then the other integration tests, then the unit tests; within each, the order that there is.

    pytest-randomly has shuffled them before.
    """
    rank = {group: place for place, group in enumerate((*BEGUN_FIRST, "other", ""))}
    items.sort(key=lambda item: rank.get(_group(item.path), rank["other"]))


if LONG:

    @pytest.hookimpl(tryfirst=True)
    def pytest_itemcollected(item: pytest.Item) -> None:
        """What hypothesis makes up is in the long tier as well: the same test, with many more examples."""
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            item.add_marker("long")


NOTHING_TO_INSTALL = (
    "root may", "root can't", "only root", "mounting a small", "network namespaces are not permitted",
    "it is this machine", "the file is made to say", "a release is published for", "this is no git work tree",
    "it is the same file system", "no second file system", "another user can't read",
    "TensorFlow 1.15.0 is for Python 3.7",
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
