"""The overlay under the real Bazel: what it links, with both linkers, against toolchains that drop what they can."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from npu_serving.elf.symbols import read_elf
from npu_serving.overlay.adapter import apply_overlay, plan_overlay, plan_removal, runtime_libraries
from npu_serving.overlay.content import OverlayInputs
from npu_serving.process import base_environment, run

pytestmark = [pytest.mark.bazel, pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++ here")]

TARGET = "//tensorflow_serving/model_servers:tensorflow_model_server"
OUTPUT = "tensorflow_serving/model_servers/tensorflow_model_server"
# A toolchain as many distributions' are: what nobody refers to is dropped. Without gold, Bazel takes bfd, and archives
# instead of --start-lib.
COMPILER = """\
#!/bin/bash
words=()
for word in "$@"; do
  case "$word" in
    -fuse-ld=gold) [ {linker} = gold ] || {{ echo "no gold here" >&2; exit 1; }} ;;
    -Wl,-no-as-needed) word=-Wl,--as-needed ;;
  esac
  words+=("$word")
done
exec {gcc} "${{words[@]}}"
"""
FILES = {
    "WORKSPACE": 'workspace(name = "tf_serving")\nlocal_repository(name = "org_tensorflow", path = "tf")\n',
    "tf/WORKSPACE": "",
    "tf/tensorflow/compiler/jit/BUILD": 'cc_library(name = "xla_cpu_jit", visibility = ["//visibility:public"])\n',
    "tf/tensorflow/compiler/jit/graphcycles/BUILD": """\
cc_library(name = "graphcycles", visibility = ["//visibility:public"])
""",
    "tf/tensorflow/compiler/tf2xla/BUILD": """\
cc_library(name = "functionalize_control_flow", visibility = ["//visibility:public"])
""",
    OUTPUT.rpartition("/")[0] + "/BUILD": """\
cc_library(name = "registry", srcs = ["registry.cc"])
cc_library(name = "runtime", srcs = ["first.cc", "second.cc", "nobody.cc"])
cc_library(
    name = "tensorflow_model_server_main_lib",
    srcs = ["main.cc"],
    linkstamp = "version.cc",
    deps = [":registry", ":runtime"],
)
cc_binary(
    name = "tensorflow_model_server",
    stamp = 1,
    deps = [
        ":tensorflow_model_server_main_lib",
    ],
)
""",
    "tensorflow_serving/model_servers/registry.cc": """\
#include <cstdio>
extern "C" void server_register(const char *who) { std::printf("registered: %s\\n", who); }
""",
    "tensorflow_serving/model_servers/first.cc": 'extern "C" int first_need(void) { return 1; }\n',
    "tensorflow_serving/model_servers/second.cc": 'extern "C" int second_need(void) { return 2; }\n',
    "tensorflow_serving/model_servers/nobody.cc": 'extern "C" int nobody_needs(void) { return 3; }\n',
    "tensorflow_serving/model_servers/version.cc": """\
extern const char kStamp[];
const char kStamp[] = BUILD_EMBED_LABEL;
""",
    "tensorflow_serving/model_servers/main.cc": """\
extern "C" void server_register(const char *);
int main() { server_register("main"); }
""",
}
ADAPTER = """\
extern "C" void server_register(const char *);
extern "C" int first_need(void);
extern "C" int second_need(void);
extern "C" int removed_from_the_server(void);
extern "C" int ge_run(int);
namespace {{ struct Plugin {{ Plugin() {{ if ({body} > 0) server_register("npu"); }} }} plugin; }}
extern "C" int later(int x) {{ return ge_run(x){missing}; }}
"""


class World:
    """A tree of the server's shape, adapters for it, and a Bazel."""

    def __init__(self, root, bazel):
        self.root, self.bazel = root, bazel
        self.tree = root / "tree"
        for name, text in FILES.items():
            path = self.tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (self.tree / "third_party").mkdir()
        self.cann = root / "cann"
        self.cann.mkdir()
        self.ge = self.library("cann/libge_runner.so", 'extern "C" int ge_run(int x) { return x; }')
        self.python = self.library("libpython3.7m.so.1.0", 'extern "C" int Py_Initialize(void) { return 0; }')
        self.stubs = [
            self.library(name, "") for name in ("_pywrap_tensorflow_internal.so", "libtensorflow_framework.so.1")
        ]
        self.first = self.adapter("first", "first_need()")
        self.second = self.adapter("second", "first_need() + second_need()")
        self.demanding = self.adapter("demanding", "first_need()", missing=" + removed_from_the_server()")

    def library(self, name, source, *more):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        code = path.with_suffix(".cc")
        code.write_text(source)
        soname = f"-Wl,-soname,{path.name}"
        subprocess.run(["g++", "-shared", "-fPIC", soname, "-o", path, code, *more], check=True)
        return path

    def adapter(self, name, body, missing=""):
        needs = ["-Wl,--no-as-needed", *self.stubs, self.python, self.ge]
        return self.library(f"{name}/_tf_adapter.so", ADAPTER.format(body=body, missing=missing), *needs)

    def overlay(self, adapter):
        apply_overlay(plan_overlay(self.tree, OverlayInputs(adapter, self.python)))

    def build(self, linker):
        """Builds with that linker; returns the server and the sources compiled and targets linked on the way."""
        compiler = self.root / f"{linker}-compiler"
        compiler.write_text(COMPILER.format(linker=linker, gcc=shutil.which("gcc")))
        compiler.chmod(0o755)
        environment = {**base_environment(), "CC": str(compiler), "HOME": str(self.root)}
        finished = run(
            [
                self.bazel, "--batch", "--nohome_rc", "--nosystem_rc", f"--output_user_root={self.root / 'out'}",
                "build", "-c", "opt", "-s", "--color=no", "--curses=no", "--jobs=1", "--spawn_strategy=standalone",
                "--symlink_prefix=/", TARGET,
            ],
            cwd=self.tree,
            env=environment,
        )  # fmt: skip
        actions = [
            line.split("[action '")[1].split("'")[0] for line in finished.output.splitlines() if "[action '" in line
        ]
        (server,) = (self.root / "out").glob(f"*/execroot/tf_serving/bazel-out/*-opt/bin/{OUTPUT}")
        return server, actions, finished.output

    def install(self, server):
        """The artifact's shape: bin/ with the server, lib/ with each library under the name the loader asks for."""
        place = self.root / "dist/id ü"
        shutil.rmtree(place, ignore_errors=True)
        (place / "bin").mkdir(parents=True)
        (place / "lib").mkdir()
        shutil.copy2(server, place / "bin")
        for name, path in runtime_libraries(self.tree).items():
            shutil.copy2(path, place / "lib" / name)
        return place / "bin" / server.name

    def start(self, program):
        """Runs the program where it stands; only CANN's own directory is in the library path."""
        environment = {"LD_LIBRARY_PATH": str(self.cann)}
        return subprocess.run([program], env=environment, capture_output=True, text=True, cwd="/", check=False)


