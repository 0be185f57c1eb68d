"""The shapes of a graph's tensors, as far as the graph has them: what a node states, and what its inputs make of it.

The rules are those of TensorFlow 1.15.0's shape functions for the operators that models mostly end with. Without a rule
a tensor is of unknown rank: no shape is guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Callable

from npu_serving.models.attribute_values import Extent, Shape, tensor_header
from npu_serving.models.graph_def import GraphDef, NodeDef
from npu_serving.models.small_constants import MOST_NUMBERS, WholeNumbers, whole_numbers
from npu_serving.models.tensor_types import count_of, output_runs, split_tensor
from npu_serving.wire_bytes import VARINT, MalformedMessageError, fields, tag

_UNKNOWN = -1
_SCALAR_PLACEHOLDERS_SINCE = 24  # versions.h
_MOST_NODES = 200_000  # that a shape is worked out from

_SAME = """
Identity Snapshot StopGradient PreventGradient CheckNumerics Relu Relu6 Elu Selu LeakyRelu Sigmoid Tanh Softmax
LogSoftmax Softplus Softsign Exp Expm1 Log Log1p Sqrt Rsqrt Square Abs Neg Cast Floor Ceil Round Rint Sign Sin Cos
Tan Asin Acos Atan Sinh Cosh Erf Erfc Lgamma Digamma Reciprocal Inv LogicalNot Invert ZerosLike OnesLike BiasAdd LRN
AsString ClipByValue Cumsum Cumprod IsNan IsInf IsFinite StringToNumber StringStrip RegexReplace Reverse ReverseV2
ReverseSequence FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVars QuantizeAndDequantizeV2 Print Enter Exit RefIdentity
RefEnter RefExit Bucketize StringToHashBucketFast StringToHashBucket DeepCopy EncodeBase64 DecodeBase64
InvertPermutation Real Imag Conj ComplexAbs Angle StaticRegexReplace
"""
_BROADCAST = """
Add AddV2 Sub Mul Div RealDiv FloorDiv TruncateDiv DivNoNan Maximum Minimum Pow Mod FloorMod TruncateMod
SquaredDifference Greater GreaterEqual Less LessEqual Equal NotEqual LogicalAnd LogicalOr Atan2 BitwiseAnd BitwiseOr
BitwiseXor Xdivy Xlogy MulNoNan ApproximateEqual
"""
_REDUCED = """
Mean Sum Max Min Prod All Any
"""


class TensorShapes:
    """The shapes of one graph's tensors; those of `fixed`, by NODE:NUMBER, are as they are given."""

    def __init__(self, graph: GraphDef, fixed: Mapping[str, Shape] | None = None) -> None:
        self._graph = graph
        self._fixed = fixed or {}
        self._known: dict[str, tuple[Shape, ...]] = {}
        self._changed = bool(fixed)
        self._at_work: set[str] = set()
        # In the graphs of an older producer a placeholder of shape [] is one of any shape (array_ops.cc).
        self._is_old = _producer(graph.versions) < _SCALAR_PLACEHOLDERS_SINCE

    def shape_of(self, tensor: str) -> Shape:
        """The shape of a tensor; None where its rank is not known, -1 for each size that is not."""
        name, number = split_tensor(tensor)
        self._work_out(name)
        return self._output(name, number)

    def values_of(self, tensor: str) -> WholeNumbers:
        """The elements of a small constant of whole numbers, or of what is made of shapes.

        -1 stands for each that is not known; None where not even their number is.
        """
        return self._values(tensor, 0)

    def _work_out(self, name: str) -> None:
        """Works out the shapes of a node and of what they depend on, without recursion: graphs are deep."""
        waiting = [name]
        begun: set[str] = set()
        while waiting and len(self._known) < _MOST_NODES:
            current = waiting[-1]
            node = self._graph.by_name.get(current)
            if current in self._known or node is None or current in self._at_work:
                waiting.pop()
                continue
            stated = self._stated(node)
            if stated is not None:
                self._known[current] = stated
                continue
            if current not in begun:
                begun.add(current)
                if node.op in _RULES:
                    needed = (split_tensor(each)[0] for each in node.inputs if not each.startswith("^"))
                    waiting += [each for each in needed if each not in self._known and each not in begun]
                continue
            waiting.pop()
            self._at_work.add(current)
            self._known[current] = self._by_rule(node) if len(self._at_work) < _DEEPEST else ()
            self._at_work.discard(current)

    def _output(self, name: str, number: int) -> Shape:
        fixed = self._fixed.get(f"{name}:{number}", _UNFIXED)
        if not isinstance(fixed, _Unfixed):
            return fixed
        shapes = self._known.get(name, ())
        return shapes[number] if number < len(shapes) else None

    def _stated(self, node: NodeDef) -> tuple[Shape, ...] | None:
        """The shapes that a node's attributes say; not those that an import noted, once other shapes were given."""
        if node.op in _BY_ATTRIBUTE:
            value = node.value("shape")
            found = value.value if value is not None and value.kind == "shape" else None
            return (None if found == () and self._is_old and node.op == "Placeholder" else found,)
        if node.op == "Const":
            attribute = node.attributes.get("value")
            header = tensor_header(attribute) if attribute is not None else None
            return (header.shape,) if header is not None else (None,)
        return None if self._changed else self._noted(node)

    def _noted(self, node: NodeDef) -> tuple[Shape, ...] | None:
        value = node.value("_output_shapes")
        return tuple(value.value) if value is not None and value.kind == "list(shape)" else None

    def _by_rule(self, node: NodeDef) -> tuple[Shape, ...]:
        rule = _RULES.get(node.op)
        if rule is None:
            return ()
        inputs = [each for each in node.inputs if not each.startswith("^")]
        try:
            return tuple(_sane(each) for each in rule(_Operands(self, node, inputs)))
        except (IndexError, ValueError, TypeError, MalformedMessageError):
            return ()  # inputs or attributes that the operator does not take: whoever checks the graph says so

    def _values(self, tensor: str, depth: int) -> WholeNumbers:
        name, number = split_tensor(tensor)
        node = self._graph.by_name.get(name)
        if node is None or depth > _DEEPEST or number:
            return None
        if node.op == "Const":
            attribute = node.attributes.get("value")
            return None if attribute is None or isinstance(attribute, Extent) else whole_numbers(attribute)
        inputs = [each for each in node.inputs if not each.startswith("^")]
        if node.op in ("Identity", "Cast") and inputs:
            return self._values(inputs[0], depth + 1)
        if node.op == "Shape" and inputs:
            return self.shape_of(inputs[0])
        if node.op == "Pack":
            parts = [self._values(each, depth + 1) for each in inputs]
            return tuple(part[0] if part is not None and len(part) == 1 else _UNKNOWN for part in parts)
        if node.op == "ConcatV2" and len(inputs) > 1:
            pieces = [self._values(each, depth + 1) for each in inputs[:-1]]
            return None if None in pieces else tuple(value for piece in pieces for value in piece or ())
        if node.op == "StridedSlice" and len(inputs) == 4:
            return self._sliced_values(node, inputs, depth)
        shape = self.shape_of(tensor)
        return (_UNKNOWN,) * _elements(shape) if shape is not None and 0 <= _elements(shape) <= MOST_NUMBERS else None

    def _sliced_values(self, node: NodeDef, inputs: Sequence[str], depth: int) -> WholeNumbers:
        vector, begin, end, strides = (self._values(each, depth + 1) for each in inputs)
        if vector is None or begin is None or end is None or strides is None or {len(begin), len(end)} != {1}:
            return None
        if any(_flag(node, mask) for mask in ("ellipsis_mask", "new_axis_mask")):
            return None
        if _flag(node, "shrink_axis_mask"):
            return (vector[begin[0]],) if -len(vector) <= begin[0] < len(vector) else None
        first = None if _flag(node, "begin_mask") else begin[0]
        last = None if _flag(node, "end_mask") else end[0]
        return vector[first : last : strides[0] or 1]


