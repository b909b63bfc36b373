"""Slots: cores, GPUs, and an inherited CUDA_VISIBLE_DEVICES."""

from __future__ import annotations

from pathlib import Path

import pytest

from fakes import make_run
from harness.cli.doctor import _missing_gpus
from harness.errors import HarnessError
from harness.executors.room import misfits
from harness.grid.prepare import slots_of, with_slots
from harness.runs.folders import RunFolder
from harness.scheduler import gpus, slots
from harness.scheduler.attempt import Attempt, End
from harness.scheduler.devices import Beside, Devices
from harness.scheduler.failures import Failure
from harness.scheduler.gpus import Gpu, parse_listing, visible_gpus
from harness.scheduler.slots import Slot, find_slots
from harness.study.load import load_study

LISTING = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-aaaa1111-0000)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-bbbb2222-0000)
  MIG 3g.20gb     Device  0: (UUID: MIG-c7384736-a75d)
  MIG 3g.20gb     Device  1: (UUID: MIG-a28ad590-3fda)
"""
TWO = (Gpu("GPU-aaaa1111-0000"), Gpu("GPU-bbbb2222-0000"))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """Pretend to have these cores and GPUs."""

    def pretend(cores: int, listed: tuple[Gpu, ...] = (), inherited: str | None = None) -> None:
        monkeypatch.setattr(slots, "core_count", lambda: cores)
        monkeypatch.setattr(slots, "listed_gpus", lambda: listed)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if inherited is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", inherited)

    return pretend


@pytest.mark.parametrize(("cores", "requested", "expected"), [(2, "auto", (2, 1)), (8, 2, (2, 4)), (1, "auto", (1, 1))])
def test_processor_slots_share_the_cores(machine, cores: int, requested, expected: tuple[int, int]) -> None:
    machine(cores)
    found = find_slots(requested, 1)
    assert (len(found), found[0].threads) == expected
    assert {slot.device for slot in found} == {"cpu"}
    assert len(found) * found[0].threads == cores


def test_gpu_slots_are_spread_over_the_gpus(machine) -> None:
    machine(16, TWO)
    assert [slot.device for slot in find_slots("auto", 2)] == [TWO[0].uuid, TWO[1].uuid] * 2
    assert find_slots(2, 2) == (Slot(0, TWO[0].uuid, 8), Slot(1, TWO[1].uuid, 8))


def test_a_mig_gpu_offers_its_instances_only() -> None:
    assert visible_gpus(None, parse_listing(LISTING)) == (
        "GPU-aaaa1111-0000",
        "MIG-c7384736-a75d",
        "MIG-a28ad590-3fda",
    )


@pytest.mark.parametrize(
    ("inherited", "expected"),
    [
        ("1", ("1",)),
        ("1,0", ("1", "0")),
        ("0,0", ("0",)),
        ("GPU-aaaa", ("GPU-aaaa1111-0000",)),
        ("GPU-bbbb", ("MIG-c7384736-a75d",)),
        ("MIG-a28,GPU-aaaa", ("MIG-a28ad590-3fda", "GPU-aaaa1111-0000")),
        ("\N{SUPERSCRIPT TWO}", ()),
        ("MIG-a28ad590-3fda", ("MIG-a28ad590-3fda",)),
        ("0,7,1", ("0",)),
        ("", ()),
        ("-1", ()),
        ("NoDevFiles", ()),
        ("GPU-elsewhere", ()),
    ],
)
def test_inherited_visible_devices(inherited: str, expected: tuple[str, ...]) -> None:
    assert visible_gpus(inherited, parse_listing(LISTING)) == expected


ONE = (Gpu("GPU-aaaa", name="A"),)
CUT = (Gpu("GPU-cccc", ("MIG-1", "MIG-2"), "A"),)


@pytest.mark.parametrize(
    ("inherited", "listed", "devices", "told"),
    [
        ("7", ONE, ("cpu",), "7 names no GPU here (nvidia-smi -L), and CUDA ignores it and what follows: "
         "runs go on the processor"),
        ("GPU-typo", ONE, ("cpu",), "GPU-typo names no GPU here"),
        ("0,9", ONE, ("GPU-aaaa",), "9 names no GPU here (nvidia-smi -L), and CUDA ignores it and what follows: "
         "runs go on GPU-aaaa alone"),
        ("0,-1,9", ONE, ("GPU-aaaa",), "9 names no GPU here"),
        ("0,-1", ONE, ("GPU-aaaa",), ""),
        ("0", (), ("cpu",), "0 names no GPU here"),
        ("0", CUT, ("MIG-1",), "0 is cut into MIG instances, of which CUDA sees MIG-1 alone; name MIG-2 too"),
        ("GPU-cccc", CUT, ("MIG-1",), "GPU-cccc is cut into MIG instances, of which CUDA sees MIG-1 alone"),
        ("GPU-cccc,MIG-2", CUT, ("MIG-1", "MIG-2"), ""),
        ("MIG-2", CUT, ("MIG-2",), ""),
        *((none, ONE, ("cpu",), "") for none in ("", "-1", "none", "NoDevFiles")),
    ],
)  # fmt: skip
def test_what_cuda_leaves_out_of_visible_devices_is_told(
    machine,
    caplog: pytest.LogCaptureFixture,
    inherited: str,
    listed: tuple[Gpu, ...],
    devices: tuple[str, ...],
    told: str,
) -> None:
    machine(16, listed, inherited)
    assert tuple(slot.device for slot in find_slots(len(devices), 1)) == devices
    assert [told in message for message in caplog.messages] == [True] * bool(told)


@pytest.mark.parametrize("inherited", ["-1", "7"])
def test_doctor_says_why_no_gpu_of_the_list_is_used(monkeypatch: pytest.MonkeyPatch, inherited: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", inherited)
    (found,) = _missing_gpus(0, TWO)
    assert found.detail == "none: runs train on the processor"
    assert ("7 names no GPU here" in found.fix) == bool(found.fix) == (inherited == "7")


def test_empty_visible_devices_means_processor(machine) -> None:
    machine(4, TWO, inherited="")
    assert {slot.torch_device for slot in find_slots("auto", 1)} == {"cpu"}


def test_environment_shows_one_gpu_or_none() -> None:
    assert Slot(0, "cpu", 2).environment["CUDA_VISIBLE_DEVICES"] == ""
    gpu = Slot(0, "MIG-1", 2)
    assert (gpu.torch_device, gpu.environment["CUDA_VISIBLE_DEVICES"]) == ("cuda", "MIG-1")
    assert gpu.environment["OMP_NUM_THREADS"] == "2"


@pytest.mark.parametrize("requested", [0, -1, 3])
def test_impossible_requests_are_the_users(machine, requested: int) -> None:
    machine(2)
    with pytest.raises(HarnessError, match=rf"slots: {requested} .*2 cores and no GPU.*1 to 2 or auto"):
        find_slots(requested, 1)


def test_numbers_that_do_not_fit_are_told_with_their_place_and_as_they_were_given(machine, tmp_path: Path) -> None:
    machine(2, TWO[:1])
    file = tmp_path / "s.yaml"
    for asked, option, said in (
        ("slots: 9", None, f"{file}:2:20: resources.slots: 9 is not possible: .*, so 1 to 1 or auto; raise"),
        ("slots: 1", 9, "^--slots 9: resources.slots: 9 is not possible: .*, so 1 to 1; raise resources.runs_per_gpu"),
        ("gpus_per_run: 4", None, f"{file}:2:27: resources.gpus_per_run: 4 is not possible"),
    ):
        file.write_text(f"study: s\nresources: {{{asked}}}\n")
        with pytest.raises(HarnessError, match=said):
            slots_of(with_slots(load_study(file), option))
    elsewhere = with_slots(load_study(file, None, ["resources.executor=slurm", "resources.gpus_per_run=1"]), 5)
    (told,) = misfits(elsewhere.resources, elsewhere.places)
    assert (told.subject, told.fix) == ("--slots 5: resources.slots", "at most 1, or ask for more in resources.slurm")


GPUS = tuple(Slot(index, f"GPU-{index % 2}", 1) for index in range(4))


def test_a_gpu_takes_a_second_run_once_the_first_has_shown_its_memory() -> None:
    assert slots.free_slot(GPUS, {}, ()) == GPUS[0]
    assert slots.free_slot(GPUS, {GPUS[0]: False}, ()) == GPUS[1]
    assert slots.free_slot(GPUS, {GPUS[0]: False, GPUS[1]: False}, ()) is None
    assert slots.free_slot(GPUS, {GPUS[0]: False, GPUS[1]: True}, ()) == GPUS[3]
    cpus = tuple(Slot(index, "cpu", 1) for index in range(2))
    assert slots.free_slot(cpus, {cpus[0]: False}, ()) == cpus[1], "the processor's memory is shared anyway"


def test_a_reserved_device_takes_nobody_else() -> None:
    assert slots.free_slot(GPUS, {GPUS[0]: True}, [GPUS[0]]) == GPUS[1]
    assert slots.free_slot(GPUS, {GPUS[0]: True, GPUS[1]: True}, [GPUS[0]]) == GPUS[3]


def test_a_run_that_ran_out_of_memory_gets_the_freest_device_to_itself(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tool = tmp_path / "nvidia-smi"
    rest = "80000, Default, Disabled"
    lines = [f"GPU-0, 1000, {rest}", f"GPU-1, 70000, {rest}", f"GPU-2, [N/A], {rest}"]
    tool.write_text("\n".join(["#!/bin/sh", *(f"echo '{line}'" for line in lines)]))
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert gpus.free_memory() == {"GPU-0": 1000, "GPU-1": 70000}
    assert slots.slot_of_its_own(GPUS, []) == GPUS[1]
    assert slots.slot_of_its_own(GPUS, [GPUS[1]]) == GPUS[0]
    assert slots.slot_of_its_own(GPUS, [GPUS[0], GPUS[1]]) is None


def attempt(slot: Slot, cell: str = "ok", seed: int = 0) -> Attempt:
    """One that has begun now, and no process."""
    return Attempt(make_run(cell, seed), slot, RunFolder(Path()), None, 0, 0)  # type: ignore[arg-type]


def ends(devices: Devices, slot: int, failure: Failure | None, beside: Beside | None = None) -> End:
    """A run that has just begun there ends so."""
    end = End("failed", failure) if failure else End("done")
    return devices.judge(attempt(GPUS[slot]), end, beside or {})


def test_a_gpu_is_closed_by_two_faults_in_a_row(caplog: pytest.LogCaptureFixture) -> None:
    devices = Devices(GPUS)
    ends(devices, 0, "device"), ends(devices, 1, "device")
    ends(devices, 0, None)
    ends(devices, 0, "device")
    assert devices.open == GPUS, "a run had ended well there"
    ends(devices, 0, "device")
    assert devices.open == (GPUS[1], GPUS[3])
    assert caplog.messages[-1].endswith("; runs go on with GPU-1")
    ends(devices, 0, "device")
    assert caplog.text.count("GPU-0 is closed") == 1, "told once"
    ends(devices, 1, "device")
    assert devices.open == () and "no device is left" in caplog.text


def test_runs_that_were_under_way_at_a_fault_died_of_the_same_one() -> None:
    devices = Devices(GPUS)
    first, second = attempt(GPUS[0]), attempt(GPUS[2])
    devices.judge(first, End("failed", "device"), {})
    devices.judge(second, End("failed", "device"), {})
    assert devices.open == GPUS, "one fault"
    ends(devices, 0, "device")
    assert devices.open == (GPUS[1], GPUS[3])


def test_the_processor_is_never_closed() -> None:
    slot = Slot(0, "cpu", 1)
    devices = Devices([slot])
    for _ in range(5):
        devices.judge(attempt(slot), End("failed", "device"), {})
    assert devices.open == (slot,)


def test_a_run_comes_last_to_the_device_that_failed_it() -> None:
    assert slots.free_slot(GPUS, {}, (), "GPU-0") == GPUS[1]
    assert slots.free_slot(GPUS, {GPUS[1]: True}, (), "GPU-0") == GPUS[3]
    assert slots.free_slot(GPUS, {GPUS[1]: False}, (), "GPU-0") == GPUS[0], "rather than wait"


def test_devices_are_named_with_their_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "listed_gpus", lambda: parse_listing(LISTING))
    a100 = "(NVIDIA A100-SXM4-40GB)"
    found = [Slot(0, "GPU-aaaa1111-0000", 1), Slot(1, "MIG-c7384736-a75d", 1), Slot(2, "GPU-aaaa1111-0000", 1)]
    assert slots.described(found) == f"GPU-aaaa1111-0000 {a100}, MIG-c7384736-a75d {a100}"
    assert slots.described([Slot(0, "GPU-aa", 1), Slot(1, "1", 1)]) == f"GPU-aa {a100}, 1"
    assert slots.described([Slot(0, "cpu", 1)]) == "the processor"


INFORMATION = "Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   \t\t 16\nGPU UUID: \t {}\nVideo BIOS: \t 96.00\n"


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without nvidia-smi whose driver tells of two GPUs, of one not fully."""
    for place, uuid in (("0000:01:00.0", "GPU-0a1b-22"), ("0000:02:00.0", "GPU-????????-????")):
        (tmp_path / "gpus" / place).mkdir(parents=True)
        (tmp_path / "gpus" / place / "information").write_text(INFORMATION.format(uuid))
    (tmp_path / "dev").mkdir()
    for name in ("nvidia0", "nvidiactl", "null"):
        (tmp_path / "dev" / name).touch()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(gpus, "_DRIVER", tmp_path / "gpus")
    monkeypatch.setattr(gpus, "_NODES", tmp_path / "dev")
    return tmp_path


