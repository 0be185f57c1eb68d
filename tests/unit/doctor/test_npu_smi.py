"""What is read from npu-smi's tables, whatever chip and driver print them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from npu_machine import CARDS_310P, CARDS_910B, CARDS_OF_TWO_CHIPS, IN_USE, NO_DRIVER

from npu_serving.doctor.npu_smi import NpuChip, parse_npu_smi


def test_a_card_of_310p_has_one_amount_of_memory_and_the_number_of_its_device() -> None:
    state = parse_npu_smi(CARDS_310P)
    assert state.version == "22.0.4"
    assert state.chips == (
        NpuChip(card=1, chip=0, name="310P3", health="OK", used_mb=1074, memory_mb=21534, device=0, busy_percent=0),
        NpuChip(card=4, chip=0, name="310P3", health="OK", used_mb=21070, memory_mb=21534, device=1, busy_percent=0),
    )
    assert [chip.free_mb for chip in state.chips] == [20460, 464]
    assert state.of(state.chips[0]) == ()
    (holder,) = state.of(state.chips[1])
    assert (holder.pid, holder.name, holder.memory_mb) == (692318, "tensorflow_mode", 19960)


def test_how_busy_a_chip_is_stands_before_its_memory() -> None:
    busy = CARDS_910B.replace("| 0           0    / 0          26838", "| 87          0    / 0          26838")
    assert [chip.busy_percent for chip in parse_npu_smi(busy).chips] == [87, 0]
    unsaid = CARDS_310P.replace("| 0            1074 /", "| NA           1074 /")
    assert [(chip.busy_percent, chip.used_mb) for chip in parse_npu_smi(unsaid).chips] == [(None, 1074), (0, 21070)]


def test_a_910b_has_its_memory_in_the_column_of_the_hbm() -> None:
    state = parse_npu_smi(CARDS_910B)
    assert [(chip.card, chip.used_mb, chip.memory_mb, chip.device) for chip in state.chips] == [
        (0, 26838, 32768, 0),
        (1, 29356, 32768, 1),
    ]
    assert [chip.is_healthy for chip in state.chips] == [True, False]
    assert [(item.pid, item.name) for item in state.processes] == [(1333928, "")]


def test_each_chip_of_a_card_with_two_is_one_of_its_own() -> None:
    state = parse_npu_smi(CARDS_OF_TWO_CHIPS)
    assert [(chip.card, chip.chip, chip.device, chip.used_mb) for chip in state.chips] == [
        (7, 0, 14, 15503),
        (7, 1, 15, 2874),
    ]
    assert [item.pid for item in state.of(state.chips[0])] == [692318]
    assert state.of(state.chips[1]) == ()


@pytest.mark.parametrize("lost", range(1, 12))
def test_a_table_that_was_cut_short_gives_the_chips_that_are_whole(lost: int) -> None:
    whole = parse_npu_smi(CARDS_310P).chips
    cut = parse_npu_smi("\n".join(CARDS_310P.splitlines()[:-lost]))
    assert cut.chips == whole[: len(cut.chips)]


def test_windows_line_ends_and_blanks_in_front_change_nothing() -> None:
    other = "".join(f"   {line}\r\n" for line in CARDS_910B.splitlines())
    assert parse_npu_smi(other) == parse_npu_smi(CARDS_910B)


@pytest.mark.parametrize("text", ["", NO_DRIVER, IN_USE, "|", "||", "| 1 | OK |", "\0" * 9])
def test_what_is_no_table_has_no_chips(text: str) -> None:
    assert parse_npu_smi(text).chips == ()


ROWS = st.lists(st.sampled_from([*CARDS_910B.splitlines(), *CARDS_OF_TWO_CHIPS.splitlines(), "| a | b | 1/2 |"]))


@given(st.one_of(st.text(), ROWS.map("\n".join)))
def test_any_text_is_read_to_its_end(text: str) -> None:
    state = parse_npu_smi(text)
    assert all(chip.memory_mb >= 0 and chip.free_mb >= 0 for chip in state.chips)