class _Unfixed:
    """No shape was given, which does not mean one of unknown rank."""


_UNFIXED = _Unfixed()
_DEEPEST = 50
_BY_ATTRIBUTE = ("Placeholder", "PlaceholderWithDefault", "PlaceholderV2", "VariableV2", "Variable", "ImmutableConst")


class _Operands:
    """What a rule is given: the node, the shapes of its inputs, and their values where they are small."""

    def __init__(self, shapes: TensorShapes, node: NodeDef, inputs: Sequence[str]) -> None:
        self._shapes, self.node, self._inputs = shapes, node, inputs

    def __len__(self) -> int:
        return len(self._inputs)

    def shape(self, number: int) -> Shape:
        return self._shapes._output(*split_tensor(self._inputs[number]))

    def values(self, number: int) -> WholeNumbers:
        return self._shapes.values_of(self._inputs[number])

    def node_of_input(self, number: int) -> NodeDef | None:
        return self._shapes._graph.by_name.get(split_tensor(self._inputs[number])[0])

    def number(self, attribute: str, default: int = 0) -> int:
        value = self.node.value(attribute)
        return value.value if value is not None and value.kind == "int" else default

    def numbers(self, attribute: str) -> tuple[int, ...]:
        value = self.node.value(attribute)
        return tuple(value.value) if value is not None and value.kind == "list(int)" else ()

    def flag(self, attribute: str) -> bool:
        return _flag(self.node, attribute)

    def text(self, attribute: str, default: str) -> str:
        value = self.node.value(attribute)
        return value.value.decode("ascii", "replace") if value is not None and value.kind == "string" else default

    def outputs(self) -> int:
        runs = output_runs(self.node, self._shapes._graph.functions)
        return 0 if runs is None else min(count_of(runs), 1 << 12)


