"""The tools of those who work on this project: tests, linters, benchmarks."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from npu_serving import process
from npu_serving.errors import EXIT_UNFIT_TOOL, MissingToolError, RequestError
from npu_serving.settings import PROJECT_ROOT

SHELL_SCRIPTS = (
    "inv",
    ".ci/run",
    ".ci/docker.sh",
    "docker/*.sh",
    "docker/guide/*.sh",
    "docker/runtime/[sh]*",
    "templates/completion/*.bash",
)
_OUR_PYTHON = ("npu_serving", "tests", "bench", "tasks.py")
SEED_OF_CI = 1
SUPPORTED_PYTHONS = ("3.9", "3.10", "3.11", "3.12", "3.13")


def run_pytest(*, unit: bool, matching: str, long: bool, coverage: bool, seed: int | None) -> None:
    """Becomes pytest; with `coverage` it runs pytest, and leaves with its exit code when the lines that ran are listed.

    With `seed`, and in CI with one that is always the same, the tests run in a random order: a change is judged by what
    it changes, not by luck. `long` looks for what no seed has shown yet.
    """
    os.chdir(PROJECT_ROOT)
    words = ["pytest", "tests/unit" if unit else "tests", *_workers(one_is_enough=bool(matching))]
    environment = _without_python(os.environ)
    if matching:
        words += ["-k", matching]
    else:
        words += ["--durations=30", "--durations-min=1"]
    if long:
        words += ["-m", "long"]
        environment["NPU_SERVING_TEST_TIER"] = "long"
    if seed is None and os.environ.get("CI") == "true":
        seed = SEED_OF_CI
    if seed is not None:
        words += ["-p", "randomly", f"--randomly-seed={seed}"]
    python = [sys.executable, "-m"]
    if not coverage:
        process.replace_this_process([*python, *words], env=environment)
    (PROJECT_ROOT / "build" / "coverage").mkdir(parents=True, exist_ok=True)
    process.run([*python, "coverage", "erase"], env=environment)  # what a run that was killed has left
    done = process.run([*python, "coverage", "run", "-m", *words], env=environment, check=False, on_line=_echo)
    for command in ("combine", "report"):
        process.run([*python, "coverage", command], env=environment, cure="see what pytest says above", on_line=_echo)
    sys.exit(done.returncode)


def _without_python(environment: Mapping[str, str]) -> dict[str, str]:
    """What our own Python is started with where `-I` would be too much: a caller's PYTHONPATH is not for it."""
    return {name: value for name, value in environment.items() if not name.startswith("PYTHON")}


def _workers(*, one_is_enough: bool) -> list[str]:
    """pytest-xdist's flags for a worker on each processor and one more: tests wait for programs a third of their time.

    tests/conftest.py says which tests go together.
    """
    processors = len(os.sched_getaffinity(0))
    if one_is_enough or processors == 1:
        return []
    return ["-n", str(processors + 1), "--dist", "loadscope", "--no-loadscope-reorder"]


def run_unit_tests_on(versions: Sequence[str], *, matching: str = "") -> None:
    """Runs the unit tests, or those whose name matches, on each of those Pythons that is here ("all" for all).

    Leaves with 1 if any failed.
    """
    unknown = [version for version in versions if version not in (*SUPPORTED_PYTHONS, "all")]
    if unknown:
        raise RequestError(
            f"--python can't be {unknown[0]!r}.", cure=f"choose one of {', '.join((*SUPPORTED_PYTHONS, 'all'))}"
        )
    outcomes = {}
    for version in SUPPORTED_PYTHONS:
        if version not in versions and "all" not in versions:
            continue
        python = python_of(version)
        if python is None:
            outcomes[version] = "is not on this machine"
            continue
        print(f"== Python {version}: {python}", flush=True)
        environment = {
            **_without_python(os.environ),
            "NPU_SERVING_PYTHON": str(python),
            "NPU_SERVING_VENV": str(PROJECT_ROOT / "build" / "pythons" / version),
        }
        (PROJECT_ROOT / "build" / "pythons").mkdir(parents=True, exist_ok=True)
        command = [str(PROJECT_ROOT / "inv"), "test", "--unit", *(["-k", matching] if matching else [])]
        done = process.run(command, env=environment, check=False, on_line=_echo)
        outcomes[version] = f"{'passed' if done.returncode == 0 else 'FAILED'} in {done.seconds:.0f} s, with {python}"
    for version, outcome in outcomes.items():
        print(f"Python {version} {outcome}")
    sys.exit(1 if any(outcome.startswith("FAILED") for outcome in outcomes.values()) else 0)


