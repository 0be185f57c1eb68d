"""The library in a process that has other things, or nothing else: what it loads, and what it lives beside."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from grpc_server import ModelServer, serving

import npu_serving.client

ROOT = Path(__file__).parents[3]
ASK = """
from npu_serving.client import GrpcClient
with GrpcClient(sys.argv[1]) as client:
    print(client.predict("m", {"x": [[1.0, 2.0]]})["y"].tolist())
"""
NAMED_ALIKE = """
import sys
sys.path.insert(0, "tests/support")
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
for package, name in (("tensorflow", "TensorProto"), ("tensorflow.serving", "PredictRequest")):
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}/{name}.proto", package=package)
    file.message_type.add(name=name).field.add(name="other", number=1, type=9, label=1)
    descriptor_pool.Default().Add(file)
    kind = message_factory.GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(f"{package}.{name}"))
    assert kind(other="x").SerializeToString() == b"\\n\\x01x"
"""


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    with serving() as found:
        yield found


def ran(code: str, *words: str) -> str:
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_it_imports_neither_numpy_nor_grpc_nor_anything_of_theirs() -> None:
    heavy = "{'numpy', 'grpc', 'google', 'ssl', 'asyncio'}"
    assert ran(f"import sys, npu_serving.client; print(sorted(set(sys.modules) & {heavy}))") == "[]"


def test_it_lives_beside_messages_of_the_same_names(server: ModelServer) -> None:
    """A real TensorFlow, and tensorflow-serving-api, register theirs in protobuf's own pool."""
    assert ran(NAMED_ALIKE + ASK, server.url) == "[[2.0, 4.0]]"


def test_it_needs_no_protobuf_at_all(server: ModelServer) -> None:
    assert (
        ran("import sys\nsys.modules['google'] = sys.modules['google.protobuf'] = None" + ASK, server.url)
        == "[[2.0, 4.0]]"
    )


def test_every_public_name_is_there_and_no_other() -> None:
    for name in npu_serving.client.__all__:
        assert getattr(npu_serving.client, name) is not None
    assert set(npu_serving.client.__all__) <= set(dir(npu_serving.client))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = npu_serving.client.nothing


def test_each_kind_of_error_stands_in_the_tree_of_its_module() -> None:
    from npu_serving.client import errors

    classes = [
        item for item in vars(errors).values() if isinstance(item, type) and issubclass(item, errors.ClientError)
    ]
    drawn = errors.__doc__ or ""
    assert all(item.__name__ in drawn and item.kind in drawn for item in classes)
    kinds = {"busy", "expired", "timeout", "unreachable", "too_large_for_client", "too_large_for_gateway", "gateway"}
    assert {item.kind for item in classes} == kinds | {"refused", "unknown_model", "failed", "malformed", ""}