Rule = Callable[[_Operands], Iterable[Shape]]


def _producer(versions: bytes) -> int:
    """The version of graphs that a VersionDef says the producer wrote."""
    return next((number for key, number, _ in fields(memoryview(versions)) if key == tag(1, VARINT)), 0)


def _flag(node: NodeDef, attribute: str) -> bool:
    value = node.value(attribute)
    return value is not None and value.kind in ("bool", "int") and bool(value.value)


def _elements(shape: tuple[int, ...]) -> int:
    """How many elements; -1 where that is not known."""
    number = 1
    for size in shape:
        if size < 0:
            return _UNKNOWN
        number *= size
    return number


def _sane(shape: Shape) -> Shape:
    if shape is None or len(shape) > MOST_NUMBERS:
        return None
    return tuple(size if size >= 0 else _UNKNOWN for size in shape)


def _same(operands: _Operands) -> Iterable[Shape]:
    return [operands.shape(0)]


def _both_same(operands: _Operands) -> Iterable[Shape]:
    return [operands.shape(0)] * 2


def _merged(operands: _Operands) -> Iterable[Shape]:
    shapes = [operands.shape(number) for number in range(len(operands))]
    first = shapes[0]
    if first is None or any(each is None or len(each) != len(first) for each in shapes):
        return [None, ()]
    sizes = zip(*(each for each in shapes if each is not None))
    return [tuple(each[0] if len(set(each)) == 1 else _UNKNOWN for each in sizes), ()]


def _broadcast(operands: _Operands) -> Iterable[Shape]:
    return [_broadcasted(operands.shape(0), operands.shape(1))]


def _broadcasted(first: Shape, second: Shape) -> Shape:
    if first is None or second is None:
        return None
    rank = max(len(first), len(second))
    longer = [(1,) * (rank - len(each)) + each for each in (first, second)]
    return tuple(_broadcast_size(*sizes) for sizes in zip(*longer))


def _broadcast_size(one: int, other: int) -> int:
    if other in (one, 1):
        return one
    if one == 1:
        return other
    return max(one, other) if _UNKNOWN in (one, other) and max(one, other) > 1 else _UNKNOWN


def _matmul(operands: _Operands) -> Iterable[Shape]:
    first, second = operands.shape(0) or (_UNKNOWN,) * 2, operands.shape(1) or (_UNKNOWN,) * 2
    rows = first[1 if operands.flag("transpose_a") else 0]
    return [(rows, second[0 if operands.flag("transpose_b") else 1])]


def _batch_matmul(operands: _Operands) -> Iterable[Shape]:
    first, second = operands.shape(0), operands.shape(1)
    if first is None or second is None or min(len(first), len(second)) < 2:
        return [None]
    batch = _broadcasted(first[:-2], second[:-2])
    assert batch is not None
    rows = first[-1 if operands.flag("adj_x") else -2]
    return [(*batch, rows, second[-2 if operands.flag("adj_y") else -1])]


def _reduced(operands: _Operands) -> Iterable[Shape]:
    shape, axes = operands.shape(0), operands.values(1)
    keep = operands.flag("keep_dims")
    if shape is None:
        return [None]
    if axes is None or (_UNKNOWN in axes and operands.node_of_input(1).op != "Const"):  # type: ignore[union-attr]
        return [(_UNKNOWN,) * len(shape) if keep else None]
    gone = {axis % len(shape) for axis in axes} if shape else set()
    return [tuple(1 if at in gone else size for at, size in enumerate(shape) if keep or at not in gone)]


