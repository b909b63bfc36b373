"""What is known of GPUs: by nvidia-smi, by their numbers, by records of runs; and what the doctor says of them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from fakes import make_run
from harness.cli import doctor_gpus
from harness.cli.doctor_gpus import gpu_findings
from harness.errors import HarnessError
from harness.runs.folders import RunFolder
from harness.runs.machine import Machine
from harness.runs.record import Result
from harness.scheduler import slots as slots_module
from harness.scheduler.gpus import Card, Gpu, card_of, cards, listed_gpus, visible_gpus
from harness.scheduler.memory import GpuMemory, Held, held_before
from harness.scheduler.slots import find_slots
from harness.study.load import load_study
from nvidia_tools import NVIDIA, Nvidia

GPU = "GPU-aaaa-0001"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Nvidia:
    """With one GPU of 24 GiB."""
    return Nvidia(tmp_path / NVIDIA, monkeypatch, {GPU: 24_000})


MIG_XML = """<?xml version="1.0" ?>
<nvidia_smi_log><gpu id="0"><uuid>GPU-bbbb-0002</uuid><compute_mode>Default</compute_mode>
<fb_memory_usage><total>N/A</total><free>N/A</free></fb_memory_usage>
<mig_devices>
<mig_device><fb_memory_usage><total>20096 MiB</total><free>19000 MiB</free></fb_memory_usage></mig_device>
<mig_device><fb_memory_usage><total>9856 MiB</total><free>9000 MiB</free></fb_memory_usage></mig_device>
</mig_devices></gpu></nvidia_smi_log>
"""
MIG_LIST = """GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-bbbb-0002)
  MIG 3g.20gb     Device  0: (UUID: MIG-c738)
  MIG 1g.10gb     Device  1: (UUID: MIG-a28a)
