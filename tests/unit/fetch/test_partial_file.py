from __future__ import annotations

import threading
from pathlib import Path

from npu_serving.fetch.partial_file import claimed


def test_a_file_that_another_run_finishes_between_the_look_and_the_claim_is_not_fetched_again(tmp_path: Path) -> None:
    path, store = tmp_path / "partial" / "file", tmp_path / "store"
    path.parent.mkdir()
    path.write_bytes(b"whole")

    def looked() -> bool:
        done = store.exists()
        if not done:
            path.rename(store)  # what the other run does right after this look
        return done

    with claimed(path, done_elsewhere=looked, cancelled=threading.Event()) as partial:
        assert partial is None
    assert store.read_bytes() == b"whole"
    assert not path.exists()
