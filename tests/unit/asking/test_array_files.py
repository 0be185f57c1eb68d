"""NumPy's files that can't be sent, and the cures that are said: each is one for that file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from npu_serving.asking.array_files import MOST_BYTES, read_arrays
from npu_serving.asking.given_requests import sort_given
from npu_serving.client.model_types import Signature, TensorInfo
from npu_serving.errors import RequestError

SIGNATURE = Signature("serving_default", "", (TensorInfo("x", "DT_FLOAT", (-1,)),), ())


def refused(path: Path) -> RequestError:
    with pytest.raises(RequestError) as found:
        read_arrays(sort_given([str(path)]).files, SIGNATURE)
    return found.value


@pytest.mark.parametrize("length", [20, -5])
def test_a_file_that_is_cut_off_is_to_be_copied_again(tmp_path: Path, length: int) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.zeros(9, np.float32))
    path.write_bytes(path.read_bytes()[:length])
    error = refused(path)
    assert "ends before its values do" in error.what
    assert "copy it again" in error.cure


def test_a_file_of_more_than_any_message_holds_is_to_be_given_in_parts(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    with path.open("wb") as file:
        file.truncate(MOST_BYTES + 1)  # of holes
    error = refused(path)
    assert "2 GiB" in error.what
    assert "fewer rows" in error.cure
