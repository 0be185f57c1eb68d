"""The reader of mangled names against c++filt, on code that is made anew each run, and on this machine's libraries."""

from __future__ import annotations

import random
import re
import shutil
from pathlib import Path

import pytest
from elf_samples import needs_gcc
from hypothesis import example, given
from hypothesis import strategies as st

from npu_serving import process
from npu_serving.elf.demangle import demangled
from npu_serving.elf.mangled import parse_mangled

SPACES = ("tensorflow", "google::protobuf", "absl", "ge", "domi::tensorflow", "std2", "a1b2", "E", "N10x")
NAMESPACE = re.compile(r"(?<![\w:])([A-Za-z_]\w*)::")
needs_gxx = pytest.mark.skipif(
    shutil.which("g++") is None or shutil.which("c++filt") is None, reason="needs g++ and c++filt"
)


def namespaces(name: str) -> set[str]:
    mangled = parse_mangled(name)
    return {parts[0] for parts in mangled.mentioned if parts and parts[0]} if mangled is not None else set()


def program_of(seed: int) -> str:
    """Functions in those namespaces, over each other's types: templates, enumerations as their arguments, operators."""
    draw = random.Random(seed)
    lines = ["#include <vector>\n#include <functional>\n#include <string>"]
    types = ["int", "const char *", "std::string"]
    for number, space in enumerate(SPACES):
        kind, colour = f"T{number}", f"C{number}"
        lines.append(
            f"namespace {space} {{ struct {kind} {{ struct I {{}}; }}; enum class {colour} {{ r = 10, g = -3 }};"
        )
        lines.append(f"template <class A, int N = 12> struct V {{ template <{colour} c> struct W {{}}; }}; }}")
        types += [f"::{space}::{kind}", f"::{space}::{kind}::I", f"::{space}::V<int, 7>", f"::{space}::{colour}"]
        types += [f"::{space}::V<::{space}::{kind}>::template W<::{space}::{colour}::r>"]
    forms = (
        "{0}",
        "{0} *",
        "{0} const &",  # not before it: a type that begins with const is among them
        "std::vector<{0}>",
        "std::function<{0}({1}*)>",
        "{0} (&)[10]",
        "{0} (*)({1}&)",
    )
    for number in range(60):
        space = draw.choice(("", *SPACES))
        arguments = [
            draw.choice(forms).format(draw.choice(types), draw.choice(types)) for _ in range(draw.randint(1, 3))
        ]
        what = draw.choice((f"f{number}", f"f{number}", f"f{number}", "operator<<", "operator+"))
        if what.startswith("operator"):
            owner = draw.choice(SPACES)
            arguments = [f"::{owner}::T{SPACES.index(owner)} &", f"::{owner}::V<int, {number}>"]
        before, after = (f"namespace {space} {{", "}") if space else ("", "")
        lines.append(f"{before} void {what}({', '.join(arguments)}) {{ static int once = 1; ++once; }} {after}")
    return "\n".join(lines)


@needs_gcc
@needs_gxx
def test_each_function_speaks_of_the_namespaces_that_cxxfilt_shows(tmp_path: Path) -> None:
    seed = random.randrange(1 << 30)
    source = tmp_path / "x.cc"
    source.write_text(program_of(seed))
    process.run(["g++", "-std=c++17", "-w", "-c", "-o", tmp_path / "x.o", source])
    listed = process.run(["nm", tmp_path / "x.o"]).stdout
    names = sorted({line.split()[-1] for line in listed.splitlines() if line.split()[-1].startswith("_Z")})
    assert len(names) > 60
    own = {space.partition("::")[0] for space in SPACES} | {"std"}
    for name, readable in demangled(names).items():
        assert namespaces(name) & own == set(NAMESPACE.findall(readable)) & own, f"seed {seed}: {name} {readable}"
        mangled = parse_mangled(name)
        assert mangled is not None
        scope = re.match(r"(?:guard variable for )?((?:\w+::)*)f\d+", readable)
        if scope is not None:
            wanted = tuple(scope.group(1).split("::")[:-1][:2]) or None
            shown = mangled.scope[: len(wanted)] if wanted is not None else None
            assert shown == wanted, f"seed {seed}: {name} {readable}"


@pytest.mark.parametrize(
    ("name", "scope", "others"),
    [
        ("_ZN10tensorflowlsERSoRKNS_6StatusE", ("tensorflow", ""), {"std"}),
        ("_ZN2ge5ParseERKN10tensorflow8GraphDefE", ("ge", "Parse"), {"tensorflow"}),
        ("_ZN6parser3GetEPN4domi10tensorflow7NodeDefE", ("parser", "Get"), {"domi"}),
        ("_ZNSt6vectorIN10tensorflow6TensorESaIS1_EE5clearEv", ("std", "vector"), {"tensorflow"}),
        ("_Z14IndexTransformPN2ge5GraphE", ("IndexTransform",), {"ge"}),
        ("_ZTVN10tensorflow6DeviceE", ("tensorflow", "Device"), set()),
        ("_ZGVZN10tensorflow3fooEvE1x", ("tensorflow", "foo"), set()),
        ("_ZThn16_N10tensorflow3Foo3barEv", ("tensorflow", "Foo"), set()),
        ("_ZN3fooILN10tensorflow8DataTypeE10EE3barEN4absl4SpanE", ("foo", "bar"), {"tensorflow", "absl"}),
        ("_Znwm", (), set()),
    ],
)
def test_the_scope_is_read_apart_from_the_types_that_are_mentioned(
    name: str, scope: tuple[str, ...], others: set[str]
) -> None:
    mangled = parse_mangled(name)
    assert mangled is not None
    assert mangled.scope == scope
    assert namespaces(name) - {scope[0] if len(scope) > 1 else ""} == others


@given(st.text(alphabet="_ZNSTLIEC0123456789tvKabsil", max_size=60))
@example("N9")
@example("L")
@example("99999999999999999999999999x")
def test_no_text_behind_a_Z_is_too_strange_to_be_read(text: str) -> None:
    parse_mangled("_Z" + text)


@pytest.mark.parametrize("name", ["_Z\u00b2", "_ZN\u0663foo3barE", "_ZL\u2460", "_ZSt\u00b2"])
def test_other_digits_than_those_of_ascii_are_letters_like_any_other(name: str) -> None:
    assert parse_mangled(name) is not None


def test_a_name_of_c_is_not_a_mangled_one() -> None:
    assert parse_mangled("aclInit") is None
