"""bin/healthcheck: which models it asks for, held against the reader of text format, and what it says of them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from npu_serving.documents.text_format import TextFormatError, read_text_format
from npu_serving.packaging.contents import RUNTIME

CHECK = RUNTIME / "healthcheck"
PARSER = (
    CHECK.read_text().partition("# ---- Asking")[0] + 'config=models.config; read_models; printf "%s\\0" "${models[@]}"'
)


def names_by_the_check(text: str) -> list[str] | None:
    """The names as the check reads them; None where it says that the text is broken."""
    done = subprocess.run(["bash", "-c", PARSER], input=text.encode(), capture_output=True, check=False)
    assert done.stderr == b""
    if done.returncode:
        assert b"unhealthy: models.config is not in text format, in line " in done.stdout
        return None
    return [name.decode() for name in done.stdout.split(b"\0")[:-1] if name]


def names_by_the_reader(text: str) -> list[str] | None:
    try:
        fields = read_text_format(text)
    except TextFormatError:
        return None
    lists = [field for field in fields if field.name == "model_config_list"]
    configs = [field for item in lists for field in item.fields if field.name == "config"]
    return [
        field.text
        for config in configs
        for field in config.fields
        if field.name == "name" and field.is_string and field.text
    ]


def test_models_are_found_however_text_format_writes_them() -> None:
    text = """\
# model_config_list { config { name: "commented" } }
model_config_list: {
  config { name: 'single' base_path: "/models/single" } config { name: "second on the line" }  # { name: "none" }
  config < name:"angle"; base_path : '/a "b"', >
  config: [ { name: "listed" }, { base_path: "name: \\"none\\"" name:
    # the value comes later
    'in' " two" '\\x20pieces\\055\\u00e9' } ]
  config { base_path: 'a{' version_labels { key: 'name' value: 1 }
    model_version_policy { specific { versions: [ 1, 2 ] } } name: "last" }
}
"""
    assert names_by_the_check(text) == names_by_the_reader(text)
    assert names_by_the_check(text) == [
        "single", "second on the line", "angle", "listed", "in two pieces-é", "last"
    ]  # fmt: skip
    assert names_by_the_check(text.replace("\n", "\r\n")) == names_by_the_check(text)
    assert names_by_the_check(text.replace("  config", f"  x: '{'y' * 3000}' config")) == names_by_the_check(text)


quoted = some.text("ab {}[]<>#,;:\u00e9'\"", max_size=6).map(
    lambda text: '"' + text.replace('"', r"\"") + '"' if len(text) % 2 else "'" + text.replace("'", r"\47") + "'"
)
between = some.sampled_from(["", " ", "\n", "\t # } name: 'x'\n", "\r\n"])
scalar = some.one_of(quoted, some.sampled_from(["1", "-2.5e3", "0x1F", "true", "'a' \"b\"", ".5f", "- inf"]))
name = some.sampled_from(["name", "config", "model_config_list", "base_path", "[a.b/c]", "x_1"])


@some.composite
def message(draw: some.DrawFn, depth: int = 0) -> str:
    """Fields in random layout: mostly well formed, so that names are found."""
    pieces = []
    for _ in range(draw(some.integers(0, 3))):
        kinds = ["scalar", "list"] if depth > 3 else ["scalar", "list", "{}", "<>", "{}"]
        kind = draw(some.sampled_from(kinds))
        field = ["model_config_list", "config"][depth] if kind == "{}" and depth < 2 else draw(name)
        if kind == "scalar":
            value = ":" + draw(between) + draw(scalar)
        elif kind == "list":
            value = ":[" + ",".join(draw(some.lists(scalar, max_size=3))) + "]"
        else:
            value = draw(some.sampled_from(["", ":"])) + kind[0] + draw(message(depth + 1)) + kind[1]
        pieces += [field, draw(between), value, draw(some.sampled_from([" ", ",", ";", "\n", " "])), draw(between)]
    return "".join(pieces)


@given(message())
def test_the_check_reads_text_format_as_the_reader_does(text: str) -> None:
    assert names_by_the_check(text) == names_by_the_reader(text)


@given(message(), some.data())
def test_a_text_with_a_mistake_is_broken_for_both_or_for_neither(text: str, data: some.DataObject) -> None:
    place = data.draw(some.integers(0, len(text)))
    other = data.draw(some.sampled_from([*"{}[]<>,;:#-'\"ax1.", "\n"]))
    changed = text[:place] + other + text[place + data.draw(some.sampled_from([0, 1])) :]
    assert names_by_the_check(changed) == names_by_the_reader(changed)


@dataclasses.dataclass(frozen=True)
class FakeServer:
    """A process that is called as the server is, with flags of its own, and answers for it."""

    pid: int

    def check(self, **environment: str) -> tuple[int, str]:
        """What the check says of it, and its exit status."""
        done = subprocess.run(
            ["bash", CHECK, str(self.pid)],
            env={"PATH": "/usr/bin:/bin", **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stderr + done.stdout


@contextlib.contextmanager
def running(states: Mapping[str, str], *flags: str, cwd: Path | None = None) -> Iterator[FakeServer]:
    """A server whose models have these states; {port} in a flag is that of its REST API."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            model = self.path.encode("iso-8859-1").decode().rpartition("/")[2]
            state = states.get(model)
            body = (
                {"model_version_status": [{"version": "1", "state": state}]}
                if state
                else {"error": '"state":"AVAILABLE"'}
            )
            data = json.dumps(body, indent=1).encode()
            self.send_response(200 if state else 404)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None: ...

    web = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=web.serve_forever)
    thread.start()
    words = [flag.format(port=web.server_port) for flag in flags]
    server = subprocess.Popen(
        ["/opt/x/tensorflow_model_server", "-c", "import sys; print(flush=True); sys.stdin.read()", *words],
        executable=sys.executable,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=cwd,
    )
    try:
        assert server.stdout is not None
        server.stdout.readline()  # from here on its command line is its own
        yield FakeServer(server.pid)
    finally:
        server.communicate(b"")
        web.shutdown()
        thread.join()
        web.server_close()


