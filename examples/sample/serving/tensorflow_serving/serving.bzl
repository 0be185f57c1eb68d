"""What several packages of the tree have in common."""

load("@bazel_skylib//lib:collections.bzl", "collections")

_TENSORFLOW_DEPS = [
    "@org_tensorflow//tensorflow/core:framework",
    "@org_tensorflow//tensorflow/core:lib",
]

def with_tensorflow(deps):
    """The given dependencies and those on TensorFlow, each once."""
    return collections.uniq(deps + _TENSORFLOW_DEPS)
