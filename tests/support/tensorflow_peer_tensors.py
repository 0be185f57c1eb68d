"""TensorProtos read and written as tensorflow/core/framework/tensor.cc does at 1.15.0."""

# mypy: ignore-errors

import numpy
import tensorflow
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2, types_pb2

PACKED = {types_pb2.DT_FLOAT: 5, types_pb2.DT_DOUBLE: 6, types_pb2.DT_COMPLEX64: 9, types_pb2.DT_COMPLEX128: 12}
"""Types whose values are bytes in a message, and in which field: they are written as they lie in memory."""
HALVES = (types_pb2.DT_HALF, types_pb2.DT_BFLOAT16)
FIELDS = {
    types_pb2.DT_INT64: "int64_val", types_pb2.DT_BOOL: "bool_val", types_pb2.DT_STRING: "string_val",
    types_pb2.DT_UINT32: "uint32_val", types_pb2.DT_UINT64: "uint64_val", types_pb2.DT_FLOAT: "float_val",
    types_pb2.DT_DOUBLE: "double_val", types_pb2.DT_COMPLEX64: "scomplex_val", types_pb2.DT_COMPLEX128: "dcomplex_val",
    types_pb2.DT_HALF: "half_val", types_pb2.DT_BFLOAT16: "half_val",
}  # fmt: skip


def tensor_of(proto):
    """The array in a TensorProto, as Tensor::FromProto reads it, or ValueError."""
    dtype = tensorflow.as_dtype(proto.dtype)
    if proto.dtype == types_pb2.DT_INVALID or proto.tensor_shape.unknown_rank:
        raise ValueError("no type or no shape")
    shape = [dim.size for dim in proto.tensor_shape.dim]
    count = 1
    for size in shape:
        count *= size
    if any(size < 0 for size in shape):
        raise ValueError("negative size")
    if proto.dtype == types_pb2.DT_STRING:
        values = (list(proto.string_val) + [proto.string_val[-1] if proto.string_val else b""] * count)[:count]
        return numpy.array([*values, None], dtype=object)[:-1].reshape(shape)
    if proto.tensor_content:
        return numpy.frombuffer(proto.tensor_content, dtype.as_numpy_dtype).reshape(shape)
    values = getattr(proto, FIELDS.get(proto.dtype, "int_val"))
    kind = "u2" if proto.dtype in HALVES else dtype.as_numpy_dtype
    if dtype.is_complex:
        kind = "f4" if dtype == tensorflow.complex64 else "f8"
        count *= 2
    kind = numpy.dtype(kind).descr[0][1] if dtype.is_quantized else kind
    array = numpy.array(values).astype(kind)[:count]  # too large a number loses its upper bits, as in C
    array = numpy.concatenate([array, numpy.full(count - len(array), array[-1] if len(array) else 0, array.dtype)])
    return array.view(dtype.as_numpy_dtype).reshape(shape)


def tensor_bytes(array, dtype):
    """A TensorProto as Tensor::AsProtoField writes it: each value in the field of its type, never tensor_content."""
    proto = tensor_pb2.TensorProto(
        dtype=dtype,
        tensor_shape=tensor_shape_pb2.TensorShapeProto(
            dim=[tensor_shape_pb2.TensorShapeProto.Dim(size=size) for size in array.shape]
        ),
    )
    if dtype in PACKED:
        values = numpy.ascontiguousarray(array).tobytes()
        return proto.SerializeToString() + (_field(PACKED[dtype], values) if values else b"")
    flat = array.ravel()
    if dtype in HALVES:
        flat = flat.view(numpy.uint16)
    getattr(proto, FIELDS.get(dtype, "int_val")).extend(flat.tolist())
    return proto.SerializeToString()


def _field(number, data):
    size, head = len(data), bytearray([number << 3 | 2])
    while size > 127:
        head.append(size & 127 | 128)
        size >>= 7
    return bytes(head) + bytes([size]) + data
