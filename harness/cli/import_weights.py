"""The command `import`: published networks as a file that a study's `init` can name."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from harness import api
from harness.cli.options import AsJson, standard_options


@standard_options
def import_weights(
    file: Annotated[Path, typer.Argument(help="A network pickle (.pkl) of LAFITE or StyleGAN2-ADA.")],
    out: Annotated[Path | None, typer.Option(help="Where to write; default: the same name with .safetensors.")] = None,
    as_json: AsJson = False,
) -> None:
    """Convert published networks to a file for a study's `init`. Nothing of the pickle is run.

    \b
    harness import lafite-coco.pkl --out origin.safetensors
    harness run-grid study.yaml --set init=origin.safetensors
    """
    from harness.errors import HarnessError
    from harness.terminal import console
    from harness.text import shortened
    from harness.trees import as_tree

    if out is None and file.suffix == ".safetensors" and file.is_file():
        fix = "a study's `init` can name it as it is; what is converted is a network pickle (.pkl)"
        raise HarnessError(f"{file}: is a safetensors file; {fix}")
    out = out or file.parent / f"{file.stem}.safetensors"  # also of `.`, which is refused below
    if out.exists():
        raise HarnessError(f"{out}: is there already; name another file with --out, or move it away")
    imported = api.import_weights(file, out)
    if as_json:
        console.json_document(asdict(imported) | {"out": str(out)})
        return
    console.result(f"wrote {out}: {', '.join(imported.networks)} of {imported.kind}")
    if imported.left_out:
        console.note(f"without a counterpart here, so left out: {shortened(imported.left_out)}")
    console.result("A study in which every layer starts from it has, beside `init`:")
    for section, values in as_tree(imported.settings).items():
        inner = ", ".join(f"{name}: {json.dumps(value)}" for name, value in values.items())
        console.result(f"  {section}: {{{inner}}}")
    if imported.kind == "LAFITE":
        console.note("`harness init --preset lafite` has these, and what else the published code does")
