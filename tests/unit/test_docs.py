"""The documentation holds: links lead somewhere, commands and files exist, both READMEs say the same."""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
import sys
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from invoke.parser.argument import Argument
from invoke.program import Program
from invoke.tasks import Task

import tasks

ROOT = Path(__file__).resolve().parents[2]
README, CHINESE = ROOT / "README.md", ROOT / "README.zh-CN.md"
LINK = re.compile(r"(?<!!)\[[^\]\n]+\]\(([^)\s]+)\)")
INV = re.compile(r"(?:\./|\bnpu-serving/)inv(?=[ `]|$)(.*)")
END_OF_A_COMMAND = {"|", "&&", "||", ";", ">", "then", "\\"}
NAMED_FILE = re.compile(r"(?<![\w/.*<>{}-])((?:[\w-]+/)*[a-z_][a-z0-9_]*\.py)\b(?!\.)")
# The guide's words, and a file that only stands in a test.
NAMED_BY_OTHERS = {"docs/guide-coverage.md", "docs/requirements.json"}
NOT_OF_THE_PROJECT = {"json.py", "invoke.py", "future_stand_in.py", "msprof.py", "msaccucmp.py", "infer.py"}
NOT_OF_THE_PROJECT |= {"saved_model2om.py", "func2graph.py"}  # Huawei's


def tracked(pattern: str) -> list[Path]:
    """Tracked files, and new ones that aren't ignored."""
    words = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard", pattern]
    listed = subprocess.run(words, capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip("this is no git work tree, so no file is tracked")
    return [path for name in listed.stdout.decode().split("\0") if name and (path := ROOT / name).is_file()]


def pages() -> list[Path]:
    return [path for path in tracked("*.md") if "fixtures" not in path.parts]


# ---- links


def anchors(page: str) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ +(.*?) *$", without_blocks(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def without_blocks(page: str) -> str:
    return re.sub(r"^```.*?^```", "", page, flags=re.MULTILINE | re.DOTALL)


def broken_links(path: Path) -> list[str]:
    page = path.read_text(encoding="utf-8")
    broken = []
    for link in LINK.findall(without_blocks(page)):
        place, _, anchor = link.partition("#")
        if "://" in place:
            continue
        target = (path.parent / place).resolve() if place else path
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            broken.append(link)
    return broken


def test_every_link_and_anchor_leads_somewhere() -> None:
    broken = {str(path.relative_to(ROOT)): links for path in pages() if (links := broken_links(path))}
    assert broken == {}


def test_a_broken_link_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A page's *heading*\n[a](page.md#a-pages-heading) [b](none.md) [c](#no-heading) [d](https://a.example/)\n"
    )
    assert broken_links(page) == ["none.md", "#no-heading"]


def test_the_index_lists_every_page_once() -> None:
    for index, below in ((ROOT / "docs/README.md", "docs/*.md"), (ROOT / "docs/adr/README.md", "docs/adr/*.md")):
        links = [(index.parent / link).resolve() for link in LINK.findall(index.read_text(encoding="utf-8"))]
        here = [path for path in tracked(below) if path.parent == index.parent and path != index]
        assert sorted(link for link in links if link.parent == index.parent and link != index) == sorted(here)


def test_the_decisions_are_numbered_and_say_why_what_and_what_follows() -> None:
    decisions = sorted(path for path in tracked("docs/adr/*.md") if path.name != "README.md")
    for number, path in enumerate(decisions, 1):
        text = path.read_text(encoding="utf-8")
        assert path.name.startswith(f"{number:04}-")
        assert text.startswith(f"# {number}. ")
        assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]


# ---- commands


def commands_in(page: str) -> Iterator[list[str]]:
    """The words behind each `./inv` that a page shows, in blocks and within the text."""
    for line in re.sub(r"\\\n", " ", page).splitlines():
        spans = [line] if line.startswith(("    ", "$ ", "# ./inv")) else re.findall(r"`([^`]+)`", line)
        for found in (match for span in spans if (match := INV.search(span))):
            try:
                words = shlex.split(found.group(1), comments=True)
            except ValueError:  # the end of a quote that began before: sh -c '... ./inv TASK'
                words = found.group(1).rstrip("'\"").split()
            end = next((index for index, word in enumerate(words) if word in END_OF_A_COMMAND), len(words))
            yield words[:end]


