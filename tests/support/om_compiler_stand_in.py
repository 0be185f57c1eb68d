"""What CANN's atc and aoe do of a TensorFlow graph, as far as their references say: options checked, codes, an om.

Run as `python om_compiler_stand_in.py NAME OPTION…`. The om has the header, the table and the graph of a real one; in
place of weights and kernels stands the frozen graph, and in place of tasks the names of its inputs and outputs, so that
what loads an om in a test can compute it. OM_STAND_IN says what it does wrong: exit (fails, with what OM_STAND_IN_SAYS
has), killed, no-om, empty, cut, hang, reordered (inputs the other way round), float16 (all outputs).
"""

# ruff: noqa: E501  # messages, as the compilers print them

from __future__ import annotations

import os
import re
import signal
import struct
import sys
import time
from pathlib import Path

from npu_serving.wire_bytes import (
    BYTES,
    VARINT,
    bytes_field,
    entry_field,
    fields,
    number_field,
    signed,
    tag,
    text_field,
)

ATC_ONLY = {"soc_version", "mode", "check_report", "insert_op_conf", "precision_mode", "precision_mode_v2", "log"}
AOE_ONLY = {"job_type", "device", "progress_bar", "tune_ops_file", "insert_op_conf", "precision_mode", "log"}
BOTH = {
    *("model", "framework", "output", "input_shape", "input_format", "out_nodes", "output_type", "input_fp16_nodes"),
    *(
        "dynamic_batch_size",
        "dynamic_image_size",
        "dynamic_dims",
        "op_precision_mode",
        "op_select_implmode",
        "keep_dtype",
    ),
    *("input_shape_range", "virtual_type", "op_debug_level", "fusion_switch_file"),
}
SOC_VERSIONS = ("Ascend310P3", "Ascend910A", "Ascend910B4", "Ascend910_9392")
PRECISION_MODES = ("force_fp16", "force_fp32", "allow_fp32_to_fp16", "must_keep_origin_dtype", "allow_mix_precision")
OUTPUT_TYPES = {"FP32": 1, "FP16": 2, "UINT8": 4, "INT8": 3}
TF_TO_GE = {1: 1, 19: 2, 6: 3, 4: 4, 5: 5, 17: 6, 3: 7, 9: 8, 10: 11, 2: 12}
INPUT_TYPES = {1, 19, 4, 3, 9, 10}
GEARS = ("dynamic_batch_size", "dynamic_image_size", "dynamic_dims")
STATUS_FAILED = 255


Nodes = dict[str, "tuple[str, list[str], dict[str, bytes]]"]
"""Operator, inputs and attributes, by name."""


class Refused(Exception):
    """An option or a model that the compiler refuses: its code, and the sentence that it prints."""


def refuse(code: str, text: str) -> Refused:
    return Refused(f"{code}: [PID: {os.getpid()}] 2026-01-01-00:00:00.000.000 {text}")


