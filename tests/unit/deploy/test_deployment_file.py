"""deployment.yaml: every mistake at once with its place, and what only its parts together show."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from npu_serving.deploy.deployment_file import DeploymentFile, read_deployment
from npu_serving.deploy.deployment_sections import LatestVersions
from npu_serving.errors import DocumentError, NpuServingError, RequestError

SIZES = "server.batching.allowed_batch_sizes"
LEAST = "version: 1\nmodels:\n  - {name: resnet, base_path: /models/resnet}\n"


class Deployments:
    """Reads texts as deployment files."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "d.yaml"

    def read(self, text: str | bytes, *values: str, overlays: Sequence[Path] = ()) -> DeploymentFile:
        self.file.write_bytes(text.encode() if isinstance(text, str) else text)
        return read_deployment(self.file, overlays, values)

    def mistakes(self, text: str | bytes, *values: str) -> list[str]:
        with pytest.raises(DocumentError) as caught:
            self.read(text, *values)
        return caught.value.what.replace(f"{self.file}:", "").split("\n")


@pytest.fixture
def deployments(tmp_path: Path) -> Deployments:
    return Deployments(tmp_path)


def test_the_value_of_a_variable_that_is_refused_is_not_shown(deployments: Deployments) -> None:
    (found,) = deployments.mistakes(LEAST + 'environment: {MY_TOKEN: " hunter2"}\n')[:1]
    assert "environment.MY_TOKEN: The value of this variable can't be written" in found
    assert "begins or ends with a blank" in found
    assert "hunter2" not in found


def test_a_model_with_name_and_path_is_enough_and_is_served_by_the_cpu(deployments: Deployments) -> None:
    made = deployments.read(LEAST)
    assert (made.models[0].name, made.models[0].versions) == ("resnet", LatestVersions(1))
    assert (made.server.port, made.server.rest_api_port, made.server.max_num_load_retries) == (8500, 8501, 0)
    assert not made.uses_npu()
    assert deployments.read(LEAST + "npu: {}\n").uses_npu()


def test_versions_are_all_a_list_or_the_latest(deployments: Deployments) -> None:
    def versions(text: str) -> object:
        return deployments.read(LEAST, f"models.0.versions={text}").models[0].versions

    assert (versions("all"), versions("[3, 5]"), versions("{latest: 2}")) == ("all", (3, 5), LatestVersions(2))


def test_all_mistakes_are_reported_at_once_with_line_and_column_and_the_nearest_key(deployments: Deployments) -> None:
    text = """\
version: 2
models:
  - name: a b
    base_path: models/a
    lables: {x: 1}
  - name: b
    base_path: /models/b
    versions: some
server:
  port: "8500"
  rest_api_prt: 1
  max_num_load_retries: -1
npu: {precision mode: fp16, x: 1.5}
environment: {A-B: 1, C: "a\\nb"}
"""
    found = deployments.mistakes(text)
    assert [line.split(" ")[0] for line in found] == [
        "1:10:", "3:11:", "4:16:", "5:5:", "8:15:", "10:9:", "11:3:", "12:25:", "13:7:", "13:32:", "14:15:", "14:26:",
    ]  # fmt: skip
    assert "did you mean labels?" in found[3]
    assert "did you mean rest_api_port?" in found[6]
    assert "leave out the quotes" in found[5]


