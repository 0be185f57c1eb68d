"""A server that was set up by hand becomes a deployment; what has no place in one is named, nothing is dropped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from npu_serving.deploy.deployment_file import DeploymentFile, read_deployment
from npu_serving.deploy.init_deployment import take_over_deployment
from npu_serving.deploy.rendering import rendered_files
from npu_serving.deploy.set_up_by_hand import found_in
from npu_serving.deploy.taking_over import TakenOver, take_over
from npu_serving.errors import DocumentError, FileAccessError, RequestError

# As the guide has them typed (6.4), but for NO_MEM_OPT.
CONFIG = """\
platform_configs {
  key: "tensorflow"
  value {
    source_adapter_config {
      [type.googleapis.com/tensorflow.serving.SavedModelBundleSourceAdapterConfig] {
        legacy_config {
          session_config {
            graph_options {
              rewrite_options {
                custom_optimizers {
                  name: "NpuOptimizer"
                  parameter_map: { key: "use_off_line" value: { b: true } }
                  parameter_map: { key: "mix_compile_mode" value: { b: true } }
                  parameter_map: { key: "graph_run_mode" value: { i: 0 } }
                  parameter_map: { key: "precision_mode" value: { s: "force_fp16" } }
                }
                remapping: OFF
              }
            }
          }
        }
      }
    }
  }
}
"""
MODELS = """\
model_config_list: {
  config: { name: "a" base_path: "/models/a" model_platform: "tensorflow" }
  config: { name: "b", base_path: "/models/b", model_platform: "tensorflow", logging_config { } }
}
"""
BATCHING = "tensorflow_model_server --enable_batching\n"
START = """\
#!/bin/bash
# tensorflow_model_server --port=1
source /usr/local/Ascend/ascend-toolkit/set_env.sh
export LD_LIBRARY_PATH=/x:$LD_LIBRARY_PATH
export JOB_ID=10087
export OMP_NUM_THREADS="8"   # cores
export DEVICE=$1
export RANK_ID=0
nohup ./tensorflow_model_server --port=9000 \\
    --rest_api_port=9001 --model_config_file="/home/me/models.config" \\
    --platform_config_file=/home/me/config.cfg --grpc_channel_arguments=grpc.x=1,grpc.y=z \\
    --enable_batching=true --max_num_load_retries=$N --typo=1 > log 2>&1 &
"""


class ByHand:
    """A directory that a person filled."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "by hand"
        self.directory.mkdir()
        self.output = directory / "deployment.yaml"

    def put(self, **files: str) -> None:
        for name, text in files.items():
            (self.directory / name.replace("_", ".")).write_text(text, encoding="utf-8")

    def deployment(self) -> DeploymentFile:
        take_over_deployment(found_in(self.directory), self.output)
        return read_deployment(self.output)

    def taken(self) -> TakenOver:
        return take_over(found_in(self.directory), self.output)

    def left_out(self) -> list[str]:
        return [line.replace(f"{self.directory}/", "") for line in self.taken().left_out]


@pytest.fixture
def by_hand(tmp_path: Path) -> ByHand:
    return ByHand(tmp_path)


def test_the_guides_own_files_and_start_script_become_a_deployment(by_hand: ByHand) -> None:
    by_hand.put(config_cfg=CONFIG, models_config=MODELS, start_sh=START)
    made = by_hand.deployment()
    assert [(model.name, model.base_path) for model in made.models] == [("a", "/models/a"), ("b", "/models/b")]
    assert made.npu == {"mix_compile_mode": True, "precision_mode": "force_fp16"}
    assert (made.server.port, made.server.rest_api_port) == (9000, 9001)
    assert made.server.grpc_channel_arguments == {"grpc.x": 1, "grpc.y": "z"}
    assert made.environment == {"JOB_ID": "10087", "OMP_NUM_THREADS": "8"}
    assert not made.server.warm_up  # as it was: its config does not speak of it


def test_whatever_has_no_place_is_named_and_stands_in_the_file(by_hand: ByHand) -> None:
    by_hand.put(config_cfg=CONFIG, models_config=MODELS, start_sh=START)
    left_out = by_hand.left_out()
    assert left_out == [
        "start.sh: --max_num_load_retries=$N: the value is known to the shell only",
        "start.sh: the server has no flag --typo",
        "start.sh: export DEVICE=$1: the value is known to the shell only",
        "start.sh: RANK_ID: it describes a cluster for training",
        "models.config:3: logging_config",
        "--enable_batching had no effect beside the platform config",
    ]
    made = take_over_deployment(found_in(by_hand.directory), by_hand.output)
    for sentence in made.left_out:
        assert sentence in made.text()
        assert f"#   {sentence}\n" in by_hand.output.read_text()


