"""Requests of a recorded file are read as those of a server's own log are: all of them, or one by its number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from recordings import of_grpc, of_rest, recorded

from npu_serving.asking.logged_requests import read_logged
from npu_serving.client import encode_predict
from npu_serving.errors import RequestError


def test_requests_of_both_apis_come_in_their_order(tmp_path: Path) -> None:
    message = encode_predict("m", {"x": np.ones((2, 1), np.float16)}, signature="s")
    path = recorded(tmp_path / "a.rec", of_grpc(message), of_rest(b'{"instances": [1]}'))
    first, second = read_logged(path)
    assert (first.number, first.signature, first.values) == (1, "s", None)
    assert first.inputs["x"].dtype == np.float16
    assert second.values is not None
    assert (second.number, second.values.values) == (2, [1])
    assert read_logged(path, 2) == [second]


def test_what_can_t_be_asked_again_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no request"):
        read_logged(recorded(tmp_path / "a.rec"))
    with pytest.raises(RequestError, match="Request 1"):
        read_logged(recorded(tmp_path / "b.rec", of_grpc(b"\xff")))
    with pytest.raises(RequestError, match="no request 2"):
        read_logged(recorded(tmp_path / "c.rec", of_rest(b"{}")), 2)
    with pytest.raises(RequestError, match="Regress"):
        read_logged(recorded(tmp_path / "d.rec", of_grpc(b"", "Regress")))
