"""The house keeps its plan: floors, a light import, public names."""

from __future__ import annotations

import ast
import functools
import graphlib
import importlib
import inspect
import pkgutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import worldmodel
from tests.conftest import NewProcess
from worldmodel import config, presets

HOUSE = Path(worldmodel.__file__).parent
FLOORS = [
    {"files", "quantise", "images", "limits", "origin"},
    {
        "structs",
        "checks",
        "video",
        "columns",
        "machine",
        "timing",
        "processes",
        "signals",
        "linear",
    },
    {"models", "planners", "envs", "replay"},
    {"inputs", "scores"},
    {"planning"},
    {"agent"},
    {"losses", "behaviours"},
    {"learner"},
    {"config"},
    {"log", "progress", "published", "local_page", "older_settings"},
    {"assembly", "sizing"},
    {"rollout", "compare_settings"},
    {
        "checkpoint",
        "model_file",
        "analysis",
        "robot",
        "presets",
    },
    {"run_folder", "report"},
    {"loop", "bench", "doctor", "compare", "export", "watch", "demo", "dream", "opened_run"},
    {"cli", "experiments", "lecture"},
]
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
DOORS = {"__init__", "__main__"}  # of the house itself: they show what is inside
FILES = sorted(path.relative_to(HOUSE) for path in HOUSE.rglob("*.py"))
NOT_AT_IMPORT = (
    *("mujoco", "dm_control", "mujoco_warp", "warp", "gymnasium"),
    *("matplotlib", "imageio", "imageio_ffmpeg", "tensorboard", "tyro", "rich", "jinja2"),
    *("onnx", "onnxruntime", "onnxscript"),
)


@functools.cache
def parsed(file: Path) -> ast.Module:
    return ast.parse((HOUSE / file).read_text())


@functools.cache
def nodes_of(file: Path) -> list[ast.AST]:
    return list(ast.walk(parsed(file)))


@functools.cache
def parts_of_the_house() -> set[str]:
    return {path.stem for path in HOUSE.iterdir()}


def room_of(file: Path) -> str:
    return file.parts[0].removesuffix(".py")


def imported_rooms(file: Path) -> Iterator[str]:
    """Also of imports inside functions."""
    rooms = parts_of_the_house()
    for node in nodes_of(file):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: imports are absolute"
            module = (node.module or "").split(".")
            names = [module if len(module) > 1 else [*module, alias.name] for alias in node.names]
        else:
            continue
        for name in names:
            if name[0] == "worldmodel" and len(name) > 1 and name[1] in rooms:
                yield name[1]


def is_room(file: Path) -> bool:
    return room_of(file) not in DOORS


def test_every_room_has_a_floor() -> None:
    assert {room_of(file) for file in FILES if is_room(file)} <= set(FLOOR_OF)


@pytest.mark.parametrize("file", [file for file in FILES if is_room(file)], ids=str)
def test_imports_go_down(file: Path) -> None:
    room = room_of(file)
    for other in imported_rooms(file):
        assert other == room or FLOOR_OF[other] < FLOOR_OF[room], (
            f"{file} (floor {FLOOR_OF[room]}) imports {other} (floor {FLOOR_OF[other]})"
        )


def test_the_floors_are_seen_by_this_test() -> None:
    assert "config" in set(imported_rooms(Path("loop/online.py")))
    assert "envs" in set(imported_rooms(Path("rollout/play.py")))


def module_of(file: Path) -> str:
    parts = ("worldmodel", *file.with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_files(file: Path) -> set[str]:
    """The modules of ours that a file imports, inside functions too."""
    ours = {module_of(other) for other in FILES}
    names = set()
    for node in nodes_of(file):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= inside & ours or {str(node.module)}
    return names & ours - {module_of(file)}


def test_no_files_import_each_other_in_a_circle() -> None:
    graph = {module_of(file): imported_files(file) for file in FILES}
    assert "worldmodel.structs" in graph["worldmodel.rollout.play"]
    graphlib.TopologicalSorter(graph).prepare()  # CycleError names the circle


# One kind of dynamics, its settings and its latent, and the parts of that latent.
ONE_KIND = {"Recurrent", "RecurrentSettings", "Remembered", "recurrent"} | {
    "RecurrentCategorical",
    "RecurrentCategoricalSettings",
    "recurrent_categorical",
}
ITS_PARTS = {"deter", "stoch"}


def names_of_one_kind(nodes: Iterable[ast.AST]) -> Iterator[tuple[int, str]]:
    """Line and name, wherever code names that kind or reads a part of its latent."""
    for node in nodes:
        names: set[str] = set()
        if isinstance(node, ast.Name):
            names = {node.id} & ONE_KIND
        elif isinstance(node, ast.Attribute):
            names = {node.attr} & (ONE_KIND | ITS_PARTS)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None) or ""
            words = [*module.split("."), *(w for a in node.names for w in a.name.split("."))]
            names = {*words} & ONE_KIND
        for name in names:
            yield node.lineno, name