"""


class TestDevices:
    def test_instances_of_a_gpu_have_memory_of_their_own(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        Nvidia(tmp_path / NVIDIA, monkeypatch, {"GPU-bbbb-0002": 40_000}, listing=MIG_LIST, xml=MIG_XML)
        found = cards()
        assert found == {
            "MIG-c738": Card(19_000, 20_096, "Default", "Enabled"),
            "MIG-a28a": Card(9000, 9856, "Default", "Enabled"),
        }
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
        assert [card_of(slot.device, found) for slot in find_slots("auto", 1)] == [found["MIG-c738"]], "as CUDA has it"
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
        assert card_of("MIG-c738,MIG-a28a", found) == found["MIG-a28a"] and card_of("MIG-ffff", found) is None
        monkeypatch.setattr(slots_module, "core_count", lambda: 12)
        assert [slot.device for slot in find_slots("auto", "auto")] == ["MIG-c738", "MIG-a28a"] * 3
        memory = GpuMemory({"full": Held(4000, "full seed 0")})
        assert memory.in_words(["full"], "MIG-c738", 3).startswith("3 runs a GPU; 5.3 GiB each")
        assert memory.in_words(["full"], "MIG-a28a", 3).startswith("1 run a GPU; 5.3 GiB each")

    def test_numbers_become_names_where_it_is_certain_which_gpu_cuda_means(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        alike = (Gpu("GPU-a", name="A100"), Gpu("GPU-b", name="A100"))
        mixed = (alike[0], Gpu("GPU-c", name="T4"))
        monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
        assert visible_gpus("1,0", alike) == ("GPU-b", "GPU-a") and visible_gpus("1,GPU-b", alike) == ("GPU-b",)
        assert visible_gpus("1", mixed) == ("1",), "CUDA begins with the fastest"
        Nvidia(tmp_path / NVIDIA, monkeypatch, {"GPU-a": 40_000, "GPU-c": 16_000})
        assert card_of("1", cards()) is None, "nobody knows whose memory that is"
        told = GpuMemory({"full": Held(4000, "full seed 0")}).in_words(["full"], "1", 3)
        assert told == "1 run a GPU, as nobody tells its memory"
        assert visible_gpus("0", mixed[1:]) == ("GPU-c",)
        monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
        assert visible_gpus("1", mixed) == ("GPU-c",)
        assert visible_gpus("", alike) == visible_gpus("-1", alike) == visible_gpus("5,0", alike) == ()

    def test_slots_of_auto_are_as_many_as_the_cores_can_feed(
        self, machine: Nvidia, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for cores, expected in ((1, 1), (4, 2), (16, 8), (64, 8)):
            monkeypatch.setattr(slots_module, "core_count", lambda cores=cores: cores)
            assert len(find_slots("auto", "auto")) == expected
        assert len(find_slots(3, "auto")) == 3
        with pytest.raises(HarnessError, match=r"1 GPU x 8 runs per GPU, so 1 to 8"):
            find_slots(9, "auto")


class TestRecords:
    """What finished runs tell of memory, on a GPU of the same model."""

    @pytest.mark.parametrize(
        ("device", "memory_mib", "expected"),
        [
            ("NVIDIA H100 80GB HBM3", 3000.0, 3000.0),
            ("NVIDIA H100 80GB HBM3", 0.0, 2000 * 1.25),
            ("NVIDIA H100 80GB HBM3 MIG 3g.40gb", 3000.0, 3000.0),
            ("AMD EPYC 7543", 0.0, None),
            ("NVIDIA A100-SXM4-40GB", 3000.0, None),
            ("2 x NVIDIA H100 80GB HBM3", 3000.0, None),
        ],
    )
    def test_memory_of_the_same_model_counts(
        self, machine: Nvidia, tmp_path: Path, device: str, memory_mib: float, expected: float | None
    ) -> None:
        run = make_run("full", 3)
        folder = RunFolder(tmp_path / run.id)
        folder.create(replace(run, machines=(Machine("n1", device, {}),)))
        folder.update(state="done", memory_mib=memory_mib)
        cost = {"peak_memory_training_mb": 1500.0, "peak_memory_measuring_mb": 2000.0}
        folder.finish(Result({"fd": 1.0}, {}, cost))
        found = held_before(tmp_path, [run, make_run("full", 4), make_run("origin")], 1)
        assert found == ({} if expected is None else {"full": Held(expected, "full seed 3")})


def test_doctor_refuses_what_a_grid_would_refuse(tmp_path: Path, machine: Nvidia) -> None:
    study = tmp_path / "s.yaml"
    for asked, said in (("slots: 9", "so 1 to 1 or auto"), ("gpus_per_run: 4", "gpus_per_run: 4 is not possible")):
        study.write_text(f"study: s\nresources: {{{asked}}}\n")
        (_, sharing, _) = gpu_findings(load_study(study), listed_gpus())
        assert said in sharing.fix
        (_, elsewhere, _) = gpu_findings(load_study(study, None, ["resources.executor=slurm"]), listed_gpus())
        assert not elsewhere.fix, "the machine of the workers may have more"


def test_doctor_tells_of_each_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: Nvidia) -> None:
    listed = listed_gpus()
    first, sharing, _ = gpu_findings(None, listed)
    assert first.detail == ("NVIDIA H100 80GB HBM3, 23.4 of 23.4 GiB free, compute mode Default, MIG disabled")
    assert sharing.detail.endswith("each has its GPU to itself")
    study = tmp_path / "s.yaml"
    study.write_text("study: s\nresources: {runs_per_gpu: 3}\n")
    (_, sharing, _) = gpu_findings(load_study(study), listed)
    assert "3 a GPU (resources.runs_per_gpu); how many would fit shows once one has trained; no MPS" in sharing.detail
    for slots, expected in ((2, "2 a GPU (resources.slots); "), (1, "1 a GPU (resources.slots); ")):
        (_, sharing, _) = gpu_findings(load_study(study, None, [f"resources.slots={slots}"]), listed)
        assert sharing.detail.startswith(expected)
    machine.with_mps()
    (_, sharing, _) = gpu_findings(load_study(study), listed)
    assert sharing.detail.endswith("by MPS, which is started for them")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    (left_out,) = gpu_findings(None, listed)
    assert "left out, as CUDA_VISIBLE_DEVICES is ''" in left_out.detail
    (machine.folder / "cards").write_text(f"0,{GPU},24000,Prohibited,Disabled\n")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert "-c DEFAULT" in next(gpu_findings(None, listed)).fix


def test_the_doctor_says_whether_kernels_can_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}" if name == "clang" else None)
    assert "/bin/clang" in doctor_gpus._kernels().detail or find_spec("triton") is None
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "C compiler" in doctor_gpus._kernels().detail or find_spec("triton") is None
    monkeypatch.setattr(doctor_gpus, "find_spec", lambda name: None)
    assert "Triton is not installed" in doctor_gpus._kernels().detail
