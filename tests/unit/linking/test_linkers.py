"""The linkers: what they say of themselves, which are new enough, and which one is taken."""

from __future__ import annotations

import pytest

from npu_serving.doctor.requirements import load_requirements
from npu_serving.errors import MissingToolError
from npu_serving.linking.linkers import (
    AUTO,
    BFD,
    GOLD,
    KINDS,
    LLD,
    Linker,
    choose,
    found_linkers,
    identified,
    known_linkers,
)
from npu_serving.settings import LINKERS


@pytest.mark.parametrize(
    ("printed", "kind", "version"),
    [
        ("GNU gold (GNU Binutils for Debian 2.40) 1.16\nCopyright (C) 2023\n", GOLD, "2.40"),
        ("GNU gold (GNU Binutils for Ubuntu 2.30) 1.15\n", GOLD, "2.30"),
        ("GNU gold (version 2.27-44.base.el7) 1.14\n", GOLD, "2.27"),
        ("GNU ld (GNU Binutils for Debian) 2.40\n", BFD, "2.40"),
        ("GNU ld (GNU Binutils) 2.37\n", BFD, "2.37"),
        ("GNU ld version 2.30-93.el8\n", BFD, "2.30"),
        ("Debian LLD 14.0.6 (compatible with GNU linkers)\n", LLD, "14.0.6"),
        ("LLD 10.0.0 (compatible with GNU linkers)\n", LLD, "10.0.0"),
        ("mold 1.10.1 (compatible with GNU ld)\n", "mold", "1.10.1"),
    ],
)
def test_a_linker_is_known_by_what_it_prints_whoever_packaged_it(printed: str, kind: str, version: str) -> None:
    assert identified(printed, "/usr/bin/ld") == Linker(kind, version, "/usr/bin/ld")


@pytest.mark.parametrize(
    "printed", ["", "collect2: fatal error: cannot find 'ld'", "GNU ar (GNU Binutils) 2.40", "ld: no"]
)
def test_what_says_nothing_of_a_linker_is_none(printed: str) -> None:
    assert identified(printed, "ld") is None


def test_only_linkers_that_answer_are_here() -> None:
    says = {"ld.gold": "GNU gold (GNU Binutils 2.40) 1.16", "ld": "no linker"}
    assert found_linkers(["ld.lld", "ld.gold", "ld"], lambda word: says.get(word, "")) == (
        Linker(GOLD, "2.40", "ld.gold"),
    )


NEW = {kind: Linker(kind, row.least, f"ld.{kind}") for kind, row in known_linkers().items()}
OLD = {LLD: Linker(LLD, "9.0.1", "ld.lld"), GOLD: Linker(GOLD, "2.9", "ld.gold"), BFD: Linker(BFD, "2.9", "ld.bfd")}


def test_lld_links_again_where_it_is_new_enough_else_what_made_the_server_else_any_other() -> None:
    assert choose(AUTO, BFD, [NEW[GOLD], NEW[BFD], NEW[LLD]]).kind == LLD
    assert choose(AUTO, BFD, [NEW[GOLD], NEW[BFD], OLD[LLD]]).kind == BFD
    assert choose(AUTO, GOLD, [OLD[GOLD], OLD[LLD]]).kind == GOLD, "what made the server makes it again"
    assert choose(AUTO, LLD, [NEW[BFD]]).kind == BFD


@pytest.mark.parametrize("kind", KINDS)
def test_a_linker_that_is_named_is_taken_whatever_else_is_here(kind: str) -> None:
    assert choose(kind, LLD, list(NEW.values())) == NEW[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_a_linker_that_is_too_old_or_missing_is_named_with_the_least_version_and_the_package(kind: str) -> None:
    row = known_linkers()[kind]
    others = [linker for name, linker in NEW.items() if name != kind]
    with pytest.raises(MissingToolError, match=f"{row.program} {row.least} or newer.*{OLD[kind].text()}") as error:
        choose(kind, kind, [*others, OLD[kind]])
    assert row.why in error.value.cause
    with pytest.raises(MissingToolError, match=f"{row.program} {row.least} or newer") as error:
        choose(kind, kind, others)
    assert row.packages in error.value.cure
    assert "--linker auto" in error.value.cure
    assert choose(AUTO, kind, others), "typing the cure helps"


def test_no_linker_at_all_is_told_with_all_that_would_do() -> None:
    with pytest.raises(MissingToolError, match=r"ld.lld .* or ld.gold .* or ld.bfd .*; here is mold 1.10.1") as error:
        choose(AUTO, GOLD, [Linker("mold", "1.10.1", "ld.mold")])
    assert "--linker" not in error.value.cure


def test_versions_are_compared_number_by_number() -> None:
    assert Linker(LLD, "100.0", "ld.lld").is_new_enough
    assert not Linker(GOLD, "2.4", "ld.gold").is_new_enough


def test_the_settings_offer_every_kind_and_doctor_asks_for_the_same_least_version() -> None:
    assert (AUTO, *KINDS) == LINKERS
    row = load_requirements()["lld"]
    assert row.program == (known_linkers()[LLD].program,)
    assert row.at_least == {"any": known_linkers()[LLD].least}
