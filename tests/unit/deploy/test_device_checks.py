"""Numbers of devices: the machine's, and those that a process counts from 0."""

from __future__ import annotations

import pytest

from npu_serving.deploy.device_checks import check_devices
from npu_serving.findings import WARNING


@pytest.mark.parametrize(
    ("option", "variables", "cure"),
    [
        (4, {"ASCEND_RT_VISIBLE_DEVICES": "4,5"}, "write 0, which is device 4 of the machine"),
        (2, {"ASCEND_RT_VISIBLE_DEVICES": "4,5"}, "a number up to 1"),
        (None, {"ASCEND_RT_VISIBLE_DEVICES": "4", "ASCEND_DEVICE_ID": "4"}, "write 0"),
        (None, {"ASCEND_RT_VISIBLE_DEVICES": "0-2"}, "with commas"),
    ],
)
def test_a_number_that_means_no_device_is_a_problem_whose_cure_helps(
    option: int | None, variables: dict[str, str], cure: str
) -> None:
    (finding,) = check_devices({} if option is None else {"session_device_id": option}, variables, "npu")
    assert finding.needs_action
    assert cure in finding.cure


@pytest.mark.parametrize(
    ("option", "variables"),
    [(7, {}), (1, {"ASCEND_RT_VISIBLE_DEVICES": "4,5"}), (0, {"ASCEND_RT_VISIBLE_DEVICES": "7"})],
)
def test_numbers_that_fit_are_no_finding(option: int, variables: dict[str, str]) -> None:
    assert list(check_devices({"session_device_id": option}, variables, "npu")) == []


def test_the_machine_s_numbers_within_a_container_are_a_warning() -> None:
    variables = {"ASCEND_VISIBLE_DEVICES": "4,5", "ASCEND_RT_VISIBLE_DEVICES": "4"}
    (finding,) = check_devices({}, variables, "npu")
    assert (finding.severity, finding.cure) == (WARNING, "leave ASCEND_RT_VISIBLE_DEVICES out")
