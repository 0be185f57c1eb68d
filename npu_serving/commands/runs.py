"""The load tests that were run: listed, and held against each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npu_serving.commands.flags import Call, command

if TYPE_CHECKING:
    from npu_serving.cli import Result


@command()
def list_runs(call: Call) -> Result:
    """List the load tests that were run: what each has measured, at which loads."""
    from npu_serving.load.kept_runs import list_kept_runs

    return list_kept_runs(call.settings.build_root)


@command(
    help={
        "first": "the run that is the measure: its id, latest, previous, or the path of its .json file",
        "second": "the run that is held against it",
        "fail_if_worse": "leave with 3 where something is worse, and by more than this, such as 5%",
    },
)
def compare_runs(call: Call, first: str, second: str, fail_if_worse: str = "") -> Result:
    """Say which differences of two load tests are real, and which may be chance: ./inv compare-runs previous latest."""
    from npu_serving.load import comparing
    from npu_serving.load.kept_runs import find_run

    limit = comparing.parse_share(fail_if_worse) if fail_if_worse else None
    root = call.settings.build_root
    return comparing.compare_runs(find_run(first, root), find_run(second, root), fail_above=limit)
