"""`./inv check-deployment` of one model beside `cat` of its file: an ordinary one, and one as large as is served."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from npu_serving.settings import PROJECT_ROOT
from npu_serving.wire_bytes import BYTES, VARINT, tag, varint

ROUNDS = 5
LIMIT_S = 1.0  # on top of reading the file
MEMORY_MB = 150
CONSTANT = 64 << 20


def seconds(argv: list[str]) -> float:
    """Of the processor, user's and system's: this machine is shared, and its clock counts others' work too."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(argv, check=False, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode in (0, 3), argv  # 3: there may be no build here
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def message(field: int, content: bytes) -> bytes:
    return varint(tag(field, BYTES)) + varint(len(content)) + content


def node(name: str, operator: str, *inputs: str) -> bytes:
    attribute = message(1, b"T") + message(2, varint(tag(6, VARINT)) + b"\x01")
    texts = b"".join(message(3, each.encode()) for each in inputs)
    return message(1, message(1, name.encode()) + message(2, operator.encode()) + texts + message(5, attribute))


def constant(number: int, size: int) -> bytes:
    """All of a Const up to its contents, which are `size` bytes and come next."""
    head, length = b"", size
    for field, before in ((4, b""), (8, varint(tag(1, VARINT)) + b"\x01"), (2, message(1, b"value")), (5, b"")):
        head = varint(tag(field, BYTES)) + varint(length) + head
        head = before + head
        length = size + len(head)
    name = message(1, f"constant_{number}".encode()) + message(2, b"Const")
    return varint(tag(1, BYTES)) + varint(len(name) + length) + name + head


def parts(nodes: int, size: int) -> Iterator[bytes]:
    """A SavedModel of so many nodes, in a row, and so many bytes of constants."""
    row = b"".join(node(f"layer_{at}/Relu", "Relu", f"layer_{at - 1}/Relu" if at else "x") for at in range(nodes))
    row += node("x", "Placeholder")
    block = os.urandom(1 << 20) * (CONSTANT >> 20)
    heads = [constant(number, CONSTANT) for number in range(size // CONSTANT)]
    length = len(row) + sum(len(head) + CONSTANT for head in heads)
    info = message(1, message(4, b"serve"))
    tensor = {name: message(1, name) + message(2, message(1, of)) for name, of in ((b"x", b"x:0"), (b"y", b""))}
    last = message(1, f"layer_{nodes - 1}/Relu:0".encode())
    asked = message(1, tensor[b"x"]) + message(2, message(1, b"y") + message(2, last)) + message(3, b"predict")
    signature = message(5, message(1, b"serving_default") + message(2, asked))
    graph = varint(tag(2, BYTES)) + varint(length)
    yield varint(tag(1, VARINT)) + b"\x01" + varint(tag(2, BYTES))
    yield varint(len(info) + len(graph) + length + len(signature)) + info + graph + row
    for head in heads:
        yield head
        yield block
    yield signature


def main() -> None:
    inv = str(PROJECT_ROOT / "inv")
    print("| model | check-deployment | memory | cat | beyond it |\n| --- | --- | --- | --- | --- |")
    slow = False
    with tempfile.TemporaryDirectory() as name:
        for nodes, size in ((2_000, 128 << 20), (100_000, (1 << 30) - CONSTANT)):
            base = Path(name) / str(nodes)
            file = base / "1/saved_model.pb"
            file.parent.mkdir(parents=True)
            with file.open("wb") as out:
                out.writelines(parts(nodes, size))
            deployment = base / "deployment.json"
            deployment.write_text(json.dumps({"version": 1, "models": [{"name": "m", "base_path": str(base)}]}))
            cat = min(seconds(["cat", str(file)]) for _ in range(ROUNDS))
            ours = min(seconds([inv, "check-deployment", str(deployment)]) for _ in range(ROUNDS))
            memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10
            slow |= ours > cat + LIMIT_S or memory > MEMORY_MB
            shown = f"{nodes:,} nodes, {size >> 20} MB"
            print(f"| {shown} | {ours:.2f} s | {memory} MB | {cat:.2f} s | {ours - cat:.2f} s |")
    if slow:
        print(f"More than {LIMIT_S} s of the processor beyond the reading of the file, or more than {MEMORY_MB} MB.")
        sys.exit(1)


if __name__ == "__main__":
    main()