RICH: dict[str, Any] = {
    "models": [
        {"name": "a", "base_path": "/models/a", "versions": [1, 7], "labels": {"stable": 7}},
        {"name": "b", "base_path": 's3://bucket/it\'s "b"', "versions": "all", "npu": {"mix_compile_mode": True}},
        {"name": "c", "base_path": "/c", "versions": {"latest": 3}, "npu": False},
    ],
    "server": {
        "port": 9000,
        "rest_api_port": 0,
        "rest_api_timeout_in_ms": 5,
        "file_system_poll_wait_seconds": 0,
        "max_num_load_retries": 3,
        "flush_filesystem_caches": False,
        "grpc_channel_arguments": {"grpc.a": 1, "grpc.b": "x"},
        "saved_model_tags": ["serve", "gpu"],
        "warm_up_iterations": 2,
    },
    "npu": {"precision_mode_v2": "fp16", "op_debug_level": 1, "job": '{"a":"b"}\n', "x": "1e3"},
    "cpu": {"intra_op_threads": 3},
    "cann": "/opt/it's Ascend",
    "environment": {"ASCEND_GLOBAL_LOG_LEVEL": "3", "PROFILING_OPTIONS": '{"output":"/tmp"}'},
}


@pytest.mark.parametrize(
    "sections",
    [
        RICH,
        {"models": [{"name": "a", "base_path": "/a"}]},
        {"models": [{"name": "a", "base_path": "/a"}], "server": {"monitoring": {"path": "/m"}, "batching": {}}},
        {
            "models": [{"name": "a", "base_path": "/a"}],
            "npu": {"precision_mode_v2": "fp16", "fusion_switch_file": "/etc/npu/fusion_switch.cfg"},
            "server": {"batching": {"max_batch_size": 8, "allowed_batch_sizes": [2, 8], "batch_timeout_micros": 0}},
        },
        {"models": [{"name": "a", "base_path": "/a"}], "cpu": {"cpus": "0-7,16-23", "intra_op_threads": 4}},
        {"models": [{"name": "a", "base_path": "/a"}], "cpu": {"numa_node": 1}},
    ],
)
def test_what_render_deployment_writes_is_taken_over_as_it_was(
    by_hand: ByHand, tmp_path: Path, sections: dict[str, Any]
) -> None:
    original = tmp_path / "original.json"
    original.write_text(json.dumps({"version": 1, **sections}))
    wanted = read_deployment(original)
    for name, file in rendered_files(wanted, by_hand.directory).items():
        (by_hand.directory / name).write_text(file.text)
    made = by_hand.deployment()
    again, first = (rendered_files(each, Path("/same")) for each in (made, wanted))
    assert {name: file.text for name, file in again.items()} == {name: file.text for name, file in first.items()}
    assert by_hand.taken().left_out == ()


def test_one_model_of_the_command_line_is_taken(by_hand: ByHand) -> None:
    by_hand.put(run_sh="tensorflow_model_server --model_name=m --model_base_path=/models/m --enable_batching\n")
    made = by_hand.deployment()
    assert [(model.name, model.base_path) for model in made.models] == [("m", "/models/m")]
    assert made.server.batching is not None
    assert made.npu is None


def test_the_file_that_the_command_names_counts_and_another_one_is_named(by_hand: ByHand) -> None:
    by_hand.put(
        run_sh="tensorflow_model_server --model_config_file=/x/new.config\n",
        new_config=MODELS,
        old_config=MODELS.replace('"a"', '"old"'),
    )
    assert [model.name for model in by_hand.deployment().models] == ["a", "b"]
    assert "old.config is a list of models, and the server was started with /x/new.config" in by_hand.left_out()


def test_of_two_lists_without_a_command_the_first_is_taken_and_the_second_named(by_hand: ByHand) -> None:
    by_hand.put(a_config=MODELS, b_config=MODELS)
    assert by_hand.left_out()[0] == "b.config is a second list of models; a.config was taken"