def _arg(operands: _Operands) -> Iterable[Shape]:
    shape, axis = operands.shape(0), operands.values(1)
    if shape is None or axis is None:
        return [None if shape is None else (_UNKNOWN,) * (len(shape) - 1)]
    return [tuple(size for at, size in enumerate(shape) if at != axis[0] % len(shape))]


def _reshaped(operands: _Operands) -> Iterable[Shape]:
    shape, wanted = operands.shape(0), operands.values(1)
    if wanted is None:
        return [None]
    if wanted.count(_UNKNOWN) == 1 and shape is not None and _elements(shape) >= 0:
        others = _elements(tuple(size for size in wanted if size != _UNKNOWN))
        missing = _elements(shape) // others if others else _UNKNOWN
        return [tuple(missing if size == _UNKNOWN else size for size in wanted)]
    return [wanted]


def _filled(operands: _Operands) -> Iterable[Shape]:
    return [operands.values(0)]


def _squeezed(operands: _Operands) -> Iterable[Shape]:
    shape, axes = operands.shape(0), operands.numbers("squeeze_dims")
    if shape is None or (not axes and _UNKNOWN in shape):
        return [None]
    gone = {axis % len(shape) for axis in axes}
    return [tuple(size for at, size in enumerate(shape) if (at not in gone if axes else size != 1))]


def _expanded(operands: _Operands) -> Iterable[Shape]:
    shape, axis = operands.shape(0), operands.values(1)
    if shape is None or axis is None:
        return [None if shape is None else (_UNKNOWN,) * (len(shape) + 1)]
    at = axis[0] if axis[0] >= 0 else axis[0] + len(shape) + 1
    return [(*shape[:at], 1, *shape[at:])]


def _transposed(operands: _Operands) -> Iterable[Shape]:
    shape, order = operands.shape(0), operands.values(1)
    if order is None or shape is None or _UNKNOWN in order:
        return [(_UNKNOWN,) * len(shape) if shape is not None else None]
    return [tuple(shape[at] for at in order)]


def _packed(operands: _Operands) -> Iterable[Shape]:
    shape = next(iter(_merged(operands)))
    if shape is None:
        return [None]
    axis = operands.number("axis")
    at = axis if axis >= 0 else axis + len(shape) + 1
    return [(*shape[:at], len(operands), *shape[at:])]


def _unpacked(operands: _Operands) -> Iterable[Shape]:
    shape, count = operands.shape(0), operands.outputs()
    if shape is None:
        return [None] * count
    gone = operands.number("axis") % len(shape)
    return [tuple(size for at, size in enumerate(shape) if at != gone)] * count


def _joined(operands: _Operands) -> Iterable[Shape]:
    last = operands.node.op == "ConcatV2"
    numbers = range(len(operands) - 1) if last else range(1, len(operands))
    shapes = [operands.shape(number) for number in numbers]
    axis = operands.values(len(operands) - 1 if last else 0)
    known = [each for each in shapes if each is not None]
    if not known:
        return [None]
    rank = len(known[0])
    if axis is None:
        return [(_UNKNOWN,) * rank]
    at = axis[0] % rank
    out = [max(each[place] for each in known) for place in range(rank)]
    sizes = [each[at] for each in known]
    out[at] = _UNKNOWN if _UNKNOWN in sizes or len(known) < len(shapes) else sum(sizes)
    return [tuple(out)]


def _gathered(operands: _Operands) -> Iterable[Shape]:
    shape, indices = operands.shape(0), operands.shape(1)
    axis = operands.values(2) if len(operands) > 2 else (0,)
    if shape is None or indices is None or axis is None or operands.number("batch_dims"):
        return [None]
    at = axis[0] % len(shape)
    return [(*shape[:at], *indices, *shape[at + 1 :])]


def _one_hot(operands: _Operands) -> Iterable[Shape]:
    shape, depth = operands.shape(0), operands.values(1)
    if shape is None:
        return [None]
    axis = operands.number("axis", -1)
    at = len(shape) if axis == -1 else axis
    return [(*shape[:at], depth[0] if depth else _UNKNOWN, *shape[at:])]


def _largest(operands: _Operands) -> Iterable[Shape]:
    shape = operands.shape(0)
    count = operands.values(1) if len(operands) > 1 else (operands.number("k"),)
    if shape is None:
        return [None, None]
    return [(*shape[:-1], count[0] if count else _UNKNOWN)] * 2


