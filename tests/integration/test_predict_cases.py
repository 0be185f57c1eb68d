"""What people who ask a TensorFlow Serving have reported, typed as tasks, against real SavedModels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tensorflow_server import TensorFlowServer
from typed_tasks import typed

SECRET = "s3cr#t%w0rd"
PARTS = ("s3cr", "w0rd")


def test_a_missing_input_is_one_line_that_lists_what_is_wanted_and_what_was_sent(
    tensorflow_server: TensorFlowServer,
) -> None:
    for url in (tensorflow_server.rest_url, tensorflow_server.grpc_url):
        refused = typed("predict", "ids_mask", "--url", url, "--request", '{"inputs": {"ids": [[1]], "größe": [[1]]}}')
        assert (refused.code, refused.out) == (2, "")
        for word in ("ids", "mask", "größe", "Next: "):
            assert word in refused.said, refused.said
        assert "\\" not in refused.said
    only_signature = typed(
        "predict", "half_plus_two", "--url", tensorflow_server.rest_url, text='{"signature_name": "serving_default"}'
    )
    assert only_signature.code == 2
    assert "instances" in only_signature.said


def test_an_answer_of_twelve_megabytes_is_written_to_a_file(
    tensorflow_server: TensorFlowServer, tmp_path: Path
) -> None:
    out = tmp_path / "y.npy"
    words = ("--url", tensorflow_server.grpc_url, "--request", '{"inputs": [1]}', "--output", str(out))
    assert typed("predict", "wide", *words).code == 0
    assert np.load(out).shape == (1, 1024, 1024, 3)


def test_behind_a_dead_proxy_this_machine_is_asked_and_no_password_is_shown(
    tensorflow_server: TensorFlowServer,
) -> None:
    proxies = {
        "http_proxy": f"http://user:{SECRET}@127.0.0.1:1",
        "https_proxy": f"http://user:{SECRET}@127.0.0.1:1",
        "ALL_PROXY": f"socks5://user:{SECRET}@127.0.0.1:1",
    }
    for url in (tensorflow_server.grpc_url, tensorflow_server.rest_url):
        answered = typed("predict", "half_plus_two", "--url", url, "--request", "[1]", environment=proxies)
        assert answered.code == 0, answered
        assert not any(part in answered.out + answered.said for part in PARTS)
    status = typed("status", "half_plus_two", "--url", tensorflow_server.rest_url, environment=proxies)
    assert status.code == 0, status
    for url in ("http://10.255.255.1:8501", "grpc://10.255.255.1:8500"):
        elsewhere = typed("predict", "m", "--url", url, "--request", "[1]", "--timeout", "5", environment=proxies)
        assert elsewhere.code in (1, 2)
        assert "_proxy" in elsewhere.said, elsewhere
        assert not any(part in elsewhere.said for part in PARTS), elsewhere


def test_while_a_first_request_compiles_it_is_said_how_long_it_was_waited_for(
    tensorflow_server: TensorFlowServer,
) -> None:
    tensorflow_server.misbehave(compile_ms={"half_plus_two": 3000})
    words = ("--url", tensorflow_server.grpc_url, "--request", "[1]", "--timeout", "1")
    late = typed("predict", "half_plus_two", *words)
    assert late.code == 1
    assert "1 s" in late.said
    assert "compile" in late.said
