"""bin/serve: what becomes of a deployment's files and flags, and what it says where CANN is not there."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some
from other_user import NOBODY, open_directory  # noqa: F401 - a fixture

from npu_serving import fsutil
from npu_serving.cann.operator_list import operator_list_table
from npu_serving.elf.owners import is_of_driver
from npu_serving.options.server_flags import known_flags
from npu_serving.packaging.contents import RUNTIME

SERVER = b"""#!/bin/sh
[ "$1" != --help ] || { printf 'usage: x\\nFlags:\\n\\t--port=8500\\tint32\\n\\t--of_a_fork=1\\tint32\\n'; exit 255; }
printf '<%s>' "$@"
"""


@dataclass(frozen=True)
class Installed:
    """A package in a directory of its own, with a server that tells its flags."""

    directory: Path

    def put(self, name: str, data: str | bytes) -> Path:
        """A file of the deployment."""
        path = self.directory / "etc" / name
        fsutil.write_file(path, data)
        return path

    def serve(self, *flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs the entry point."""
        return subprocess.run(
            [self.directory / "bin" / "serve", *flags],
            env={
                "PATH": "/usr/bin:/bin",
                "ASCEND_ROOT": str(self.directory / "Ascend"),
                "NPU_SERVING_CONFIG": str(self.directory / "etc"),
                **environment,
            },
            capture_output=True,
            text=True,
            errors="surrogateescape",
            check=False,
        )

    def flags(self, data: str | bytes) -> str:
        """What the server gets where the file of flags holds this."""
        self.put("flags", data)
        done = self.serve()
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return done.stdout

    def refusal(self, *flags: str) -> str:
        """What it says in refusing to start the server."""
        done = self.serve(*flags)
        assert (done.returncode, done.stdout) == (2, "")
        assert "\nNext: " in done.stderr
        return done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    directory = tmp_path_factory.mktemp("installed")
    fsutil.copy_file(RUNTIME / "serve", directory / "bin" / "serve", mode=0o755)
    fsutil.write_file(directory / "bin" / "tensorflow_model_server", SERVER, mode=0o755)
    return Installed(directory)


def test_a_file_of_flags_may_have_the_line_ends_blanks_comments_and_quotes_that_people_write(
    installed: Installed,
) -> None:
    wanted = "<--port=8500><--rest_api_port=8501><--model_name=a b>"
    for text in (
        "--port=8500\n--rest_api_port=8501\n--model_name=a b\n",
        "--port=8500\n--rest_api_port=8501\n--model_name=a b",
        "--port=8500\r\n--rest_api_port=8501\r\n\r\n--model_name=a b\r\n",
        "\ufeff--port=8500\r\n--rest_api_port=8501\r\n--model_name=a b",
        "# gRPC\n  --port=8500  # 8500\n\t--rest_api_port=8501\t\n#--rest_api_port=0\n--model_name=a b   \n\n",
        "--port = 8500\n--rest_api_port= 8501\n--model_name='a b' # its name\n",
        '--port=\'8500\'\n"--rest_api_port=8501"\n--model_name="a b"\n',
    ):
        assert installed.flags(text) == wanted
    assert installed.flags("--model_name='a # b'\n--model_base_path=/a#b\n--version # c") == (
        "<--model_name=a # b><--model_base_path=/a#b><--version>"
    )


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--port 8500", "put = between them: --port=8500"),
        ("-port=8500", "write --port=8500"),
        ("port=8500", "the two dashes before its name are missing\nNext: write --port=8500"),
        ("tensorflow_model_server --port=8500", "Next: write one flag a line"),
        ("--model_base_path=/a \\", "leave it out"),
        ("--port=8500 \\", "leave it out"),
        ("--port", "--port needs a value"),
        ("--port=", "is not a whole number"),
        ("--port=85OO", "85OO is not a whole number"),
        ("--per_process_gpu_memory_fraction=half", "half is not a number"),
        ("--enable_batching=yes", "--enable_batching=true or --enable_batching=false"),
        ("--port=8500 --rest_api_port=8501", "more than one flag"),
        ('--model_name="a', "a quote is not closed"),
        ("--model_name='a' b", "a quote is not closed, or something follows it"),
        ("--model_name='a'#b", "a quote is not closed, or something follows it"),
        ('"--model_name=a', "a quote is not closed"),
        ("--rest_api_prot=8501", "the server has no flag --rest_api_prot"),
        ("--model_name=a\rb", "control character"),
    ],
)
def test_a_line_that_the_server_would_not_understand_is_refused_with_its_place(
    line: str, says: str, installed: Installed
) -> None:
    place = installed.put("flags", f"--rest_api_port=8501\n{line}\n")
    said = installed.refusal()
    assert said.startswith(f"{place}:2: ")
    assert says in said


