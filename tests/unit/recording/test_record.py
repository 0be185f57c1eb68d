"""What can't be recorded is refused before anything is begun, with what to type in its place."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from npu_serving.console import Silent
from npu_serving.errors import RequestError
from npu_serving.recording.record import plan_recording, record
from npu_serving.trials.spare_server import spare_ports

GOOD: dict[str, Any] = {"url": "grpc://h:8500", "listen": "9500"}


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"url": "grpcs://h:1"}, "not opened"),
        ({"url": "https://h"}, "not opened"),
        ({"url": "h:1"}, "not the address"),
        ({"url": "http://h:1/prefix"}, "not the address"),
        ({"url": "http://h:99999999"}, "not the address"),
        ({"url": "http://user:S3CRET@h:1"}, "not the address"),
        ({"listen": "x"}, "--listen must be"),
        ({"listen": "70000"}, "--listen must be"),
        ({"url": "grpc://localhost:9", "listen": "9"}, "same port"),
        ({"share": "2"}, "--share must be"),
        ({"share": "0"}, "--share must be"),
        ({"share": "nan"}, "--share must be"),
        ({"max_size": "1XB"}, "--max-size must be"),
        ({"max_size": "0"}, "--max-size must be"),
        ({"redact": ("",)}, "--redact needs"),
    ],
)
def test_what_can_t_be_recorded_is_refused(flags: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=says) as error:
        plan_recording(**{**GOOD, "output": tmp_path / "x.rec", **flags})
    assert error.value.cure
    assert "S3CRET" not in str(error.value)


def test_a_plan_says_what_would_be_done(tmp_path: Path) -> None:
    plan = plan_recording(
        url="http://[::1]", listen="[::1]:9500", output=tmp_path / "x.rec", share=".5", redact=["x"], max_size="1.5 GB"
    )
    assert (plan.host, plan.port, plan.listen_host, plan.listen_port) == ("::1", 8501, "::1", 9500)
    assert (plan.share, plan.max_bytes, plan.to_json()["redact"]) == (0.5, 1_500_000_000, ["x"])
    assert "50%" in plan.text()
    assert not (tmp_path / "x.rec").exists()


def test_a_port_that_is_taken_a_host_that_is_unknown_and_a_file_that_is_there_are_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(RequestError, match="can't be listened at"):
            record(plan_recording(url="grpc://127.0.0.1:1", listen=listen, output=tmp_path / "x.rec"), Silent())
        unknown = plan_recording(url="grpc://no.host.invalid", listen=listen, output=tmp_path / "x.rec")
        with pytest.raises(RequestError, match="not known"):
            record(unknown, Silent())
    with pytest.raises(RequestError, match="already"):
        plan_recording(url="grpc://127.0.0.1:1", listen="9500", output=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_can_t_be_written_is_refused_before_anything_passes(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (port,) = spare_ports(1)
    output = tmp_path / "file" / "x.rec"
    plan = plan_recording(url="grpc://127.0.0.1:1", listen=f"127.0.0.1:{port}", output=output)
    with pytest.raises(RequestError, match="file"):
        record(plan, Silent())
