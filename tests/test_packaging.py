"""What somebody gets who installs the package, and not a checkout."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from worldmodel.presets import presets

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: what an earlier build left in ``build/`` would be packed too."""
    folder, source = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("source")
    for name in ("worldmodel", "configs", "assets"):
        unwanted = shutil.ignore_patterns("__pycache__", "*.png")
        shutil.copytree(ROOT / name, source / name, ignore=unwanted)
    for name in ("pyproject.toml", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, source], check=True
    )
    (built,) = folder.glob("*.whl")
    return built


def test_a_wheel_holds_every_room_and_every_preset(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    rooms = {str(path.relative_to(ROOT)) for path in (ROOT / "worldmodel").rglob("*.py")}
    presets = {f"worldmodel/configs/{path.name}" for path in (ROOT / "configs").glob("*.yaml")}
    assert len(presets) >= 2
    assert rooms <= inside
    assert presets <= inside
    assert "worldmodel/py.typed" in inside
    assert {"worldmodel/cli/tasks.csv", "worldmodel/cli/settings_table.json"} <= inside
    assert "worldmodel/assets/published_pixel_scores.csv" in inside
    assert {"worldmodel/pretrained/demo.safetensors", "worldmodel/pretrained/demo.json"} <= inside
    assert "worldmodel/pretrained/heldout/000000.npz" in inside
    assert {"worldmodel/dream/dream.html", "worldmodel/dream/model.js"} <= inside
    assert {f"worldmodel/report/{name}.html" for name in ("page", "watch", "no_report")} <= inside
    assert not any(name.startswith(("tests/", "configs/")) for name in inside)


def test_an_installed_package_knows_its_presets_and_its_command(
    wheel: Path, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r})\n"
        "import worldmodel\n"
        "from worldmodel.presets import load_preset, presets\n"
        f"assert worldmodel.__file__.startswith({str(site)!r}), worldmodel.__file__\n"
        "print(sorted(presets()), load_preset('planet').planner.candidates)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert result.stdout.strip() == f"{sorted(presets())} 1000"
    entry = next(site.glob("*.dist-info/entry_points.txt")).read_text()
    assert "worldmodel = worldmodel.cli:main" in entry
