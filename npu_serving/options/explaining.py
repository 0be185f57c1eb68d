"""What `./inv explain` finds: an option, a profiling key, a variable, a flag or a preset, by its name or by a word."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from npu_serving.errors import RequestError
from npu_serving.options import catalogue
from npu_serving.options.catalogue import Preset, SessionOption
from npu_serving.options.explained_entry import Entry, ExplainedEntry, explained, wrapped
from npu_serving.options.server_flags import known_flags

_LIKE = 0.8  # of what is in a name and in what was typed; below that it is another word


@dataclass(frozen=True)
class ExplainedEntries:
    """What was found under a name; `is_exact` where it is the name itself."""

    asked: str
    found: tuple[ExplainedEntry, ...]
    is_exact: bool = True
    also: tuple[ExplainedEntry, ...] = ()
    """What the word that is a preset's name finds besides."""

    def to_json(self) -> dict[str, object]:
        """All of them."""
        return {
            "asked": self.asked,
            "exact": self.is_exact,
            "entries": [each.to_json() for each in self.found],
            **({"also": [each.to_json() for each in self.also]} if self.also else {}),
        }

    def text(self) -> str:
        """Each of them; where several are near to what was asked, a line for each."""
        if self.is_exact:
            also = [line for each in self.also for line in wrapped(each.line(), "  ", "      ")]
            besides = ["\n".join(["Found by that word too:", *also])] if also else []
            return "\n\n".join([*(each.text() for each in self.found), *besides])
        if len(self.found) == 1:
            return f"Nothing is called {self.asked!r}. The nearest is:\n\n{self.found[0].text()}"
        lines = [line for each in self.found for line in wrapped(each.line(), "  ", "      ")]
        return "\n".join([f"{len(self.found)} are found by {self.asked!r}:", *lines, "Next: ./inv explain NAME"])


def explain_exactly(name: str) -> ExplainedEntries | None:
    """What is called that; None for nothing."""
    wanted = name.strip().lstrip("-")
    exact = _by_name(wanted)
    if not exact:
        return None
    is_preset = all(isinstance(entry, Preset) for entry in exact)
    also = [entry for entry in _nearest(wanted.casefold()) if entry not in exact] if is_preset else []
    return ExplainedEntries(name, tuple(map(explained, exact)), also=tuple(map(explained, also)))


def explain(name: str) -> ExplainedEntries:
    """What is called that; else what is found by that word, or is spelled nearly so. RequestError for nothing."""
    exact = explain_exactly(name)
    if exact is not None:
        return exact
    wanted = name.strip().lstrip("-")
    near = _nearest(wanted.casefold()) if wanted else []
    if not near:
        raise RequestError(
            f"No option, variable, profiling key or flag is found by {name!r}.",
            cure="./inv explain --all lists them all, and the guide's own words, such as 档位, find them too",
        )
    return ExplainedEntries(name, tuple(map(explained, near)), is_exact=False)


def explain_all() -> ExplainedEntries:
    """Every entry of every family."""
    return ExplainedEntries("", tuple(all_explanations()))


def all_explanations() -> list[ExplainedEntry]:
    """Every entry of every family, in the order of the tables."""
    return [explained(entry) for entry in (*catalogue.session_options().values(), *_further_entries())]


def _further_entries() -> list[Entry]:
    """All but the session options, whose table is by far the largest: of it, only what is asked for is read."""
    return [
        *catalogue.profiling_keys().values(),
        *catalogue.environment_variables().values(),
        *known_flags().values(),
        *catalogue.presets().values(),
    ]


def _by_name(wanted: str) -> list[Entry]:
    """The entries of that name: the option that is written just so, else all, whatever the case, with - for _ too."""
    option = catalogue.session_option(wanted)
    if option is not None:
        return [option]
    plain = _plain(wanted)
    return [
        *_options_called(name for name in catalogue.option_names() if _plain(name) == plain),
        *(entry for entry in _further_entries() if _plain(entry.name) == plain),
    ]


def _nearest(wanted: str) -> list[Entry]:
    """Those whose name or terms have the word, else those spelled nearly so, else those whose meaning has it.

    Else the word is taken for a mistyped one of those that names are made of.
    """
    plain, further = _plain(wanted), _further_entries()
    if plain in ("preset", "presets"):
        return [*catalogue.presets().values()]
    named = [name for name in catalogue.option_names() if plain in _plain(name)]
    mentioning: list[Entry] = [*catalogue.options_that_mention(wanted), *further]
    by_term = [entry for entry in mentioning if plain in _plain(entry.name) or _is_term(wanted, entry)]
    found = [*_options_called(name for name in named if name not in {entry.name for entry in by_term}), *by_term]
    if found:
        return found
    entries: dict[str, list[Entry]] = {}
    for entry in further:
        entries.setdefault(_plain(entry.name), []).append(entry)
    options = {_plain(name): name for name in catalogue.option_names()}
    close = difflib.get_close_matches(plain, {**options, **entries}, n=5, cutoff=_LIKE)
    spelled = [
        entry
        for name in close
        for entry in (*_options_called([options[name]] if name in options else []), *entries.get(name, []))
    ]
    found = spelled or [entry for entry in mentioning if wanted in entry.meaning.casefold()]
    if found:
        return found
    words = {word for name in (*options, *entries) for word in name.split("_")}
    (meant,) = difflib.get_close_matches(plain, words, n=1, cutoff=_LIKE) or [""]
    return _nearest(meant) if meant and meant != plain else []


def _options_called(names: Iterable[str]) -> list[Entry]:
    found = (catalogue.session_option(name) for name in names)
    return [option for option in found if option is not None]


def _is_term(wanted: str, entry: Entry) -> bool:
    """Whether the guide's words for it have that one, or the title of the section that it stands in."""
    words = [*getattr(entry, "terms", ()), getattr(entry, "section", "")]
    if isinstance(entry, SessionOption):
        words += catalogue.option_groups()[entry.group].terms
    return any(wanted in word.casefold() for word in words)


def _plain(name: str) -> str:
    return name.casefold().replace("-", "_")