def known_tasks() -> dict[str, Task[Any]]:
    return {value.name: value for value in vars(tasks).values() if isinstance(value, Task)}


def flags_of(arguments: Sequence[Argument]) -> set[str]:
    names = {name for argument in arguments for name in argument.names}
    return {f"--{name}" if len(name) > 1 else f"-{name}" for name in names}


def problem_with(words: list[str]) -> str:
    """What is wrong with a command line behind `./inv`; empty if nothing is."""
    arguments, task = Program().core_args(), None
    core = allowed = flags_of(arguments)
    with_value = flags_of([argument for argument in arguments if argument.takes_value])
    for before, word in zip(["", *words], words):
        if before in with_value and allowed is core:
            continue
        if word.startswith("-") and word not in {"-", "--"}:
            flag = word.partition("=")[0]
            if flag not in allowed:
                return f"{task.name if task else './inv'} has no flag {flag}"
        elif task is None and allowed is core:
            if word == "TASK":  # any one
                return ""
            task = known_tasks().get(word)
            if task is None:
                return f"there is no task {word}"
            allowed = flags_of(task.get_arguments()) | {"--help"}
    return ""


def test_every_command_that_a_page_shows_exists() -> None:
    problems = {
        f"{path.relative_to(ROOT)}: ./inv {' '.join(words)}": problem
        for path in pages()
        for words in commands_in(path.read_text(encoding="utf-8"))
        if (problem := problem_with(words))
    }
    assert problems == {}


def test_commands_are_found_in_blocks_and_text_and_a_wrong_one_is_noticed() -> None:
    page = (
        "Type `sh -c './inv demo'`, or\n\n    npu-serving/inv fetch-deps --offline   # fast\n"
        "    ./inv build-image --apt-source 'a b' \\\n        --flavour guide\n\n"
        "```console\n$ ./inv prune --keep 2 && ./inv nothing\n```\nand `./inv --version`.\n"
    )
    found = list(commands_in(page))
    assert found == [
        ["demo"],
        ["fetch-deps", "--offline"],
        ["build-image", "--apt-source", "a b", "--flavour", "guide"],
        ["prune", "--keep", "2"],
        ["--version"],
    ]
    assert [problem_with(words) for words in found] == [""] * 5
    assert problem_with(["prune", "--kep", "2"]) == "prune has no flag --kep"
    assert problem_with(["prun"]) == "there is no task prun"
    assert problem_with(["--print-completion-script", "bash"]) == ""
    assert problem_with(["--verson"]) == "./inv has no flag --verson"


# ---- the two READMEs


def blocks(page: str) -> list[str]:
    return [line.strip() for line in page.splitlines() if line.startswith("    ")]


def first_cells(page: str, heading: str) -> list[str]:
    """The first cells of the table below a heading, without its head."""
    section = page.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return [row.split("|")[1].strip() for row in rows[2:]]


def test_both_readmes_show_the_same_commands_links_and_tasks() -> None:
    english, chinese = (path.read_text(encoding="utf-8") for path in (README, CHINESE))
    assert blocks(english) == blocks(chinese)
    assert list(commands_in(english)) == list(commands_in(chinese))
    assert first_cells(english, "Tasks") == first_cells(chinese, "任务")
    links = [[link for link in LINK.findall(page) if not link.startswith("README")] for page in (english, chinese)]
    assert links[0] == links[1]
    assert len(re.findall(r"^## ", english, re.MULTILINE)) == len(re.findall(r"^## ", chinese, re.MULTILINE))


def test_the_readmes_name_the_same_words_in_code() -> None:
    english, chinese = (set(re.findall(r"`([^`]+)`", path.read_text(encoding="utf-8"))) for path in (README, CHINESE))
    assert english == chinese


