"""Everything in the package is there for a task: what only tests call goes, or stands in a list that says why."""

from __future__ import annotations

import ast
import re
from collections import Counter

from reachability import ON_IMPORT, ROOT, Definition, package_sources, reached_by_any_task, reached_from

# Written and tested ahead of the tasks that are to call them; what they call themselves is there for them.
SOON_GET_THEIR_TASKS = ("needed_from_server",)
READ_BY_PYTHON_AND_PACKAGERS = {ON_IMPORT, "TYPE_CHECKING", "__all__", "__version__"}
# Methods that the standard library and invoke call, by name.
CALLED_BY_A_LIBRARY = {
    "do_GET",
    "do_PUT",
    "do_POST",
    "log_message",
    "handle_error",
    "readinto",
    "makefile",
    "print_help",
    "load_base_conf_files",
    "print_version",
}


def soon() -> list[Definition]:
    return [
        (module, name)
        for module, source in package_sources().items()
        for name in source.definitions
        if name in SOON_GET_THEIR_TASKS
    ]


def test_every_function_class_and_value_is_reached_from_a_task() -> None:
    reached = reached_by_any_task() | reached_from(soon())
    defined = {(module, name) for module, source in package_sources().items() for name in source.definitions}
    assert {item for item in defined - reached if item[1] not in READ_BY_PYTHON_AND_PACKAGERS} == set()


def test_what_soon_gets_its_task_exists_and_has_none_yet() -> None:
    assert sorted(name for _, name in soon()) == sorted(SOON_GET_THEIR_TASKS)
    assert reached_by_any_task().isdisjoint(soon())


def test_every_public_method_is_named_somewhere_outside_the_tests() -> None:
    named = Counter(_names_in_templates())
    for source in package_sources().values():
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Attribute):
                named[node.attr] += 1
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                named[node.value] += 1  # getattr(result, "exit_code", 0)
    reached = reached_by_any_task()
    unused = {
        f"{module}.{statement.name}.{method.name}"
        for module, source in package_sources().items()
        for statement in ast.walk(source.tree)
        if isinstance(statement, ast.ClassDef) and (module, statement.name) in reached  # others wait for their task
        for method in statement.body
        if isinstance(method, ast.FunctionDef) and not method.name.startswith("_") and not named[method.name]
        if method.name not in CALLED_BY_A_LIBRARY and not method.name.startswith("visit_")  # ast.NodeVisitor
    }
    assert unused == set()


def _names_in_templates() -> list[str]:
    templates = [path for path in ROOT.glob("*/**/*.j2") if ".venv" not in path.parts]
    return [name for path in templates for name in re.findall(r"\.(\w+)", path.read_text(encoding="utf-8"))]
