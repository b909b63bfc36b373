"""Files of tensors: what is read is what was written, to the last name and shape."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from fuzz import examples
from harness.training import checkpoint

WRITTEN = {
    "a": torch.arange(6.0).reshape(2, 3),
    "b": torch.tensor([1, 2, 3], dtype=torch.int64),
    "c": torch.tensor(0.5),
    "d": torch.arange(4, dtype=torch.bfloat16)[::2],
    "e": torch.empty(0, 3),
}
META = {"run": "0123", "step": "7"}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        (tensor.dtype, tensor.shape) == (other[name].dtype, other[name].shape) and tensor.equal(other[name])
        for name, tensor in one.items()
    )


def test_everything_comes_back(tmp_path: Path) -> None:
    checkpoint.write_tensors(tmp_path / "file", WRITTEN, META)
    found, meta = checkpoint.read_tensors(tmp_path / "file")
    assert same(found, WRITTEN) and meta == META
    assert same(load_file(tmp_path / "file"), WRITTEN), "as any reader of safetensors sees it"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("odd", ["", 'é \u2028 \x7f \x01 \\ "', "\U0001f600" * 50], ids=["plain", "escapes", "wide"])
def test_equal_files_have_equal_bytes(odd: str, tmp_path: Path) -> None:
    """safetensors draws the order of the metadata anew each time; of nine entries two draws are hardly ever alike."""
    meta = {f"key {number} {odd}": f"{number}{odd}" for number in range(8)}
    for name in ("one", "other"):
        checkpoint.write_tensors(tmp_path / name, WRITTEN, meta)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    found, noted = checkpoint.read_tensors(tmp_path / "one")
    assert same(found, WRITTEN) and noted == meta
    assert same(load_file(tmp_path / "one"), WRITTEN), "as any reader of safetensors sees it"


CHANGES = {
    "value": {"a": WRITTEN["a"] + 1},
    "name": {"a": None, "aa": WRITTEN["a"]},
    "shape": {"a": WRITTEN["a"].reshape(3, 2)},
    "type": {"a": WRITTEN["a"].view(torch.int32)},
    "less": {"e": None},
    "more": {"f": torch.empty(0)},
}


@pytest.mark.parametrize("change", [*CHANGES, "run", "step", "further", "hash"])
def test_a_valid_file_of_something_else_under_the_old_hash_is_damaged(change: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    checkpoint.write_tensors(path, WRITTEN, META)
    with safe_open(path, framework="pt") as file:
        meta = file.metadata()
    further = {"run": {"run": "4567"}, "step": {"step": "8"}, "further": {"by": "me"}, "hash": {"sha256": "0" * 64}}
    changed = {name: tensor for name, tensor in {**WRITTEN, **CHANGES.get(change, {})}.items() if tensor is not None}
    save_file({name: tensor.contiguous() for name, tensor in changed.items()}, path, meta | further.get(change, {}))
    with pytest.raises(checkpoint.Damaged, match="not what was written"):
        checkpoint.read_tensors(path)


@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 255)), min_size=1, max_size=4), st.integers(0, 10_000))
@pytest.mark.fuzz
@hypothesis_settings(
    max_examples=examples(300), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_bytes_changed_anywhere_are_seen_or_change_nothing(
    tmp_path: Path, flips: list[tuple[int, int]], cut: int
) -> None:
    path = tmp_path / "file"
    checkpoint.write_tensors(path, WRITTEN, META)
    content = bytearray(path.read_bytes())
    for place, bits in flips:
        content[place % len(content)] ^= bits
    path.write_bytes(content[: len(content) - cut] if cut < len(content) // 2 else content)
    try:
        found, meta = checkpoint.read_tensors(path)
    except checkpoint.Damaged:
        return
    assert same(found, WRITTEN) and meta == META
