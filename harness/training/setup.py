"""From settings to all that a run needs in memory. Whatever can be computed once comes from the cache."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from harness import cache
from harness.data import dataset as data
from harness.data import features
from harness.data.batches import Corpus
from harness.data.caption_counts import content
from harness.data.dataset import Dataset
from harness.data.features import CaptionFeatures, load_image
from harness.data.token_features import caption_tokens
from harness.errors import DataError, HarnessError, MissingWeights
from harness.frozen_networks import encoders_read, frozen_networks, reads
from harness.ideas.load import OwnIdeas
from harness.metrics.captions import GIVEN, read_captions
from harness.metrics.manifest import Manifest, make_manifest
from harness.metrics.measure import References, load_references
from harness.models import encoders
from harness.models.build import Shapes, build
from harness.models.kernels import kernels
from harness.models.objective import Kind
from harness.models.precision import same_every_time
from harness.processes import keep_freed_memory
from harness.rng import torch_generator
from harness.runs.record import Run
from harness.settings import Settings
from harness.training.samples import SampleGrid, make_grid
from harness.training.trainer import Guide, Trainer


@dataclass(frozen=True)
class Prepared:
    """Everything of a run but its weights."""

    settings: Settings
    corpus: Corpus
    manifest: Manifest
    references: References
    grid: SampleGrid
    device: str
    ideas: OwnIdeas

    def trainer(self, seed: int) -> Trainer:
        """A trainer at step 0, its first weights drawn from `seed`."""
        shapes = Shapes(self.settings.data.resolution, self.corpus.text_dim)
        with self.ideas.explained("building the networks"):
            networks = build(
                self.settings, shapes, lambda name: torch_generator(seed, f"init {name}"), self.ideas.modules()
            )
        for network in vars(networks).values():
            network.to(self.device)
        assert self.references.guide is not None  # only a script trains without
        guides: dict[Kind, Guide] = {"f_c": self.references.guide}
        for kind, network in frozen_networks(self.settings).items():
            if kind not in guides:
                guides[kind] = load_image(network.name, self.device, network.size)
        return Trainer(self.settings, networks, self.corpus, guides, seed, self.ideas)


def prepare(settings: Settings, device: str, planned: str = "", ideas: OwnIdeas | None = None) -> Prepared:
    """Load data, features and encoders; compute into the cache what is not there yet.

    `planned` is the fingerprint that the data must have. Raises HarnessError where torch cannot use the device.
    """
    if device == "cuda" and not torch.cuda.is_available():
        problem = f"nvidia-smi lists a GPU, but torch {torch.__version__} cannot use it"
        raise HarnessError(f"{problem}; update the driver, or set CUDA_VISIBLE_DEVICES= to train on the processor")
    if device == "cpu":
        keep_freed_memory()
    else:
        same_every_time()
        if why := kernels().why:
            print(f"kernels: PyTorch's alone, by which a step takes several times as long: {why}")
    dataset = data.load(settings.data, cache.root(), planned)
    text = features.clip_text(dataset, settings.encoders.clip, device=device)
    corpus = _corpus(dataset, text, settings, device)
    if settings.data.mirror:
        corpus = replace(corpus, mirror=_corpus(data.mirror(dataset), text, settings, device))
    manifest = make_manifest(dataset, settings)
    references = load_references(dataset, manifest, device, reads(settings, "h_tokens"))
    grid = make_grid(corpus, settings, manifest.given, device)
    return Prepared(settings, corpus, manifest, references, grid, device, ideas or OwnIdeas())


def refuse_other_inputs(run: Run) -> None:
    """Raises MissingWeights if the encoders' weights are not those that the run was planned with, DataError if the file
    of captions is not.

    A file may have been replaced since then, while the run's id and features are of the old one. Called once the
    encoders are loaded, so that no file can be replaced between the check and the loading.
    """
    path = run.settings.metrics.captions
    if path and run.fingerprints.get(GIVEN) != content(read_captions(path)):
        problem = "does not hold the captions that the run was planned with"
        raise DataError(f"{GIVEN}: {path} {problem}; ask again to plan runs with them as they are now")
    for path, name in encoders_read(run.settings).items():
        planned, now = run.fingerprints.get(path), encoders.fingerprint(name)
        if planned and planned != now:
            problem = f"is not what the run was planned with (fingerprint {now}, not {planned})"
            raise MissingWeights(f"{path}: {name} {problem}; ask again to plan runs with the weights as they are now")


def _corpus(dataset: Dataset, text: CaptionFeatures, settings: Settings, device: str) -> Corpus:
    """The data set with its features by the guides."""
    frozen = {"f_c": features.guide_image(dataset, settings.encoders.clip, device)}
    for kind, network in frozen_networks(settings).items():
        if kind not in frozen:
            frozen[kind] = features.frozen_image(dataset, network, device)
    if not reads(settings, "h_tokens"):
        return Corpus(dataset, text, frozen)
    return Corpus(dataset, text, frozen, tokens=caption_tokens(dataset, settings.encoders.clip, device))
