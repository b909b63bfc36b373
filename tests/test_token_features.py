"""h_tokens: features of the tokens of captions, where an idea that is on reads them, and nowhere else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from harness.data import features
from harness.data.features import load_clip
from harness.data.token_features import TokenFeatures, caption_tokens, given_tokens, tokens_of
from harness.errors import MissingWeights
from harness.metrics import measure
from harness.metrics.manifest import make_manifest
from harness.models.config import ConditionConfig
from harness.models.objective import Feature
from harness.settings import Settings
from harness.study.remarks import remarks
from harness.training import trainer as training
from harness.training.samples import make_grid
from harness.training.setup import _corpus
from harness.training.trainer import Trainer
from runs import F, M, corpus, settings, trainer
from things import measured_settings, things

CLIP = "embedded:clip-guide"
TEXTS = ["a red heart", "smiling cat face with heart-eyes", "", "x"]
T = 5


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[str, Any]:
    """An open_clip of random weights in a file, and the network."""
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 20, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
    }
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny", config)
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny", {"half": {"mean": (0.5,) * 3, "std": (0.5,) * 3}})
    torch.manual_seed(0)
    network = open_clip.create_model("tiny").eval()
    save_file(network.state_dict(), tmp_path / "c.safetensors")
    return f"open_clip:tiny/half@{tmp_path}/c.safetensors", network


# What they are.


def test_the_last_token_of_a_text_is_its_feature_and_behind_it_are_zeros(tiny: tuple[str, Any]) -> None:
    for name in (CLIP, tiny[0]):
        clip = load_clip(name, "cpu")
        tokens, counts, whole = clip.tokens(TEXTS), clip.token_counts(TEXTS), clip.text(TEXTS)
        assert tokens.shape == (4, clip.context, clip.dim) and not tokens.requires_grad
        for row, count, text in zip(tokens, counts, whole, strict=True):
            torch.testing.assert_close(nn.functional.normalize(row[count - 1], dim=0), text, rtol=1e-4, atol=1e-5)
            assert row[:count].abs().sum(1).min() > 0 and row[count:].eq(0).all()
        assert len(set(counts.tolist())) == 4, "texts of different lengths"
        alone = torch.cat([clip.tokens([text]) for text in TEXTS])
        torch.testing.assert_close(tokens, alone, rtol=1e-4, atol=1e-5)


def test_of_an_open_clip_they_are_every_token_through_norm_and_projection(tiny: tuple[str, Any]) -> None:
    name, network = tiny
    ids = open_clip.get_tokenizer("tiny")(TEXTS)
    clip = load_clip(name, "cpu")
    with torch.no_grad():
        x = network.token_embedding(ids) + network.positional_embedding
        x = network.transformer(x, attn_mask=network.attn_mask)
        x = nn.functional.layer_norm(x, (64,), network.ln_final.weight, network.ln_final.bias, network.ln_final.eps)
        x = x @ network.text_projection
    expected = x * (torch.arange(20) <= ids.argmax(1)[:, None])[:, :, None]
    torch.testing.assert_close(clip.tokens(TEXTS), expected, rtol=1e-4, atol=1e-5)


def test_a_text_network_without_features_of_tokens_is_refused(tiny: tuple[str, Any], monkeypatch: Any) -> None:
    clip = load_clip(tiny[0], "cpu")
    monkeypatch.setattr("harness.data.token_features.load_clip", lambda *_: clip)
    clip.network.text_pool_type = "last"
    with pytest.raises(MissingWeights, match=r"encoders\.clip: .* does not mark the end .* name another CLIP"):
        tokens_of(TEXTS, "x")
    clip.network.text_pool_type = "argmax"
    clip.network.ln_final.forward = lambda x: x[:, 0]
    clip.network.encode_text = lambda ids: clip.network.ln_final(torch.zeros(len(ids), 20, 64))
    with pytest.raises(MissingWeights, match="gives no features of single tokens"):
        tokens_of(TEXTS, "x")


# In the cache.


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


def test_they_are_stored_without_padding_in_half_precision_and_once(cache: Path, monkeypatch: Any) -> None:
    dataset = things()
    first = caption_tokens(dataset, CLIP)
    clip = load_clip(CLIP, "cpu")
    monkeypatch.setattr("harness.data.token_features.load_clip", lambda *_: pytest.fail("computed again"))
    again = caption_tokens(dataset, CLIP)
    texts = [caption for captions in dataset.captions for caption in captions]
    assert isinstance(again.features, np.memmap) and again.features.dtype == np.float16
    assert len(again.features) == int(clip.token_counts(texts).sum()) == first.first[-1]
    chosen = np.array([3, 0, -1, len(texts) - 1])
    rows = again.of(chosen)
    assert rows.shape == (4, clip.context, clip.dim) and rows.dtype == np.float32 and not rows[2].any()
    exact = clip.tokens([texts[each] for each in chosen if each >= 0]).numpy()
    assert np.allclose(rows[[0, 1, 3]], exact, rtol=2**-10, atol=1e-5)
    assert np.array_equal(rows[[0, 1, 3]] == 0, exact == 0), "the mask"


def test_data_without_any_caption_has_none(cache: Path) -> None:
    bare = caption_tokens(replace(things(), captions=((),) * 60, fingerprint="bare"), CLIP)
    assert bare.of(np.array([-1])).shape[0] == 1 and not bare.of(np.array([-1])).any()


# In training.


def with_tokens(chosen: Settings, kind: str = "term") -> Settings:
    return replace(chosen, ideas={"mine": {"kind": kind, "on": True, "weight": 1.0, "reads": ("h_tokens",)}})


def words() -> TokenFeatures:
    """Of the 2 M captions of `runs.corpus`: caption k has k % T + 1 tokens of features k + 1."""
    counts = np.arange(2 * M) % T + 1
    rows = np.repeat(np.arange(2 * M) + 1.0, counts)[:, None] * np.ones(F)
    return TokenFeatures(rows.astype(np.float16), np.concatenate([[0], np.cumsum(counts)]), T)


def test_a_batch_has_those_of_its_captions_and_zeros_where_h_is_of_no_words() -> None:
    plain = corpus()
    subject = replace(plain, tokens=words())
    assert plain.batch(ConditionConfig(), 0, 0, 8).tokens is None
    exact = ConditionConfig(text_noise=0.0, pseudo_noise=0.0)
    for share, phase in ((0.0, ""), (0.5, ""), (0.5, "generator"), (1.0, "")):
        config = replace(exact, pseudo_probability=share)
        h, _, tokens = subject.conditions(config, 3, 1, 32, phase)
        assert tokens is not None and tokens.shape == (32, T, F)
        has_words = 0
        for row, feature in zip(tokens, h, strict=True):
            (caption,) = [*np.flatnonzero(np.isclose(plain.text.features, feature.numpy(), atol=1e-6).all(1)), -1][:1]
            count = caption % T + 1 if caption >= 0 else 0
            assert row[:count].eq(caption + 1).all() and row[count:].eq(0).all()
            has_words += caption >= 0
        assert has_words == {0.0: 32, 1.0: 0}.get(share, has_words) and (share != 0.5 or 0 < has_words < 32)
    assert torch.equal(subject.conditions(exact, 3, 1, 32).h, plain.conditions(exact, 3, 1, 32).h)


def reading_trainer(*toggles: str, **train: Any) -> tuple[Trainer, list[tuple[Tensor, Tensor | None]]]:
    """A trainer with tokens, and what its generator is given: h and tokens, call by call."""
    subject = trainer(settings(*toggles, **train))
    subject.corpus = replace(subject.corpus, tokens=words())
    given: list[tuple[Tensor, Tensor | None]] = []
    synthesis = subject.networks.generator.synthesis

    def spy(ws: Tensor, h: Tensor, rng: Any = None, compute: Any = None, tokens: Tensor | None = None) -> Tensor:
        given.append((h, tokens))
        return synthesis(ws, h, rng, compute, tokens)

    subject.networks.generator.synthesis = spy  # type: ignore[method-assign]
    return subject, given


def test_every_pass_of_the_generator_has_them_and_generated_pairs_have_none_for_h_prime() -> None:
    subject, given = reading_trainer("paired_contrast", pl_batch_shrink=2)
    subject.step(0)
    batch = subject.batch(0)
    assert batch.tokens is not None
    n, pairs = len(batch.h), [(h, tokens) for h, tokens in given if tokens is not None]
    assert [len(h) for h, _ in pairs] == [2 * n, 2 * n, n // 2] and len(pairs) == len(given)
    for h, tokens in pairs:
        assert torch.equal(tokens[: min(n, len(h))], batch.tokens[: min(n, len(h))])
        assert tokens[n:].eq(0).all()
    read = training.features(batch, {})
    assert torch.equal(read[Feature("h_tokens")], batch.tokens)


def test_with_noise_of_its_own_a_phase_has_its_own_tokens() -> None:
    subject, _ = reading_trainer()
    config = replace(subject.settings.condition, noise_per="phase", pseudo_probability=0.5)
    subject.settings = replace(subject.settings, condition=config)
    batch = subject.batch(0)
    own = [subject.with_own_noise(batch, 0, phase).tokens for phase in ("discriminator", "generator")]
    assert not torch.equal(own[0], own[1])  # type: ignore[arg-type]


def test_a_step_without_such_ideas_is_as_before() -> None:
    plain, (subject, _) = trainer(settings()), reading_trainer()
    expected, got = plain.step(0), subject.step(0)
    assert all(torch.equal(got[name], value) for name, value in expected.items())


# Where the generator is measured and drawn.


def test_measuring_and_the_sample_grid_give_the_captions_of_each_sample(cache: Path) -> None:
    dataset, chosen = things(), measured_settings()
    manifest = make_manifest(dataset, chosen)
    assert measure.load_references(dataset, manifest).tokens is None
    references = measure.load_references(dataset, manifest, with_tokens=True)
    clip, seen = load_clip(CLIP, "cpu"), []

    def generate(z: Tensor, h: Tensor, tokens: Tensor) -> Tensor:
        seen.append((h, tokens))
        return torch.rand(len(z), 3, 8, 8) * 2 - 1

    measure.measure(generate, 16, manifest, references)
    h, tokens = (torch.cat(parts) for parts in zip(*seen, strict=True))
    ends = tokens.abs().sum(2).gt(0).sum(1) - 1
    last = nn.functional.normalize(tokens[torch.arange(len(h)), ends], dim=1)
    torch.testing.assert_close(last, h, rtol=0, atol=2e-3)
    captions = [dataset.captions[i][c] for i, c in zip(manifest.images, manifest.captions, strict=True)]
    torch.testing.assert_close(tokens[:5], clip.tokens(captions[:5]), rtol=2e-3, atol=2e-3)

    told = replace(with_tokens(chosen), metrics=chosen.metrics)
    grid = make_grid(_corpus(dataset, features.clip_text(dataset, CLIP), told, "cpu"), told, ("a red cat", "y"))
    seen.clear()
    grid.draw(generate, "cpu")
    ((h, tokens),) = seen
    ends = tokens.abs().sum(2).gt(0).sum(1) - 1
    last = nn.functional.normalize(tokens[torch.arange(len(h)), ends], dim=1)
    torch.testing.assert_close(last, h, rtol=0, atol=2e-3)
    assert torch.equal(tokens[:2], tokens_of(["a red cat", "y"], CLIP))
    assert make_grid(corpus(), settings()).tokens is None


def test_samples_of_given_lines_and_of_no_captions(cache: Path) -> None:
    dataset = things()
    lines = ("a red cat", "a blue dog", "y")
    stored = given_tokens(lines, "0" * 16, CLIP)
    assert torch.equal(torch.from_numpy(stored.of(np.arange(3))), tokens_of(lines, CLIP))
    bare = replace(dataset, captions=((),) * 60, fingerprint="bare")
    manifest = make_manifest(bare, measured_settings())
    references = measure.load_references(bare, manifest, with_tokens=True)
    assert references.tokens is not None and not references.tokens(slice(0, 4)).any()


def test_a_reader_is_told_where_they_are_zeros() -> None:
    def said(share: float, *, reading: bool = True) -> list[str]:
        chosen = replace(settings(), condition=ConditionConfig(pseudo_probability=share))
        return [each for each in remarks(with_tokens(chosen) if reading else chosen) if "h_tokens" in each]

    assert said(0.0) == said(1.0, reading=False) == []
    assert said(1.0)[0].endswith("is zeros in every sample of training") and "50% of the samples" in said(0.5)[0]
