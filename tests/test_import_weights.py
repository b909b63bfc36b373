"""`harness import`: published networks become a file that `init` can name, and nothing of them is run."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import harness
from forked import run_forked
from harness.errors import HarnessError
from harness.models.config import DiscriminatorConfig, GeneratorConfig, ModelConfig
from harness.models.discriminator import Discriminator
from harness.models.generator import Generator
from harness.models.published import published_names
from network_pickles import Stored, stored, write
from test_pickles import Call

R, F = 16, 6


def command(folder: Path, *arguments: str) -> tuple[int, str, str]:
    done = run_forked(("import", *arguments), folder, {**os.environ, "COLUMNS": "100"})
    return done.returncode, done.stdout, done.stderr


LAFITE = ModelConfig(
    generator=GeneratorConfig(
        z_dim=10, w_dim=12, mapping_layers=2, channel_base=128, channel_max=16,
        text_width=14, text_activation="both", text_lr_multiplier=0.01, text_input="unit",
    ),
    discriminator=DiscriminatorConfig(channel_base=256, channel_max=16, head_layers=1),
)  # fmt: skip


def published(network: nn.Module, names: Any, w_dim: int) -> dict[str, Tensor]:
    """The network's weights as the published code stores them: the other way round than `import` reads them."""
    state, theirs = network.state_dict(), {}
    for name, place in names.items():
        tensor = state[place.name]
        if place.layout == "leading axis":
            tensor = tensor[0]
        elif place.layout == "text last":
            tensor = torch.cat([tensor[:, w_dim:], tensor[:, :w_dim]], 1)
        theirs[name] = tensor.clone()
    return theirs


def pickled(path: Path, config: ModelConfig = LAFITE, **more: Tensor) -> tuple[Generator, Discriminator]:
    torch.manual_seed(0)
    g, d = Generator(config.generator, R, F), Discriminator(config.discriminator, R, F)
    with torch.no_grad():
        for parameter in (*g.parameters(), *d.parameters()):
            parameter.add_(torch.randn(parameter.shape))
    names, w_dim = published_names(config, R), config.generator.w_dim
    buffers = {"mapping.w_avg": torch.ones(w_dim), "synthesis.b8.conv0.resample_filter": torch.ones(4, 4)}
    buffers |= {f"synthesis.b{size}.conv1.noise_const": torch.ones(size, size) for size in (4, 8, 16)}
    of_g = stored("Generator", published(g, names["generator"], w_dim) | more, buffers)
    of_d = stored("Discriminator", published(d, names["discriminator"], w_dim), {})
    write(path, {"G": of_g, "D": of_d, "G_ema": of_g, "training_set_kwargs": {}, "augment_pipe": None})
    return g, d


@pytest.mark.parametrize("conditioning", ["concat", "modulate"])
def test_every_weight_of_lafite_comes_back(tmp_path: Path, conditioning: Any) -> None:
    generator = replace(
        LAFITE.generator, conditioning=conditioning, modulate_from=8 if conditioning == "modulate" else 4
    )
    g, d = pickled(tmp_path / "n.pkl", replace(LAFITE, generator=generator))
    imported = harness.import_weights(tmp_path / "n.pkl", tmp_path / "n.safetensors")
    file = load_file(tmp_path / "n.safetensors")
    for role, network in (("generator", g), ("averaged", g), ("discriminator", d)):
        state = network.state_dict()
        assert {name.partition("/")[2] for name in file if name.startswith(role)} == state.keys()
        assert all(torch.equal(file[f"{role}/{name}"], tensor) for name, tensor in state.items())
    assert imported.kind == "LAFITE" and not imported.left_out
    # The settings that it names make networks that every layer fits.
    assert imported.settings == {
        "data.resolution": R, "generator.z_dim": 10, "generator.w_dim": 12, "generator.mapping_layers": 2,
        "generator.noise": True, "generator.channel_base": 128, "generator.channel_max": 16,
        "generator.text_width": 14, "generator.text_activation": "both", "generator.text_lr_multiplier": 0.01,
        "generator.text_input": "unit", "discriminator.channel_base": 256, "discriminator.channel_max": 16,
        "discriminator.head_layers": 1,
        **({"generator.conditioning": "modulate", "generator.modulate_from": 8} if conditioning == "modulate" else {}),
    }  # fmt: skip


def test_stylegan2_ada_has_styles_without_text(tmp_path: Path) -> None:
    torch.manual_seed(0)
    names = published_names(LAFITE, R, with_text=False)
    g, d = Generator(LAFITE.generator, R, F), Discriminator(LAFITE.discriminator, R, F)
    state = dict(g.state_dict())
    for name in [name for name in state if name.endswith("style.affine.weight")]:
        state[name] = torch.randn(len(state[name]), 12)
    theirs = {name: state[place.name][0] if place.layout == "leading axis" else state[place.name]
              for name, place in names["generator"].items()}  # fmt: skip
    of_d = {name: d.state_dict()[place.name] for name, place in names["discriminator"].items()}
    write(tmp_path / "n.pkl", {"G_ema": stored("Generator", theirs, {}), "D": stored("Discriminator", of_d, {})})
    imported = harness.import_weights(tmp_path / "n.pkl", tmp_path / "n.safetensors")
    assert imported.kind == "StyleGAN2-ADA" and imported.networks == ("discriminator", "averaged")
    file = load_file(tmp_path / "n.safetensors")
    assert torch.equal(
        file["averaged/blocks.1.convs.0.style.affine.weight"], state["blocks.1.convs.0.style.affine.weight"]
    )
    assert not [name for name in file if ".m." in name or "head" in name]


