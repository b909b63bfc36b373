"""Training states on disk: going on from one is not having stopped, and a wrong file is refused."""

from __future__ import annotations

import errno
import hashlib
import json
import random
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from harness.errors import RecordError
from harness.files import write_text
from harness.models.toggles import TOGGLES
from harness.runs.folders import RunFolder
from harness.runs.record import Point
from harness.training import checkpoint
from harness.training.trainer import Trainer
from runs import settings, trainer, weights


@pytest.mark.parametrize("subset", [(), ("transform_w",), tuple(TOGGLES)], ids="+".join)
@pytest.mark.parametrize("stop", [1, 2, 4])
def test_resumed_is_uninterrupted(tmp_path: Path, subset: tuple[str, ...], stop: int) -> None:
    whole = trainer(settings(*subset))
    for step in range(6):
        if step == stop:
            checkpoint.save(whole, tmp_path, step, "run")
        whole.step(step)
    resumed = trainer(settings(*subset))
    start = checkpoint.restore(resumed, tmp_path, "run")
    for step in range(start, 6):
        resumed.step(step)
    assert start == stop
    for name, network in vars(whole.networks).items():
        assert weights(network).equal(weights(getattr(resumed.networks, name))), name
    assert whole.pl_mean.equal(resumed.pl_mean)
    for player, adam in whole.optimizers.items():
        ours, theirs = adam.state_dict()["state"], resumed.optimizers[player].state_dict()["state"]
        assert all(value.equal(theirs[index][key]) for index in ours for key, value in ours[index].items())


def test_weights_that_lie_in_another_order_in_memory_resume_as_they_are(tmp_path: Path) -> None:
    """As own layers may have them: a fused Adam takes moments and weights for arrays of one order."""

    def make() -> Trainer:
        subject = trainer(settings(r1_interval=2, pl_interval=2))
        for network in vars(subject.networks).values():
            network.to(memory_format=torch.channels_last)
        return subject

    whole, again = make(), make()
    for step in range(3):
        whole.step(step)
    checkpoint.save(whole, tmp_path, 3, "run")
    assert checkpoint.restore(again, tmp_path, "run") == 3
    orders = Counter[bool]()
    for optimizer in again.optimizers.values():
        for weight, moments in optimizer.state.items():
            orders[weight.is_contiguous()] += 1
            assert moments["exp_avg"].stride() == moments["exp_avg_sq"].stride() == weight.stride()
    assert orders[False] > 0
    for step in range(3, 6):
        whole.step(step)
        again.step(step)
    assert checkpoint.fingerprint(whole) == checkpoint.fingerprint(again)


def test_files_of_equal_tensors_have_one_hash_in_whatever_order_they_come(tmp_path: Path) -> None:
    """The header's order, and so the bytes, may differ between equal runs: hashes are compared, not files."""
    tensors = {f"layer{index}": torch.full((3,), float(index)) for index in range(40)}
    turned, other = dict(reversed(tensors.items())), {**tensors, "layer7": torch.zeros(3)}
    hashes = []
    for place, each in enumerate((tensors, turned, other)):
        checkpoint.write_tensors(tmp_path / f"{place}", each, {"run": "r"})
        with safe_open(tmp_path / f"{place}", "pt") as file:
            hashes.append(file.metadata()["sha256"])
    assert hashes[0] == hashes[1] != hashes[2]


def test_nothing_to_restore_is_step_0(tmp_path: Path) -> None:
    assert checkpoint.restore(trainer(settings()), tmp_path / "none", "run") == 0


def test_the_newest_two_are_kept_and_the_newest_is_taken(tmp_path: Path) -> None:
    subject = trainer(settings())
    for step in (1, 2, 3, 10):
        checkpoint.save(subject, tmp_path, step, "run")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000003.safetensors", "000000010.safetensors"]
    assert checkpoint.restore(subject, tmp_path, "run") == 10


def test_another_runs_state_is_refused(tmp_path: Path) -> None:
    subject = trainer(settings())
    checkpoint.save(subject, tmp_path, 1, "run")
    with pytest.raises(RecordError, match="belongs to run 'run', not 'other'"):
        checkpoint.restore(subject, tmp_path, "other")


def stepped(tmp_path: Path, *steps: int) -> Trainer:
    """A trainer that has left a state after each of these steps."""
    subject = trainer(settings("transform_w"))
    for step in range(max(steps)):
        subject.step(step)
        if step + 1 in steps:
            checkpoint.save(subject, tmp_path, step + 1, "run")
    return subject


def fingerprint(subject: Trainer) -> str:
    """Of all that a state has to bring back; by other means than the hash in the file."""
    parts = {name: network.state_dict() for name, network in vars(subject.networks).items()}
    for player, adam in subject.optimizers.items():
        parts |= {f"{player} {index}": found for index, found in adam.state_dict()["state"].items()}
    flat = {f"{part} {name}": value for part, found in parts.items() for name, value in found.items()}
    flat["pl_mean"] = subject.pl_mean
    return hashlib.md5(b"".join(flat[name].numpy().tobytes() for name in sorted(flat))).hexdigest()


