"""Files appear whole, and no write follows a symbolic link out of the folder."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import worldmodel
from tests.conftest import TINY
from tests.test_replay import paint
from worldmodel import checkpoint, files, model_file, run_folder
from worldmodel.checks import ConfigError, read
from worldmodel.config import Config
from worldmodel.envs import make_env
from worldmodel.experiments import goal_distances
from worldmodel.log import Journal
from worldmodel.models import build
from worldmodel.replay import Replay, write_episode
from worldmodel.report.folder import Folder
from worldmodel.structs import Spec
from worldmodel.video import write_video

PRECIOUS = b"somebody's own file"


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    for content in (b"old", b"new"):
        files.write(path, content)
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_file_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "scores.csv"
    files.write(path, b"old")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            files.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_content_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "scores.csv"
    called: list[tuple[str, bool]] = []
    fsync, replace = os.fsync, os.replace

    def sync(handle: int) -> None:
        called.append(("sync", path.exists()))
        fsync(handle)

    def rename(old: Path, new: Path) -> None:
        called.append(("rename", path.exists()))
        replace(old, new)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", rename)
    files.write(path, b"new")
    assert called == [("sync", False), ("rename", False), ("sync", True)]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    folder = tmp_path / "export"
    for name in ("first", "second"):
        with files.replacing_folder(folder) as new:
            files.write_new(new / name, b"x")
            assert not (folder / name).exists()
    assert [path.name for path in folder.iterdir()] == ["second"]
    with pytest.raises(KeyError), files.replacing_folder(folder) as new:
        raise KeyError
    assert [path.name for path in folder.iterdir()] == ["second"]
    assert list(tmp_path.iterdir()) == [folder]


def test_removing_a_link_leaves_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_bytes(PRECIOUS)
    (tmp_path / "link").symlink_to(tmp_path / "outside")
    files.remove(tmp_path / "link")
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "outside" / "file").read_bytes() == PRECIOUS


def test_a_row_of_a_table_replaces_the_row_with_the_same_key(tmp_path: Path) -> None:
    path = tmp_path / "tables" / "scores.csv"

    def keep(task: str, seed: str, score: str) -> None:
        row = {"task": task, "seed": seed, "score": score}
        files.keep_row(path, row, ("task", "seed"), lambda row: row["task"], ["two", "comments"])

    for task, seed, score in [("b", "0", "1"), ("a", "0", "2"), ("b", "1", "3"), ("b", "0", "4")]:
        keep(task, seed, score)
    expected = "# two\n# comments\ntask,seed,score\na,0,2\nb,1,3\nb,0,4\n"
    assert path.read_text() == expected
    assert files.read_rows(path)[0] == {"task": "a", "seed": "0", "score": "2"}
    assert files.read_rows(tmp_path / "none.csv") == []


# --------------------------------------------------------------------------- links in a folder


def plant_links(path: Path, target: Path) -> None:
    """A link under each name that a file might be written under before it is called ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.name
    for link in (
        *(".writing", ".writing-probe", f".writing-{name}", f".writing.{name}"),
        *(f".{name}.writing", f".{name}.new", f"{path.stem}.writing"),
    ):
        (path.parent / link).symlink_to(target)


def clips(folder: Path) -> None:
    write_video(folder / "clip.gif", np.zeros((2, 4, 4, 3), np.uint8), 5)


def episodes(folder: Path) -> None:
    replay = Replay(folder, batch=1, length=2, memory_bytes=10**6)
    replay.add(paint(0, 3))


def reports(folder: Path) -> None:
    report = Folder(folder)
    report.write("report.html", b"page")
    image: NDArray[np.uint8] = np.zeros((16, 16, 3), np.uint8)
    report.video("clip", [image, image], "two images")


def weights(folder: Path) -> None:
    config = read(Config(), TINY)
    model_file.write(
        folder / "agent.safetensors", build(config.model, Spec((16, 16, 3), 2)), config, {}
    )


def runs(folder: Path) -> None:
    config = read(Config(), TINY)
    env = make_env("toy", config.env)
    run_folder.create(folder, config, env, Spec.of(env, env.reset(0)))


WRITERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a clip": ("clip.gif", clips),
    "an episode": ("000000.npz", episodes),
    "the head of a score file": ("eval.csv", Journal),
    "a page": ("report.html", reports),
    "a video": ("clip.mp4", reports),
    "weights": ("agent.safetensors", weights),
    "what weights are": ("agent.json", weights),
    "a run's settings": ("config.yaml", runs),
    "a table": ("goals.csv", lambda folder: goal_distances.write(folder / "goals.csv", [], [])),
    "a held-out episode": (
        "000003.npz",
        lambda folder: write_episode(folder / "000003.npz", paint(0, 3)),
    ),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_link_under_a_temporary_name_is_never_written_through(
    tmp_path: Path, writer: str
) -> None:
    name, write = WRITERS[writer]
    outside = tmp_path / "outside"
    outside.write_bytes(PRECIOUS)
    plant_links(tmp_path / "folder" / name, outside)
    write(tmp_path / "folder")
    assert outside.read_bytes() == PRECIOUS
    assert (tmp_path / "folder" / name).is_file()
    assert not (tmp_path / "folder" / name).is_symlink()


def test_a_link_in_place_of_an_unfinished_checkpoint_is_removed_alone(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "model.safetensors").write_bytes(PRECIOUS)
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for name in (".writing-000000001", ".discarded-000000000", "000000000"):
        (folder / name).symlink_to(outside)
    checkpoint.save(folder, 1, {}, {"step": 1}, keep=1)
    assert [path.name for path in folder.iterdir()] == ["000000001"]
    assert (outside / "model.safetensors").read_bytes() == PRECIOUS


@pytest.mark.parametrize(
    "name",
    ["config.yaml", "metrics.jsonl", "eval.csv", "checkpoints", "replay", "heldout", "report"],
)
def test_a_run_whose_own_files_are_links_is_refused(
    tmp_path: Path, tiny: Config, name: str
) -> None:
    run, outside = tmp_path / "run", tmp_path / "outside" / name
    runs(run)
    Journal(run)
    outside.parent.mkdir()
    own = run / name
    if not own.exists():
        own.mkdir()
        (own / "file").write_bytes(PRECIOUS)
    own.rename(outside)
    own.symlink_to(outside)

    def content() -> dict[str, bytes]:
        paths = [path for path in outside.parent.rglob("*") if path.is_file()]
        return {str(path): path.read_bytes() for path in paths}

    before = content()
    for use in (
        lambda: worldmodel.train(tiny, run, steps=0, env=make_env("toy", tiny.env)),
        lambda: worldmodel.load(run),
    ):
        with pytest.raises(ConfigError, match=f"run: .*{name} is a symbolic link") as refusal:
            use()
        assert "\n" not in str(refusal.value)
        assert content() == before