REST = "--rest_api_port={port}"


def test_every_model_of_the_list_is_asked_and_each_that_fails_is_named(tmp_path: Path) -> None:
    config = tmp_path / "models.config"
    config.write_text(
        "model_config_list { config { name: 'bad' } config { name: 'good' }\nconfig { name: 'gone' } "
        "config { name: 'é' } }"
    )
    states = {"bad": "LOADING", "good": "AVAILABLE", "é": "AVAILABLE"}
    with running(states, REST, f"--model_config_file={config}") as server:
        assert server.check() == (1, "unhealthy: not available: bad gone\n")
    with running({**states, "bad": "AVAILABLE", "gone": "AVAILABLE"}, REST, f"--model_config_file={config}") as server:
        assert server.check() == (0, "loaded: bad good gone é\n")


def test_a_commented_model_is_not_asked_for_and_a_relative_path_is_the_servers(tmp_path: Path) -> None:
    (tmp_path / "m.config").write_text("# config { name: 'x' }\nmodel_config_list { config { name: 'a' } }")
    with running({"a": "AVAILABLE"}, REST, "--model_config_file=m.config", cwd=tmp_path) as server:
        assert server.check() == (0, "loaded: a\n")


def test_a_broken_list_of_models_is_said_to_be_broken_with_its_line(tmp_path: Path) -> None:
    config = tmp_path / "models.config"
    for text, says in (
        ("model_config_list {\nconfig { name: 'a }\n}", "is not in text format, in line 2: a string is not closed"),
        ("model_config_list {\nconfig: {\n}", "is not in text format, in line 3: a } is missing"),
        (
            "model_config_list { config { name 'a' } }",
            "is not in text format, in line 1: a colon is missing after name",
        ),
        ("model_config_list { config { name: 'a\\q' } }", "is not in text format, in line 1: \\q is not an escape"),
        ("# nothing", "names no model"),
    ):
        config.write_text(text)
        with running({}, REST, f"--model_config_file={config}") as server:
            status, said = server.check()
        assert (status, said.rstrip("\n")) == (1, f"unhealthy: {config} {says}")
    config.unlink()
    with running({}, REST, f"--model_config_file={config}") as server:
        assert server.check() == (1, f"unhealthy: {config} can't be read\n")


def test_the_names_can_be_told_where_the_list_is_somewhere_that_only_the_server_reads() -> None:
    with running({"a": "AVAILABLE", "b": "AVAILABLE"}, REST, "--model_config_file=s3://x/models.config") as server:
        status, said = server.check()
        assert status == 1
        assert "set NPU_SERVING_MODELS" in said  # and that helps:
        assert server.check(NPU_SERVING_MODELS="a b") == (0, "loaded: a b\n")
        assert server.check(NPU_SERVING_MODELS="a c") == (1, "unhealthy: not available: c\n")


def test_a_model_that_the_rest_api_can_not_be_asked_for_makes_nothing_unhealthy(tmp_path: Path) -> None:
    config = tmp_path / "models.config"
    config.write_text("model_config_list { config { name: 'team/a' } config { name: 'a%2Fb' } }")
    with running({"a%2Fb": "AVAILABLE"}, REST, f"--model_config_file={config}") as server:
        assert server.check() == (0, "the REST API can't be asked for: team/a\nloaded: a%2Fb\n")
    with running({}, REST, "--model_name=a b") as server:
        assert server.check() == (0, "the REST API can't be asked for: a b\n"), "and it claims no more than that"


def test_one_model_is_named_by_the_flag_that_counts_the_last() -> None:
    for flags, name in ((["--model_name=x", "--model_name=a b"], "a b"), (["--model_name=a"], "a"), ([], "default")):
        with running({name: "AVAILABLE"}, REST, *flags) as server:
            status, said = server.check()
        assert status == 0
        assert name in said
    with running({"a": "START"}, REST, "--model_name=a") as server:
        assert server.check() == (1, "unhealthy: not available: a\n")


@pytest.mark.parametrize("flags", [[], ["--rest_api_port=0"]])
def test_a_server_without_its_rest_api_is_said_to_have_none(flags: list[str]) -> None:
    with running({}, *flags) as server:
        assert server.check() == (1, "unhealthy: the server runs without its REST API: give it --rest_api_port\n")


def test_a_server_that_does_not_run_or_listen_is_unhealthy(tmp_path: Path) -> None:
    with running({}, "--rest_api_port=1") as server:
        assert server.check() == (1, "unhealthy: nothing listens on port 1\n")
    assert server.check() == (1, "unhealthy: no tensorflow_model_server runs\n")
