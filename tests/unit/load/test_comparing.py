"""Two runs beside each other."""

from __future__ import annotations

from dataclasses import replace

import pytest
from load_runs import FIGURES, level, run

from npu_serving.errors import RequestError
from npu_serving.load.comparing import RunComparison, compare_runs, parse_share


def verdicts(found: RunComparison) -> dict[str, str]:
    return {each.measure: each.verdict for each in found.differences}


def test_runs_of_the_same_server_show_a_difference_as_seldom_as_is_said() -> None:
    alarms = 0
    for seed in range(40):
        found = compare_runs(run(level(seed=seed, throughput=150)), run(level(seed=seed + 1000, throughput=150)))
        alarms += any(each.verdict in {"worse", "better"} for each in found.differences)
    assert alarms <= 5  # 95% for all measures together


def test_a_latency_that_is_a_fifth_larger_is_found_and_named_worse() -> None:
    found = compare_runs(run(level(middle_ms=6.0)), run(level(middle_ms=7.2, seed=2)), fail_above=0.05)
    assert {name for name, verdict in verdicts(found).items() if verdict == "worse"} >= {"mean", "p50", "p90", "p99"}
    assert found.exit_code == 3
    assert "WORSE" in found.text()
    back = compare_runs(found.second, found.first, fail_above=0.05)
    assert verdicts(back)["p50"] == "better"
    assert back.exit_code == 0


def test_less_throughput_is_worse_and_more_is_better() -> None:
    found = compare_runs(run(level(throughput=400)), run(level(throughput=300, seed=2)))
    assert verdicts(found)["throughput"] == "worse"
    assert found.exit_code == 0  # nothing was said of failing
    assert verdicts(compare_runs(found.second, found.first))["throughput"] == "better"


def test_what_is_really_worse_by_less_than_is_allowed_does_not_fail() -> None:
    found = compare_runs(run(level(windows=8)), run(level(windows=8, middle_ms=6.4, seed=2)), fail_above=0.5)
    assert verdicts(found)["p50"] == "worse"
    assert found.exit_code == 0
    assert found.text().endswith("Within what is allowed.")


def test_errors_where_there_were_none_are_worse_by_more_than_any_share() -> None:
    found = compare_runs(run(level()), run(replace(level(seed=2), errors={"busy": 60})), fail_above=10.0)
    assert [each.measure for each in found.failures] == ["errors"]
    assert "points" in found.text()


def test_two_windows_say_less_than_one_needs_to_know_and_one_says_nothing() -> None:
    found = compare_runs(run(level(windows=1)), run(level(windows=1, middle_ms=60.0)))
    assert verdicts(found)["throughput"] == verdicts(found)["p99"] == "unknown"
    assert "can't be said" in found.text()


def test_levels_are_held_against_those_of_the_same_load() -> None:
    found = compare_runs(run(level(1), level(2), level(4)), run(level(2, seed=5), level(4, seed=6), level(8)))
    assert {each.load for each in found.differences} == {"2 at once", "4 at once"}
    assert "In one of the two only, and not compared: 1 at once, 8 at once." in found.notes


@pytest.mark.parametrize(
    ("field", "value"), [("model", "other"), ("api", "rest"), ("signature", "other"), ("request", "random: y")]
)
def test_runs_that_did_not_measure_the_same_are_refused_by_what_differs(field: str, value: str) -> None:
    with pytest.raises(RequestError, match=f"can't be compared: {field} is .* in one and {value} in the other"):
        compare_runs(run(), run(**{field: value}))


def test_runs_without_a_load_in_common_are_refused() -> None:
    with pytest.raises(RequestError, match="no load in common: 8 at once in one, 8 a second"):
        compare_runs(run(level(8)), run(level(rate=8.0)))


def test_a_run_that_is_not_valid_is_refused() -> None:
    with pytest.raises(RequestError, match="is not valid: the sender was at its end"):
        compare_runs(run(), run(valid=False, reasons=("the sender was at its end",)))


def test_what_makes_a_difference_doubtful_is_said() -> None:
    other = replace(level(seed=2), stable=False, generator=replace(FIGURES, path="grpcio"))
    notes = "\n".join(compare_runs(run(), run(other, target="grpc://b:1", version="2")).notes)
    assert "The server differs" in notes
    assert "The version differs: the newest and 2." in notes
    assert "http2 with 2 processes and grpcio with 2 processes" in notes
    assert "B was not stable" in notes


def test_a_share_is_read_or_refused() -> None:
    assert parse_share("5%") == pytest.approx(0.05)
    assert parse_share(" 12.5 % ") == pytest.approx(0.125)
    for text in ("5", "-5%", "five%", ""):
        with pytest.raises(RequestError, match="is not a share"):
            parse_share(text)
