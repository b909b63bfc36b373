"""Files of records are replaced whole, whoever writes them at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness.records import write_text


def test_threads_may_replace_one_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: write_text(path, f"{number}\n" * 1000), range(500)))
    assert len(set(path.read_text().splitlines())) == 1 and list(tmp_path.iterdir()) == [path]
