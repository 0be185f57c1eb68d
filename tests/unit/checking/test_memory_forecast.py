"""The memory of the machine against the files of the models, and of a new version beside the old one."""

from __future__ import annotations

from pathlib import Path

import pytest

from npu_serving.checking.memory_forecast import check_memory
from npu_serving.deploy.model_checks import CheckedModel, CheckedVersion


def model(directory: Path, name: str, *sizes: int) -> CheckedModel:
    versions = []
    for number, size in enumerate(sizes, start=1):
        path = directory / name / str(number)
        (path / "variables").mkdir(parents=True)
        with (path / "variables/variables.data-00000-of-00001").open("wb") as file:
            file.truncate(size)
        versions.append(CheckedVersion(number, path))
    return CheckedModel(name, str(directory / name), tuple(versions), (), None)


@pytest.mark.parametrize(
    ("kib", "said"),
    [
        (5 << 20, ""),  # 3 GiB are served, and a new version of the larger one has 2
        ((5 << 20) - 1, "a new version of b, 2.1 GB, would not fit beside the old one"),
        ((3 << 20) - 1, "The models have 3.2 GB of files"),
    ],
)
def test_models_and_the_largest_new_version_have_to_fit(tmp_path: Path, kib: int, said: str) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(f"MemTotal:  9999 kB\nMemAvailable:   {kib} kB\n")
    found = check_memory([model(tmp_path, "a", 1 << 30), model(tmp_path, "b", 2 << 30)], meminfo)
    assert [said in finding.what for finding in found] == [True] * bool(said)


def test_a_machine_that_does_not_say_its_memory_is_not_judged(tmp_path: Path) -> None:
    assert check_memory([model(tmp_path, "a", 1 << 40)], tmp_path / "none") == []
