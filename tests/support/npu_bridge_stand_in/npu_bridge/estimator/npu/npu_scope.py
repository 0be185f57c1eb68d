"""The scope of a part with gears: nodes that are made within it get an attribute."""

# mypy: ignore-errors

import contextlib

from tensorflow.core.framework import attr_value_pb2
from tensorflow.python.framework import ops


@contextlib.contextmanager
def subgraph_multi_dims_scope(index):
    value = attr_value_pb2.AttrValue(i=index)
    with ops.get_default_graph()._attr_scope({"_subgraph_multi_dims_index": value}):
        yield