@pytest.mark.parametrize(
    ("value", "path", "said"),
    [
        ("server.rest_api_port=8500", "server.rest_api_port", "would start without its REST API"),
        ("server={rest_api_port: 0, monitoring: {}}", "server.monitoring", "rest_api_port is 0"),
        ("server.monitoring={path: metrics}", "server.monitoring.path", "begins with /"),
        ("server.monitoring={path: /a b}", "server.monitoring.path", "begins with /"),
        ("server.file_system_poll_wait_seconds=-1", "server.file_system_poll_wait_seconds", "0 to"),
        ("server.grpc_channel_arguments={grpc.x: 'a,b=c'}", "server.grpc_channel_arguments.grpc.x", "without commas"),
        ("server.grpc_channel_arguments={'a=b': 1}", "server.grpc_channel_arguments['a=b']", "without commas"),
        ("server.grpc_channel_arguments={a: true}", "server.grpc_channel_arguments.a", "a whole number"),
        ("server.grpc_channel_arguments={a: ''}", "server.grpc_channel_arguments.a", "without commas"),
        ("server.grpc_socket_path=serving.sock", "server.grpc_socket_path", "an absolute path"),
        (
            "server={file_system_poll_wait_seconds: 0, model_config_file_poll_wait_seconds: 5}",
            "server.file_system_poll_wait_seconds",
            "would never be loaded",
        ),
        ("server.tls={server_key: /k}", "server.tls.server_cert", "is missing"),
        ("server.tls={server_key: k, server_cert: /c}", "server.tls.server_key", "an absolute path"),
        ("server.tls={server_key: /k, server_cert: /c, client_verify: true}", "server.tls.client_verify", "custom_ca"),
        ("server.batching={max_batch_size: 8, allowed_batch_sizes: [4]}", SIZES, "is 8"),
        ("server.batching={allowed_batch_sizes: [4, 8]}", SIZES, "1000, its default"),
        ("server.batching={max_batch_size: 4, allowed_batch_sizes: [4, 4]}", SIZES, "rise"),
        ("server.batching={max_batch_size: 0}", "server.batching.max_batch_size", "1 to"),
        ("server={warm_up: false, warm_up_iterations: 3}", "server.warm_up_iterations", "no effect"),
        ("server.saved_model_tags=[]", "server.saved_model_tags", "1 item"),
        ('server.user="a\\nb"', "server.user", "control characters"),
        ("models.0.labels={stable: 1, canary: 2}", "models[0].labels", "only the latest 1"),
        ("models.0={labels: {stable: 3}, versions: [1, 2]}", "models[0].labels.stable", "only the versions 1, 2"),
        ("models.0.versions=LATEST", "models[0].versions", "all, latest: N, or a list of versions such as [3, 4], not"),
        ("models.0.versions=[1, 1]", "models[0].versions[1]", "is there twice"),
        ("models.0.versions=[]", "models[0].versions", "1 item"),
        ("models.0.versions={latest: 0}", "models[0].versions.latest", "1 to"),
        ("models.0.labels={'': 1}", "models[0].labels['']", "a text without control characters"),
        ("models.0.npu=true", "models[0].npu", "must be false"),
        ("models.0.base_path=''", "models[0].base_path", "an absolute path"),
        ("models.0.base_path=\"/a\\0b\"", "models[0].base_path", "NUL"),
        ("npu={use_off_line: false}", "npu.use_off_line", "can't be False"),
        ("npu={graph_run_mode: 1}", "npu.graph_run_mode", "can't be 1"),
        ("npu={precision_mode: force_fp16, precision_mode_v2: fp16}", "npu", "cannot be combined"),
        ("npu={a b: 1}", "npu['a b']", "the name of a session option"),
        ("npu={a: 9223372036854775808}", "npu.a", "9223372036854775807"),
        ("npu={a: [1]}", "npu.a", "must be"),
        ("environment={RANK_ID: 1}", "environment.RANK_ID", "a cluster for training"),
        ("environment={POD_NAME: x}", "environment.POD_NAME", "does not read it"),
        ("environment={A: true}", "environment.A", "must be"),
        ("environment={1A: x}", "environment.1A", "the name of an environment variable"),
        ("cpu.allocator=libjemalloc.so", "cpu.allocator", "an absolute path"),
        ("cpu.allocator='/a b'", "cpu.allocator", "without blanks"),
        ("cpu.omp_threads=0", "cpu.omp_threads", "1 to"),
        ("cann=Ascend", "cann", "an absolute path"),
    ],
)  # fmt: skip
def test_what_would_go_wrong_later_is_a_mistake_in_the_file(
    deployments: Deployments, value: str, path: str, said: str
) -> None:
    key, _, text = value.partition("=")
    found = deployments.mistakes(LEAST, f"{key}={text}")
    assert len(found) == 1
    within = "" if path == key else f"{path}: "  # what --set names itself is not said twice
    assert found[0].startswith(f"--set {key}: {within}"), found
    assert found[0].count(path) == 1, found
    assert said in found[0]


def test_a_variable_that_cpu_sets_as_well_is_set_once(deployments: Deployments) -> None:
    text = LEAST + "cpu: {omp_threads: 4, allocator: /l.so}\nenvironment: {OMP_NUM_THREADS: 8, LD_PRELOAD: /m.so}\n"
    found = deployments.mistakes(text)
    assert [line.split(" ", 2)[1:] for line in found] == [
        ["environment.OMP_NUM_THREADS:", "is set by cpu.omp_threads as well: keep one of the two."],
        ["environment.LD_PRELOAD:", "is set by cpu.allocator as well: keep one of the two."],
    ]


def test_a_model_that_is_there_twice_is_named(deployments: Deployments) -> None:
    assert deployments.mistakes(LEAST + "  - {name: resnet, base_path: /b}\n") == [
        "4:12: models[1].name: resnet is there twice."
    ]


@pytest.mark.parametrize("name", ['a"b', "a\nb", "a{b", "..", "a\0b", "a/b", "a b", "", "a:b", "é"])
def test_a_name_that_no_rest_client_could_ask_for_is_refused(deployments: Deployments, name: str) -> None:
    if "\0" in name:
        found = deployments.mistakes('version: 1\nmodels: [{name: "a\\0b", base_path: /m}]\n')
    else:
        import json

        found = deployments.mistakes(f"version: 1\nmodels: [{{name: {json.dumps(name)}, base_path: /m}}]\n")
    assert len(found) == 1
    assert "is not a valid model name" in found[0]


