"""The set-up that every command of the Makefile does first, with a Python that stands for the real one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STAND_IN = """#!/bin/sh
[ "$1" = -m ] || exit {version}
mkdir -p .venv/bin
cat > .venv/bin/python <<'END'
#!/bin/sh
echo "$@" >> asked
[ ! -e full ] || {{ echo "No space left on device"; exit 1; }}
END
chmod +x .venv/bin/python
"""


def make(folder: Path, version: int = 0) -> subprocess.CompletedProcess[str]:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    python = folder / "python"
    python.write_text(STAND_IN.format(version=version))
    python.chmod(0o755)
    words = ["make", "setup", f"PYTHON={python}"]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_what_could_not_be_installed_is_told_with_the_room_there_is_and_done_by_the_same_command(
    tmp_path: Path,
) -> None:
    (tmp_path / "full").touch()
    failed = make(tmp_path)
    assert failed.returncode == 2 and not (tmp_path / ".venv" / ".ready").exists()
    assert "No space left on device" in failed.stdout and "Avail" in failed.stdout
    assert "needs 7 GB" in failed.stdout and "3 GB more" in failed.stdout
    (tmp_path / "full").unlink()
    done = make(tmp_path)
    assert done.returncode == 0 and (tmp_path / ".venv" / ".ready").exists() and "needs 7 GB" not in done.stdout
    assert len((tmp_path / "asked").read_text().splitlines()) == 2


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_an_old_python_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    refused = make(tmp_path, version=1)
    assert refused.returncode == 2 and "Python 3.11 or newer is needed" in refused.stdout
    assert not (tmp_path / ".venv").exists()
