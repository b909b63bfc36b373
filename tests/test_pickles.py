"""Network pickles are read without running anything: tensors come out, everything else is refused by name."""

from __future__ import annotations

import os
import pickle
import struct
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.models.pickles import LARGEST, read_networks
from network_pickles import EasyDict, Stored, stored, write

PARAMETERS = {"mapping.fc0.weight": torch.arange(12.0).view(3, 4), "synthesis.b8.conv0.bias": torch.tensor([1.5])}
BUFFERS = {"synthesis.b8.conv0.noise_const": torch.randn(8, 8), "synthesis.b8.conv0.resample_filter": torch.ones(4, 4)}


def three() -> dict[str, object]:
    return {
        "training_set_kwargs": {"path": "coco.zip"},
        "G": stored("Generator", PARAMETERS, BUFFERS),
        "D": stored("Discriminator", {"b8.fromrgb.weight": torch.randn(2, 3, 1, 1).half()}, {}),
        "G_ema": stored("Generator", {"mapping.fc0.weight": torch.zeros(3, 4)}, {}),
        "augment_pipe": None,
    }


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_tensors_of_all_networks_by_their_published_names(tmp_path: Path, protocol: int) -> None:
    content = three()
    networks = read_networks(write(tmp_path / "n.pkl", content, protocol))
    assert list(networks) == ["generator", "discriminator", "averaged"]
    assert networks["generator"].keys() == {*PARAMETERS, *BUFFERS}
    for name, tensor in (PARAMETERS | BUFFERS).items():
        assert torch.equal(networks["generator"][name], tensor), name
    assert networks["discriminator"]["b8.fromrgb.weight"].dtype == torch.float16
    assert not networks["averaged"]["mapping.fc0.weight"].any()


def test_views_of_a_shared_storage(tmp_path: Path) -> None:
    whole = torch.arange(10.0)
    parameters = {"a": whole[2:8].view(2, 3).T, "b": whole[8:]}
    got = read_networks(write(tmp_path / "n.pkl", {"G_ema": stored("Generator", parameters, {})}))["averaged"]
    assert torch.equal(got["a"], whole[2:8].view(2, 3).T) and torch.equal(got["b"], whole[8:])


def test_what_modules_hold_beside_tensors_is_dropped(tmp_path: Path) -> None:
    """As torch.nn.Module and the layers of these codes have it: hooks, sets, types, NumPy's numbers and arrays."""
    beside = {
        "_forward_hooks": OrderedDict(),
        "_non_persistent_buffers_set": {"w_avg"},
        "_is_full_backward_hook": None,
        "conv_clamp": 256,
        "gain": np.sqrt(2),
        "table": np.ones((2, 2), np.float32),
        "dtype": torch.float16,
        "kind": np.dtype("float32"),
        "device": torch.device("cpu"),
        "size": torch.Size([1, 2]),
    }
    network = stored("Generator", PARAMETERS, BUFFERS)
    network.state |= beside
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.note = "of its own"  # type: ignore[attr-defined]
    network.put("noted", parameter)
    for protocol in (2, 4):
        if protocol == 4:  # with the others it has no name
            network.state["format"] = torch.channels_last
        got = read_networks(write(tmp_path / "n.pkl", {"G_ema": network}, protocol))["averaged"]
        assert got.keys() == {*PARAMETERS, *BUFFERS, "noted"}


