"""For people who work on this project."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npu_serving.commands.flags import Call, command, refuse_together

if TYPE_CHECKING:
    from npu_serving.cli import Result


@command(
    json=False,
    kinds={"seed": int},
    help={
        "unit": "only the fast ones, without Bazel and Docker",
        "k": "only those whose name matches",
        "long": "those that take longer than a person waits: fuzzing, huge files",
        "coverage": "list the lines that no test ran",
        "python": "the unit tests on that Python, such as 3.9, or on all that are supported and here: all (repeatable)",
        "seed": "in the random order of this number, which a failing run in CI shows",
    },
)
def test(
    _call: Call,
    unit: bool = False,
    k: str = "",
    long: bool = False,
    coverage: bool = False,
    python: tuple[str, ...] = (),
    seed: int | None = None,
) -> None:
    """Run the tests."""
    from npu_serving.development import run_pytest, run_unit_tests_on

    if python:
        refuse_together("--python", "it runs the unit tests", unit=unit, long=long, coverage=coverage, seed=seed)
        run_unit_tests_on(python, matching=k)
    run_pytest(unit=unit, matching=k, long=long, coverage=coverage, seed=seed)


@command(json=False, help={"fix": "fix what can be fixed automatically"})
def lint(_call: Call, fix: bool = False) -> None:
    """Check style, types and shell scripts."""
    from npu_serving.development import run_linters

    run_linters(fix=fix)


@command(json=False, help={"name": "one benchmark of bench/; all by default"})
def bench(_call: Call, name: str = "") -> None:
    """Run the benchmarks."""
    from npu_serving.development import run_benchmarks

    run_benchmarks(name)


@command(
    help={
        "all": "also the fetched archives, and what servers have left; with --images, also their images",
        "images": "this project's containers, volumes and images instead, recognised by their labels",
    }
)
def clean(call: Call, all: bool = False, images: bool = False, dry_run: bool = False) -> Result:
    """Remove what can be made again; the builds in dist/ and the fetched archives stay."""
    from npu_serving.clean import clean_state

    if images:
        from npu_serving.images.cleanup import clean_images

        return clean_images(dry_run=dry_run, everything=all)
    return clean_state(call.settings, everything=all, dry_run=dry_run)