def test_a_use_off_line_that_was_false_and_training_mode_are_said(by_hand: ByHand) -> None:
    by_hand.put(
        models_config=MODELS,
        config_cfg=CONFIG.replace(
            'b: true } }\n                  parameter_map: { key: "mix',
            'b: false } }\n                  parameter_map: { key: "mix',
        ),
    )
    assert by_hand.deployment().npu is None
    assert any("the CPU served" in line for line in by_hand.left_out())
    by_hand.output.unlink()
    by_hand.put(
        config_cfg=CONFIG.replace("i: 0", "i: 1").replace(
            '"precision_mode" value: { s: "force_fp16" }', '"x" value: { i: 1 }'
        )
    )
    assert by_hand.deployment().npu == {"mix_compile_mode": True, "x": 1}
    said = "\n".join(by_hand.left_out())
    assert "graph_run_mode was 1; 0 is written now" in said
    assert "precision_mode_v2 was not set; fp16 is written now" in said


def test_fields_of_a_session_that_no_deployment_has_are_named_with_their_line(by_hand: ByHand) -> None:
    further = "log_device_placement: true\n            graph_options {\n              build_cost_model: 1"
    rewriting = "dependency_optimization: OFF\n                remapping: OFF"
    changed = CONFIG.replace("graph_options {", further).replace("remapping: OFF", rewriting)
    changed = changed.replace("legacy_config {", "legacy_config {\n  use_tflite_model: true")
    by_hand.put(models_config=MODELS, config_cfg=changed)
    assert by_hand.left_out()[:4] == [
        "config.cfg:7: use_tflite_model",
        "config.cfg:9: session_config.log_device_placement",
        "config.cfg:11: graph_options.build_cost_model",
        "config.cfg:20: rewrite_options.dependency_optimization",
    ]


TLS = """# Of mine
server_key: "-----BEGIN KEY-----\\nhunter2\\n"
server_cert: "-----BEGIN CERTIFICATE-----\\n"
custom_ca: "-----BEGIN CERTIFICATE-----\\nCA\\n"
client_verify: true
"""


def test_the_texts_of_tls_become_files_for_their_owner_alone_that_the_deployment_names(by_hand: ByHand) -> None:
    by_hand.put(models_config=MODELS, ssl_config=TLS)
    planned = take_over_deployment(found_in(by_hand.directory), by_hand.output, dry_run=True)
    assert "hunter2" not in f"{planned.text()}{planned.to_json()}{planned!r}"
    assert not list(by_hand.output.parent.glob("*.pem"))
    tls = by_hand.deployment().server.tls
    assert tls is not None
    assert tls.client_verify
    key = Path(tls.server_key)
    assert key == by_hand.output.with_name("deployment.server_key.pem")
    assert key.read_text() == "-----BEGIN KEY-----\nhunter2\n"
    assert key.stat().st_mode & 0o777 == 0o600
    assert tls.custom_ca is not None
    assert Path(tls.custom_ca).read_text().endswith("CA\n")
    assert "hunter2" not in by_hand.output.read_text()
    again = rendered_files(read_deployment(by_hand.output), Path("/x"))["ssl.config"].text
    assert r"-----BEGIN KEY-----\nhunter2\n" in again


def test_a_key_of_another_set_up_is_never_replaced(by_hand: ByHand) -> None:
    by_hand.put(models_config=MODELS, ssl_config=TLS)
    key = by_hand.output.with_name("deployment.server_key.pem")
    key.write_text("another")
    for dry_run in (True, False):
        with pytest.raises(RequestError, match=str(key)):
            take_over_deployment(found_in(by_hand.directory), by_hand.output, dry_run=dry_run)
    assert key.read_text() == "another"
    assert not by_hand.output.exists()


def test_tls_without_a_certificate_is_named_and_not_half_taken(by_hand: ByHand) -> None:
    by_hand.put(models_config=MODELS, ssl_config='server_key: "-----BEGIN"\n')
    assert by_hand.deployment().server.tls is None
    assert "ssl.config has no server_cert: no TLS" in by_hand.left_out()


def test_what_a_command_does_not_say_stays_as_the_server_has_it_or_is_said(by_hand: ByHand) -> None:
    by_hand.put(run_sh="tensorflow_model_server --model_base_path=/m --model_name=m\n")
    assert by_hand.deployment().server.rest_api_port == 0  # the server's own default, and not ours
    assert by_hand.left_out() == ["--max_num_load_retries was not set, so that loading was tried 5 times again; 0 now"]