def test_what_has_no_counterpart_is_named(tmp_path: Path) -> None:
    pickled(tmp_path / "n.pkl", **{"mani.fc0.weight": torch.ones(2, 2)})
    code, out, err = command(tmp_path, "n.pkl")
    assert code == 0
    assert "mani.fc0.weight" in err and "of LAFITE" in out and "head_layers: 1" in out
    assert (tmp_path / "n.safetensors").exists()


def test_classes_odd_widths_and_missing_layers_are_refused(tmp_path: Path) -> None:
    path, out = tmp_path / "n.pkl", tmp_path / "n.safetensors"
    pickled(path, **{"mapping.embed.weight": torch.ones(2, 2)})
    with pytest.raises(HarnessError, match="trained on classes"):
        harness.import_weights(path, out)
    names = published_names(LAFITE, R)
    g = Generator(LAFITE.generator, R, F)
    theirs = published(g, names["generator"], 12)
    del theirs["synthesis.b8.conv0.pre_1.bias"]
    write(path, {"G_ema": stored("Generator", theirs, {})})
    with pytest.raises(HarnessError, match=r"no synthesis\.b8\.conv0\.pre_1\.bias"):
        harness.import_weights(path, out)
    theirs = published(g, names["generator"], 12) | {"synthesis.b8.conv1.weight": torch.ones(5, 5, 3, 3)}
    write(path, {"G_ema": stored("Generator", theirs, {})})
    with pytest.raises(HarnessError, match=r"feature maps .*5 at 8 px"):
        harness.import_weights(path, out)
    theirs = published(g, names["generator"], 12) | {"synthesis.b8.conv0.pre_0.weight": torch.ones(0, F)}
    theirs |= {"synthesis.b8.conv0.pre_1.weight": torch.ones(0, 0)}
    write(path, {"G_ema": stored("Generator", theirs, {})})
    with pytest.raises(HarnessError, match=r"synthesis\.b8\.conv0\.pre_"):
        harness.import_weights(path, out)
    assert not out.exists()


@pytest.mark.parametrize("name", ["synthesis.b8.conv0.affine_0.weight", "synthesis.b8.torgb.pre_0.bias",
                                  "synthesis.b4.const", "mapping.fc1.bias"])  # fmt: skip
def test_layers_of_another_architecture_are_refused(tmp_path: Path, name: str) -> None:
    """One variant of the published code has `affine_0` beside `affine`: under the same name, of another shape."""
    g = Generator(LAFITE.generator, R, F)
    theirs = published(g, published_names(LAFITE, R)["generator"], 12)
    theirs[name] = theirs[name][..., :3].clone()
    write(tmp_path / "n.pkl", {"G_ema": stored("Generator", theirs, {})})
    with pytest.raises(HarnessError, match=rf"{re.escape(name)} of shape"):
        harness.import_weights(tmp_path / "n.pkl", tmp_path / "n.safetensors")


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_hostile_damaged_and_missing_files_end_with_2(tmp_path: Path, arguments: list[str]) -> None:
    mark = tmp_path / "mark"
    write(tmp_path / "bad.pkl", {"G": Stored("Generator", _init_kwargs=Call(os.system, f"touch {mark}"))})
    (tmp_path / "cut.pkl").write_bytes(b"\x80\x04\x95")
    for name, word in (("bad.pkl", "system"), ("cut.pkl", "no whole pickle"), ("no.pkl", "No such file")):
        code, _, err = command(tmp_path, name, *arguments)
        assert code == 2 and name in err and word in err and "Traceback" not in err
    assert not mark.exists() and not list(tmp_path.glob("*.safetensors"))


def test_a_file_that_is_there_is_not_replaced(tmp_path: Path) -> None:
    pickled(tmp_path / "n.pkl")
    (tmp_path / "n.safetensors").write_text("mine")
    code, _, err = command(tmp_path, "n.pkl")
    assert code == 2 and "is there already" in err
    assert (tmp_path / "n.safetensors").read_text() == "mine"
    code, _, err = command(tmp_path, "n.safetensors")
    assert code == 2 and "n.safetensors: is a safetensors file" in err and "--out" not in err


def test_the_json(tmp_path: Path) -> None:
    pickled(tmp_path / "n.pkl")
    code, out, _ = command(tmp_path, "n.pkl", "--out", "o.safetensors", "--json")
    assert code == 0
    told = json.loads(out)
    assert told["networks"] == ["generator", "discriminator", "averaged"] and told["settings"]["data.resolution"] == R
