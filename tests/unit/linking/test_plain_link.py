"""The link of a server without an adapter: what is only there for the adapter is taken out, all else stays in order."""

from __future__ import annotations

from npu_serving.linking.link_command import LinkWords, with_parameter_file
from npu_serving.linking.plain_link import plain_link

REPLACED = (
    "bazel-out/bin/_solib/lib_tf_adapter.so",
    "bazel-out/bin/_solib/libpython3.7m.so",
    "third_party/tf_adapter/needed_symbols.lds",
    "third_party/tf_adapter/exported_symbols.lds",
)


def test_the_adapters_words_are_taken_out_and_all_others_stay_in_order() -> None:
    command = (
        "gcc", "-o", "server", "-Lbazel-out/bin/_solib", "-Wl,--no-as-needed", "-Wl,-l_tf_adapter",
        "-Wl,third_party/tf_adapter/needed_symbols.lds",
        "-Wl,--dynamic-list=third_party/tf_adapter/exported_symbols.lds",
        "-Wl,-lpython3.7m", "-fuse-ld=gold", "-Wl,@server.params", "-lstdc++",
    )  # fmt: skip
    parameters = ("main.o", "--start-lib", "python3.7m.o", "--end-lib", "-l_tf_adapter", "-lpython3.7m", "-lpthread")

    plain = plain_link(LinkWords(command, parameters), REPLACED)

    assert plain.parameters == ("main.o", "--start-lib", "python3.7m.o", "--end-lib", "-lpthread")
    assert plain.command == (
        "gcc", "-o", "server", "-Lbazel-out/bin/_solib", "-Wl,--no-as-needed", "-fuse-ld=gold", "-Wl,@server.params",
        "-lstdc++",
    )  # fmt: skip


def test_the_parameter_file_is_named_anew_where_there_is_one() -> None:
    assert with_parameter_file(("gcc", "-Wl,@a/b", "@c"), "new") == ("gcc", "-Wl,@a/b", "@new")
    assert with_parameter_file(("gcc", "-Wl,@a/b", "x.o"), "new") == ("gcc", "-Wl,@new", "x.o")
    assert with_parameter_file(("gcc", "x.o"), "new") == ("gcc", "x.o")
