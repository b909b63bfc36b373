"""Arrays of the cache, memory-mapped and held against what they must be. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from harness.errors import DataError


def open_array(path: Path, dtype: DTypeLike, shape: tuple[int | None, ...]) -> NDArray[Any]:
    """A .npy file of this type and shape, where None stands for any number; read-only, never unpickled.

    Raises DataError, which names the folder to delete, for any other file: one cut short or with a byte too many, too.
    """
    fix = f"delete the folder {path.parent}"
    try:
        if not path.is_file():
            raise OSError("no plain file")
        array: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # the header is Python, read by numpy: what it raises has no end
        raise DataError(f"cannot read {path}: {error}; {fix}") from error
    fits = len(shape) == array.ndim and all(want in (None, have) for want, have in zip(shape, array.shape, strict=True))
    if not fits or array.dtype != dtype or not array.flags.c_contiguous:
        wanted = f"{np.dtype(dtype)} [{','.join('*' if size is None else str(size) for size in shape)}]"
        raise DataError(f"{path} holds {array.dtype} {list(array.shape)} in place of {wanted}; {fix}")
    if path.stat().st_size != getattr(array, "offset", path.stat().st_size) + array.nbytes:
        raise DataError(f"{path} has {path.stat().st_size} bytes, which is not what its header says; {fix}")
    return array