def _shape_of(operands: _Operands) -> Iterable[Shape]:
    shapes = [operands.shape(number) for number in range(len(operands))]
    return [(_UNKNOWN if each is None else len(each),) for each in shapes]


def _scalar(_reading: _Operands) -> Iterable[Shape]:
    return [()]


def _cut(operands: _Operands) -> Iterable[Shape]:
    shape, begin, size = operands.shape(0), operands.values(1), operands.values(2)
    if size is None or begin is None:
        return [(_UNKNOWN,) * len(shape) if shape is not None else None]
    if shape is None:
        return [tuple(size)]
    whole = (each - first if each >= 0 and first >= 0 else _UNKNOWN for each, first in zip(shape, begin))
    return [tuple(rest if each == _UNKNOWN else each for each, rest in zip(size, whole))]


def _strided(operands: _Operands) -> Iterable[Shape]:
    shape, begin, end, strides = operands.shape(0), *(operands.values(number) for number in (1, 2, 3))
    if shape is None or begin is None or end is None or strides is None or operands.number("ellipsis_mask"):
        return [None]
    masks = {name: operands.number(f"{name}_mask") for name in ("begin", "end", "new_axis", "shrink_axis")}
    out: list[int] = []
    at = 0
    for place, (first, last, step) in enumerate(zip(begin, end, strides)):
        if masks["new_axis"] >> place & 1:
            out.append(1)
            continue
        size, at = shape[at], at + 1
        if masks["shrink_axis"] >> place & 1:
            continue
        open_begin, open_end = masks["begin"] >> place & 1, masks["end"] >> place & 1
        if open_begin and open_end and step == 1:
            out.append(size)
        elif size < 0 or not step:
            out.append(_UNKNOWN)
        else:
            out.append(len(range(size)[None if open_begin else first : None if open_end else last : step]))
    return [(*out, *shape[at:])]


def _padded(operands: _Operands) -> Iterable[Shape]:
    shape, paddings = operands.shape(0), operands.values(1)
    if shape is None:
        return [None]
    if paddings is None or len(paddings) != 2 * len(shape) or min(paddings, default=0) < 0:
        return [(_UNKNOWN,) * len(shape)]
    sides = zip(paddings[::2], paddings[1::2])
    return [tuple(size + sum(each) if size >= 0 else _UNKNOWN for size, each in zip(shape, sides))]


def _tiled(operands: _Operands) -> Iterable[Shape]:
    shape, times = operands.shape(0), operands.values(1)
    if shape is None or times is None:
        return [(_UNKNOWN,) * len(shape) if shape is not None else None]
    return [tuple(size * each if min(size, each) >= 0 else _UNKNOWN for size, each in zip(shape, times))]


