"""The link of a server without the adapter: the command of one with it, its own words taken out."""

from __future__ import annotations

from collections.abc import Iterable

from npu_serving.linking.link_command import FOR_THE_LINKER, LinkWords


def plain_link(words: LinkWords, replaced: Iterable[str]) -> LinkWords:
    """The words without those for the files `replaced`: libraries behind `-l`, linker scripts, lists of symbols.

    What is left links a server that needs none of them and exports nothing for an adapter.
    """
    names = set(replaced)
    for name in list(names):
        library = name.rpartition("/")[2]
        if library.startswith("lib") and ".so" in library:
            names |= {f"-l{library[len('lib') :].partition('.so')[0]}", f"-l:{library}"}
    return LinkWords(
        tuple(word for word in words.command if not _names(word, names)),
        tuple(line for line in words.parameters if not _names(line, names)),
    )


def _names(word: str, names: set[str]) -> bool:
    parts = word[len(FOR_THE_LINKER) :].split(",") if word.startswith(FOR_THE_LINKER) else [word]
    return any(part in names or part.partition("=")[2] in names for part in parts)
