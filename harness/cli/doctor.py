"""What this machine can do, and what is missing for a study."""

from __future__ import annotations

import logging
import os
import platform
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from harness import cache, limits
from harness.cli.complete import DEFAULT_STUDY
from harness.cli.doctor_gpus import gpu_findings
from harness.cli.doctor_study import code_findings, command_findings, pack_findings
from harness.cli.engines import engines
from harness.errors import HarnessError
from harness.finding import Finding
from harness.frozen_networks import encoders_read, network_kind
from harness.runs import initial
from harness.scheduler.gpus import Gpu, listed_gpus, unusable_gpus, visible_gpus
from harness.settings import DataConfig
from harness.study.schema import Study, apply_toggles
from harness.text import quantity

if TYPE_CHECKING:
    from harness.models.encoders import Encoder
    from harness.settings import Settings

GIB = 2**30
CPU_INFO = Path("/proc/cpuinfo")
BF16_UNITS = {"avx512_bf16": "AVX-512 BF16", "amx_bf16": "AMX", "bf16": "ARM BF16"}
"""Linux's name of a processor's instructions that multiply bf16, and what they are called."""
LOW_DISK = 2 * GIB
"""What prepared data, features and checkpoints of a small study take."""


def examine(study: Study | None) -> list[Finding]:
    """The machine, the installed packages and encoders, and what `study` needs of them."""
    if study is None:
        none = f"there is no {DEFAULT_STUDY} here; name a study file to see what it needs"
        needs = [Finding("study", none, is_used=False), _data(DataConfig(resolution=64))]
    else:
        needs = [*pack_findings(study, _needs(study)), *code_findings(study), *command_findings(study)]
    return [*_machine(study), *_embedded(), *_origins(), *needs, *engines(study)]


def _machine(study: Study | None) -> Iterator[Finding]:
    import psutil
    import torch

    yield Finding("python", f"{platform.python_version()} ({sys.executable})")
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
    yield Finding("torch", f"{torch.__version__}, built with {build}")
    listed = listed_gpus()
    yield from gpu_findings(study, listed)
    yield from _missing_gpus(torch.cuda.device_count(), listed)
    yield from _processor(study, on_gpu=bool(listed and torch.cuda.device_count()))
    memory, machine = limits.memory(), psutil.virtual_memory().total
    limited = f", as this container or job is limited; the machine has {machine / GIB:.1f} GiB"
    room = f"{memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB free"
    yield Finding("memory", room + limited * (memory.total < machine))
    for subject, folder in (("runs", study.path.parent if study else Path.cwd()), ("cache", cache.root())):
        existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
        free = shutil.disk_usage(existing).free
        fix = f"make room; less than {LOW_DISK / GIB:g} GiB is too little for a study" if free < LOW_DISK else ""
        yield Finding(f"disk, {subject}", f"{free / GIB:.1f} GiB free in {folder}", fix)


def _processor(study: Study | None, on_gpu: bool) -> Iterator[Finding]:
    flags = _processor_flags()
    units = [name for flag, name in BF16_UNITS.items() if flag in flags]
    cores, bf16 = quantity(limits.core_count(), "core"), f", bf16 by {' and '.join(units)}" * bool(units)
    yield Finding("processor", f"{cores} for this process{bf16}")
    cells = [apply_toggles(study, cell.toggles) for cell in study.layout.cells] if study else []
    for setting in ("train.precision", "encoders.precision"):
        if flags and not units and not on_gpu and any(cell.flat[setting] == "bf16" for cell in cells):
            *most, last = BF16_UNITS.values()
            why = f"this processor has no {', '.join(most)} or {last}"
            yield Finding(setting, f"bf16 is slower than fp32 here: {why}", caveat=True)


def _processor_flags() -> set[str]:
    """What Linux lists of the processor's instructions; empty where it does not."""
    with suppress(OSError):
        for line in CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(("flags", "Features")):  # of Intel and AMD, of ARM
                return set(line.partition(":")[2].split())
    return set()


def _missing_gpus(by_torch: int, listed: Sequence[Gpu]) -> Iterator[Finding]:
    """Why runs cannot use the GPUs of this machine: torch and nvidia-smi must both list them."""
    counts = f"nvidia-smi lists {len(listed)}, torch finds {by_torch}"
    if by_torch and not listed:
        fix = "install nvidia-smi, which comes with the driver: runs are put on the GPUs that it lists"
        yield Finding("GPU", f"{counts}: runs train on the processor", fix)
    elif visible_gpus(os.environ.get("CUDA_VISIBLE_DEVICES"), listed) and not by_torch:
        fix = "install a build of torch with CUDA for this driver, or set CUDA_VISIBLE_DEVICES= to train without GPU"
        yield Finding("GPU", f"{counts}: runs will fail", fix)
    elif not by_torch:
        yield Finding("GPU", "none: runs train on the processor", unusable_gpus(listed))
    elif warning := unusable_gpus(listed):
        yield Finding("GPU", warning, caveat=True)


def _embedded() -> Iterator[Finding]:
    from harness.models.encoders import EMBEDDED
    from harness.models.encoders.load import load_clip, load_resnet

    for name, kind in EMBEDDED.items():
        subject = f"embedded:{name}"
        try:
            loaded = (load_clip if kind == "clip" else load_resnet)(subject)
            yield Finding(subject, f"{loaded.dim} features, weights {loaded.fingerprint}")
        except (ValueError, OSError) as error:
            yield Finding(subject, "cannot be used", str(error))


def _origins() -> Iterator[Finding]:
    from harness.training.checkpoint import Damaged, read_tensors

    for name in initial.ORIGINS:
        subject = f"embedded:{name}"
        try:
            source = initial.find(subject, Path())
            read_tensors(source.path)
            yield Finding(subject, f"a trained origin for `init`, weights {source.fingerprint}")
        except (HarnessError, Damaged, OSError) as error:
            yield Finding(subject, "cannot be used", str(error))


