"""The published schema: what an editor completes and refuses is what the reader does."""

from __future__ import annotations

import json

import jsonschema
import pytest
import yaml

from npu_serving.deploy.deployment_file import SCHEMA
from npu_serving.deploy.deployment_schema import schema_is_current, schema_text
from npu_serving.settings import PROJECT_ROOT

WHOLE = """\
version: 1
models:
  - {name: a, base_path: /a, versions: {latest: 2}, labels: {x: 1}, npu: {mix_compile_mode: true}}
  - {name: b, base_path: s3://b, versions: [1], npu: false, batching: false}
  - {name: c, base_path: /c, versions: all}
server: {port: 1, rest_api_port: 0, grpc_channel_arguments: {a: 1, b: c}, tls: {server_key: /k, server_cert: /c}}
npu: {}
environment: {A: b, C: 1}
cpu: {omp_threads: 2}
cann: /usr/local/Ascend
"""


def validator() -> jsonschema.Draft202012Validator:
    schema = json.loads(schema_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_schema_in_the_documentation_is_that_of_the_types() -> None:
    assert schema_is_current()
    assert json.loads((PROJECT_ROOT / SCHEMA).read_text()) == json.loads(schema_text())


def test_the_schema_takes_a_whole_deployment_and_describes_each_key() -> None:
    assert validator().is_valid(yaml.safe_load(WHOLE))
    for name, definition in json.loads(schema_text())["$defs"].items():
        undescribed = [key for key, value in definition["properties"].items() if not value.get("description")]
        assert undescribed == [], name


@pytest.mark.parametrize(
    "slip", ["version: 2", "models: []", "modles: []", "server: {prt: 1}", "server: {port: '1'}", "npu: {x: [1]}"]
)
def test_the_schema_refuses_a_slip(slip: str) -> None:
    key = slip.partition(":")[0]
    text = "\n".join(line for line in WHOLE.split("\n") if not line.startswith(key))
    document = {**yaml.safe_load(WHOLE if key in ("models",) else text), **yaml.safe_load(slip)}
    assert not validator().is_valid(document)
