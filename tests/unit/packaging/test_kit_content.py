"""What a kit says that its servers are to fit."""

from __future__ import annotations

from npu_serving.cann.known_adapters import KnownAdapter
from npu_serving.packaging.kit_content import fits_by_release


def test_a_kit_holds_the_needs_of_every_adapter_also_where_two_files_have_one_name_and_no_directory() -> None:
    adapters = (
        KnownAdapter("6.3.RC2", "1.0", "", ("a",)),
        KnownAdapter("/opt/one/_tf_adapter.so", "", "", ("c", "a")),
        KnownAdapter("/opt/two/_tf_adapter.so", "", "", ("b",)),
    )
    assert fits_by_release(adapters) == {"6.3.RC2": ("a",), "_tf_adapter.so": ("a", "b", "c")}
