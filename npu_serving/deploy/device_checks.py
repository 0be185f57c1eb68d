"""The numbers of devices in a deployment: those of the machine are not those that a process counts from 0."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from npu_serving.findings import PROBLEM, WARNING, Finding
from npu_serving.options.catalogue import OptionValue

KIND = "device-number"
VISIBLE = "ASCEND_RT_VISIBLE_DEVICES"
"""The machine's numbers of the devices that a process may use; within it they are counted from 0."""
OF_A_CONTAINER = "ASCEND_VISIBLE_DEVICES"
"""The machine's numbers too, for ascend-docker-runtime; within the container they are counted from 0."""
OF_THE_PROCESS = ("ASCEND_DEVICE_ID", "DEVICE_ID")
"""Those that the adapter takes the number of its device from, the first one first."""
OPTION = "session_device_id"


def check_devices(options: Mapping[str, OptionValue], variables: Mapping[str, str], where: str) -> Iterator[Finding]:
    """Numbers that mean no device; `options` are a model's, `variables` the server's, `where` the options' place."""
    visible = variables.get(VISIBLE)
    if visible is None:
        return
    if not re.fullmatch(r"[0-9]{1,4}(,[0-9]{1,4})*", visible):
        what = f"{VISIBLE} is {visible!r}, which is not a list of numbers: the process would see no device."
        yield Finding(
            what, "write numbers with commas between them, such as 0,1", kind=KIND, where=f"environment.{VISIBLE}"
        )
        return
    numbers = visible.split(",")
    asked = [(name, variables[name], f"environment.{name}") for name in OF_THE_PROCESS if name in variables]
    if OPTION in options:
        asked.append((OPTION, str(options[OPTION]), f"{where}.{OPTION}"))
    last = len(numbers) - 1
    for name, value, place in asked:
        if value.isdecimal() and int(value) > last:
            meant = f"write {numbers.index(value)}, which is device {value} of the machine" if value in numbers else ""
            yield Finding(
                f"{name} is {value}, and with {VISIBLE}={visible} the process counts its {len(numbers)} "
                f"{'device' if not last else 'devices'} from 0: there is no device {value}.",
                meant or f"write a number up to {last}, or name the device in {VISIBLE} too",
                PROBLEM,
                KIND,
                place,
            )
    inside = variables.get(OF_A_CONTAINER)
    if inside and re.fullmatch(r"[0-9]{1,4}(,[0-9]{1,4})*", inside):
        many = len(inside.split(","))
        beyond = [number for number in numbers if int(number) >= many]
        if beyond:
            what = (
                f"{VISIBLE} is {visible} beside {OF_A_CONTAINER}={inside}: within a container its {many} "
                f"devices are counted from 0, so there would be no device {beyond[0]} there."
            )
            yield Finding(what, f"leave {VISIBLE} out", WARNING, KIND, f"environment.{VISIBLE}")
