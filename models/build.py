"""From a configuration to networks with their first weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from harness.models.config import ModelConfig
from harness.models.discriminator import Discriminator, OwnDiscriminator
from harness.models.generator import Generator
from harness.models.objective import Player
from harness.models.ops import Foreign
from harness.models.own_layers import OwnLayer

Stream = Callable[[str], torch.Generator]
"""Name -> a generator on the CPU that is a function of the name (and of the run's seed)."""


@dataclass(frozen=True)
class Shapes:
    """What the data set and the encoders decide."""

    resolution: int
    """Pixels per side, a power of two, at least 8."""
    text_dim: int
    """F, the width of the CLIP's features and of the discriminator's."""


@dataclass(frozen=True)
class OwnModules:
    """What a study's own code puts into the networks, and beside them."""

    layers: tuple[OwnLayer, ...] = ()
    discriminator: tuple[str, Callable[[int, int], nn.Module]] | None = None
    """Name, and (R, F) -> what takes the place of the built-in one."""
    ideas: Mapping[str, Mapping[str, Callable[[int], nn.Module]]] = field(default_factory=dict)
    """Player whose Adam trains it, or "nobody" -> name -> F -> a module that an idea is."""

    def of(self, network: Player) -> list[OwnLayer]:
        """The layers in this network."""
        return [layer for layer in self.layers if layer.network == network]


@dataclass(frozen=True)
class Networks:
    """The trained pair, the averaged generator that is measured and shipped, and modules of a study's own ideas."""

    generator: Generator
    discriminator: Discriminator | OwnDiscriminator
    averaged: Generator
    ideas: nn.ModuleDict = field(default_factory=nn.ModuleDict)
    """As in `OwnModules`."""

    def trained(self, player: Player) -> list[nn.Parameter]:
        """What the player's Adam moves: its network and its ideas, but for what they have frozen."""
        modules = [getattr(self, player), *([self.ideas[player]] if player in self.ideas else [])]
        return [each for module in modules for each in module.parameters() if each.requires_grad]

    def state(self, frozen: bool = False) -> dict[str, Tensor]:
        """All that training changes, as `network/name`; `frozen`: what it does not."""
        trained_as = {**vars(self), "averaged": self.generator}
        fixed = {
            f"{network}/{name}"
            for network, module in trained_as.items()
            for name, weights in module.named_parameters()
            if not weights.requires_grad
        }
        return {
            f"{network}/{name}": tensor
            for network, module in vars(self).items()
            for name, tensor in module.state_dict().items()
            if (f"{network}/{name}" in fixed) == frozen
        }


def build(config: ModelConfig, shapes: Shapes, stream: Stream, own: OwnModules | None = None) -> Networks:
    """Networks on the CPU whose first weights are a function of `stream`; torch's global generator is left as it was.

    Raises ValueError for a resolution that is no power of two or under 8.
    """
    if shapes.resolution < 8 or shapes.resolution & (shapes.resolution - 1):
        raise ValueError(f"resolution {shapes.resolution}: allowed are powers of two from 8")
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(stream("generator").get_state())
        networks = construct(config, shapes, own or OwnModules())
    for name in ("generator", "discriminator", "ideas"):
        draw(getattr(networks, name), name, stream)
    networks.averaged.load_state_dict(networks.generator.state_dict())
    return networks


def construct(config: ModelConfig, shapes: Shapes, own: OwnModules) -> Networks:
    """Networks with the weights that their constructors draw from torch's global generator."""
    generator = Generator(config.generator, shapes.resolution, shapes.text_dim, own.of("generator"))
    discriminator: Discriminator | OwnDiscriminator
    if own.discriminator:
        discriminator = OwnDiscriminator(*own.discriminator, shapes.resolution, shapes.text_dim)
    else:
        layers = own.of("discriminator")
        discriminator = Discriminator(config.discriminator, shapes.resolution, shapes.text_dim, layers)
    ideas = nn.ModuleDict(
        {
            player: nn.ModuleDict({name: Foreign(partial(make, shapes.text_dim)) for name, make in modules.items()})
            for player, modules in own.ideas.items()
        }
    )
    averaged = copy.deepcopy(generator).requires_grad_(False).eval()
    return Networks(generator, discriminator, averaged, ideas)


def draw(network: nn.Module, name: str, stream: Stream) -> None:
    """Has every layer draw its weights once more, each from a stream named after its place in the network.

    So two configurations give every layer they share by place and shape the same first weights, whatever else they
    have. A layer draws by its own `reset_parameters()`, which ours and those of torch.nn have alike. One that has none
    belongs into a `Foreign`: without, it keeps what its constructor drew from the network's stream, which depends on
    the layers before it. What a constructor made constant stays so, such as a last layer that starts at zero. Other
    changes to the layers within a layer belong into its `reset_parameters()`, which comes after theirs.
    """
    constant = {
        own: weights.detach().clone()
        for own, weights in network.named_parameters()
        if weights.numel() > 1 and bool((weights == weights.flatten()[0]).all())
    }
    with torch.random.fork_rng(devices=[]):
        for place, layer in reversed(list(network.named_modules())):
            if hasattr(layer, "reset_parameters"):
                first = next((own for own, _ in layer.named_parameters(recurse=False)), "")
                torch.set_rng_state(stream(f"{name}.{place}.{first}").get_state())
                layer.reset_parameters()
    with torch.no_grad():
        for own, weights in constant.items():
            network.get_parameter(own).copy_(weights)
