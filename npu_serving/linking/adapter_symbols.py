"""What the final link is given of an adapter beside the library: the symbols that are linked in, and those exported.

A build writes both into the tree, a relink kit beside its members; the linker gets the same from both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Callable

from npu_serving.cann.known_adapters import needed_of_server
from npu_serving.elf.compat import undefined_needs
from npu_serving.errors import AdapterError, UnwritableValueError
from npu_serving.writers.linker_script import dynamic_list, extern_script

if TYPE_CHECKING:
    from npu_serving.elf.symbols import ElfFile


def symbols_script(adapter: ElfFile | None, others: Iterable[Iterable[str]] = ()) -> str:
    """A linker script that asks for what `adapter` needs of others, and what each of the others needs of the server, so
    that archive members with it are linked in. Without an adapter it asks for the others' alone.

    No linker minds a name that nothing defines. AdapterError for a symbol that no script can hold.
    """
    comment = "Written by npu-serving: what the adapters need of the program that loads them, or of CANN."
    return _written(extern_script, undefined_needs, adapter, others, comment)


def exports_list(adapter: ElfFile | None, others: Iterable[Iterable[str]] = ()) -> str:
    """A list for --dynamic-list of what `adapter` and each of the others need of the server, which then exports it.

    A linker exports by itself only what the libraries on its command line need. Nothing else is listed: what the server
    exports comes before what libraries define, and its protobuf would stand in for CANN's own. AdapterError as
    symbols_script().
    """
    comment = "Written by npu-serving: what the adapters that the server fits need of it."
    return _written(dynamic_list, needed_of_server, adapter, others, comment)


def _written(
    write: Callable[[Iterable[str], str], str],
    needs: Callable[[ElfFile], Iterable[str]],
    adapter: ElfFile | None,
    others: Iterable[Iterable[str]],
    comment: str,
) -> str:
    def symbols() -> Iterator[str]:
        if adapter is not None:
            yield from needs(adapter)
        for of_other in others:
            yield from of_other

    try:
        return write(sorted(set(symbols())), comment)
    except UnwritableValueError as error:
        of = adapter.path if adapter is not None else "A known adapter"
        raise AdapterError(
            f"{of} needs a symbol with an invalid name ({error.what}).",
            cause="the file is damaged",
            cure="install the CANN package again",
        ) from error
