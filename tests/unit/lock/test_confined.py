"""What a WORKSPACE can't do to the machine: one operation that takes all memory, or for ever, ends in one message."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from npu_serving.errors import FetchError, WorkspaceError
from npu_serving.lock import confined
from npu_serving.lock.confined import evaluate_confined
from npu_serving.settings import PROJECT_ROOT

VERSION = "".join(
    f"#define TF_MODELSERVER_{part}_VERSION {number}\n" for part, number in (("MAJOR", 1), ("MINOR", 15), ("PATCH", 0))
)


def tree(root: Path, body: str, **files: str) -> Path:
    texts = {
        "WORKSPACE": 'workspace(name = "tf_serving")\nload("//sub:m.bzl", "more")\nmore()\n',
        "sub/m.bzl": body,
        "tensorflow_serving/model_servers/version.h": VERSION,
        "tensorflow_serving/model_servers/BUILD": "",
        **files,
    }
    for name, text in texts.items():
        path = root / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root / "tree"


def nothing(archive):
    raise AssertionError(f"{archive.name} was asked for")


def declaring(**attributes: object) -> str:
    written = ", ".join(f"{key} = {json.dumps(value)}" for key, value in attributes.items())
    return f"def more():\n    native.http_archive({written})\n"


# ---- operations that escape the interpreter's own bounds

BOMBS = {
    "a list": "[0] * 1000000000",
    "a text": "'a' * 2000000000",
    "a join": "'x'.join(['a' * 10000] * 1000000)",
    "a format": "('{0}' * 100000).format('a' * 100000)",
    "a percent": "('%s' * 100000) % tuple(['a' * 100000] * 100000)",
    "a replace": "('a' * 100000).replace('a', 'b' * 100000)",
    "an addition": "(['a'] * 200000000) + (['b'] * 200000000)",
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_one_operation_that_takes_all_memory_ends_in_a_message_that_names_the_file(tmp_path, bomb):
    with pytest.raises(WorkspaceError, match=r"Gave up evaluating //sub:m\.bzl") as caught:
        evaluate_confined(tree(tmp_path, f"BIG = {bomb}\ndef more():\n    pass\n"), nothing)
    assert "memory" in caught.value.what
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("bomb", [*BOMBS.values(), "list(('a' * 100000000).elems())"], ids=[*BOMBS, "elems"])
def test_the_file_that_goes_on_after_a_load_is_named_and_not_the_loaded_one(tmp_path, bomb):
    path = tree(tmp_path, "def more():\n    pass\n")
    with (path / "WORKSPACE").open("a") as file:
        file.write(f"BIG = {bomb}\n")
    with pytest.raises(WorkspaceError, match="Gave up evaluating //:WORKSPACE: it asked for more") as caught:
        evaluate_confined(path, nothing)
    assert "report" not in caught.value.cure


def test_a_rule_that_the_workspace_defines_itself_is_run_and_bounded(tmp_path):
    path = tree(tmp_path, "def more():\n    pass\n")
    with (path / "WORKSPACE").open("a") as file:
        file.write(
            "def _i(ctx):\n    for i in range(ctx.attr.many):\n        ctx.download('https://a.example/%d' % i)\n"
            "r = repository_rule(implementation = _i, attrs = {'many': attr.int()})\nr(name = 'it', many = 2)\n"
        )
    assert [item.urls for item in evaluate_confined(path, nothing).archives] == [
        ("https://a.example/0",),
        ("https://a.example/1",),
    ]
    with (path / "WORKSPACE").open("a") as file:
        file.write("r(name = 'all', many = 1000000)\n")
    with pytest.raises(WorkspaceError, match="the rule r of all asks for more than 1000 downloads"):
        evaluate_confined(path, nothing)
    with (path / "WORKSPACE").open("a") as file:
        file.write("load('@it//:x.bzl', 'x')\n")
    with pytest.raises(WorkspaceError, match="whose rule r it defines itself"):
        evaluate_confined(path, nothing)


def test_one_operation_that_takes_for_ever_ends_at_its_processor_time(tmp_path):
    squared = "def big():\n    x = 12345678901234567890\n    for _ in range(40):\n        x = x * x\nX = big()\n"
    with pytest.raises(WorkspaceError, match=r"Gave up evaluating //sub:m\.bzl: it (took more than 2 s|asked for)"):
        evaluate_confined(tree(tmp_path, squared + "def more():\n    pass\n"), nothing, cpu_seconds=2)


def test_a_bomb_in_a_rules_implementation_is_named_with_the_rule_and_the_repository(tmp_path):
    rule = (
        "def _i(ctx):\n    x = [0] * 1000000000\n"
        "r = repository_rule(implementation = _i)\ndef more():\n    r(name = 'it')\n"
    )
    with pytest.raises(WorkspaceError, match="Gave up evaluating the rule r of it: it asked for more"):
        evaluate_confined(tree(tmp_path, rule), nothing)


@pytest.mark.parametrize(
    "call",
    ["ctx.download('https://a.example/%d' % i)", "ctx.file('f%d' % i, 'x')", "ctx.template('f%d' % i, 'x', {})"],
)
def test_a_rule_that_never_stops_asking_is_stopped(tmp_path, call):
    rule = (
        f"def _i(ctx):\n    for i in range(1000000):\n        {call}\n"
        "r = repository_rule(implementation = _i)\ndef more():\n    r(name = 'it')\n"
    )
    with pytest.raises(WorkspaceError, match="the rule r of it asks for more than 1000 downloads or files"):
        evaluate_confined(tree(tmp_path, rule), nothing)


def test_a_workspace_that_declares_without_end_is_stopped(tmp_path):
    many = "def more():\n    for i in range(1000000):\n        native.http_archive(name = 'a%d' % i, url = 'https://a.example/x')\n"
    with pytest.raises(WorkspaceError, match="declares more than 20000 repositories"):
        evaluate_confined(tree(tmp_path, many), nothing)


def test_the_task_says_so_with_exit_code_2_and_as_json(tmp_path):
    path = tree(tmp_path, "BIG = [0] * 1000000000\ndef more():\n    pass\n")
    settings = tmp_path / "invoke.yaml"
    settings.write_text(f"npu_serving:\n  build_root: {tmp_path / 'build'}\n")
    words = [sys.executable, "-m", "npu_serving", "lock-deps", "--source", str(path), "--json"]
    environment = {**os.environ, "NPU_SERVING_SETTINGS": str(settings)}
    done = subprocess.run(words, cwd=PROJECT_ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "Next: " in done.stderr
    assert json.loads(done.stdout)["exit_code"] == 2


# ---- the two sides


def test_what_getting_an_archive_raises_comes_out_as_it_is(tmp_path):
    def fails(archive):
        raise FetchError(f"no {archive.name}", cure="x")

    loading = 'load("@dep//:m.bzl", "more")\n'
    declared = 'http_archive(name = "dep", url = "https://a.example/x.zip", sha256 = "' + "a" * 64 + '")\n'
    with pytest.raises(FetchError, match="no dep"):
        evaluate_confined(tree(tmp_path, "", WORKSPACE=declared + loading), fails)


@pytest.mark.parametrize("code", ["import os; os.kill(os.getpid(), 11)", "raise SystemExit(7)", "print('no JSON')"])
def test_a_child_that_ends_without_an_answer_is_an_error_not_a_wait(tmp_path, monkeypatch, code):
    monkeypatch.setattr(confined, "_START", code)
    with pytest.raises(WorkspaceError, match="Gave up evaluating the WORKSPACE"):
        evaluate_confined(tree(tmp_path, "def more():\n    pass\n"), nothing)


def test_nothing_of_the_callers_environment_reaches_the_child(tmp_path, monkeypatch):
    (tmp_path / "npu_serving").mkdir()
    (tmp_path / "npu_serving/__init__.py").write_text("raise RuntimeError('the wrong package')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONHOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert evaluate_confined(tree(tmp_path, "def more():\n    pass\n"), nothing).archives == ()


# ---- values that were mistyped


@pytest.mark.parametrize(
    "url", ["http://[::1/x.tgz", "http:/a.example/x.tgz", "httpx://a.example/x", "x.tgz", "https://"]
)
def test_a_url_that_is_none_is_quoted_with_the_repository_and_never_as_a_line_of_a_lock(tmp_path, url):
    with pytest.raises(WorkspaceError, match="declares thing with the URL") as caught:
        evaluate_confined(tree(tmp_path, declaring(name="thing", url=url, sha256="a" * 64)), nothing)
    assert repr(url) in caught.value.what
    assert "lock" not in str(caught.value)


def test_a_password_in_a_mistyped_url_is_not_shown(tmp_path):
    with pytest.raises(WorkspaceError) as caught:
        evaluate_confined(tree(tmp_path, declaring(name="thing", url="httpx://me:hush@a.example/x")), nothing)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    "sha256", ["a" * 63, "a" * 65, "g" * 64, "sha256:" + "a" * 64, "todo", "a" * 32 + " " + "a" * 31]
)
def test_a_mistyped_sha256_is_quoted_and_never_taken_for_none(tmp_path, sha256):
    body = declaring(name="thing", url="https://a.example/x.tgz", sha256=sha256)
    with pytest.raises(WorkspaceError, match="declares thing with the sha256") as caught:
        evaluate_confined(tree(tmp_path, body), nothing)
    assert repr(sha256) in caught.value.what


@pytest.mark.parametrize("integrity", ["sha256-!!!", "sha256-abc", "sha256-AAAA"])
def test_a_mistyped_integrity_is_quoted_and_never_taken_for_none(tmp_path, integrity):
    body = declaring(name="thing", url="https://a.example/x.tgz", integrity=integrity)
    with pytest.raises(WorkspaceError, match="declares thing with the sha256"):
        evaluate_confined(tree(tmp_path, body), nothing)


def test_a_sha256_in_capitals_is_the_same_digest(tmp_path):
    body = declaring(name="thing", url="https://a.example/x.tgz", sha256="AB" * 32)
    assert evaluate_confined(tree(tmp_path, body), nothing).archives[0].sha256 == "ab" * 32


@pytest.mark.parametrize("name", ["a b", "", "../x", "a\nb", "-x", "é"])
def test_a_name_that_bazel_does_not_take_is_quoted(tmp_path, name):
    body = declaring(name=name, url="https://a.example/x.tgz")
    with pytest.raises(WorkspaceError, match="declares a repository with the name"):
        evaluate_confined(tree(tmp_path, body), nothing)


# ---- chains of load()s


def chain(length: int) -> dict[str, str]:
    last = "def more():\n    native.http_archive(name = 'thing', url = 'https://a.example/x.tgz')\n"
    texts = {f"sub/c{length}.bzl": last}
    for number in range(1, length):
        texts[f"sub/c{number}.bzl"] = f'load(":c{number + 1}.bzl", next = "more")\ndef more():\n    next()\n'
    return texts


def test_a_chain_of_150_loads_is_followed_to_its_end(tmp_path):
    path = tree(tmp_path, 'load(":c1.bzl", next = "more")\ndef more():\n    next()\n', **chain(150))
    assert [item.name for item in evaluate_confined(path, nothing).archives] == ["thing"]


def test_a_chain_that_is_too_long_is_called_a_chain_and_not_a_circle(tmp_path):
    path = tree(tmp_path, 'load(":c1.bzl", next = "more")\ndef more():\n    next()\n', **chain(300))
    with pytest.raises(WorkspaceError, match=r"at the end of a chain of more than 200 files") as caught:
        evaluate_confined(path, nothing)
    assert "itself" not in caught.value.what


def test_a_limit_of_the_shells_that_is_lower_stays() -> None:
    """Only root may raise a hard limit; for anyone else the attempt ended the child."""
    program = (
        f"import resource, sys; sys.path.insert(0, {str(PROJECT_ROOT)!r}); from npu_serving.lock import confined; "
        "confined._limit(resource.RLIMIT_NOFILE, 200, 300); print(resource.getrlimit(resource.RLIMIT_NOFILE)); "
        "confined._limit(resource.RLIMIT_NOFILE, 20, 30); print(resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    argv = ["sh", "-c", 'ulimit -n 100; exec "$@"', "sh", sys.executable, "-I", "-c", program]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["(100, 100)", "(20, 30)"]
