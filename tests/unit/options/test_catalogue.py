"""The tables against facts.*: names, kinds, defaults and refusals, as the guide and the adapter's source have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from npu_serving.documents import DocumentRefusal, parse_document
from npu_serving.errors import DocumentError
from npu_serving.options import catalogue
from npu_serving.options.server_environment import known_variables
from npu_serving.writers.text_proto import attr_value

FACTS = Path(__file__).parent / "facts"
RELEASES = [release.name for release in catalogue.adapter_releases()]
NOT_OF_A_SERVER = {"LD_LIBRARY_PATH", "EXTRA_BAZEL_ARGS", "PATH", "HOME"}
"""Put together elsewhere, not read within a server, or what every program gets."""


def facts(name: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load((FACTS / f"{name}.yaml").read_text(encoding="utf-8"))
    return found


GUIDE, ADAPTER = facts("guide_options"), facts("adapter_options")
# What the guide leaves open and the adapter's source answers, or answers in another way.
DEFAULTS_OF_THE_ADAPTER = {
    "dump_debug_mode": "all",
    "iterations_per_loop": 1,
    "dynamic_graph_execute_mode": "dynamic_execute",
    "stream_max_parallel_num": "1",
    "debug_dir": "the working directory",
    "work_path": "the working directory",
}
ALSO_REFUSED = {"compress_weight_conf", "dump_step"}  # where the facts only point to another option, or name no message
USES_OF_THE_TEXT = {"dump_step": ("training", "online inference")}  # 5.4 against the table of 7.1.2


def kind_in(option: catalogue.SessionOption, release: str) -> str:
    kind = catalogue.NOT_READ
    for name in RELEASES[: RELEASES.index(release) + 1]:
        kind = option.kinds.get(name, kind)
    return "-" if kind == catalogue.NOT_READ else kind


def test_the_table_has_the_65_options_of_the_guide_and_all_that_the_adapter_reads() -> None:
    assert (len(GUIDE), len(ADAPTER)) == (65, 107)
    assert set(catalogue.session_options()) == set(ADAPTER) >= set(GUIDE)
    newer = [name for name, option in catalogue.session_options().items() if option.guides == ("9.0",)]
    assert len(newer) == 17


@pytest.mark.parametrize("name", GUIDE)
def test_an_option_of_the_guide_has_its_kind_default_values_and_uses(name: str) -> None:
    option, fact = catalogue.session_options()[name], GUIDE[name]
    assert fact["kind"] in (None, kind_in(option, "6.3.RC2"))
    assert sorted(map(str, option.defaults.values())) == sorted(map(str, fact.get("defaults", [])))
    assert option.default == DEFAULTS_OF_THE_ADAPTER.get(name, fact["default"])
    assert set(fact.get("values", [])) <= set(option.values) | set(option.form.replace(":NUMBER", "").split(","))
    assert option.scenes == USES_OF_THE_TEXT.get(name, tuple(fact["uses"]))
    assert option.deprecated == fact.get("deprecated", False)
    assert option.section.startswith("7.1.2 ")


@pytest.mark.parametrize("name", ADAPTER)
def test_an_option_has_the_kind_that_each_release_reads_and_what_the_adapter_refuses(name: str) -> None:
    option, fact = catalogue.session_options()[name], ADAPTER[name]
    assert [kind_in(option, release) for release in RELEASES] == fact["kinds"].split()
    assert list(option.guides) == fact["guides"]
    for ends, message, releases in fact.get("refuses", []):
        rules = [rule for rule in option.enforced if rule.ends == ends and _has_message(rule.says, message)]
        assert rules, f"{name} has no rule that {ends} ends with {message!r}"
        assert set(releases) <= {release for rule in rules for release in _releases_of(rule)}, message
    refusing = {release for _, _, releases in fact.get("refuses", []) for release in releases}
    assert {release for rule in option.enforced for release in _releases_of(rule)} == refusing or name in ALSO_REFUSED


def _has_message(says: str, message: str) -> bool:
    ours, theirs = (text.partition("VALUE")[2] or text for text in (says, message))
    return ours[:40].rstrip(".") in theirs or theirs[:40].rstrip(".") in ours


def _releases_of(rule: catalogue.EnforcedRule) -> list[str]:
    first = RELEASES.index(rule.since) if rule.since else 0
    last = RELEASES.index(rule.until) if rule.until else len(RELEASES)
    return [name for name in ("6.3.RC2.alpha003", "6.3.RC2", "9.0.0") if first <= RELEASES.index(name) <= last]


def test_what_an_option_or_variable_needs_or_conflicts_with_is_in_the_tables() -> None:
    known = {*catalogue.session_options(), *catalogue.environment_variables()}
    entries: list[Any] = [*catalogue.session_options().values(), *catalogue.environment_variables().values()]
    for entry in entries:
        named = {*entry.needs, *entry.conflicts, *getattr(entry, "beats", {})}
        assert named <= known - {entry.name}, entry.name
    for key in catalogue.profiling_keys().values():
        assert set(key.conflicts) <= set(catalogue.profiling_keys())


def test_a_conflict_stands_on_both_sides() -> None:
    # The side that is named is the one that loses or is looked at, not a conflict of its own.
    one_sided = {
        ("customize_dtypes", "precision_mode"),
        ("customize_dtypes", "precision_mode_v2"),
        ("op_debug_level", "op_compiler_cache_mode"),
    }
    entries: dict[str, Any] = {**catalogue.session_options(), **catalogue.environment_variables()}
    pairs = {
        (name, other)
        for name, entry in entries.items()
        for other in {**entry.conflicts, **getattr(entry, "beats", {})}
        if other in entries
    }
    missing = {(one, other) for one, other in pairs if (other, one) not in pairs} - one_sided
    assert missing == set()


def test_an_example_is_of_the_kind_that_the_newest_adapter_reads() -> None:
    for option in catalogue.session_options().values():
        if option.guides and not option.without_effect:
            assert option.name in option.example, f"{option.name} has no example to paste"
        for name, value in option.example.items():
            other = catalogue.session_options()[name]
            newest = [kind for kind in other.kinds.values() if kind != catalogue.NOT_READ][-1]
            assert attr_value(name, value).startswith(f"{newest}: "), f"{option.name}: {name}"


def test_what_a_guide_describes_can_be_found_by_its_own_words() -> None:
    for option in catalogue.session_options().values():
        assert option.terms or not option.guides, option.name


def test_profiling_has_its_22_keys_as_the_guide_has_them() -> None:
    table, wanted = catalogue.profiling_keys(), facts("profiling_keys")
    assert list(table) == list(wanted)
    for name, fact in wanted.items():
        key = table[name]
        assert list(key.values) == fact.get("values", []), name
        if "range" in fact and name != "storage_limit":
            assert [key.lowest, key.highest] == fact["range"], name
        assert key.online_inference.partition(",")[0] == fact["online"], name
        if name not in ("storage_limit", "llc_profiling"):  # in other words, and one for each chip
            assert key.default == fact["default"], name
    excluding = {name for name, key in table.items() if "instr_profiling_freq" in key.conflicts}
    assert excluding == set(table["instr_profiling_freq"].conflicts)
    assert len(excluding) == 10


def test_the_26_variables_of_the_guide_are_there_as_it_has_them() -> None:
    table, wanted = catalogue.environment_variables(), facts("variables")
    assert len(wanted) == 26
    for name, fact in wanted.items():
        variable = table[name]
        assert variable.section.startswith(fact["section"]), name
        if name != "PROFILING_MODE":  # off, which is what unset means
            assert variable.default == fact.get("default"), name
        assert set(fact.get("values", [])) <= set(variable.values), name
        if "range" in fact:
            bounds = [bound for bound in (variable.lowest, variable.highest) if bound is not None]
            assert bounds == [bound for bound in fact["range"] if isinstance(bound, int)], name
        assert bool(variable.successor) == fact.get("deprecated", False), name


def test_each_variable_that_has_a_meaning_is_one_that_the_table_for_servers_decides_on() -> None:
    undecided = {
        name for name in catalogue.environment_variables() if not any(line.fits(name) for line in known_variables())
    }
    assert undecided == NOT_OF_A_SERVER
    left_out = {line.match for line in known_variables() if not line.passed and line.instead and line.match[-1] != "*"}
    assert left_out <= set(catalogue.environment_variables())


def test_one_option_read_by_itself_is_the_same_as_in_the_whole_table() -> None:
    for name, option in catalogue.session_options().items():
        assert catalogue.session_option(name) == option
    assert catalogue.option_names() == tuple(catalogue.session_options())
    assert catalogue.session_option("graph_run") is None
    assert catalogue.session_option("graph.run_mode") is None
    assert catalogue.session_option("") is None


def test_a_group_or_release_that_is_not_in_the_table_is_a_mistake() -> None:
    text = catalogue.SESSION_OPTIONS.read_text(encoding="utf-8")
    wrong = text.replace("    group: basic\n", "    group: basics\n", 1).replace("{6.3.RC1: i}", "{6.3.RC9: i}", 1)
    with pytest.raises(DocumentError) as caught:
        parse_document(wrong, catalogue._SessionOptionTable, where="x.yaml", refusal=DocumentRefusal())
    assert "options.graph_run_mode.group: there is no group basics" in caught.value.what
    assert "there is no release 6.3.RC9" in caught.value.what


@pytest.mark.parametrize(
    "name",
    [
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_REGION",
        "S3_ENDPOINT",
        "S3_USE_HTTPS",
        "S3_VERIFY_SSL",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "LD_PRELOAD",
        "OMP_NUM_THREADS",
        "PRINT_MODEL",
        "JOB_ID",
    ],
)
def test_what_is_set_beside_cann_is_explained_and_reaches_the_server(name: str) -> None:
    assert catalogue.environment_variables()[name].meaning
    assert [line.passed for line in known_variables() if line.fits(name)][:1] == [True]
