"""The requests of a warm-up: each that would keep the server from loading the model is found before it does."""

from __future__ import annotations

from pathlib import Path

import model_messages as wire
import pytest

from npu_serving.findings import PROBLEM, WARNING, Finding
from npu_serving.model_checks.version_check import check_version
from npu_serving.models.warm_up_file import framed

FILE = "assets.extra/tf_serving_warmup_requests"
DOUBLE = 2


def request(signature: str = "serving_default", data_type: int = wire.FLOAT, rows: int = 1, name: str = "x") -> bytes:
    tensor = wire.number(1, data_type) + wire.message(2, wire.shape([rows, 3])) + wire.message(4, bytes(rows * 12))
    asked = wire.message(1, wire.message(3, signature)) + wire.entry(2, name, tensor)
    return wire.message(6, wire.message(1, asked))


@pytest.fixture
def version(tmp_path: Path) -> Path:
    directory = tmp_path / "m/1"
    (directory / "assets.extra").mkdir(parents=True)
    (directory / "saved_model.pb").write_bytes(wire.simple_model({"x": [-1, 3]}))
    return directory


def found(version: Path, data: bytes, name: str = FILE) -> tuple[Finding, ...]:
    path = version / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return check_version(version).findings


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (request(), "there is no record at byte 0"),
        (framed([request(), request()])[:-3], "its record 2 is cut off"),
        (framed([request(data_type=DOUBLE)]), "gives DT_DOUBLE for the input x, which is float32"),
        (framed([request("other")]), "asks the signature other"),
        (framed([request(name="z")]), "gives the inputs z, and serving_default takes x"),
        (framed([request()] * 1001), "more than 1000 records"),
        (framed([request(), b"\xff\xff"]), "Record 2"),
    ],
)
def test_what_the_server_would_not_load_the_model_with_is_a_problem(version: Path, data: bytes, said: str) -> None:
    (finding,) = found(version, data)
    assert finding.severity == PROBLEM
    assert said in finding.what
    assert "write-warmup" in finding.cure


def test_a_thousand_good_requests_are_no_finding_and_are_counted(version: Path) -> None:
    assert found(version, framed([request(rows=2)] * 1000)) == ()
    requests = check_version(version).warm_up
    assert [each.number for each in requests] == list(range(1, 1001))
    assert requests[0].shapes == (("x", (2, 3)),)


@pytest.mark.parametrize("place", ["assets/tf_serving_warmup_requests", "tf_serving_warmup_requests"])
def test_a_file_in_another_place_is_warned_of_and_the_cure_moves_it(version: Path, place: str) -> None:
    (finding,) = found(version, framed([request()]), place)
    assert finding.severity == WARNING
    assert finding.cure.endswith(f"mv {version / place} {version / FILE}")
    (version / place).rename(version / FILE)
    assert check_version(version).findings == ()