@pytest.mark.parametrize("name", ["%", "$x", "-leading", "a.b", "~a"])
def test_a_name_that_only_looks_odd_is_taken(deployments: Deployments, name: str) -> None:
    if name == "%":
        assert deployments.mistakes(LEAST, "models.0.name='%'")
    else:
        assert deployments.read(LEAST, f"models.0.name={name}").models[0].name == name


def test_the_places_of_models_elsewhere_are_left_as_they_are(deployments: Deployments) -> None:
    for place in ("s3://bucket/a b", "gs://x", "hdfs://n:1/m", "/with 'quotes'\n{and} more"):
        made = deployments.read(
            LEAST.replace("/models/resnet", "/x"), f"models.0.base_path={place!r}".replace("\\n", "n")
        )
        assert made.models[0].base_path == place.replace("\n", "\\n").replace("\\n", "n") or "\n" in place


def test_another_site_is_a_second_file_whose_models_are_merged_by_name(
    deployments: Deployments, tmp_path: Path
) -> None:
    site = tmp_path / "site.yaml"
    site.write_text(
        "models:\n  - {name: resnet, base_path: /site/resnet}\n  - {name: bert, base_path: /site/bert}\nnpu: null\n"
    )
    made = deployments.read(LEAST + "npu: {}\n", overlays=[site])
    assert [(model.name, model.base_path) for model in made.models] == [
        ("resnet", "/site/resnet"),
        ("bert", "/site/bert"),
    ]
    assert made.npu is None


def test_a_model_may_have_options_over_those_of_the_deployment_or_none(deployments: Deployments) -> None:
    made = deployments.read(
        LEAST + "  - {name: b, base_path: /b, npu: {x: 2}}\n  - {name: c, base_path: /c, npu: false}\n"
        "npu: {x: 1, z: a, debug_dir: /w}\n"
    )
    first, second, third = (made.npu_of(model) for model in made.models)
    assert first == {"x": 1, "z": "a", "debug_dir": "/w"}
    assert second == {"x": 2, "z": "a", "debug_dir": "/w"}
    assert third is None


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"version: 1\nmodels: &m [{name: a, base_path: /a}]\nserver: *m\n", "must be keys with values"),
        (b"version: !!int 1\nmodels: [{name: a, base_path: /a}]\n", "tags are not read"),
        (b"version: 1\nversion: 1\nmodels: [{name: a, base_path: /a}]\n", "is there twice"),
        (b"version: 1\nmodels:\n\t- name: a\n", "never with tabs"),
        (b"version: 1\n---\nversion: 1\n", "a second document"),
        (b"\xff\xfe", "not UTF-8"),
        (b"", "models: is missing"),
        (b"[]", "must be keys with values"),
        (b"version: true\nmodels: [{name: a, base_path: /a}]\n", "must be 1, not true"),
        (b"version: '1'\nmodels: [{name: a, base_path: /a}]\n", "must be 1"),
    ],
)  # fmt: skip
def test_yaml_that_is_not_meant_for_this_is_refused_with_its_place(
    deployments: Deployments, data: bytes, said: str
) -> None:
    found = "\n".join(deployments.mistakes(data))
    assert said in found
    assert found[0].isdigit()


def test_line_ends_and_a_mark_of_other_systems_change_nothing(deployments: Deployments) -> None:
    assert deployments.read(b"\xef\xbb\xbf" + LEAST.replace("\n", "\r\n").encode()) == deployments.read(LEAST)


def test_a_file_of_ten_megabytes_is_answered_in_one_go(deployments: Deployments) -> None:
    many = "".join(f"  - {{name: m{number}, base_path: models/{'x' * 60}}}\n" for number in range(100_000))
    found = deployments.mistakes(f"version: 1\nmodels:\n{many}")
    assert found[-1].endswith("and 99900 more mistakes.")


@given(value=some.recursive(
    some.none() | some.booleans() | some.integers() | some.text(max_size=4),
    lambda inner: some.lists(inner, max_size=2) | some.dictionaries(
        some.sampled_from(["name", "models", "server", "npu", "port", "x", "batching", "labels"]), inner, max_size=3
    ),
    max_leaves=8,
))  # fmt: skip
@settings(max_examples=100)
def test_whatever_stands_in_a_file_is_a_deployment_or_refused(
    tmp_path_factory: pytest.TempPathFactory, value: object
) -> None:
    import json

    file = tmp_path_factory.mktemp("any") / "d.json"
    file.write_text(json.dumps({"version": 1, "models": value, "server": value, "npu": value}))
    with pytest.raises(NpuServingError) as caught:
        read_deployment(file)
    assert isinstance(caught.value, (DocumentError, RequestError))


def test_a_deployment_without_a_model_is_refused(deployments: Deployments) -> None:
    assert deployments.mistakes("version: 1\nmodels: []\n") == ["2:9: models: must have 1 item or more."]
