"""What a script can have: the features, as data, and which of them go together."""

from __future__ import annotations

import dataclasses
import difflib
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from npu_serving.documents import read_document
from npu_serving.errors import RequestError
from npu_serving.options.catalogue import OptionValue, presets

FEATURES = Path(__file__).with_name("features.yaml")
Source = Literal["pb", "checkpoint", "savedmodel"]
SOURCES: tuple[Source, ...] = ("pb", "checkpoint", "savedmodel")
"""The features that say what the model is; one of them is always there."""


@dataclass(frozen=True)
class ScriptFeature:
    """A feature; the head of features.yaml says what the fields mean."""

    meaning: str
    section: str = ""
    preset: str = ""
    options: Mapping[str, bool | int | str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    conflicts: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    """The key under which it stands."""

    @property
    def session_options(self) -> dict[str, OptionValue]:
        """Those that it sets where nothing else is said."""
        return {**(presets()[self.preset].options if self.preset else {}), **self.options}


@dataclass(frozen=True)
class _FeatureTable:
    """features.yaml."""

    features: Mapping[str, ScriptFeature]

    def problems(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """What the reader of documents asks: whether presets and features that are named are there."""
        for name, feature in self.features.items():
            if feature.preset and feature.preset not in presets():
                yield ("features", name, "preset"), f"there is no preset {feature.preset}"
            for other in sorted(set(feature.conflicts) - set(self.features)):
                yield ("features", name, "conflicts"), f"there is no feature {other}"


@dataclass(frozen=True)
class FeatureList:
    """All features, to be shown."""

    features: tuple[ScriptFeature, ...]

    def to_json(self) -> dict[str, object]:
        """Each with its section of the guide and what it sets."""
        return {
            "features": [
                {
                    "name": feature.name,
                    "section": feature.section,
                    "meaning": feature.meaning,
                    "options": feature.session_options,
                    "needs": list(feature.needs),
                    "flags": [f"--{flag}" for flag in feature.flags],
                    "conflicts": dict(feature.conflicts),
                }
                for feature in self.features
            ]
        }

    def text(self) -> str:
        """A line for each, and what it needs or excludes."""
        width = max(len(feature.name) for feature in self.features) + 2
        lines = []
        for feature in self.features:
            section = f" (section {feature.section})" if feature.section else ""
            lines.append(f"{feature.name:{width}}{feature.meaning}{section}")
            wanted = [f"--option {name}=VALUE" for name in feature.needs] + [f"--{flag}" for flag in feature.flags]
            if wanted:
                lines.append(f"{'':{width}}With it: {', '.join(wanted)}")
            lines += [f"{'':{width}}Not beside {other}: {why}" for other, why in feature.conflicts.items()]
        return "\n".join(lines)


@functools.cache
def script_features() -> Mapping[str, ScriptFeature]:
    """Every feature by its name."""
    table = read_document(FEATURES, _FeatureTable)
    return {name: dataclasses.replace(feature, name=name) for name, feature in table.features.items()}


def list_features() -> FeatureList:
    """All features in the order of the table."""
    return FeatureList(tuple(script_features().values()))


def chosen_features(names: Sequence[str]) -> tuple[ScriptFeature, ...]:
    """The features of those names in the order of the table, with `session`, which is always there.

    RequestError for a name that there is none of, and for features that exclude each other.
    """
    known = script_features()
    for name in names:
        if name not in known:
            (meant,) = difflib.get_close_matches(name, known, n=1) or [""]
            raise RequestError(
                f"There is no feature {name!r}.",
                cause="it was mistyped",
                cure=f"--feature {meant}" if meant else "see which there are: ./inv new-script --list-features",
            )
    wanted = {"session", *names}
    chosen = tuple(feature for feature in known.values() if feature.name in wanted)
    for feature in chosen:
        for other, why in feature.conflicts.items():
            if other in wanted:
                raise RequestError(
                    f"{feature.name} and {other} exclude each other.", cause=why, cure="leave one of the two out"
                )
    return chosen


def refuse_other_flags(features: Sequence[ScriptFeature], given: Mapping[str, object]) -> None:
    """RequestError for a flag that is for a feature which was not chosen; `given` has the flags by name."""
    chosen = {feature.name for feature in features}
    for feature in script_features().values():
        for flag in feature.flags:
            if given.get(flag) and feature.name not in chosen:
                raise RequestError(
                    f"--{flag} would have no effect without the feature {feature.name}.",
                    cause=f"it is for that feature: {feature.meaning}",
                    cure=f"add --feature {feature.name}, or leave --{flag} out",
                )


def source_of(features: Sequence[ScriptFeature], found: Source | None) -> Source:
    """What the model is: as the file says, or as a feature says where there is none; a frozen graph by default.

    RequestError where the two differ, where several are chosen, and for a feature that does not work with it.
    """
    asked = [feature.name for feature in features if feature.name in SOURCES]
    if len(asked) > 1:
        raise RequestError(
            f"{' and '.join(asked)} exclude each other.", cause="a script has one model", cure="leave all but one out"
        )
    if found is not None and asked and asked[0] != found:
        raise RequestError(
            f"The feature {asked[0]} does not fit --model, which is of the kind {found}.",
            cause="another model was meant",
            cure=f"leave --feature {asked[0]} out: the kind follows from the file",
        )
    able = [feature for feature in features if feature.sources]
    likely: Source = next((feature.sources[0] for feature in able), "pb")
    source = found if found is not None else next((name for name in SOURCES if name in asked), likely)
    for feature in able:
        if source not in feature.sources:
            raise RequestError(
                f"{feature.name} does not work with a model of the kind {source}.",
                cause=_why(feature.name),
                cure=f"name a model of the kind {' or '.join(feature.sources)}, or leave {feature.name} out",
            )
    return source


def _why(feature: str) -> str:
    if feature == "keep-dtypes":
        return "keep_tensors_dtypes is for the graph that was imported from a frozen graph (the guide, 7.2)"
    if feature == "weight-update":
        return "a frozen graph has no variables that could get new values"
    return "the two contradict each other"
