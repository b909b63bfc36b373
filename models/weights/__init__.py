"""The folder of the embedded encoders' files; `README.md` in it is their card."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