def metadata(path: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads(path.read_bytes()[8 : header_end(path)])["__metadata__"]
    return found


def header_end(path: Path) -> int:
    return 8 + int.from_bytes(path.read_bytes()[:8], "little")


PLACES = {"nothing": 0, "in the length": 5, "in the header": 300, "before the last byte": -1}


@pytest.mark.parametrize("place", [*PLACES, "after the header", "amid the tensors", "a tensor short"])
def test_a_torn_state_is_moved_aside_for_the_one_before(
    place: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = fingerprint(stepped(tmp_path / "before", 2))
    stepped(tmp_path, 2, 4)
    path = tmp_path / "000000004.safetensors"
    content, end = path.read_bytes(), header_end(path)
    further = {"after the header": end, "amid the tensors": (end + len(content)) // 2, "a tensor short": -4}
    path.write_bytes(content[: {**PLACES, **further}[place]])
    resumed = trainer(settings("transform_w"))
    assert checkpoint.restore(resumed, tmp_path, "run") == 2
    assert fingerprint(resumed) == before
    assert {each.name for each in tmp_path.glob("0*")} == {"000000002.safetensors", "000000004.safetensors.damaged"}
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "000000004.safetensors: cannot be read" in record.message and "moved aside" in record.message


def test_no_flipped_byte_gives_a_state_that_was_never_written(tmp_path: Path) -> None:
    """The length, what is said of run, step and hash, and some of the rest of the header and of the tensors."""
    subject = stepped(tmp_path, 2, 4)
    sound = {4: fingerprint(subject), 2: fingerprint(stepped(tmp_path / "before", 2))}
    newest = tmp_path / "000000004.safetensors"
    content, end = newest.read_bytes(), header_end(newest)
    about = content.index(b"__metadata__")
    draw = random.Random(5)
    places = [*range(8), *range(about, about + 140, 2), *draw.sample(range(8, end), 40)]
    places += draw.sample(range(end, len(content)), 40)
    taken, resumed = Counter[int](), trainer(settings("transform_w"))
    for place in places:
        torn = bytearray(content)
        torn[place] ^= 1 << draw.randrange(8)
        newest.write_bytes(torn)
        resumed.pl_mean += 1
        step = checkpoint.restore(resumed, tmp_path, "run")
        assert fingerprint(resumed) == sound[step], f"byte {place}: {content[place]} became {torn[place]}"
        taken[step] += 1
    # A flip may hit nothing that counts, such as the case of an escape; that must be rare.
    assert taken[2] > 0.95 * taken.total() > 0


def test_of_many_flips_the_hash_cannot_be_lost(tmp_path: Path) -> None:
    """A hash under a name that nobody knows is not a file of an earlier version, which never had one."""
    stepped(tmp_path, 2, 4)
    newest = tmp_path / "000000004.safetensors"
    torn = bytearray(newest.read_bytes().replace(b'"sha256"', b'"sha356"'))
    torn[-8] ^= 64
    newest.write_bytes(torn)
    assert checkpoint.restore(trainer(settings("transform_w")), tmp_path, "run") == 2


@pytest.mark.parametrize("change", ["value", "swap", "name", "type", "shape", "run", "step"])
def test_a_tampered_state_is_not_taken(change: str, tmp_path: Path) -> None:
    """Rewritten as a valid file with the old hash: only the hash can tell."""
    stepped(tmp_path, 2, 4)
    path = tmp_path / "000000004.safetensors"
    tensors, meta = load_file(path), metadata(path)
    one, other = "adam/generator/0/exp_avg", "adam/generator/0/exp_avg_sq"
    if change == "value":
        tensors[one].view(-1)[0] += 1
    elif change == "swap":
        tensors[one], tensors[other] = tensors[other], tensors[one]
    elif change == "name":
        tensors["generator/further"] = tensors.pop(one)
    elif change == "type":
        tensors[one] = tensors[one].view(torch.int32)
    elif change == "shape":
        tensors[one] = tensors[one].reshape(-1)
    else:
        meta[change] = "3"
    save_file(tensors, path, meta)
    assert checkpoint.restore(trainer(settings("transform_w")), tmp_path, "run") == 2


def test_a_pickle_in_its_place_is_not_opened(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "sprung",)  # type: ignore[return-value]

    stepped(tmp_path, 2)
    torch.save({"generator": Trap()}, tmp_path / "000000004.safetensors")
    assert checkpoint.restore(trainer(settings("transform_w")), tmp_path, "run") == 2
    assert not (tmp_path / "sprung").exists()


def test_a_folder_in_its_place_is_moved_aside_too(tmp_path: Path) -> None:
    stepped(tmp_path, 2)
    (tmp_path / "000000004.safetensors").mkdir()
    assert checkpoint.restore(trainer(settings("transform_w")), tmp_path, "run") == 2


def test_with_none_left_the_run_starts_over_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stepped(tmp_path, 2, 4)
    for path in tmp_path.glob("0*"):
        path.write_bytes(path.read_bytes()[:-1])
    resumed = trainer(settings("transform_w"))
    first = fingerprint(resumed)
    assert checkpoint.restore(resumed, tmp_path, "run") == 0
    assert fingerprint(resumed) == first, "untouched by what was damaged"
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 3
    assert "starting from step 0" in caplog.messages[-1]


def test_damaged_ones_are_not_counted_among_the_two_that_are_kept(tmp_path: Path) -> None:
    subject = stepped(tmp_path, 2, 4)
    (tmp_path / "000000004.safetensors").write_bytes(b"")
    checkpoint.restore(subject, tmp_path, "run")
    checkpoint.save(subject, tmp_path, 3, "run")
    assert {path.name for path in tmp_path.glob("*.safetensors")} == {"000000002.safetensors", "000000003.safetensors"}


def test_a_state_of_an_earlier_version_has_no_hash_and_is_taken(tmp_path: Path) -> None:
    subject = stepped(tmp_path, 4)
    path = tmp_path / "000000004.safetensors"
    save_file(load_file(path), path, {"run": "run", "step": "4"})
    resumed = trainer(settings("transform_w"))
    assert checkpoint.restore(resumed, tmp_path, "run") == 4 and fingerprint(resumed) == fingerprint(subject)
    with pytest.raises(RecordError, match="belongs to run 'run', not 'other'"):
        checkpoint.restore(resumed, tmp_path, "other")


def test_a_state_of_other_networks_is_not_taken_in_part(tmp_path: Path) -> None:
    checkpoint.save(trainer(settings()), tmp_path, 1, "run")
    subject = trainer(settings("separate_features"))
    first = fingerprint(subject)
    assert checkpoint.restore(subject, tmp_path, "run") == 0 and fingerprint(subject) == first


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    stepped(tmp_path, 2)
    for name in (".000000004.safetensors.4711-0a1b2c3d.tmp", ".000000004.safetensors.4711"):
        (tmp_path / name).write_bytes(b"half")
    checkpoint.restore(trainer(settings("transform_w")), tmp_path, "run")
    assert [path.name for path in tmp_path.iterdir()] == ["000000002.safetensors"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for two states of `stepped` and a half."""
    stepped(tmp_path / "sized", 1)
    size = (tmp_path / "sized" / "000000001.safetensors").stat().st_size
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size * 5 // 2}", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_leaves_the_earlier_states(small_disk: Path) -> None:
    subject = stepped(small_disk, 1, 2)
    kept = fingerprint(subject)
    before = {path.name: path.read_bytes() for path in small_disk.iterdir()}
    subject.step(2)
    with pytest.raises(OSError, match="No space left") as caught:
        checkpoint.save(subject, small_disk, 3, "run")
    assert caught.value.errno == errno.ENOSPC and "000000003.safetensors" in str(caught.value)
    assert {path.name: path.read_bytes() for path in small_disk.iterdir()} == before
    assert checkpoint.restore(subject, small_disk, "run") == 2 and fingerprint(subject) == kept
    (small_disk / "000000001.safetensors").unlink()
    checkpoint.save(subject, small_disk, 3, "run")
    assert checkpoint.restore(subject, small_disk, "run") == 3


def test_a_point_that_has_no_room_is_not_there_in_part(small_disk: Path) -> None:
    folder, written = RunFolder(small_disk), 0
    (small_disk / "filler").write_bytes(bytes(shutil.disk_usage(small_disk).free - 2 * 4096))
    long = {f"metrics/{index:09d}": 0.1 for index in range(37)}
    with pytest.raises(OSError, match="No space left"):
        for step in range(1000):
            folder.append(Point(step, 0.0, 0.0, long))
            written += 1
    assert written > 0 and (small_disk / "metrics.jsonl").read_text().endswith("}\n")
    assert [point.step for point in folder.points()] == list(range(written))


def test_a_file_that_has_no_room_leaves_the_old_one_alone(small_disk: Path) -> None:
    write_text(small_disk / "status.json", "old")
    free = shutil.disk_usage(small_disk).free
    with pytest.raises(OSError, match="No space left"):
        write_text(small_disk / "status.json", "new" * free)
    assert [path.name for path in small_disk.iterdir()] == ["status.json"]
    assert (small_disk / "status.json").read_text() == "old"


def test_the_projection_of_unequal_widths_is_in_the_file(tmp_path: Path) -> None:
    checkpoint.save(trainer(settings(*TOGGLES)), tmp_path, 1, "run")
    stored = load_file(tmp_path / "000000001.safetensors")["projection"]
    torch.testing.assert_close(stored.T @ stored, torch.eye(8, dtype=torch.float64))
