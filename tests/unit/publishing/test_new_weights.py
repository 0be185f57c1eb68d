"""--weights: values from a training server take the place of a version's, as far as names, types and shapes agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import model_messages as wire
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tiers import examples

from npu_serving.console import Silent
from npu_serving.errors import ModelFileError, RequestError
from npu_serving.model_checks.version_check import VersionCheck
from npu_serving.models.checkpoint import open_checkpoint
from npu_serving.models.checkpoint_slices import VariableSlice
from npu_serving.models.checkpoint_writer import NewVariable, write_checkpoint
from npu_serving.publishing import publish as publishing
from npu_serving.publishing.destination import destination, newest
from npu_serving.publishing.new_weights import NewWeights, new_weights
from npu_serving.publishing.publish import PublicationWish, plan_publication, publish
from npu_serving.settings import Settings

KERNEL = np.arange(6, dtype=np.float32).reshape(3, 2)
MEAN = np.array([1.5, 2.5], np.float32)
TEXTS = [b"a", b"\xff\0"]


def variable(name: str, array: np.ndarray[Any, Any]) -> NewVariable:
    return NewVariable(name, array.dtype.name, array.shape, [array.tobytes()])


def put_npz(file: Path, values: dict[str, Any]) -> Path:
    np.savez(file, **values)
    return file


def checkpoint(prefix: Path, **arrays_: np.ndarray[Any, Any]) -> Path:
    write_checkpoint(prefix, [variable(name.replace("__", "/"), array) for name, array in arrays_.items()])
    return prefix


@pytest.fixture(autouse=True)
def _unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph here restores nothing: a server would refuse it."""
    monkeypatch.setattr(publishing, "check_version", lambda *_words, **_more: VersionCheck(None, ()))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A version with a kernel in two parts, a moving mean, which is not trained, a text and a counter."""
    version = tmp_path / "m" / "1"
    (version / "variables").mkdir(parents=True)
    (version / "assets").mkdir()
    (version / "saved_model.pb").write_bytes(wire.simple_model({"x": [-1, 3]}))
    (version / "assets" / "names").write_text("a")
    parts = [VariableSlice(((0, 2), (0, -1))), VariableSlice(((2, 1), (0, -1)))]
    write_checkpoint(
        version / "variables" / "variables",
        [
            NewVariable("dense/kernel", "float32", (3, 2), [KERNEL[:2].tobytes()], parts[0]),
            NewVariable("dense/kernel", "float32", (3, 2), [KERNEL[2:].tobytes()], parts[1]),
            variable("norm/moving_mean", MEAN),
            NewVariable("words", "string", (2,), TEXTS),
            variable("global_step", np.array(7, np.int64)),
        ],
    )
    return version


def published(tmp_path: Path, weights: NewWeights) -> dict[str, Any]:
    """The values of version 2, and what is not a variable."""
    config = Settings(build_root=tmp_path / "build")
    place = destination(config, to=tmp_path / "m")
    plan = plan_publication(Path(newest(place)), "m/1", place, PublicationWish(), weights)
    assert publish(config, plan, Silent()).plan.version == 2
    version = tmp_path / "m" / "2"
    assert (version / "assets" / "names").read_text() == "a"
    assert sorted(path.name for path in (version / "variables").iterdir()) == [
        "variables.data-00000-of-00001",
        "variables.index",
    ]
    found = open_checkpoint(version / "variables" / "variables")
    assert found.verify() == ()
    assert len(found.variables["dense/kernel"].slices) == 2
    return {name: found.read(name) for name in found.variables}


@pytest.mark.parametrize("suffix", ["", ":0"])
def test_arrays_of_numpy_by_the_variables_names_make_a_new_version(tmp_path: Path, model: Path, suffix: str) -> None:
    file = tmp_path / "w.npz"
    put_npz(file, {f"dense/kernel{suffix}": np.asfortranarray(-KERNEL), f"norm/moving_mean{suffix}": 2 * MEAN})
    weights = new_weights(file, model, partial=True)
    assert weights.kept == ("global_step", "words")
    values = published(tmp_path, weights)
    assert values["dense/kernel"].tolist() == (-KERNEL).tolist()
    assert values["norm/moving_mean"].tolist() == (2 * MEAN).tolist()
    assert (values["words"], values["global_step"].tolist()) == (TEXTS, 7)


def test_a_checkpoint_of_a_training_has_more_than_the_model_and_that_is_left_out(tmp_path: Path, model: Path) -> None:
    prefix = tmp_path / "training" / "model.ckpt-9"
    write_checkpoint(
        prefix,
        [
            variable("dense/kernel", -KERNEL),
            variable("norm/moving_mean", 2 * MEAN),
            NewVariable("words", "string", (2,), [b"c", b""]),
            *(variable(f"dense/kernel/{slot}", KERNEL) for slot in ("Adam", "Adam_1")),
            variable("beta1_power", np.array(0.5, np.float32)),
            variable("global_step", np.array(9, np.int64)),
        ],
    )
    weights = new_weights(prefix, model, partial=False)
    assert weights.left_out == ("beta1_power", "dense/kernel/Adam", "dense/kernel/Adam_1", "global_step")
    assert weights.kept == ("global_step",)
    assert "3 variables from" in weights.text()
    values = published(tmp_path, weights)
    assert values["dense/kernel"].tolist() == (-KERNEL).tolist()
    assert (values["words"], values["global_step"].tolist()) == ([b"c", b""], 7)


@pytest.mark.parametrize(
    ("given_arrays", "said"),
    [
        ({"dense/kernel": KERNEL}, "norm/moving_mean is missing there"),
        ({"dense/kernel": KERNEL.T}, r"dense/kernel is float32 \[2, 3\] there, and float32 \[3, 2\] in the model"),
        ({"dense/kernel": KERNEL.astype(np.float64)}, r"is float64 \[3, 2\] there"),
        ({"dense/kernal": KERNEL}, r"dense/kernel is missing there \(is dense/kernal meant\?\)"),
        ({"head/kernel": KERNEL}, "the model has no variable head/kernel"),
    ],
)
def test_what_does_not_fit_is_named_with_both_sides(
    tmp_path: Path, model: Path, given_arrays: dict[str, Any], said: str
) -> None:
    put_npz(tmp_path / "w.npz", given_arrays)
    with pytest.raises(RequestError, match=said) as refused:
        new_weights(tmp_path / "w.npz", model, partial=False)
    assert refused.value.cure.startswith(f"./inv graph-nodes {model} shows the model's variables; ")


def test_a_part_has_to_fit_too(tmp_path: Path, model: Path) -> None:
    put_npz(tmp_path / "w.npz", {"dense/kernel": KERNEL.T, "norm/moving_mean": MEAN})
    with pytest.raises(RequestError, match="dense/kernel is"):
        new_weights(tmp_path / "w.npz", model, partial=True)
    np.savez(tmp_path / "w.npz", other=KERNEL)
    with pytest.raises(RequestError, match="no variable of the model is there"):
        new_weights(tmp_path / "w.npz", model, partial=True)


def test_a_frozen_model_says_that_its_weights_are_constants(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    np.savez(tmp_path / "w.npz", a=MEAN)
    with pytest.raises(RequestError, match="has no variables"):
        new_weights(tmp_path / "w.npz", tmp_path / "1", partial=False)


def test_values_that_are_damaged_leave_no_version(tmp_path: Path, model: Path) -> None:
    prefix = checkpoint(tmp_path / "w", dense__kernel=KERNEL, norm__moving_mean=MEAN)
    data = prefix.with_name("w.data-00000-of-00001")
    data.write_bytes(data.read_bytes()[:-1] + b"!")
    with pytest.raises(ModelFileError, match="checksum"):
        published(tmp_path, new_weights(prefix, model, partial=True))
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["1"]


def test_a_checkpoint_that_was_copied_in_part_is_refused_before_anything_is_done(tmp_path: Path, model: Path) -> None:
    prefix = checkpoint(tmp_path / "w", dense__kernel=KERNEL, norm__moving_mean=MEAN)
    prefix.with_name("w.data-00000-of-00001").unlink()
    with pytest.raises(RequestError, match="is missing, and it has values of variables"):
        new_weights(prefix, model, partial=True)


@settings(
    max_examples=examples(150, 20_000), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.binary(max_size=400), st.booleans(), st.data())
def test_no_file_of_weights_is_a_traceback(
    tmp_path: Path, model: Path, data: bytes, is_cut: bool, more: st.DataObject
) -> None:
    file = tmp_path / "w.npz"
    if is_cut:
        dtype = more.draw(st.sampled_from(["<f4", "<i8", "<U3"]))
        given_array: Any = more.draw(arrays.arrays(np.dtype(dtype), (2,)))
        put_npz(file, {"norm/moving_mean": given_array})
        whole = bytearray(file.read_bytes())
        at = more.draw(st.integers(0, len(whole) - 1))
        whole[at] ^= more.draw(st.integers(1, 255))
        data = bytes(whole[: more.draw(st.integers(at, len(whole)))])
    file.write_bytes(data)
    try:
        weights = new_weights(file, model, partial=True)
        for name in weights.replaced:
            weights.values.content(name, None)
    except (RequestError, ModelFileError) as error:
        assert error.cure