def test_without_nvidia_smi_the_driver_tells_of_gpus(driver: Path) -> None:
    assert gpus.listed_gpus() == (Gpu("GPU-0a1b-22", name="NVIDIA H100 80GB HBM3"),)
    assert [slot.device for slot in find_slots("auto", 1)] == ["GPU-0a1b-22"]
    assert gpus.unusable_gpus(gpus.listed_gpus()) == ""


def test_a_gpu_that_no_run_can_be_put_on_is_told(
    driver: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(gpus, "_DRIVER", driver / "nowhere")
    assert {slot.device for slot in find_slots("auto", 1)} == {"cpu"}
    assert "has nvidia0 in" in caplog.text and "nvidia-smi is not there; runs go on the processor" in caplog.text
    tool = driver / "nvidia-smi"
    tool.write_text("#!/bin/sh\nexit 9\n")
    tool.chmod(0o755)
    assert "lists none: run it to see why" in gpus.unusable_gpus(gpus.listed_gpus())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpus.unusable_gpus(()) == "", "whoever hides the GPUs knows of them"


@pytest.mark.parametrize(
    ("by_torch", "listed", "told"),
    [(1, (), "install nvidia-smi"), (0, TWO, "install a build of torch with CUDA"), (0, (), ""), (2, TWO, None)],
)
def test_doctor_tells_of_gpus_that_are_seen_by_half(
    by_torch: int, listed: tuple[Gpu, ...], told: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    found = list(_missing_gpus(by_torch, listed))
    if told is None:
        assert found == []
    else:
        assert len(found) == 1 and told in found[0].fix and bool(found[0].fix) == bool(told)


FOUR = tuple(Gpu(f"GPU-{index}", name="A") for index in range(4))


def test_a_run_of_several_gpus_has_them_to_itself(machine, caplog: pytest.LogCaptureFixture) -> None:
    machine(16, FOUR)
    assert find_slots("auto", 1, 2) == (Slot(0, "GPU-0,GPU-1", 4, 2), Slot(1, "GPU-2,GPU-3", 4, 2))
    (slot,) = find_slots("auto", 1, 4)
    assert slot.environment["CUDA_VISIBLE_DEVICES"] == "GPU-0,GPU-1,GPU-2,GPU-3"  # as a script sees them
    assert [slot.of_rank(rank).environment["CUDA_VISIBLE_DEVICES"] for rank in range(4)] == [g.uuid for g in FOUR]
    assert slots.described([slot]) == "GPU-0 (A), GPU-1 (A), GPU-2 (A), GPU-3 (A), 4 for each run"
    assert not caplog.messages
    machine(16, FOUR[:3])
    assert find_slots("auto", 2, 2) == (Slot(0, "GPU-0,GPU-1", 4, 2), Slot(1, "GPU-0,GPU-1", 4, 2))
    assert caplog.messages == ["3 GPUs are no multiple of resources.gpus_per_run = 2: no run goes on GPU-2"]
    with pytest.raises(HarnessError, match=r"slots: 2 .* 3 GPUs x 1 run per GPU for runs of 2 GPUs each, so 1 to 1"):
        find_slots(2, 1, 2)
    with pytest.raises(HarnessError, match=r"gpus_per_run: 4 is not possible: this machine has 3 GPUs"):
        find_slots("auto", 1, 4)


def test_processes_that_share_a_run_share_the_cores(machine) -> None:
    machine(8)
    assert find_slots("auto", 1, 2) == tuple(Slot(index, "cpu", 1, 2) for index in range(4))
    assert find_slots(1, 1, 2) == (Slot(0, "cpu", 4, 2),)
    machine(1)
    assert find_slots("auto", 1, 2) == (Slot(0, "cpu", 1, 2),)
    assert slots.described(find_slots("auto", 1, 2)) == "the processor, 2 processes for each run"


def test_gpus_together_are_as_free_as_the_fullest_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "free_memory", lambda: {"a": 10, "b": 90, "c": 40, "d": 40})
    pairs = (Slot(0, "a,b", 1, 2), Slot(1, "c,d", 1, 2))
    assert slots.slot_of_its_own(pairs, []) == pairs[1]