@pytest.fixture(scope="module")
def world(tmp_path_factory, bazel):
    return World(tmp_path_factory.mktemp("overlay"), bazel)


@pytest.fixture(params=["gold", "bfd"])
def linker(request):
    if request.param == "gold" and shutil.which("ld.gold") is None:
        pytest.skip("there is no gold here")
    return request.param


def test_an_adapter_that_no_object_refers_to_is_linked_in_although_the_toolchain_says_as_needed(world, linker):
    world.overlay(world.first)

    server, _, _ = world.build(linker)

    assert "_tf_adapter.so" in read_elf(server).needed
    assert "libpython3.7m.so.1.0" in read_elf(server).needed
    assert world.start(world.install(server)).stdout == "registered: npu\nregistered: main\n"


def test_what_only_the_adapter_needs_is_pulled_out_of_the_servers_archives_and_exported(world, linker):
    world.overlay(world.second)

    names = read_elf(world.build(linker)[0]).defined_names

    assert {"server_register", "first_need", "second_need"} <= names
    assert "nobody_needs" not in names


def test_the_link_succeeds_without_cann_and_leaves_no_demand_of_the_servers_own(world, linker):
    world.overlay(world.demanding)

    server, _, output = world.build(linker)

    assert "libge_runner.so" not in output
    undefined = {symbol.name for symbol in read_elf(server).undefined}
    assert not undefined & {"removed_from_the_server", "ge_run"}
    assert "first_need" in read_elf(server).defined_names


def test_an_installed_server_finds_its_libraries_without_a_library_path_and_before_one(world, linker):
    world.overlay(world.first)
    server, _, _ = world.build(linker)
    program = world.install(server)
    elf = read_elf(program)
    assert elf.rpath is not None
    assert elf.runpath is None
    assert "$ORIGIN/../lib" in elf.rpath.split(":")

    # Libraries of the same names in CANN's directory: the server's own ones win.
    for name in runtime_libraries(world.tree):
        (world.cann / name).write_text("not a library")
    try:
        assert world.start(program).stdout == "registered: npu\nregistered: main\n"
    finally:
        for name in runtime_libraries(world.tree):
            (world.cann / name).unlink()


def test_an_adapter_with_a_search_path_of_its_own_still_finds_the_stubs(world, linker):
    adapter = world.library(
        "runpath/_tf_adapter.so",
        ADAPTER.format(body="first_need()", missing=""),
        "-Wl,--no-as-needed", "-Wl,--enable-new-dtags", "-Wl,-rpath,/nowhere", *world.stubs, world.python, world.ge,
    )  # fmt: skip
    assert read_elf(adapter).runpath == "/nowhere"
    world.overlay(adapter)
    assert world.start(world.install(world.build(linker)[0])).returncode == 0


def test_a_new_adapter_costs_one_link_and_compiles_nothing_but_the_stamp(world, linker):
    world.overlay(world.first)
    world.build(linker)
    world.overlay(world.second)

    _, actions, _ = world.build(linker)

    compiled = [action for action in actions if action.startswith("Compiling")]
    assert compiled in ([], ["Compiling tensorflow_serving/model_servers/version.cc"])
    assert [action for action in actions if action not in compiled] == [f"Linking {OUTPUT}"]
    assert world.build(linker)[1] == []


def test_a_tree_without_the_overlay_builds_as_before(world, linker):
    world.overlay(world.first)
    apply_overlay(plan_removal(world.tree))
    assert {name: (world.tree / name).read_text() for name in FILES} == FILES
    server, _, _ = world.build(linker)
    assert "_tf_adapter.so" not in read_elf(server).needed
    assert world.start(server).stdout == "registered: main\n"
