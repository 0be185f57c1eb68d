"""What marks nodes of a graph: the arguments are refused where the real functions refuse them."""

# mypy: ignore-errors

from tensorflow.core.framework import attr_value_pb2
from tensorflow.python.framework import ops


def mark(operation, **values):
    for name, value in values.items():
        kind = {bool: "b", int: "i"}.get(type(value), "s")
        value = value.encode() if kind == "s" else value
        operation._set_attr(name, attr_value_pb2.AttrValue(**{kind: value}))


def operation_of(fetch):
    return fetch if isinstance(fetch, ops.Operation) else fetch.op


def keep_tensors_dtypes(graph, input_tensors):
    if not isinstance(graph, ops.Graph):
        raise ValueError("graph param must be ops.Graph class.")  # noqa: TRY004 - as the real one
    if not isinstance(input_tensors, (tuple, list)):
        raise ValueError("input_tensors must be list or tuple.")  # noqa: TRY004 - as the real one
    for name in input_tensors:
        mark(graph.get_tensor_by_name(name).op, _keep_dtype=1)


def set_op_input_tensor_multi_dims(tensor, input_shape, input_dims):
    mark(
        operation_of(tensor),
        _subgraph_multi_dims_input_shape=input_shape,
        _subgraph_multi_dims_input_dims=input_dims,
    )


def set_graph_exec_config(
    fetch,
    dynamic_input=False,
    dynamic_graph_execute_mode="dynamic_execute",
    dynamic_inputs_shape_range=None,
    is_train_graph=False,
    experimental_config=None,
):
    more = (dynamic_input, dynamic_graph_execute_mode, dynamic_inputs_shape_range, is_train_graph, experimental_config)
    if dynamic_graph_execute_mode not in ("lazy_recompile", "dynamic_execute"):
        raise ValueError("dynamic_graph_execute_mode should be lazy_recompile or dynamic_execute")
    if experimental_config is not None:
        raise ValueError("experimental_config type must be ExperimentalConfig")
    if isinstance(fetch, (tuple, list)):
        for each in fetch:
            set_graph_exec_config(each, *more)
    elif isinstance(fetch, str):
        return set_graph_exec_config(ops.get_default_graph().get_tensor_by_name(fetch), *more)
    elif isinstance(fetch, (ops.Operation, ops.Tensor)):
        mark(
            operation_of(fetch),
            _graph_dynamic_input=dynamic_input,
            _graph_dynamic_graph_execute_mode=dynamic_graph_execute_mode,
            _graph_dynamic_inputs_shape_range=dynamic_inputs_shape_range or "",
            _is_train_graph=is_train_graph,
        )
    else:
        raise ValueError("fetch is invalid, should be op, tensor, list, tuple or tensor name.")  # noqa: TRY004 - likewise
    return fetch
