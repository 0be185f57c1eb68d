"""What the stand-in does in the adapter's place: it looks at each run of a session that has NpuOptimizer."""

# mypy: ignore-errors

import re
from pathlib import Path

import tensorflow
from tensorflow.python.client import session as sessions

RUNS = []
MARKS = (
    "_keep_dtype",
    "_graph_dynamic_input",
    "_graph_dynamic_graph_execute_mode",
    "_graph_dynamic_inputs_shape_range",
)
MARKS += ("_is_train_graph", "_subgraph_multi_dims_index", "_subgraph_multi_dims_input_shape")
MARKS += ("_subgraph_multi_dims_input_dims",)
GEARS = ("input_shape", "dynamic_dims", "dynamic_node_type")
MIXED = ("allow_mix_precision", "allow_mix_precision_fp16", "allow_mix_precision_bf16")
plain_run = sessions.BaseSession.run


class Aborted(Exception):
    """In the real one LOG(FATAL) ends the process."""


def options_of(session):
    for optimizer in session._config.graph_options.rewrite_options.custom_optimizers if session._config else ():
        if optimizer.name == "NpuOptimizer":
            values = {}
            for name, value in optimizer.parameter_map.items():
                kind = value.WhichOneof("value")
                values[name] = value.s.decode() if kind == "s" else getattr(value, kind)
            return values
    return None


def marks_of(graph):
    found = {}
    for operation in graph.get_operations():
        attributes = operation.node_def.attr
        for name in MARKS:
            if name in attributes:
                kind = attributes[name].WhichOneof("value")
                value = getattr(attributes[name], kind)
                found.setdefault(name, {})[operation.name] = value.decode() if kind == "s" else value
    return found


def refused(message):
    return tensorflow.errors.InternalError(None, None, message)


def check_values(options):
    if {"precision_mode", "precision_mode_v2"} <= set(options):
        raise refused("'precision_mode' and 'precision_mode_v2' can not be assigned at the same time.")
    mixed = options.get("precision_mode") in MIXED or str(options.get("precision_mode_v2", "")).startswith("mixed_")
    if "modify_mixlist" in options and not mixed:
        raise refused("modify_mixlist is assigned, please ensure that a mixed precision is assigned.")
    if "in_out_pair" in options and not options.get("mix_compile_mode"):
        raise refused("mix_compile_mode must be True when use in_out_pair.")
    if options.get("enable_dump") and not Path(options.get("dump_path", "?")).is_dir():
        raise refused("dump_path is not a directory.")
    if options.get("graph_run_mode", 1) > 1:
        raise Aborted("graph_run_mode value must be 0 or 1")


def check_gears(options, session, feed_dict):
    there = [name for name in GEARS if name in options]
    if not there:
        return
    if len(there) < 3:
        raise Aborted("input_shape, dynamic_dims and dynamic_node_type should use together.")
    if options.get("mix_compile_mode"):
        raise Aborted("dynamic config can not use with mix compile.")
    if re.fullmatch(r"(\w+:-?\d+(,-?\d+)*;?)+", options["input_shape"]) is None:
        raise Aborted("input_shape string style is invalid")
    entries = [entry for entry in options["input_shape"].split(";") if entry]
    nexts = [each for each in session.graph.get_operations() if each.type == "IteratorGetNext"]
    if options["dynamic_node_type"] == 0:
        if len(nexts) > 1:
            raise Aborted(f"dynamic dims func can not support graph with {len(nexts)} IteratorGetNext node.")
        if len(entries) != len(nexts[0].outputs):
            raise refused("input_shape is not match inputs num in graph")
        return
    if len(entries) != len(feed_dict):
        raise refused("input_shape is not match inputs num in graph")
    shapes = [entry.partition(":")[2].split(",") for entry in entries]
    nodes = sorted((tensor.op.name.encode(), value.shape) for tensor, value in feed_dict.items())
    for gear in options["dynamic_dims"].split(";"):
        sizes = iter(gear.split(","))
        wanted = [tuple(int(next(sizes) if size == "-1" else size) for size in shape) for shape in shapes]
        if wanted == [shape for _, shape in nodes]:
            return
    raise refused("the shapes %s are those of no gear" % [shape for _, shape in nodes])


def looked_at_run(session, fetches, feed_dict=None, *more, **named):
    options = options_of(session)
    initialises = isinstance(fetches, tensorflow.Operation) or type(fetches) is str
    if options is not None and not initialises and isinstance(fetches, dict):
        check_values(options)
        check_gears(options, session, feed_dict or {})
        rewrite = session._config.graph_options.rewrite_options
        RUNS.append(
            {
                "options": options,
                "remapping": rewrite.remapping,
                "memory_optimization": rewrite.memory_optimization,
                "config": tensorflow.compat.v1.ConfigProto.SerializeToString(session._config).hex(),
                "marks": marks_of(session.graph),
                "fed": {tensor.name: list(value.shape) for tensor, value in (feed_dict or {}).items()},
                "nexts": [each.name for each in session.graph.get_operations() if each.type == "IteratorGetNext"],
            }
        )
    return plain_run(session, fetches, feed_dict, *more, **named)


sessions.BaseSession.run = looked_at_run
