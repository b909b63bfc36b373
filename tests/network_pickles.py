"""Network pickles with the structure of StyleGAN2-ADA's and LAFITE's, made here: nested objects that carry source text.

No code of theirs is needed: the functions that such a pickle names are empty modules of the same names.
"""

from __future__ import annotations

import pickle
import sys
import types
from collections import OrderedDict
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

SOURCE = "raise SystemExit('the source of a pickle was run')"


def _reconstruct_persistent_obj(meta: Any) -> Any:
    raise SystemExit("a pickle was loaded by its own code")


_reconstruct_persistent_obj.__module__ = "torch_utils.persistence"


class EasyDict(dict):
    pass


EasyDict.__module__, EasyDict.__qualname__ = "dnnlib.util", "EasyDict"


class Stored:
    """A module with parameters, buffers and modules, pickled as torch_utils.persistence pickles one."""

    def __init__(self, class_name: str, **extra: Any) -> None:
        self.class_name = class_name
        self.state: dict[str, Any] = {
            "training": False,
            "_parameters": OrderedDict(),
            "_buffers": OrderedDict(),
            "_non_persistent_buffers_set": set(),
            "_modules": OrderedDict(),
            "_init_args": (),
            "_init_kwargs": EasyDict(conv_clamp=256, synthesis_kwargs=EasyDict(channel_base=16384)),
            "weight_gain": np.float64(0.01) / np.sqrt(512),
            **extra,
        }

    def __reduce__(self) -> tuple[Any, ...]:
        meta = {"type": "class", "version": 6, "module_src": SOURCE, "class_name": self.class_name, "state": self.state}
        return _reconstruct_persistent_obj, (meta,), None

    def put(self, name: str, tensor: torch.Tensor, buffer: bool = False) -> None:
        """Under its dotted name, through modules that are made as they are needed."""
        head, _, rest = name.partition(".")
        if rest:
            inner = self.state["_modules"].setdefault(head, Stored("Layer"))
            inner.put(rest, tensor, buffer)
        elif buffer:
            self.state["_buffers"][name] = tensor
        else:
            self.state["_parameters"][name] = torch.nn.Parameter(tensor, requires_grad=False)


def stored(class_name: str, parameters: dict[str, torch.Tensor], buffers: dict[str, torch.Tensor]) -> Stored:
    network = Stored(class_name, z_dim=512, resolution=8)
    for name, tensor in parameters.items():
        network.put(name, tensor)
    for name, tensor in buffers.items():
        network.put(name, tensor, buffer=True)
    return network


@contextmanager
def names():
    """The modules that a pickle names can be imported while it is written."""
    persistence, util = types.ModuleType("torch_utils.persistence"), types.ModuleType("dnnlib.util")
    persistence._reconstruct_persistent_obj, util.EasyDict = _reconstruct_persistent_obj, EasyDict
    made = {"torch_utils": types.ModuleType("torch_utils"), "torch_utils.persistence": persistence}
    made |= {"dnnlib": types.ModuleType("dnnlib"), "dnnlib.util": util}
    sys.modules.update(made)
    try:
        yield
    finally:
        for name in made:
            del sys.modules[name]


def write(path: Path, content: Any, protocol: int = 4) -> Path:
    with names():
        path.write_bytes(pickle.dumps(content, protocol))
    return path