def main(name: str, arguments: list[str]) -> int:
    print(f"{name.upper()} start working now, please wait for a moment.", flush=True)
    wrong = os.environ.get("OM_STAND_IN", "")
    try:
        options = parsed(name, arguments)
        graph, nodes = checked_model(options)
        inputs = checked_inputs(options, nodes)
        outputs = checked_outputs(options, nodes)
        Path("fusion_result.json").write_text("[]")
        misbehave(wrong)
    except Refused as refused:
        print(f"{name.upper()} run failed, Please check the detail log, Try '{name} --help' for more information")
        print(refused, flush=True)
        return STATUS_FAILED
    if wrong != "no-om":
        content = om(graph, inputs[::-1] if wrong == "reordered" else inputs, outputs, half=wrong == "float16")
        content = b"" if wrong == "empty" else content[: len(content) // 2] if wrong == "cut" else content
        Path(f"{options['output']}.om").write_bytes(content)
    print("ATC run success, welcome to the next use." if name == "atc" else "Aoe process finished", flush=True)
    return 0


def misbehave(wrong: str) -> None:
    if wrong == "exit":
        raise Refused(os.environ.get("OM_STAND_IN_SAYS", "E19999: Inner Error!"))
    if wrong == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if wrong == "hang":
        Path("begun").write_text("")
        time.sleep(600)


def parsed(name: str, arguments: list[str]) -> dict[str, str]:
    options: dict[str, str] = {}
    words = iter(arguments)
    for word in words:
        key, equals, value = word.lstrip("-").partition("=")
        key = key.replace("-", "_")
        if key not in BOTH | (ATC_ONLY if name == "atc" else AOE_ONLY):
            raise refuse("E10001", f"Value [{word}] for parameter [{key}] is invalid. Reason: unrecognized option.")
        options[key] = value if equals else next(words, "")
    if options.get("framework") != "3":
        raise refuse(
            "E10007",
            "[--framework] is required. The value must be [0(Caffe) or 1(MindSpore) or 3(TensorFlow) or 5(Onnx)].",
        )
    for needed in ("model", "output", "soc_version" if name == "atc" else "job_type"):
        if not options.get(needed):
            raise refuse("E10054", f"The requied parameter [--{needed}] for ATC is empty.")
    if name == "atc" and options["soc_version"] not in SOC_VERSIONS:
        raise refuse(
            "E10001",
            f"Value [{options['soc_version']}] for parameter [--soc_version] is invalid. Reason: The value is not supported.",
        )
    if name == "aoe" and options["job_type"] not in ("1", "2"):
        raise refuse(
            "E10001", f"Value [{options['job_type']}] for parameter [--job_type] is invalid. Reason: It is 1 or 2."
        )
    if options.get("precision_mode", "force_fp16") not in PRECISION_MODES:
        raise refuse(
            "E10001",
            f"Value [{options['precision_mode']}] for parameter [--precision_mode] is invalid. Reason: The current value is not within the valid range.",
        )
    if sum(option in options for option in (*GEARS, "input_shape_range")) > 1:
        raise refuse(
            "E10009",
            "[--dynamic_batch_size], [--dynamic_image_size], [--input_shape_range], and [--dynamic_dims] are mutually exclusive.",
        )
    return options


def checked_model(options: dict[str, str]) -> tuple[bytes, Nodes]:
    path = Path(options["model"])
    if not path.is_file():
        raise refuse("E13004", f"File [{path}] for parameter [--model] does not exist.")
    graph = path.read_bytes()
    nodes: Nodes = {}
    for key, _, node in fields(memoryview(graph)):
        if key != tag(1, BYTES):
            continue
        name, op, inputs, attributes = "", "", [], {}
        for inner, _, content in fields(node):
            if inner == tag(1, BYTES):
                name = str(content, "utf-8")
            elif inner == tag(2, BYTES):
                op = str(content, "utf-8")
            elif inner == tag(3, BYTES):
                inputs.append(str(content, "utf-8"))
            elif inner == tag(5, BYTES):
                pair = {number: bytes(value) for number, _, value in fields(content)}
                attributes[pair[tag(1, BYTES)].decode()] = pair.get(tag(2, BYTES), b"")
        nodes[name] = (op, inputs, attributes)
        if op in ("VariableV2", "VarHandleOp", "DecodeJpeg", "ParseExample"):
            raise refuse("E19010", f"No parser is registered for Op [{name}, optype [{op}]].")
    if (
        any(key == tag(2, BYTES) for key, _, _ in fields(memoryview(graph)))
        and not Path("graph_def_library.pbtxt").exists()
    ):
        raise refuse(
            "E19014",
            "Need to use the script func2graph.py in the atc package to save the subgraphs to graph_def_library.pbtxt.",
        )
    for name, (_, inputs, _) in nodes.items():
        for each in inputs:
            if each.lstrip("^").partition(":")[0] not in nodes:
                raise refuse("E12013", f"Failed to find input node [{each}] of Op [{name}].")
    return graph, nodes


def checked_inputs(options: dict[str, str], nodes: Nodes) -> list[tuple[str, int, list[int]]]:
    given: dict[str, list[int]] = {}
    for entry in options.get("input_shape", "").split(";") if options.get("input_shape") else []:
        name, colon, sizes = entry.rpartition(":")
        if not colon or not re.fullmatch(r"(-?\d+)(,-?\d+)*", sizes):
            raise refuse(
                "E10002",
                f"Value [{entry}] for parameter [--input_shape] is invalid. Reason: it can't be split. The value must be formatted as input_name1:n1,c1,h1,w1.",
            )
        if name not in nodes:
            raise refuse("E10016", f"Opname [{name}] specified in [input_shape] is not found in the model.")
        if nodes[name][0] != "Placeholder":
            raise refuse(
                "E10017", f"Input Op [{name}] specified in [--input_shape] is invalid. The Op type must be Data."
            )
        given[name] = [int(size) for size in sizes.split(",")]
        if any(size < 0 for size in given[name]) and not any(option in options for option in GEARS):
            raise refuse(
                "E10011",
                f"Value [{entry}] for parameter [--input_shape] is invalid. Shape values must be positive integers.",
            )
    check_gears(options, given)
    half = options.get("input_fp16_nodes", "").split(";") if options.get("input_fp16_nodes") else []
    for name in half:
        if name not in nodes:
            raise refuse("E10016", f"Opname [{name}] specified in [input_fp16_nodes] is not found in the model.")
    inputs = []
    for name, (op, _, attributes) in nodes.items():
        if op != "Placeholder":
            continue
        data_type = number_in(attributes["dtype"], tag(6, VARINT))
        if data_type not in INPUT_TYPES:
            raise refuse("E11017", f"Data type [{data_type}] of input [{name}] is not supported.")
        shape = given.get(name, shape_of(attributes.get("shape", b"")))
        if any(size < 0 for size in shape) and not any(option in options for option in (*GEARS, "input_shape_range")):
            raise refuse(
                "E10001",
                "Value [NULL] for parameter [--input_shape] is invalid. Reason: The shapes of inputs contain -1 in the model.",
            )
        inputs.append((name, 2 if name in half else TF_TO_GE[data_type], shape))
    order = list(given)  # the graph engine takes the inputs in the order of --input_shape
    return sorted(inputs, key=lambda each: order.index(each[0]) if each[0] in order else len(order))


def check_gears(options: dict[str, str], given: dict[str, list[int]]) -> None:
    option = next((option for option in GEARS if option in options), "")
    if not option:
        return
    if not given:
        raise refuse("E10004", "Value for [--input_shape] is empty.")
    rows = options[option].split("," if option == "dynamic_batch_size" else ";")
    if len(rows) < 2:
        raise refuse("E10035", f"[--{option}] has [{len(rows)}] profiles, which is less than the minimum [2].")
    if len(rows) > 100:
        raise refuse("E10036", f"[--{option}] has [{len(rows)}] profiles, which is greater than the maximum [100].")
    places = {name: [at for at, size in enumerate(shape) if size < 0] for name, shape in given.items()}
    moving = {name: where for name, where in places.items() if where}
    if not moving:
        raise refuse(
            "E10031",
            f"[--{option}] is included, but none of the nodes specified in [--input_shape] has a batch size equaling -1.",
        )
    if option == "dynamic_batch_size" and any(where != [0] for where in moving.values()):
        raise refuse(
            "E10018", "When [--dynamic_batch_size] is included, only batch size N can be -1 in [--input_shape]."
        )
    if option == "dynamic_image_size" and any(where not in ([1, 2], [2, 3]) for where in moving.values()):
        raise refuse(
            "E10019",
            "When [--dynamic_image_size] is included, only the height and width axes can be -1 in [--input_shape].",
        )
    if option == "dynamic_dims":
        if options.get("input_format") != "ND":
            raise refuse(
                "E10003", "Value for parameter [--input_format] is invalid: it must be ND with [--dynamic_dims]."
            )
        if any(len(row.split(",")) != sum(map(len, moving.values())) for row in rows):
            raise refuse(
                "E10003",
                "Value for parameter [--dynamic_dims] is invalid. Reason: Each setting needs to be consistent with the number of -1 in the input shape.",
            )


def checked_outputs(options: dict[str, str], nodes: Nodes) -> list[tuple[str, int]]:
    outputs = []
    for entry in options["out_nodes"].split(";"):
        name, _, index = entry.rpartition(":")
        if not name or not index.isdigit():
            raise refuse(
                "E10001",
                f"Value [{entry}] for parameter [--out_nodes] is invalid. Reason: The parameter format is invalid.",
            )
        if name not in nodes:
            raise refuse("E10016", f"Opname [{name}] specified in [out_nodes] is not found in the model.")
        attributes = nodes[name][2]
        kind = next((attributes[each] for each in ("output_type", "DstT", "dtype", "T") if each in attributes), b"")
        outputs.append((entry, TF_TO_GE.get(number_in(kind, tag(6, VARINT)), 0)))
    wanted = options.get("output_type", "")
    if wanted and ":" not in wanted:
        check_output_type(wanted)
        return [(entry, OUTPUT_TYPES[wanted]) for entry, _ in outputs]
    named = dict(outputs)
    for row in wanted.split(";") if wanted else []:
        tensor, _, data_type = row.rpartition(":")
        check_output_type(data_type)
        if tensor not in named:
            raise refuse(
                "E10001",
                f"Value [{tensor}] for parameter [--output_type] is invalid. Reason: it is not in --out_nodes.",
            )
        named[tensor] = OUTPUT_TYPES[data_type]
    return list(named.items())


def check_output_type(text: str) -> None:
    if text not in OUTPUT_TYPES:
        raise refuse(
            "E10001",
            f"Value [{text}] for parameter [--output_type] is invalid. Reason: only FP32, FP16, UINT8, INT8 are supported.",
        )


def number_in(value: bytes, key: int) -> int:
    return next((number for found, number, _ in fields(memoryview(value)) if found == key), 0)


def shape_of(value: bytes) -> list[int]:
    shape = next((content for key, _, content in fields(memoryview(value)) if key == tag(7, BYTES)), memoryview(b""))
    return [
        next((signed(number) for inner, number, _ in fields(size) if inner == tag(1, VARINT)), 0)
        for key, _, size in fields(shape)
        if key == tag(2, BYTES)
    ]


def om(graph: bytes, inputs: list[tuple[str, int, list[int]]], outputs: list[tuple[str, int]], *, half: bool) -> bytes:
    operators = b""
    for index, (name, data_type, shape) in enumerate(inputs):
        described = described_tensor(data_type, shape)
        operators += bytes_field(
            6,
            text_field(1, name)
            + text_field(2, "Data")
            + entry_field(10, "index", number_field(3, index))
            + bytes_field(33, described)
            + bytes_field(34, described),
        )
    described_outputs = b"".join(bytes_field(33, described_tensor(2 if half else kind, [])) for _, kind in outputs)
    operators += bytes_field(6, text_field(1, "Node_Output") + text_field(2, "NetOutput") + described_outputs)
    model = text_field(1, "model") + bytes_field(7, text_field(1, "graph") + operators)
    names = "".join(f"in {name}\n" for name, _, _ in inputs) + "".join(f"out {name}\n" for name, _ in outputs)
    partitions = [(0, model), (1, graph), (2, names.encode()), (3, b"\0" * 16), (4, b"\0" * 16)]
    table, offset = struct.pack("<I", len(partitions)), 0
    for kind, content in partitions:
        table += struct.pack("<III", kind, offset, len(content))
        offset += len(content)
    body = table + b"".join(content for _, content in partitions)
    header = bytearray(256)
    header[:4] = b"IMOD"
    struct.pack_into("<II", header, 4, 256, 0x20000000)
    struct.pack_into("<I", header, 76, len(body))
    return bytes(header) + body


def described_tensor(data_type: int, shape: list[int]) -> bytes:
    sizes = b"".join(number_field(1, size) for size in shape)
    return number_field(2, data_type) + bytes_field(3, sizes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
