"""How many actions may run at once, and with how much memory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from npu_serving import resources


def _cgroup(monkeypatch: pytest.MonkeyPatch, root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(resources, "CGROUP", root)


def test_processors_are_those_of_the_cgroup_not_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _cgroup(monkeypatch, tmp_path, cpu_dot_max="100000 100000\n")
    assert resources.usable_processors() == 1
    _cgroup(monkeypatch, tmp_path, cpu_dot_max="max 100000\n")
    assert resources.usable_processors() == len(os.sched_getaffinity(0))


def test_memory_is_what_the_cgroup_leaves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _cgroup(monkeypatch, tmp_path, memory_dot_max=str(3 << 30), memory_dot_current=str(1 << 30))
    assert resources.available_memory_mb() <= 2048
    (tmp_path / "memory.max").write_text("max\n")
    assert resources.available_memory_mb() > 0


def test_jobs_are_held_down_by_memory_and_a_given_number_is_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(resources, "usable_processors", lambda: 64)
    assert resources.available_resources(memory_mb=9 * 1024).jobs == 4
    assert resources.available_resources(memory_mb=500).jobs == 1
    assert resources.available_resources(jobs=7, memory_mb=500).jobs == 7
