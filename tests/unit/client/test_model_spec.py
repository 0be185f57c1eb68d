"""Which model is asked, held against protobuf."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from serving_messages import message_class

from npu_serving.client.model_spec import ModelSpec, read_model_spec, write_model_spec

NAMES = st.text(max_size=8)
specs = st.builds(
    lambda name, version, label, signature: ModelSpec(name, version, "" if version is not None else label, signature),
    NAMES | st.just("m" * 600),
    st.none() | st.integers(0, 2**63 - 1),
    NAMES,
    NAMES,
)


@given(specs)
def test_protobuf_reads_which_model_is_meant(spec: ModelSpec) -> None:
    written = write_model_spec(spec)
    read = message_class("tensorflow.serving.ModelSpec").FromString(written)
    version = read.version.value if read.HasField("version") else None
    assert ModelSpec(read.name, version, read.version_label, read.signature_name) == spec
    assert spec.label or read.SerializeToString(deterministic=True) == written
    assert read_model_spec(memoryview(written)) == read_model_spec(memoryview(read.SerializeToString())) == spec


def test_a_version_that_no_model_has_is_read_as_it_is() -> None:
    theirs = message_class("tensorflow.serving.ModelSpec")()
    theirs.version.value = -1
    assert read_model_spec(memoryview(theirs.SerializeToString())).version == -1