class Call:
    """Pickled as a call of any function."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call


def hostile(mark: Path) -> dict[str, object]:
    return {
        "os.system": Call(os.system, f"touch {mark}"),
        "eval": Call(eval, f"open({str(mark)!r}, 'w')"),
        "getattr": Call(getattr, Path, "cwd"),
        "torch.load": Call(torch.load, str(mark)),
        "path": Call(Path, str(mark)),
    }


@pytest.mark.parametrize("which", ["os.system", "eval", "getattr", "torch.load", "path"])
@pytest.mark.parametrize("place", ["top", "inside a module", "instead of a tensor", "in the source"])
def test_what_would_run_is_refused_by_name_and_not_run(tmp_path: Path, which: str, place: str) -> None:
    mark = tmp_path / "mark"
    bad = hostile(mark)[which]
    content = three()
    if place == "top":
        content["extra"] = bad
    elif place == "inside a module":
        content["G"].state["_init_kwargs"] = {"deep": [bad]}  # type: ignore[attr-defined]
    elif place == "instead of a tensor":
        content["G"].state["_parameters"]["w"] = bad  # type: ignore[attr-defined]
    else:
        content["G"] = Stored("Generator", module_src=bad)
    path = write(tmp_path / "n.pkl", content)
    with pytest.raises(
        ValueError, match=r"asks for (posix|nt|builtins|torch|pathlib)[\w.]*\.\w+, which no network needs"
    ):
        read_networks(path)
    assert not mark.exists()


def test_code_within_the_bytes_of_a_tensor_is_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    inner = pickle.dumps(Call(os.system, f"touch {mark}"), 2)
    storage = Call(torch.storage._load_from_bytes, inner)
    with pytest.raises(ValueError):
        read_networks(write(tmp_path / "n.pkl", {"G": Stored("Generator", _buffers={"b": storage})}))
    assert not mark.exists()


def test_a_tensor_larger_than_its_storage_is_refused(tmp_path: Path) -> None:
    storage = torch.ones(4)._typed_storage()
    for size, stride, offset in (
        ((5,), (1,), 0),
        ((2, 2), (3, 1), 0),
        ((1,), (1,), 4),
        ((2,), (-1,), 1),
        ((2**40,), (0,), 0),
    ):
        tensor = Call(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, {})
        with pytest.raises(ValueError, match="over 4 numbers"):
            read_networks(write(tmp_path / "n.pkl", {"G": Stored("Generator", _buffers={"b": tensor})}))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    path = write(tmp_path / "n.pkl", three())
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match="is no whole pickle"):
        read_networks(path)


def test_a_file_too_large_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "n.pkl"
    with path.open("wb") as file:
        file.truncate(2 * LARGEST)  # sparse: takes no room
    with pytest.raises(ValueError, match=r"has 2\.0 GiB"):
        read_networks(path)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04" + b"r" + struct.pack("<I", 2**31) + b".",  # LONG_BINPUT 2^31
        b"\x80\x04N" + b"r" + struct.pack("<I", 2**31 - 1) + b".",
        b"\x80\x04" + b"\x8e" + struct.pack("<Q", 2**62) + b".",  # BINBYTES8 of 2^62 bytes
        b"\x80\x04" + b"\x95" + struct.pack("<Q", 2**62) + b"N.",  # FRAME of 2^62 bytes
        b"\x80\x04P1\n.",
        b"\x82\x01.",
        b"PK\x03\x04 a zip, such as torch.save writes",
    ],
)
def test_short_files_that_ask_for_much_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "n.pkl"
    path.write_bytes(content)
    with pytest.raises(ValueError):
        read_networks(path)


@pytest.mark.parametrize("content", [{}, [], {"G": 1}, {"state_dict": {"a": torch.ones(2)}}, None])
def test_a_pickle_of_something_else(tmp_path: Path, content: object) -> None:
    with pytest.raises(ValueError, match="holds none of the networks G, D, G_ema"):
        read_networks(write(tmp_path / "n.pkl", content))


def test_a_module_that_holds_itself(tmp_path: Path) -> None:
    network = stored("Generator", PARAMETERS, {})
    got = {"G": network}
    network.state["_modules"]["synthesis"].state["_modules"]["again"] = network
    with pytest.raises(ValueError):
        read_networks(write(tmp_path / "n.pkl", got))


@pytest.mark.timeout(30)
def test_modules_that_hold_the_next_one_twice_are_refused(tmp_path: Path) -> None:
    """A hundred of them in a file of a few kB have 2^100 dotted names."""
    module = stored("Layer", PARAMETERS, {})
    for _ in range(100):
        module, inner = Stored("Layer"), module
        module.state["_modules"] = {"a": inner, "b": inner}
    with pytest.raises(ValueError, match="is in two places"):
        read_networks(write(tmp_path / "n.pkl", {"G": module}))


class Meta(Stored):
    """A stored module whose description is changed by `change`, with `state` to be set on what is made of it."""

    def __init__(self, change: dict[str, object], state: object = None) -> None:
        super().__init__("Generator")
        self.change, self.set = change, state

    def __reduce__(self) -> tuple[object, ...]:
        function, (meta,), _ = super().__reduce__()
        return function, (meta | self.change,), self.set


class Built:
    """Pickled as an object of a class whose attributes are set to `state`."""

    def __init__(self, kind: type, state: dict[str, object]) -> None:
        self.made = kind, (), state

    def __reduce__(self) -> tuple[object, ...]:
        return self.made


@pytest.mark.timeout(30)
def test_objects_that_are_not_what_they_seem_are_refused_or_harmless(tmp_path: Path) -> None:
    path, name = tmp_path / "n.pkl", ("a", "b")
    for _ in range(60):
        name = (name, name)  # 2^60 names, were it written out
    assert read_networks(write(path, {"G": Meta({"class_name": name})})) == {"generator": {}}
    for change in ({"state": Built(EasyDict, {"get": 5})}, {"state": Built(EasyDict, {"items": print})}):
        try:
            assert read_networks(write(path, {"G": Meta(change)})) == {"generator": {}}
        except ValueError as error:
            assert "asks for" in str(error) or "no whole pickle" in str(error)
    assert read_networks(write(path, {"G": Meta({}, {"tensors": 5})})) == {"generator": {}}


def test_tensorflow_pickles_say_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "n.pkl"
    path.write_bytes(b"cdnnlib.tflib.network\nNetwork\n.")
    with pytest.raises(ValueError, match=r"TensorFlow.*legacy\.py"):
        read_networks(path)
