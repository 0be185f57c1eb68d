"""Whether driver, firmware and CANN fit each other, by what their own version.info files declare; no table of ours.

- CANN and driver: each names its family (Innerversion=V100R001C19…) and those that it fits (compatible_version).
- Older parts of CANN name the version of the driver's lowest layer that they need (required_driver_ascendhal_version).
- Driver and firmware: compatible_version_fw=[7.0.0,7.5.99] of the driver is a range of the firmware's Version,
  compatible_version_drv=[23.0.0,23.0.0.],[24.1,24.1.] of the firmware are beginnings of the driver's package_version.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from npu_serving.cann.info_files import matching, parse_pairs, text_of
from npu_serving.cann.layout import Component
from npu_serving.findings import NOTE, Finding

FILE = "version.info"
_RANGE = re.compile(r"\[([^\[\],]+)(?:,([^\[\]]+))?\]")
_NUMBERS = 3  # in which a range of the firmware's versions is written, 7.5.99; the version itself has five
_LAYER = "ascendhal_version"


@dataclass(frozen=True)
class Firmware:
    """The firmware's record beside the driver: its version, 7.5.0.1.129, and of which package it is, 24.1.rc3."""

    path: Path
    version: str
    package: str
    fits: tuple[tuple[str, str], ...]
    """The drivers that it declares to fit: the first version and what the others begin with."""


def firmware_beside(driver: Component) -> Firmware | None:
    """The firmware that was installed with that driver; None where no record of it can be read, as in a container."""
    path = driver.path.parent / "firmware" / FILE
    pairs = _pairs(path)
    if not pairs.get("version"):
        return None
    fits = _ranges(pairs.get("compatible_version_drv", ""))
    return Firmware(path, pairs["version"], pairs.get("package_version", ""), fits)


def driver_misfits(driver: Component, runtime: Component | None) -> tuple[Finding, ...]:
    """What of the driver does not fit the toolkit or nnae, and what of the firmware does not fit the driver."""
    return (*cann_misfits(driver, runtime), *firmware_misfit(driver))


def cann_misfits(driver: Component, runtime: Component | None) -> Iterator[Finding]:
    """What of the driver does not fit the toolkit or nnae."""
    if runtime is not None:
        yield from _family_misfit(driver, runtime)
        yield from _layer_misfit(driver, runtime)


def firmware_misfit(driver: Component) -> Iterator[Finding]:
    """A firmware and a driver neither of which declares to fit the other, though one of them declares something."""
    firmware = firmware_beside(driver)
    if firmware is None:
        return
    pairs = _pairs(driver.path / FILE)
    version = pairs.get("package_version") or pairs.get("version", "")
    ranges = _ranges(pairs.get("compatible_version_fw", ""))
    if not version or not (ranges or firmware.fits):
        return
    by_driver = any(_numbers(low) <= _numbers(firmware.version) <= _numbers(high) for low, high in ranges)
    by_firmware = any(version == low or f"{version}.".startswith(_stem(high)) for low, high in firmware.fits)
    if not by_driver and not by_firmware:
        yield Finding(
            f"Neither the driver {version} nor the firmware {firmware.version} declares that it works with the other.",
            "install the firmware of the driver's own release (Ascend-hdk-CHIP-npu-firmware_…run --full), then "
            "restart the machine",
            severity=NOTE,
            where=str(firmware.path),
        )


def _family_misfit(driver: Component, runtime: Component) -> Iterator[Finding]:
    """A driver and a runtime each name the V100R001C… families that they fit; an older one can't know a newer."""
    if not (driver.info.family and runtime.info.family and driver.info.fits and runtime.info.fits):
        return
    is_known = driver.info.declares(runtime.info.family) or runtime.info.declares(driver.info.family)
    if not is_known and driver.info.family != runtime.info.family:
        yield Finding(
            f"Neither the driver {driver.version} ({driver.info.family}) nor the {runtime.name} {runtime.version} "
            f"({runtime.info.family}) declares that it works with the other.",
            "look them up in the version table of the CANN release, and install the driver that it names",
            severity=NOTE,
        )


def _layer_misfit(driver: Component, runtime: Component) -> Iterator[Finding]:
    has = _pairs(driver.path / FILE).get(_LAYER, "")
    asked = {
        pairs.get(f"required_driver_{_LAYER}", "").strip("\"'<>= ")
        for file in (runtime.path / FILE, *matching(runtime.path, f"*/{FILE}"))
        for pairs in [_pairs(file)]
    }
    needed = max((version for version in asked if _numbers(version)), key=_numbers, default="")
    if has and needed and _numbers(has) < _numbers(needed):
        yield Finding(
            f"{runtime.name} {runtime.version} needs {_LAYER} {needed} of the driver, and the driver {driver.version} "
            f"has {has}.",
            "install the driver that the version table of the CANN release names",
            severity=NOTE,
        )


def _pairs(file: Path) -> Mapping[str, str]:
    try:
        return parse_pairs(text_of(file))
    except OSError:
        return {}


def _ranges(text: str) -> tuple[tuple[str, str], ...]:
    return tuple((low.strip(), (high or low).strip()) for low, high in _RANGE.findall(text))


def _stem(version: str) -> str:
    return version if version.endswith(".") else f"{version}."


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d{1,9}", version)[:_NUMBERS])