def python_of(version: str) -> Path | None:
    """A Python of that version with which an environment can be made: on PATH, or one of pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    candidates = [process.find_program(f"python{version}"), *sorted(pyenv.glob(f"versions/{version}.*/bin/python3"))]
    asked = f"import sys, venv, ensurepip; sys.exit('%d.%d' % sys.version_info[:2] != {version!r})"
    for python in candidates:
        if python is not None and process.run([python, "-I", "-c", asked], check=False).returncode == 0:
            return python
    return None


def run_linters(*, fix: bool) -> None:
    """Runs them all and leaves with 1 if any found something."""
    from npu_serving import known_failures, settings_reference
    from npu_serving.deploy import deployment_schema
    from npu_serving.options import options_page
    from npu_serving.packaging import entry_point

    python = [sys.executable, "-m"]
    commands = [
        [*python, "ruff", "check", *(["--fix"] if fix else []), "."],
        [*python, "ruff", "format", *([] if fix else ["--check"]), "."],
        [*python, "mypy"],
        [
            str(Path(sys.executable).with_name("vermin")),
            "--quiet",
            "--violations",
            "--no-tips",
            f"-t={SUPPORTED_PYTHONS[0]}-",
            *_OUR_PYTHON,
        ],
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],  # the layers of pyproject.toml
        [*python, "npu_serving.plain_words"],
    ]
    shellcheck = process.find_program("shellcheck")
    if shellcheck is not None:
        scripts = [str(path) for pattern in SHELL_SCRIPTS for path in sorted(PROJECT_ROOT.glob(pattern))]
        commands.append([str(shellcheck), "--external-sources", "--source-path=SCRIPTDIR", *scripts])
    elif os.environ.get("CI"):
        print(MissingToolError("shellcheck is not installed.", cure="apt-get install shellcheck"), file=sys.stderr)
        sys.exit(EXIT_UNFIT_TOOL)
    else:
        print("shellcheck is not installed: the shell scripts are not checked.", file=sys.stderr)
    failed = False
    for command in commands:
        done = process.run(command, cwd=PROJECT_ROOT, check=False)
        failed |= done.returncode != 0
        if done.returncode != 0:
            print(done.output, end="")
    if fix:
        known_failures.write_page()
        options_page.write_page()
        settings_reference.write_reference()
        entry_point.write_entry_point()
        deployment_schema.write_schema()
    if not known_failures.page_is_current():
        print("docs/troubleshooting.md is not what the tables of known failures say: ./inv lint --fix")
        failed = True
    if not options_page.page_is_current():
        print("docs/options.md is not what the tables of options say: ./inv lint --fix")
        failed = True
    if not settings_reference.reference_is_current():
        print("invoke.yaml is not what the table of settings says: ./inv lint --fix")
        failed = True
    if not entry_point.entry_point_is_current():
        print("docker/runtime/serve does not have the layouts and flags of their tables: ./inv lint --fix")
        failed = True
    if not deployment_schema.schema_is_current():
        print("docs/deployment.schema.json is not what the types of deployment.yaml say: ./inv lint --fix")
        failed = True
    print("lint: there is something to fix" if failed else "lint: clean")
    sys.exit(1 if failed else 0)


def run_benchmarks(name: str) -> None:
    """Runs bench/NAME.py, or all of them one after the other."""
    known = {path.stem: path for path in sorted((PROJECT_ROOT / "bench").glob("[a-z]*.py"))}
    if name and name not in known:
        error = RequestError(f"There is no benchmark {name!r}.", cure=f"choose one of {', '.join(known)}")
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    for path in [known[name]] if name else known.values():
        print(f"== {path.relative_to(PROJECT_ROOT)}", flush=True)
        environment = {**_without_python(os.environ), "PYTHONPATH": str(PROJECT_ROOT)}
        done = process.run([sys.executable, path], cwd=PROJECT_ROOT, env=environment, check=False, on_line=_echo)
        if done.returncode != 0:
            sys.exit(done.returncode)


def _echo(line: str) -> None:
    print(line, flush=True)