@pytest.mark.parametrize("data", [b"", b"# none\n", "--port=1\n".encode("utf-16"), b"--port=1\r--version\r"])
def test_a_file_of_flags_without_any_is_refused(data: bytes, installed: Installed) -> None:
    installed.put("flags", data)
    assert "etc/flags" in installed.refusal()


values = some.text(some.characters(blacklist_categories=["Cs", "Cc"]), max_size=12)


@given(
    lines=some.lists(some.tuples(some.sampled_from(['"', "'"]), values), min_size=1, max_size=4), dos=some.booleans()
)
def test_a_quoted_value_reaches_the_server_as_it_is(
    lines: list[tuple[str, str]], dos: bool, installed: Installed
) -> None:
    lines = [(quote, value) for quote, value in lines if quote not in value] or [("'", "a")]
    end = "\r\n" if dos else "\n"
    text = "".join(f"--model_name={quote}{value}{quote}{end}" for quote, value in lines)
    assert installed.flags(text) == "".join(f"<--model_name={value}>" for _, value in lines)


@given(text=some.text(some.sampled_from("-=#'\" \t\r\n\\a1é"), max_size=30))
def test_no_line_reaches_the_server_that_is_not_a_flag(text: str, installed: Installed) -> None:
    installed.put("flags", text)
    done = installed.serve()
    assert done.returncode == 2
    assert "flags" in done.stderr
    assert done.stdout == ""


def test_flags_on_the_command_line_are_looked_at_as_well(installed: Installed) -> None:
    assert installed.serve("--port=1", "--enable_batching", "--of_a_fork=3").stdout == (
        "<--port=1><--enable_batching><--of_a_fork=3>"
    )
    assert "--rest_api_port needs a value" in installed.refusal("--rest_api_port", "8501")
    assert "bash is not a flag" in installed.refusal("bash")


def test_the_entry_point_knows_the_type_of_every_flag_of_the_table(installed: Installed) -> None:
    examples = {"int32": "-1", "int64": "60000000", "float": "0.5", "bool": "false", "string": "x"}
    flags = [f"--{name}={examples[flag.type]}" for name, flag in known_flags().items()]
    assert installed.serve(*flags).stdout == "".join(f"<{flag}>" for flag in flags)
    for name, flag in known_flags().items():
        if flag.type != "string":
            installed.refusal(f"--{name}=x")


def test_a_deployments_file_that_is_there_and_can_not_be_read_is_not_passed_over(tmp_path: Path) -> None:
    fsutil.copy_file(RUNTIME / "serve", tmp_path / "bin" / "serve", mode=0o755)
    fsutil.write_file(tmp_path / "bin" / "tensorflow_model_server", SERVER, mode=0o755)
    installed = Installed(tmp_path)
    assert "There are no models to serve" in installed.refusal()
    installed.put("models.config", "")
    assert installed.serve().stdout == (
        f"<--port=8500><--rest_api_port=8501><--model_config_file={tmp_path}/etc/models.config>"
    )
    (tmp_path / "etc" / "config.cfg").mkdir()  # docker run -v of a file that is not there
    assert "config.cfg can't be read" in installed.refusal()
    (tmp_path / "etc" / "config.cfg").rmdir()
    (tmp_path / "etc" / "flags").symlink_to("nowhere")
    assert "flags can't be read" in installed.refusal()


