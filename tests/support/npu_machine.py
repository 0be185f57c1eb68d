"""A machine with NPUs for tests: device files, driver and firmware records, and an npu-smi that prints real tables.

The tables have the form of drivers 22.0 to 26.0 on 310P, 910B and 910 with two chips a card.
"""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

from cann_trees import make_cann, make_driver, put
from doctor_world import World

CARDS_310P = """\
+--------------------------------------------------------------------------------------------------------+
| npu-smi 22.0.4                                   Version: 22.0.4                                       |
+-------------------------------+-----------------+------------------------------------------------------+
| NPU     Name                  | Health          | Power(W)     Temp(C)           Hugepages-Usage(page) |
| Chip    Device                | Bus-Id          | AICore(%)    Memory-Usage(MB)                        |
+===============================+=================+======================================================+
| 1       310P3                 | OK              | 15.8         42                0    / 0              |
| 0       0                     | 0000:82:00.0    | 0            1074 / 21534                            |
+===============================+=================+======================================================+
| 4       310P3                 | OK              | NA           43                0    / 0              |
| 0       1                     | 0000:89:00.0    | 0            21070/ 21534                            |
+===============================+=================+======================================================+
+-------------------------------+-----------------+------------------------------------------------------+
| NPU     Chip                  | Process id      | Process name             | Process memory(MB)        |
+===============================+=================+======================================================+
| No running processes found in NPU 1                                                                    |
+===============================+=================+======================================================+
| 4       0                     | 692318          | tensorflow_mode          | 19960                     |
+===============================+=================+======================================================+
"""
CARDS_910B = """\
+------------------------------------------------------------------------------------------------+
| npu-smi 24.1.1                   Version: 24.1.1                                               |
+---------------------------+---------------+----------------------------------------------------+
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip                      | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
+===========================+===============+====================================================+
| 0     910B4               | OK            | 88.2        30                0    / 0             |
| 0                         | 0000:C1:00.0  | 0           0    / 0          26838/ 32768         |
+===========================+===============+====================================================+
| 1     910B4               | Alarm         | 87.0        30                0    / 0             |
| 0                         | 0000:C2:00.0  | 0           0    / 0          29356/ 32768         |
+===========================+===============+====================================================+
+---------------------------+---------------+----------------------------------------------------+
| NPU     Chip              | Process id    | Process name             | Process memory(MB)      |
+===========================+===============+====================================================+
| 0       0                 | 1333928       |                          | 23709                   |
+===========================+===============+====================================================+
| No running processes found in NPU 1                                                            |
+===========================+===============+====================================================+
"""
CARDS_OF_TWO_CHIPS = """\
+------------------------------------------------------------------------------------------------------------------+
| npu-smi 26.0.rc2                            Version: 26.0.rc2                                                    |
+---------------------------+---------------+----------------------------------------------------------------------+
| NPU   Name                | Health        | Power(W)             Temp(C)                 Hugepages-Usage(page)   |
| Chip  Phy-ID              | Bus-Id        | AICore(%)            Memory-Usage(MB)        HBM-Usage(MB)           |
+===========================+===============+======================================================================+
| 7     Ascend910           | OK            | 172.0                53                      0    / 0                |
| 0     14                  | 0000:81:00.0  | 0                    0    / 0                15503/ 65536            |
+------------------------------------------------------------------------------------------------------------------+
| 7     Ascend910           | OK            | -                    52                      0    / 0                |
| 1     15                  | 0000:83:00.0  | 0                    0    / 0                2874 / 65536            |
+===========================+===============+======================================================================+
+---------------------------+---------------+----------------------------------------------------------------------+
| NPU     Chip              | Process id    | Process name       | Process memory(MB)    | Process id in container |
+===========================+===============+======================================================================+
| 7       0                 | 692318        | python3            | 12417                 | NA                      |
+===========================+===============+======================================================================+
"""
NO_DRIVER = "DrvMngGetConsoleLogLevel failed. (g_conLogLevel=3)\ndcmi module initialize failed. ret is -8005"
IN_USE = "dcmi model initialized failed, because the device is used. ret is -8020"


def make_npus(world: World, chips: tuple[int, ...] = (0, 1), table: str = CARDS_310P) -> Path:
    """Gives the machine CANN, a driver that fits it, the device files, and npu-smi; returns the root of CANN."""
    root = make_cann(world.root / "Ascend")
    make_driver(root)
    for name in (*(f"davinci{chip}" for chip in chips), "davinci_manager", "devmm_svm", "hisi_hdc"):
        put(world.root / "dev" / name).chmod(0o660)
    (world.root / "dev/shm").mkdir(exist_ok=True)
    ports(world, "32768\t60999")
    world.set(cann_root=str(root))
    world.on(open_files=(65536, 1048576))
    npu_smi(world, table)
    return root


def npu_smi(world: World, output: str, status: int = 0) -> None:
    """What the driver's tool prints when it is asked for `info`; anything else it refuses."""
    body = f'[ "$*" = info ] || exit 9\nprintf "%s\\n" {shlex.quote(output)}; exit {status}'
    world.script(world.bin / "npu-smi", body)


def ports(world: World, text: str, reserved: str = "") -> None:
    """The kernel's range of ports for outgoing connections."""
    put(world.root / "proc/sys/net/ipv4/ip_local_port_range", f"{text}\n")
    put(world.root / "proc/sys/net/ipv4/ip_local_reserved_ports", f"{reserved}\n")


def in_container(world: World) -> None:
    put(world.root / ".dockerenv")


def as_user(world: World, number: int, *groups: int) -> None:
    world.machine = dataclasses.replace(world.machine, user_id=number, group_ids=frozenset(groups))
