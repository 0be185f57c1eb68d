from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from npu_serving.errors import RequestError
from npu_serving.models.chosen_graph import chosen_graph, shown_graph

FILE = Path("saved_model.pb")


@dataclass(frozen=True)
class Graph:
    tags: frozenset[str]


def graph(*tags: str) -> Graph:
    return Graph(frozenset(tags))


SERVE, ON_GPU, TRAIN, WITHOUT = graph("serve"), graph("serve", "gpu"), graph("train"), graph()


@pytest.mark.parametrize(
    ("graphs", "tags", "expected"),
    [
        ([TRAIN, SERVE], (), SERVE),
        ([TRAIN, SERVE], ("train",), TRAIN),
        ([SERVE, ON_GPU], ("gpu", "serve"), ON_GPU),
        ([TRAIN], (), TRAIN),
        ([WITHOUT], (), WITHOUT),
    ],
)
def test_the_tags_choose_and_without_them_the_one_that_a_server_loads_or_the_only_one(
    graphs: list[Graph], tags: tuple[str, ...], expected: Graph
) -> None:
    assert chosen_graph(FILE, graphs, tags) is expected
    assert shown_graph(FILE, graphs, tags) is expected


@pytest.mark.parametrize(
    ("graphs", "tags", "cause", "cure"),
    [
        ([TRAIN, ON_GPU], (), "it has gpu,serve and train", "--tag gpu --tag serve"),
        ([SERVE], ("train",), "it has serve", "--tag serve"),
        ([WITHOUT], ("serve",), "it has one without tags", "name another model, or omit --tag"),
        ([ON_GPU, WITHOUT], ("gpu",), "it has one without tags and gpu,serve", "--tag gpu --tag serve"),
    ],
)
def test_what_no_graph_has_is_answered_with_what_there_is(
    graphs: list[Graph], tags: tuple[str, ...], cause: str, cure: str
) -> None:
    with pytest.raises(RequestError, match="has no graph with the tags") as caught:
        chosen_graph(FILE, graphs, tags)
    assert (caught.value.cause, caught.value.cure) == (cause, cure)


def test_what_only_looks_is_shown_the_first_graph_where_a_server_would_load_none() -> None:
    assert shown_graph(FILE, [TRAIN, ON_GPU]) is TRAIN
