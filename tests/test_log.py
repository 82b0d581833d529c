import json
import math
import sys
import types
from typing import Any

import imageio.v2 as imageio
import numpy as np
import pytest

from worldmodel.log import (
    THUMBNAIL,
    THUMBNAIL_IMAGES,
    Evaluation,
    Journal,
    read_evaluations,
    read_metrics,
)
from worldmodel.structs import Episode
from worldmodel.video import side_by_side


@pytest.fixture(autouse=True)
def no_tensorboard(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)


def episode(length: int) -> Episode:
    """An episode whose images show the time: red is the row."""
    images = np.zeros((length, 8, 6, 3), np.uint8)
    images[..., 0] = np.arange(length)[:, None, None]
    return Episode(
        image=images,
        action=np.zeros((length, 1), np.float32),
        reward=np.zeros(length, np.float32),
        discount=np.ones(length, np.float32),
        env_steps=np.ones(length, np.int64),
    )


def fill(journal: Journal, first: int, last: int) -> None:
    for step in range(first, last):
        journal.metrics({"loss/image": step / 3, "wall_clock_s": float(step), "env_steps": step})
        journal.evaluation(step, float(step), returns=[step / 7, -step], seeds=[step, step + 1])


def texts(run) -> list[bytes]:
    return [(run / name).read_bytes() for name in ("metrics.jsonl", "eval.csv")]


def test_written_numbers_are_read_again(tmp_path):
    journal = Journal(tmp_path / "run")
    fill(journal, 0, 3)
    assert read_metrics(tmp_path / "run" / "metrics.jsonl") == [
        {"env_steps": step, "wall_clock_s": float(step), "loss/image": step / 3}
        for step in range(3)
    ]
    assert read_evaluations(tmp_path / "run" / "eval.csv") == [
        Evaluation(step, float(step), returns=[step / 7, -step], seeds=[step, step + 1])
        for step in range(3)
    ]


def test_a_line_begins_with_the_progress_of_the_run(tmp_path):
    Journal(tmp_path).metrics({"b": 1, "wall_clock_s": 2.0, "a": "text", "env_steps": 3})
    line = (tmp_path / "metrics.jsonl").read_text()
    assert line == '{"env_steps": 3, "wall_clock_s": 2.0, "b": 1, "a": "text"}\n'


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float32("nan")])
def test_numbers_that_are_not_finite_are_null(tmp_path, value):
    Journal(tmp_path).metrics({"env_steps": 1, "loss": value})

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    line = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(line, parse_constant=refuse) == {"env_steps": 1, "loss": None}
    assert math.isnan(read_metrics(tmp_path / "metrics.jsonl")[0]["loss"])


def test_numbers_of_numpy_are_numbers(tmp_path):
    Journal(tmp_path).metrics({"env_steps": np.int64(4), "loss": np.float32(0.5)})
    assert (tmp_path / "metrics.jsonl").read_text() == '{"env_steps": 4, "loss": 0.5}\n'


def test_the_score_file_explains_what_a_step_is(tmp_path):
    Journal(tmp_path).evaluation(8000, 12.5, returns=[1.5, math.nan], seeds=[100, 101])
    lines = (tmp_path / "eval.csv").read_text().splitlines()
    comments = [line for line in lines if line.startswith("#")]
    assert "action repeat included" in comments[0]
    assert lines[len(comments) :] == [
        "env_steps,wall_clock_s,episode,seed,return",
        "8000,12.500,0,100,1.5",
        "8000,12.500,1,101,nan",
    ]


def test_a_rewound_run_writes_what_an_uninterrupted_one_does(tmp_path):
    whole = Journal(tmp_path / "whole")
    fill(whole, 0, 5)
    killed = Journal(tmp_path / "killed")
    fill(killed, 0, 2)
    position = json.loads(json.dumps(killed.position()))  # as it travels in a checkpoint
    fill(killed, 2, 4)
    again = Journal(tmp_path / "killed")
    again.rewind(position)
    fill(again, 2, 5)
    assert texts(tmp_path / "killed") == texts(tmp_path / "whole")


def test_rewinding_to_no_checkpoint_is_beginning(tmp_path):
    fill(Journal(tmp_path / "killed"), 0, 4)
    again = Journal(tmp_path / "killed")
    again.rewind({})
    fill(again, 0, 1)
    fill(Journal(tmp_path / "whole"), 0, 1)
    assert texts(tmp_path / "killed") == texts(tmp_path / "whole")


