"""The compile caches of a deployment: where they are, what is in them, and when there are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from npu_serving.deploy.deployment_file import DeploymentFile
from npu_serving.deploy.deployment_sections import DeployedModel
from npu_serving.errors import RequestError
from npu_serving.trials.compile_cache import CacheContent, CompileCache, check_cache_is_used, compile_caches, content_of


def deployed(
    npu: dict[str, Any] | None, *of_models: dict[str, Any] | None, presets: tuple[str, ...] = ()
) -> DeploymentFile:
    models = [DeployedModel(f"m{number}", f"/m{number}", npu=own) for number, own in enumerate(of_models or (None,))]
    return DeploymentFile(1, tuple(models), npu=npu, presets=presets)


def test_the_operators_cache_is_where_the_option_says_else_where_cann_keeps_it(tmp_path: Path) -> None:
    env = {"HOME": "/home/user"}
    named = {"op_compiler_cache_dir": str(tmp_path / "6.3.RC2")}
    for npu, variables, place, option in (
        (named, env, tmp_path / "6.3.RC2", "op_compiler_cache_dir"),
        ({}, env, Path("/home/user/atc_data"), ""),
        ({}, {**env, "ASCEND_CACHE_PATH": "/cache"}, Path("/cache/kernel_cache"), ""),
    ):
        check_cache_is_used(deployed(npu))
        (cache,) = compile_caches(deployed(npu), variables, "6.3.RC2")
        assert (cache.directory, cache.option) == (place, option)
        assert cache.is_keyed == (npu is named)


def test_graphs_are_kept_for_each_model_that_says_so_though_operators_are_not(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    own = [{"graph_compiler_cache_dir": str(tmp_path / name)} for name in ("a", "b")]
    deployment = deployed({"op_compiler_cache_mode": "disable"}, *own)
    check_cache_is_used(deployment)
    assert [cache.directory.name for cache in compile_caches(deployment, {}, "8.0")] == ["a", "b"]
    (tmp_path / "b").rmdir()
    with pytest.raises(RequestError, match="there is no such directory") as caught:
        compile_caches(deployment, {}, "8.0")
    assert caught.value.cure == f"mkdir -p {tmp_path / 'b'}"


@pytest.mark.parametrize(
    ("deployment", "what", "cure"),
    [
        (deployed(None), "No model of the deployment is meant for the NPU", "npu: {}"),
        (deployed({"op_compiler_cache_mode": "disable"}), "op_compiler_cache_mode is disable", "=enable"),
        (deployed({}, presets=("final-release",)), "op_compiler_cache_mode is disable", "compile-cache"),
        (deployed({"op_compiler_cache_mode": "force"}), "empties the cache", "=enable"),
        (deployed({"op_debug_level": 2}), "while op_debug_level is set", "op_debug_level"),
        (deployed({"op_debug_config": "/x"}), "while op_debug_config is set", "op_debug_config"),
    ],
)
def test_a_server_that_would_keep_nothing_is_refused(deployment: DeploymentFile, what: str, cure: str) -> None:
    with pytest.raises(RequestError, match=what) as caught:
        check_cache_is_used(deployment)
    assert cure in caught.value.cure


def test_what_is_in_a_cache_is_counted_through_all_its_directories(tmp_path: Path) -> None:
    cache = tmp_path / "op-cache"
    assert content_of(cache) == CacheContent(0, 0)
    (cache / "kernel_cache").mkdir(parents=True)
    (cache / "kernel_cache" / "a.o").write_bytes(b"12345")
    (cache / "kernel_cache" / "a.json").write_bytes(b"1")
    (cache / "op_cache.ini").write_text("[op_compiler_cache]")
    (cache / "link").symlink_to(cache)
    assert content_of(cache) == CacheContent(2, 6), "neither a link nor the limits are compiled"
    assert CacheContent(1, 5).text() == "1 file, 5 B"
    assert CacheContent().text() == "nothing"


def test_a_directory_for_every_release_is_told_with_the_flag_that_keeps_one_for_each(tmp_path: Path) -> None:
    shared = CompileCache("", tmp_path, is_keyed=False, before=CacheContent())
    assert "(--set 'presets=[compile-cache]')" in shared.text("6.3.RC2")
