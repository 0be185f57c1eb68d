"""A prediction's outputs in a file of NumPy's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from npu_serving import fsutil
from npu_serving.asking.given_requests import ARRAY, ARRAYS
from npu_serving.errors import RequestError

if TYPE_CHECKING:
    from npu_serving.asking.predicting import Answered

_IMAGES = "images"


def check_output(path: Path) -> None:
    """RequestError for a name that says no format; FileAccessError where nothing can be written."""
    if path.suffix not in (ARRAY, ARRAYS):
        raise RequestError(
            f"--output {path} does not say in which format the outputs are to be written.",
            cause="the name's ending says it: .npy for one array, .npz for arrays by name",
            cure=f"--output {path}{ARRAYS}",
        )
    fsutil.refuse_other_than_file(path)
    fsutil.refuse_unwritable(path.absolute().parent)


def write_outputs(path: Path, answered: Answered) -> None:
    """Writes the outputs: of images a row for each, and their names as `images`.

    RequestError for several requests' answers, and for texts that can't be kept so.
    """
    import numpy as np

    from npu_serving.asking.array_files import npy_of, npz_of
    from npu_serving.asking.array_prediction import ArrayPrediction
    from npu_serving.asking.image_run import ImageRun

    if not isinstance(answered, (ArrayPrediction, ImageRun)):
        raise RequestError(
            f"{path} can hold the answer to one request, and several were asked.",
            cause="their outputs may differ in shape",
            cure="name one: --request FILE#1, or use --json",
        )
    arrays: dict[str, Any] = dict(answered.outputs)
    if path.suffix == ARRAY:
        ((name, array),) = arrays.items()
        fsutil.write_file(path, npy_of(name, array))
        return
    if isinstance(answered, ImageRun):
        arrays.setdefault(_IMAGES, np.array([answer.image.name for answer in answered.answers]))
    fsutil.write_file(path, npz_of(arrays))