def _needs(study: Study) -> Iterator[Finding]:
    settings = [apply_toggles(study, cell.toggles) for cell in study.layout.cells]
    yield _data(study.settings.data)
    yield from _captions(study.settings.data, settings)
    for path, name in dict.fromkeys(item for each in settings for item in encoders_read(each).items()):
        yield _encoder(path, name)


def _data(config: DataConfig) -> Finding:
    from harness.data.listing import Listing
    from harness.data.prepare import prepared_folder

    subject = f"data {config.path or config.source}"
    try:
        listing = Listing(config)
        state = "prepared" if prepared_folder(listing, cache.root()) else "not yet prepared"
        left_out = "".join(f"; {line}" for line in listing.left_out)
        kept = config.uncaptioned == "keep" and listing.uncaptioned
        lacking = f", {kept:,} of them without a caption" if kept else ""
        images = f"{quantity(len(listing.records), 'image')}{lacking}"
        return Finding(subject, f"{images}, {state} at {config.resolution} px{left_out}")
    except HarnessError as error:
        return Finding(subject, "cannot be used", str(error))


def _captions(config: DataConfig, settings: list[Settings]) -> Iterator[Finding]:
    """The file of captions; captions that are missing or that the CLIPs cannot tell apart, of data that is prepared."""
    from harness.data.dataset import fingerprint
    from harness.data.listing import Listing
    from harness.data.prepare import prepared_folder
    from harness.metrics import captions

    if path := settings[0].metrics.captions:
        try:
            yield Finding(captions.GIVEN, f"{quantity(len(captions.read_captions(path)), 'caption')} in {path}")
        except HarnessError as error:
            yield Finding(captions.GIVEN, "cannot be used", str(error))
    with suppress(HarnessError):  # `_data` reports it
        if prepared_folder(Listing(config), cache.root()):
            data = fingerprint(config, cache.root())
            remarks = (captions.of_settings(data, each) for each in dict.fromkeys(map(captions.relevant, settings)))
            yield from (Finding("captions", text, caveat=True) for text in dict.fromkeys(chain.from_iterable(remarks)))


def _encoder(path: str, name: str) -> Finding:
    from harness.models import encoders
    from harness.models.encoders import files

    try:
        encoders.check(name, network_kind(path))
        encoder = encoders.parse(name)
    except (ValueError, OSError) as error:
        return Finding(path, name, str(error))
    if encoder.family == "embedded":
        return Finding(path, name)
    if encoder.file:
        size = f"{name}, {_size(encoder.weights)}" if encoder.weights else name
        return Finding(path, size, files.refusal(encoder))
    if encoder.family in ("torchvision", "torch_fidelity"):
        return _by_url(path, name, encoder)
    return _download(path, name, encoder)


def _by_url(path: str, name: str, encoder: Encoder) -> Finding:
    """Weights that come from a web address: whether they are there and undamaged, else where to put them."""
    from harness.models.encoders import files

    try:
        file = files.published(encoder)
        if file.path.is_file():
            files.check_content(file.path)
            return Finding(path, f"{name}, {_size(file.path)} in {file.path.parent}")
    except ValueError as error:
        return Finding(path, name, str(error))
    fix = f"{file.url} ({file.mib:.0f} MiB) is fetched to {file.path} on first use; without a network put it there"
    return Finding(path, f"{name}, not downloaded", f"{fix}, or name a local file: {name}@FILE")


def _size(file: Path) -> str:
    return f"{file.stat().st_size / 2**20:.0f} MiB"


def _download(path: str, name: str, encoder: Encoder) -> Finding:
    """Weights that the library fetches from the Hugging Face hub: whether they are there, else where to put them."""
    from huggingface_hub.constants import HF_HUB_CACHE

    repository = _repository(encoder)
    if not repository:
        return Finding(path, name, f"{name!r} is not known to {encoder.family}; name a model and weights that it lists")
    folder = Path(HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
    files = [file for kind in ("safetensors", "bin") for file in folder.glob(f"snapshots/*/*.{kind}")]
    if files:
        return Finding(path, f"{name}, {_size(max(files, key=lambda file: file.stat().st_size))} in {folder}")
    local = f"a local copy of the repository: {name}@FOLDER" if encoder.repository else f"a local file: {name}@FILE"
    fix = f"{repository}{_about(encoder)} is fetched into {folder} on first use; without a network name {local}"
    return Finding(path, f"{name}, not downloaded", fix)


def _about(encoder: Encoder) -> str:
    """The size of a network that is not here, computed from its architecture; empty if only the hub has that."""
    if encoder.repository:
        return ""
    import open_clip
    import timm
    import torch

    logging.disable(logging.WARNING)  # open_clip warns that a network has no weights, which is the point here
    try:
        with torch.device("meta"):
            if encoder.family == "open_clip":
                network = open_clip.create_model(encoder.model, pretrained=None, device="meta")
            else:
                network = timm.create_model(encoder.model, pretrained=False)
    finally:
        logging.disable(logging.NOTSET)
    return f" (about {sum(part.numel() for part in network.parameters()) * 4 / 2**20:,.0f} MiB)"


def _repository(encoder: Encoder) -> str:
    if encoder.repository:
        return encoder.repository
    if encoder.family == "open_clip":
        import open_clip

        file = str(open_clip.get_pretrained_cfg(encoder.model, encoder.tag).get("hf_hub", ""))
        return "/".join(file.split("/")[:2])
    import timm

    try:
        return str(timm.models.get_pretrained_cfg(encoder.model).hf_hub_id or "")
    except RuntimeError:
        return ""