@pytest.fixture
def with_cann(tmp_path: Path) -> Installed:
    """A package whose server needs a library of CANN and one of the driver, which set_env.sh and the driver have."""
    (tmp_path / "one.c").write_text("int one(void) { return 1; }\n")
    (tmp_path / "main.c").write_text('#include <stdio.h>\nint main(void) { return puts("serves") < 0; }\n')
    script = """
set -e; cd "$1"; mkdir -p bin kept; flags='-Wl,--no-as-needed -Lkept'
for name in ge_runner fmk_parser ascendcl acl_tdt_channel ascend_hal; do
    gcc -shared -fPIC -o kept/lib$name.so one.c; flags="$flags -l$name"; done
gcc -o bin/tensorflow_model_server main.c $flags
"""
    subprocess.run(["bash", "-c", script, "bash", tmp_path], check=True)
    fsutil.copy_file(RUNTIME / "serve", tmp_path / "bin" / "serve", mode=0o755)
    return Installed(tmp_path)


def install(installed: Installed, *, cann: bool, driver: bool) -> None:
    root = installed.directory / "Ascend"
    kept = installed.directory / "kept"
    if cann:
        lines = f"export LD_LIBRARY_PATH={shlex.quote(str(root))}/cann/lib64:$LD_LIBRARY_PATH\n"
        fsutil.write_file(root / "cann" / "set_env.sh", lines)
        for library in kept.iterdir():
            if "ascend_hal" not in library.name:
                fsutil.copy_file(library, root / "cann" / "lib64" / library.name)
    if driver:
        fsutil.copy_file(kept / "libascend_hal.so", root / "driver" / "lib64" / "driver" / "libascend_hal.so")


def test_of_several_releases_without_a_link_to_one_the_newest_is_taken(installed: Installed, tmp_path: Path) -> None:
    for release in ("9.0.0", "10.0.0", "8.5.0", "10.0.0.RC1", "10.0.0.alpha002"):
        script = f"printf '{release} ' >> {shlex.quote(str(tmp_path))}/sourced\n"
        fsutil.write_file(tmp_path / f"cann-{release}" / "set_env.sh", script)
    assert installed.serve("--port=1", ASCEND_ROOT=str(tmp_path)).stdout == "<--port=1>"
    assert (tmp_path / "sourced").read_text() == "10.0.0 "


GROUP = 2  # bin, which every Linux has
CONTAINER = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}


def test_without_cann_it_says_what_to_mount_and_from_where(with_cann: Installed) -> None:
    root = with_cann.directory / "Ascend"
    done = with_cann.serve("--port=1", **CONTAINER)
    assert done.returncode == 127
    assert "it needs libge_runner.so, libfmk_parser.so, libascendcl.so, libacl_tdt_channel.so and 1 more, of CANN" in (
        done.stderr
    )
    assert f"there is no {root}" in done.stderr
    assert f"-v {root}:{root}:ro" in done.stderr
    assert "--device /dev/davinci0" in done.stderr
    root.mkdir()
    assert f"{root} is empty" in with_cann.serve("--port=1", **CONTAINER).stderr
    (root / "something").mkdir()
    assert f"{root} has no set_env.sh of CANN ({root}/cann " in with_cann.serve("--port=1", **CONTAINER).stderr
    (root / "something").rmdir()
    install(with_cann, cann=True, driver=True)  # the cure
    assert with_cann.serve("--port=1", **CONTAINER).stdout == "serves\n"


def test_with_cann_and_without_the_driver_it_is_the_driver_that_is_to_be_mounted(with_cann: Installed) -> None:
    root = with_cann.directory / "Ascend"
    install(with_cann, cann=True, driver=False)
    said = with_cann.serve("--port=1", **CONTAINER).stderr
    assert "it needs libascend_hal.so, of the NPU's driver" in said
    assert f"docker run -v {root}/driver:{root}/driver:ro" in said
    install(with_cann, cann=False, driver=True)
    assert with_cann.serve("--port=1").stdout == "serves\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to a group and become another user")