def _split(operands: _Operands) -> Iterable[Shape]:
    by_sizes = operands.node.op == "SplitV"
    shape, axis = operands.shape(0 if by_sizes else 1), operands.values(2 if by_sizes else 0)
    count = operands.outputs()
    if shape is None or axis is None:
        return [(_UNKNOWN,) * len(shape) if shape is not None else None] * count
    at = axis[0] % len(shape)
    sizes = operands.values(1) if by_sizes else None
    if sizes is None or len(sizes) != count:
        sizes = (_UNKNOWN if by_sizes or shape[at] < 0 else shape[at] // max(count, 1),) * count
    return [(*shape[:at], size, *shape[at + 1 :]) for size in sizes]


def _chosen(operands: _Operands) -> Iterable[Shape]:
    return [operands.shape(1) if operands.shape(1) is not None else operands.shape(2)]


def _found(operands: _Operands) -> Iterable[Shape]:
    default = operands.shape(2)
    return [operands.shape(1) if default is not None and len(default) == 0 else None]


def _read(operands: _Operands) -> Iterable[Shape]:
    """A resource variable has its shape where it is made."""
    node = operands.node_of_input(0)
    value = node.value("shape") if node is not None and node.op == "VarHandleOp" else None
    return [value.value if value is not None and value.kind == "shape" else None]


def _normalised(operands: _Operands) -> Iterable[Shape]:
    shape = operands.shape(0)
    channels = (_UNKNOWN if shape is None else shape[_channel_axis(operands, len(shape))],)
    return [shape, channels, channels, channels, channels]


def _channel_axis(operands: _Operands, rank: int) -> int:
    return 1 if operands.text("data_format", "NHWC").startswith("NC") else rank - 1


def _convolved(operands: _Operands) -> Iterable[Shape]:
    shape, kernel = operands.shape(0), operands.shape(1)
    if shape is None or kernel is None or operands.text("data_format", "NHWC") not in ("NHWC", "NCHW"):
        return [(_UNKNOWN,) * 4]
    depth = kernel[3]
    if operands.node.op == "DepthwiseConv2dNative":
        depth = kernel[2] * kernel[3] if min(kernel[2:]) >= 0 else _UNKNOWN
    return [_windows(operands, shape, kernel[:2], operands.numbers("dilations") or (1,) * 4, depth)]


def _pooled(operands: _Operands) -> Iterable[Shape]:
    shape, window = operands.shape(0), operands.numbers("ksize")
    if shape is None or operands.text("data_format", "NHWC") not in ("NHWC", "NCHW"):
        return [(_UNKNOWN,) * 4]
    channel = _channel_axis(operands, 4)
    at = 2 if channel == 1 else 1
    if window[channel] != 1 or window[0] != 1:
        return [(_UNKNOWN,) * 4]
    return [_windows(operands, shape, window[at : at + 2], (1,) * 4, shape[channel])]


def _windows(
    operands: _Operands, shape: tuple[int, ...], window: Sequence[int], dilations: Sequence[int], depth: int
) -> Shape:
    """The shape that a window which goes over height and width leaves: GetWindowedOutputSize."""
    strides, padding = operands.numbers("strides"), operands.text("padding", "")
    channel = _channel_axis(operands, 4)
    at = 2 if channel == 1 else 1
    out = list(shape)
    out[channel] = depth
    for place, size in zip((at, at + 1), window):
        reach = (size - 1) * dilations[place] + 1
        if shape[place] < 0 or padding not in ("SAME", "VALID") or (size < 0 and padding == "VALID"):
            out[place] = _UNKNOWN
        elif padding == "SAME":
            out[place] = -(-shape[place] // strides[place])
        else:
            out[place] = -(-(shape[place] - reach + 1) // strides[place])
    return tuple(out)


def _resized(operands: _Operands) -> Iterable[Shape]:
    shape, size = operands.shape(0) or (_UNKNOWN,) * 4, operands.values(1) or (_UNKNOWN,) * 2
    return [(shape[0], *size, shape[3])]


_RULES: Mapping[str, Rule] = {
    **dict.fromkeys(_SAME.split(), _same),
    **dict.fromkeys(_BROADCAST.split(), _broadcast),
    **dict.fromkeys(_REDUCED.split(), _reduced),
    **dict.fromkeys(("Switch", "RefSwitch"), _both_same),
    **dict.fromkeys(("Merge", "RefMerge"), _merged),
    **dict.fromkeys(("BatchMatMul", "BatchMatMulV2"), _batch_matmul),
    **dict.fromkeys(("ArgMax", "ArgMin"), _arg),
    **dict.fromkeys(("Concat", "ConcatV2"), _joined),
    **dict.fromkeys(("Gather", "GatherV2"), _gathered),
    **dict.fromkeys(("TopK", "TopKV2"), _largest),
    **dict.fromkeys(("Shape", "ShapeN"), _shape_of),
    **dict.fromkeys(("Rank", "Size"), _scalar),
    **dict.fromkeys(("Pad", "PadV2", "MirrorPad"), _padded),
    **dict.fromkeys(("Split", "SplitV"), _split),
    **dict.fromkeys(("Select",), _chosen),
    **dict.fromkeys(("LookupTableFind", "LookupTableFindV2"), _found),
    **dict.fromkeys(("FusedBatchNorm", "FusedBatchNormV2"), _normalised),
    **dict.fromkeys(("Conv2D", "DepthwiseConv2dNative"), _convolved),
    **dict.fromkeys(("MaxPool", "AvgPool"), _pooled),
    **dict.fromkeys(("ResizeBilinear", "ResizeNearestNeighbor", "ResizeBicubic", "ResizeArea"), _resized),
    "MatMul": _matmul,
    "Reshape": _reshaped,
    "Fill": _filled,
    "Squeeze": _squeezed,
    "ExpandDims": _expanded,
    "Transpose": _transposed,
    "Pack": _packed,
    "Unpack": _unpacked,
    "OneHot": _one_hot,
    "Slice": _cut,
    "StridedSlice": _strided,
    "Tile": _tiled,
    "ReadVariableOp": _read,
    "FusedBatchNormV3": lambda operands: [*_normalised(operands), None],
}