KNOWING = ("models", "lecture")  # the twin of a lecture's row breaks a part of one kind


@pytest.mark.parametrize("file", [f for f in FILES if room_of(f) not in KNOWING], ids=str)
def test_only_models_know_one_kind_of_dynamics(file: Path) -> None:
    """Everybody else takes any latent: its features, its shape, its distribution."""
    for line, name in names_of_one_kind(nodes_of(file)):
        pytest.fail(f"{file}:{line} names {name}")


def test_names_of_one_kind_are_seen_by_this_test() -> None:
    text = """
from worldmodel.models.dynamics.recurrent import Recurrent
from worldmodel.models import dynamics
x = dynamics.RecurrentSettings()
y = belief.stoch.mean, belief.deter
deter = "deter", x.deter_size
"""
    assert sorted(names_of_one_kind(ast.walk(ast.parse(text)))) == [
        (2, "Recurrent"),
        (2, "recurrent"),
        (4, "RecurrentSettings"),
        (5, "deter"),
        (5, "stoch"),
    ]
    inside = nodes_of(Path("models/dynamics/recurrent.py"))
    assert {name for _, name in names_of_one_kind(inside)} >= {"Remembered", "deter", "stoch"}


@pytest.mark.parametrize("file", FILES, ids=str)
def test_print_lives_in_log_and_cli(file: Path) -> None:
    if room_of(file) in ("log", "cli"):
        return
    for node in nodes_of(file):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "print", f"{file}:{node.lineno}"


def test_importing_loads_no_simulator_no_plotting_no_command_line(new_process: NewProcess) -> None:
    loaded = new_process.modules["package"]
    assert "worldmodel" in loaded
    assert not loaded & {*NOT_AT_IMPORT, "torch", "numpy"}
    assert "torch" in new_process.modules["public names"]
    assert not new_process.modules["public names"] & set(NOT_AT_IMPORT)


@pytest.mark.parametrize("file", [f for f in FILES if room_of(f) == "analysis"], ids=str)
def test_numbers_need_no_drawing(file: Path) -> None:
    """Tests of learning ask for them where nothing that draws is installed."""
    drawing = {"matplotlib", "imageio", "imageio_ffmpeg", "PIL"}
    for node in nodes_of(file):
        if isinstance(node, ast.Import):
            assert not drawing & {alias.name.split(".")[0] for alias in node.names}, file
        elif isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] not in drawing, file


def test_public_names_exist_and_are_sorted() -> None:
    assert list(worldmodel.__all__) == sorted(worldmodel.__all__)
    assert set(worldmodel.__all__) <= set(dir(worldmodel))
    for name in worldmodel.__all__:
        assert hasattr(worldmodel, name), name


def test_type_checkers_see_each_public_name_in_the_room_that_it_comes_from() -> None:
    shown = {
        alias.name: node.module
        for node in nodes_of(Path("__init__.py"))
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("worldmodel.")
        for alias in node.names
    }
    assert set(shown) == set(worldmodel.__all__)
    for name, room in shown.items():
        assert getattr(importlib.import_module(str(room)), name) is getattr(worldmodel, name)
        assert worldmodel._ROOMS[name] == str(room).removeprefix("worldmodel.")


def test_a_name_that_the_package_lacks_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'laod'"):
        _ = worldmodel.laod
    with pytest.raises(ImportError, match=r"cannot import name 'laod'"):
        exec("from worldmodel import laod")


def test_no_submodule_bears_the_name_of_a_public_function() -> None:
    functions = {n for n in worldmodel.__all__ if inspect.isfunction(getattr(worldmodel, n))}
    assert functions
    assert not functions & {module.name for module in pkgutil.iter_modules(worldmodel.__path__)}


@pytest.mark.parametrize("file", FILES, ids=str)
def test_a_file_says_what_it_is_for(file: Path) -> None:
    tree = parsed(file)
    assert not tree.body or ast.get_docstring(tree)


@pytest.mark.parametrize("name", sorted(presets.presets()))
def test_every_preset_loads(name: str) -> None:
    assert isinstance(presets.load_preset(name), config.Config)


def test_the_presets_that_people_rely_on_are_there() -> None:
    assert {"default", "planet"} <= set(presets.presets())