@pytest.mark.parametrize(
    "shut",
    [
        "Ascend",
        "Ascend/cann",
        "Ascend/cann/set_env.sh",
        "Ascend/cann/lib64",
        "Ascend/cann/lib64/libge_runner.so",
        "Ascend/driver",
        "Ascend/driver/lib64/driver/libascend_hal.so",
    ],
)
def test_what_this_user_may_not_read_is_named_with_its_owner_and_not_to_be_mounted_again(
    shut: str,
    with_cann: Installed,
    open_directory: Path,  # noqa: F811
) -> None:
    install(with_cann, cann=True, driver=True)
    for library in (with_cann.directory / "Ascend/cann/lib64").iterdir():
        library.chmod(0o755)
    (with_cann.directory / "Ascend/cann/set_env.sh").write_text(
        f"export LD_LIBRARY_PATH={open_directory}/Ascend/cann/lib64:$LD_LIBRARY_PATH\n"
    )
    shutil.copytree(with_cann.directory, open_directory, dirs_exist_ok=True)
    open_directory.chmod(0o755)
    path = open_directory / shut
    os.chown(path, 0, GROUP)

    def serve(*groups: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [open_directory / "bin" / "serve", "--port=1"],
            env={"PATH": "/usr/bin:/bin", "ASCEND_ROOT": f"{open_directory}/Ascend", **CONTAINER},
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            user=NOBODY,
            group=NOBODY,
            extra_groups=groups,
        )

    assert serve().stdout == "serves\n"
    path.chmod(0o750)
    done = serve()
    assert done.returncode == 127
    assert f"user {NOBODY} may not read {path} (owner root, group " in done.stderr
    assert "docker run -v" not in done.stderr
    assert f"docker run --group-add {GROUP}" in done.stderr
    assert serve(GROUP).stdout == "serves\n", "the cure helps"
    path.chmod(0o700)
    assert "--group-add" not in serve().stderr
    assert "--install-for-all" in serve().stderr


def test_a_deployment_for_the_npu_is_warned_where_the_cpu_would_silently_serve_it(with_cann: Installed) -> None:
    install(with_cann, cann=True, driver=True)
    config = with_cann.put("config.cfg", 'custom_optimizers { name: "NpuOptimizer" }')
    with_cann.put("models.config", "")
    opp = with_cann.directory / "Ascend" / "opp"
    for flags in ((), (f"--platform_config_file={config}",)):
        done = with_cann.serve(*flags, ASCEND_OPP_PATH=str(opp))
        assert done.stdout == "serves\n"
        assert f"warning: {opp}/built-in/framework/tensorflow/npu_supported_ops.json is missing" in done.stderr
        assert "the CPU would silently serve" in done.stderr
    for place in (operator_list_table().current, operator_list_table().older):
        fsutil.write_file(opp / place, '{"Add": {}}')  # the cure
        assert with_cann.serve(ASCEND_OPP_PATH=str(opp)).stderr == ""
        (opp / place).unlink()
    config.write_text("")
    assert with_cann.serve(ASCEND_OPP_PATH=str(opp)).stderr == "", "where the CPU is meant, nothing is said"


def test_what_is_canns_by_the_table_of_symbols_is_not_asked_of_the_driver() -> None:
    """libmmpa.so, whose mm* functions are CANN's: mounting the driver would not help."""
    known = re.search(r"^driver_names=\('(.*)'\)$", fsutil.read_text(RUNTIME / "serve"), re.MULTILINE)
    assert known is not None
    for name, of_driver in (("libascend_hal.so", True), ("libdrvdsmi_host.so.1", True), ("libmmpa.so", False)):
        matched = subprocess.run(["bash", "-c", "[[ $1 =~ $2 ]]", "bash", name, known[1]], check=False).returncode == 0
        assert matched == is_of_driver(name) == of_driver


def test_a_cann_that_lacks_a_library_is_not_told_to_be_missing(with_cann: Installed) -> None:
    install(with_cann, cann=True, driver=True)
    (with_cann.directory / "Ascend" / "cann" / "lib64" / "libge_runner.so").unlink()
    done = with_cann.serve("--port=1", **CONTAINER)
    assert done.returncode == 127
    assert (
        f"it needs libge_runner.so, and the CANN of {with_cann.directory}/Ascend/cann/set_env.sh has none"
        in done.stderr
    )