def test_flags_that_have_another_name_in_a_deployment_are_taken(by_hand: ByHand) -> None:
    flags = "--enable_model_warmup=false --saved_model_tags=serve,gpu --max_num_load_retries=5"
    threads = "--tensorflow_session_parallelism=4 --tensorflow_inter_op_parallelism=2"
    by_hand.put(run_sh=f"tensorflow_model_server --model_base_path=/m --model_name=m {flags} {threads}\n")
    made = by_hand.deployment()
    assert (made.server.warm_up, made.server.saved_model_tags) == (False, ("serve", "gpu"))
    assert (made.cpu.intra_op_threads, made.cpu.inter_op_threads) == (4, 2)
    assert by_hand.left_out() == []


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ('"mix-compile" value: { b: true }', "'mix-compile' is not a valid name of a session option"),
        ('"precision_mode_v2" value: { s: "fp16" }', "cannot be combined"),
    ],
)
def test_a_mistake_in_an_option_is_named_with_file_and_line(by_hand: ByHand, options: str, what: str) -> None:
    by_hand.put(models_config=MODELS, config_cfg=CONFIG.replace('"mix_compile_mode" value: { b: true }', options))
    with pytest.raises(RequestError, match=what) as caught:
        by_hand.deployment()
    line = 13 if "-" in options else 10
    assert caught.value.what.startswith(f"{by_hand.directory}/config.cfg:{line}: ")


def test_a_relative_model_path_becomes_absolute_and_is_said(by_hand: ByHand) -> None:
    by_hand.put(models_config=MODELS.replace("/models/a", "models/a"))
    assert by_hand.deployment().models[0].base_path == f"{by_hand.directory}/models/a"
    assert any("was relative" in line for line in by_hand.left_out())


def test_a_set_up_with_mistakes_is_refused_with_all_of_them_and_nothing_is_written(by_hand: ByHand) -> None:
    by_hand.put(
        models_config=MODELS.replace('"b"', '"b c"'),
        run_sh="tensorflow_model_server --port=0\n",
    )
    with pytest.raises(DocumentError) as caught:
        by_hand.deployment()
    assert "models[1].name" in caught.value.what
    assert "server.port" in caught.value.what
    assert str(by_hand.directory) in caught.value.cure
    assert not by_hand.output.exists()


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"notes_txt": "hello"},
        {"models_config": "model_config_list {"},
        {"x_sh": "tensorflow_model_server --port=1 'unclosed\n"},
        {"models_config": MODELS.replace("}", "model_version_policy { specific { versions: x } } }", 1)},
        {"models_config": "model_config_list { }"},
        {"models_config": MODELS, "config_cfg": CONFIG.replace("i: 0", "i: zero")},
        {"models_config": MODELS, "b_config": "max_batch_size { value: 1.5 }", "x_sh": BATCHING},
    ],
)  # fmt: skip
def test_what_can_not_be_taken_over_is_refused_without_a_traceback(by_hand: ByHand, files: dict[str, str]) -> None:
    by_hand.put(**files)
    with pytest.raises((RequestError, DocumentError)):
        by_hand.deployment()
    assert not by_hand.output.exists()


def test_a_password_is_written_for_the_owner_alone_and_never_shown(by_hand: ByHand) -> None:
    secrets = "export AWS_SECRET_ACCESS_KEY=hunter2\nexport MY_TOKEN=hunter3$X\n"
    by_hand.put(models_config=MODELS, config_cfg=CONFIG, start_sh=secrets + START)
    planned = take_over_deployment(found_in(by_hand.directory), by_hand.output, dry_run=True)
    for shown in (planned.text(), str(planned.to_json())):
        assert "AWS_SECRET_ACCESS_KEY" in shown
        assert "hunter" not in shown
    assert by_hand.deployment().environment["AWS_SECRET_ACCESS_KEY"] == "hunter2"
    assert by_hand.output.stat().st_mode & 0o777 == 0o600


def test_quotes_within_a_flag_and_dollars_within_single_quotes_are_taken_as_they_are(by_hand: ByHand) -> None:
    by_hand.put(models_config=MODELS, flags='--grpc_socket_path="/tmp/a b#\'"\n')
    exports = """export A='$HOME `x`'\nexport B='a'"'"'$b'\nexport C="it's $x isn't"\n"""
    by_hand.put(environment_sh=exports)
    made = by_hand.deployment()
    assert made.server.grpc_socket_path == "/tmp/a b#'"
    assert made.environment == {"A": "$HOME `x`", "B": "a'$b"}
    assert any("export C=" in sentence for sentence in by_hand.left_out())