def test_an_unfinished_last_line_is_not_read_and_is_removed(tmp_path):
    fill(Journal(tmp_path / "whole"), 0, 4)
    for name in ("metrics.jsonl", "eval.csv"):
        whole = (tmp_path / "whole" / name).read_bytes()
        for length in range(len(whole) + 1):
            run = tmp_path / "torn"
            run.mkdir(exist_ok=True)
            (run / name).write_bytes(whole[:length])
            rows = (read_metrics if name == "metrics.jsonl" else read_evaluations)(run / name)
            assert len(rows) <= 4
            Journal(run)
            after = (run / name).read_bytes()
            assert whole.startswith(after)
            assert after.endswith(b"\n") or after == b""
            assert name == "metrics.jsonl" or after.count(b"return") >= 2  # header and comment


def test_lost_lines_are_reported(tmp_path, caplog):
    journal = Journal(tmp_path)
    fill(journal, 0, 4)
    position = journal.position()
    (tmp_path / "metrics.jsonl").write_bytes(b"")
    journal.rewind(position)
    assert "metrics.jsonl" in caplog.text
    assert "lines are lost" in caplog.text
    assert len(read_evaluations(tmp_path / "eval.csv")) == 4


def test_a_damaged_line_is_named(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"a": 1}\n{"a": \n{"a": 3}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl: line 2"):
        read_metrics(path)
    path = tmp_path / "eval.csv"
    path.write_text("env_steps,wall_clock_s,episode,seed,return\n4,x,0,0,1\n")
    with pytest.raises(ValueError, match=r"eval\.csv: expected env_steps"):
        read_evaluations(path)


def test_every_return_has_a_seed(tmp_path):
    with pytest.raises(ValueError, match="longer"):
        Journal(tmp_path).evaluation(1, 1.0, returns=[1.0, 2.0], seeds=[1])


def test_tensorboard_gets_a_copy_of_the_numbers_if_it_is_installed(tmp_path, monkeypatch):
    written: list[Any] = []

    class SummaryWriter:
        def __init__(self, folder: str, purge_step: int) -> None:
            written.append((folder, purge_step))

        def add_scalar(self, name: str, value: float, step: int) -> None:
            written.append((name, value, step))

        def add_image(self, name: str, image: Any, step: int, dataformats: str) -> None:
            written.append((name, image.shape, step, dataformats))

    module = types.SimpleNamespace(SummaryWriter=SummaryWriter)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    journal = Journal(tmp_path)
    journal.metrics({"env_steps": 5, "loss": 0.5, "name": "text", "broken": math.nan})
    journal.metrics({"env_steps": 6, "loss": 0.25})
    folder = str(tmp_path / "tensorboard")
    assert written == [(folder, 5), ("loss", 0.5, 5), ("loss", 0.25, 6)]
    del written[:]
    journal.evaluation(7, 1.0, returns=[1.0, 2.0], seeds=[0, 1])
    journal.show(7, [episode(30).image, episode(4).image])
    strip = (8, 10 * 6, 3)  # ten images of the first episode
    assert written == [("score", 1.5, 7), ("evaluation", strip, 7, "HWC")]


def test_the_last_evaluation_is_a_small_video_in_the_run_folder(tmp_path):
    journal = Journal(tmp_path)
    for lengths in ((3, 5), (1000, 400)):  # the last one stays
        journal.show(1, [episode(length).image for length in lengths])
    images = imageio.mimread(tmp_path / THUMBNAIL)
    assert len(images) == THUMBNAIL_IMAGES
    assert images[0].shape[:2] == (8, 6 + 2 + 6)
    assert [path.name for path in tmp_path.iterdir() if "writing" in path.name] == []


def test_a_video_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    journal = Journal(tmp_path)
    journal.show(1, [episode(3).image])
    before = (tmp_path / THUMBNAIL).read_bytes()

    def write_half(path, images, **how):
        path.write_bytes(b"GIF8")
        raise OSError("disk full")

    monkeypatch.setattr(imageio, "mimwrite", write_half)
    with pytest.raises(OSError, match="disk full"):
        journal.show(2, [episode(4).image])
    assert (tmp_path / THUMBNAIL).read_bytes() == before


def test_shorter_videos_next_to_a_longer_one_stay_at_their_end():
    images = side_by_side([episode(2).image, episode(4).image])
    assert images.shape == (4, 8, 6 + 2 + 6, 3)
    assert images[:, 0, 0, 0].tolist() == [0, 1, 1, 1]
    assert images[:, 0, -1, 0].tolist() == [0, 1, 2, 3]
    assert side_by_side([episode(9).image], 3)[:, 0, 0, 0].tolist() == [0, 4, 8]


def test_without_imageio_a_run_has_no_video(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    Journal(tmp_path).show(1, [episode(3).image])
    assert not (tmp_path / THUMBNAIL).exists()