def test_readmes_table_has_every_task_once_and_one_line_for_each() -> None:
    page = README.read_text(encoding="utf-8")
    assert sorted(first_cells(page, "Tasks")) == sorted(f"`{name}`" for name in known_tasks())
    rows = [line for line in page.splitlines() if re.match(r"\| `[a-z-]+` \|", line)]
    assert all(len(row) <= 100 and "--" not in row for row in rows)


# ---- the map


def test_the_table_of_rooms_has_every_directory_of_the_package_and_no_other() -> None:
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    table = [cell.strip("`/") for cell in first_cells(page, "The packages")]
    outside = table.index("")  # the second table begins
    rooms = [path.parent.name for path in tracked("npu_serving/*/__init__.py")]
    assert sorted(table[:outside]) == sorted(rooms)


def test_every_module_beside_the_rooms_is_named_on_the_map() -> None:
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    modules = [path.name for path in tracked("npu_serving/*.py") if path.parent.name == "npu_serving"]
    assert [name for name in modules if name != "__init__.py" and f"`{name}`" not in page] == []


def prose(path: Path) -> str:
    """What a file says to people: all of a page, the comments and docstrings of a program."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return text
    with path.open("rb") as file:
        comments = [token.string for token in tokenize.tokenize(file.readline) if token.type == tokenize.COMMENT]
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    documented = (node for node in ast.walk(ast.parse(text)) if isinstance(node, kinds))
    return "\n".join([*comments, *(ast.get_docstring(node) or "" for node in documented)])


def modules_named_in(text: str, existing: list[str]) -> set[str]:
    """The modules that a text names and that are not there."""
    named = {name for name in NAMED_FILE.findall(text) if not name.startswith("invoke/")}
    named = {name for name in named if Path(name).name not in NOT_OF_THE_PROJECT}
    return {name for name in named if not any(path.endswith(f"/{name}") for path in existing)}


def test_every_module_that_is_named_exists() -> None:
    existing = [f"/{path.relative_to(ROOT)}" for path in tracked("*.py")]
    missing = {}
    for path in (
        path for pattern in ("*.md", "*.py", "*.yaml", "*.j2", "*.toml", "*.sh", "inv") for path in tracked(pattern)
    ):
        name = str(path.relative_to(ROOT))
        if "fixtures" in path.parts or name in NAMED_BY_OTHERS:
            continue
        if modules_named_in(path.read_text(encoding="utf-8"), existing):  # the quick look, over all of the text
            missing[name] = modules_named_in(prose(path), existing)
    assert {name: modules for name, modules in missing.items() if modules} == {}


# ---- for contributors


def test_the_issue_form_is_valid_by_githubs_schema(tmp_path: Path) -> None:
    form = ROOT / ".github/ISSUE_TEMPLATE/bug.yml"
    argv = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-issue-forms"]
    done = subprocess.run([*argv, form], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    spoiled = tmp_path / "bug.yml"
    spoiled.write_text(form.read_text(encoding="utf-8").replace("type: textarea", "type: textfield"))
    assert subprocess.run([*argv, spoiled], capture_output=True, check=False).returncode == 1


def test_the_hook_before_a_commit_is_the_projects_own_lint() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    (hook,) = repository["hooks"]
    assert (repository["repo"], hook["language"], hook["pass_filenames"]) == ("local", "system", False)
    program, *words = shlex.split(hook["entry"])
    assert (ROOT / program).is_file()
    assert problem_with(words) == ""


def test_the_wheel_would_have_every_file_of_the_package() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    patterns = json.loads(re.findall(r'^"\*" = (\[.*\])$', text, re.MULTILINE)[0])
    files = [path for path in tracked("npu_serving/*") if path.suffix != ".py"]
    assert files
    assert [path for path in files if not any(path.match(pattern) for pattern in patterns)] == []
    packages = {path.parent for path in tracked("npu_serving/*") if path.suffix == ".py"}
    assert [path for path in packages if not (path / "__init__.py").is_file()] == []