def test_names_that_protobuf_wrote_with_escapes_are_read_as_the_characters_they_are(by_hand: ByHand) -> None:
    by_hand.put(models_config=r'model_config_list { config { name: "a" base_path: "/m/\303\251" } }')
    assert by_hand.deployment().models[0].base_path == "/m/é"


def test_a_platform_that_stands_there_as_bytes_is_refused_and_not_taken_for_an_empty_one(by_hand: ByHand) -> None:
    packed = r'source_adapter_config { type_url: "type.googleapis.com/a.B" value: "\302>" }'
    config = f'platform_configs {{\n key: "tensorflow" value {{\n {packed} }} }}'
    by_hand.put(models_config=MODELS, config_cfg=config)
    with pytest.raises(RequestError, match="as bytes") as caught:
        by_hand.taken()
    assert caught.value.what.startswith(f"{by_hand.directory}/config.cfg:3:")
    assert "[type.googleapis.com/a.B] { ... }" in caught.value.cure


@pytest.mark.parametrize("name", ["models.config", "other.txt"])
def test_a_configuration_that_no_server_could_read_is_named_with_its_place(by_hand: ByHand, name: str) -> None:
    (by_hand.directory / name).write_text("model_config_list {\n config {")
    by_hand.put(start_sh="tensorflow_model_server --model_config_file=/etc/other.txt\n")
    with pytest.raises(RequestError) as caught:
        by_hand.taken()
    assert caught.value.what.startswith(f"{by_hand.directory / name}:2:")


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileAccessError, match="none"):
        found_in(tmp_path / "none")


def test_bytes_that_are_no_text_are_shown_in_comments_and_refused_in_values(by_hand: ByHand) -> None:
    by_hand.put(models_config=MODELS)
    (by_hand.directory / "x.sh").write_bytes(b"tensorflow_model_server --typ\xff=1 --port=9000\n")
    assert by_hand.deployment().server.port == 9000
    assert "--typ\\udcff" in by_hand.output.read_text()
    (by_hand.directory / "models.config").write_bytes(MODELS.encode().replace(b"/models/a", b"/\xff"))
    by_hand.output.unlink()
    with pytest.raises(RequestError):
        by_hand.deployment()


@pytest.mark.parametrize(
    ("before", "cpus", "node"),
    [
        ("taskset -c 0-31", "0-31", None),
        ("nohup taskset --cpu-list 0-6,9 nice", "0-6,9", None),
        ("numactl --cpunodebind=1 --membind=1", None, 1),
        ("numactl -N 0 -m 0", None, 0),
        ("nohup", None, None),
    ],
)
def test_what_pins_the_server_in_the_script_is_taken(
    by_hand: ByHand, before: str, cpus: str | None, node: int | None
) -> None:
    start = START.replace("nohup ./tensorflow_model_server", f"{before} ./tensorflow_model_server")
    by_hand.put(config_cfg=CONFIG, models_config=MODELS, start_sh=start)
    made = by_hand.deployment()
    assert (made.cpu.cpus, made.cpu.numa_node) == (cpus, node)


@pytest.mark.parametrize("before", ["taskset 0xff", "taskset -c $CORES", "numactl -C 0-3"])
def test_another_way_to_pin_is_named_with_what_to_write(by_hand: ByHand, before: str) -> None:
    start = START.replace("nohup ./tensorflow_model_server", f"{before} ./tensorflow_model_server")
    by_hand.put(config_cfg=CONFIG, models_config=MODELS, start_sh=start)
    assert [line for line in by_hand.left_out() if "cpu.cpus" in line]


@pytest.mark.parametrize("policy", ["model_version_policy: ALL_VERSIONS", "model_version_policy { al {} }"])
def test_a_version_policy_that_is_a_word_is_refused_at_its_place_and_not_taken_for_the_latest(
    tmp_path: Path, policy: str
) -> None:
    listed = f'model_config_list {{\n config {{ name: "m" base_path: "/m"\n  {policy} }}\n}}\n'
    (tmp_path / "models.config").write_text(listed)
    with pytest.raises(RequestError, match=r"models\.config:3:\d+: .*: write model_version_policy \{ ") as caught:
        take_over_deployment(found_in(tmp_path), tmp_path / "d.yaml")
    assert "models.config, then run the same command again" in caught.value.cure
    assert not (tmp_path / "d.yaml").exists()
