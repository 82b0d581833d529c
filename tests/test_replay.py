import errno
import logging
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from worldmodel.checks import ConfigError
from worldmodel.replay import (
    ARCHIVE_BYTES,
    BrokenEpisodeError,
    DiskFullError,
    Replay,
    bytes_per_row,
    read_episode,
    write_episode,
)
from worldmodel.replay import files as replay_files
from worldmodel.replay.priorities import Priorities
from worldmodel.structs import Batch, Episode

H, W, C, A = 3, 5, 2, 4
ROW = bytes_per_row((H, W, C), A)


def paint(number: int, rows: int) -> Episode:
    """An episode whose every field holds (episode, time), so that any mix-up shows."""
    time = np.arange(rows)
    image = np.zeros((rows, H, W, C), np.uint8)
    image[..., 0] = number
    image[..., 1] = time[:, None, None]
    return Episode(
        image=image,
        action=np.repeat(number + time[:, None] / 64, A, axis=1).astype(np.float32),
        reward=(100 * number + time).astype(np.float32),
        discount=(time < rows - 1).astype(np.float32),
        env_steps=np.where(time > 0, 2, 0).astype(np.int64),
    )


def open_replay(folder: Path | None, rows_in_memory: int = 1000, **other: float) -> Replay:
    settings = {"batch": 7, "length": 4, "memory_bytes": ROW * rows_in_memory, **other}
    return Replay(folder, **settings)


def same_batch(a: Batch, b: Batch) -> bool:
    names = ("image", "action", "reward", "discount", "valid")
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in names)


def draws(replay: Replay, seed: int = 0, times: int = 5) -> list[Batch]:
    generator = np.random.default_rng(seed)
    return [replay.sample(generator) for _ in range(times)]


def episodes_drawn(replay: Replay) -> set[int]:
    generator = np.random.default_rng(0)
    return {int(n) for _ in range(40) for n in replay.sample(generator).image[:, 0, 0, 0, 0]}


@pytest.fixture(params=["memory", "disk"])
def folder(request, tmp_path):
    return tmp_path / "replay" if request.param == "disk" else None


def test_a_window_is_consecutive_rows_of_one_episode(folder):
    replay = open_replay(folder)
    for number, rows in enumerate((6, 4, 9)):
        replay.add(paint(number, rows))
    for batch in draws(replay, times=20):
        assert batch.image.shape == (7, 4, H, W, C)
        assert batch.action.shape == (7, 4, A)
        assert batch.valid.all()
        number = batch.image[:, :, 0, 0, 0].float()
        time = batch.image[:, :, 0, 0, 1].float()
        assert (number == number[:, :1]).all()
        assert (time == time[:, :1] + torch.arange(4)).all()
        assert torch.equal(batch.reward, 100 * number + time)
        assert torch.equal(batch.action, (number + time / 64)[..., None].expand(-1, -1, A))
        last = torch.tensor([5.0, 3.0, 8.0])[number.long()]
        assert torch.equal(batch.discount, (time != last).float())


def test_every_window_is_as_likely_as_any_other():
    replay = open_replay(None, batch=500)
    replay.add(paint(0, 4))  # one window
    replay.add(paint(1, 6))  # three
    batches = draws(replay, times=24)
    begins = torch.cat([batch.reward[:, 0] for batch in batches])
    starts, counts = begins.unique(return_counts=True)
    assert starts.tolist() == [0, 100, 101, 102]
    assert (counts / len(begins) - 1 / 4).abs().max() < 0.02  # five standard deviations


@pytest.mark.parametrize("rows", [1, 3])
def test_a_short_episode_is_padded_at_its_end(folder, rows):
    replay = open_replay(folder)
    replay.add(paint(9, 8))
    replay.sample(np.random.default_rng(0))  # leaves a buffer that is not zero
    replay.keep_first(0)
    replay.add(paint(5, rows))
    batch = replay.sample(np.random.default_rng(0))
    assert torch.equal(batch.valid, (torch.arange(4) < rows).expand(7, 4))
    assert torch.equal(batch.reward[:, :rows], (500.0 + torch.arange(rows)).expand(7, rows))
    assert (batch.image[:, :rows, :, :, 0] == 5).all()
    assert (batch.image[:, rows:] == 0).all()
    assert (batch.action[:, rows:] == 0).all()
    assert (batch.reward[:, rows:] == 0).all()
    assert (batch.discount[:, rows:] == 1).all()


def test_a_batch_does_not_change_while_it_is_referenced(folder):
    replay = open_replay(folder)
    for number in range(5):
        replay.add(paint(number, 12))
    generator = np.random.default_rng(0)
    slices, arrays, expected = [], [], []
    for _ in range(6):
        image = replay.sample(generator).image
        expected.append(image.clone())
        slices.append(image[2:3, 1:])  # holds the batch by a view only
        arrays.append(replay.sample(generator).image.numpy()[:1])  # by numpy only
        expected.append(torch.from_numpy(arrays[-1].copy()))
    for number, (part, array) in enumerate(zip(slices, arrays, strict=True)):
        assert torch.equal(part, expected[2 * number][2:3, 1:])
        assert (array == expected[2 * number + 1].numpy()).all()


def test_the_buffer_of_a_released_batch_is_reused():
    replay = open_replay(None)
    replay.add(paint(0, 12))
    generator = np.random.default_rng(0)
    addresses = set()
    for _ in range(10):
        addresses.add(replay.sample(generator).image.data_ptr())
    held = replay.sample(generator)
    assert len(addresses) == 1
    assert replay.sample(generator).image.data_ptr() != held.image.data_ptr()


def test_reopening_the_folder_changes_nothing(tmp_path):
    replay = open_replay(tmp_path, rows_in_memory=20)
    for number, rows in enumerate((3, 9, 5, 8, 4)):
        replay.add(paint(number, rows))
        again = open_replay(tmp_path, rows_in_memory=20)
        for name in ("episodes", "rows", "env_steps", "disk_bytes", "episodes_in_memory"):
            assert getattr(again, name) == getattr(replay, name), name
        assert all(same_batch(*pair) for pair in zip(draws(replay), draws(again), strict=True))
    assert (replay.episodes, replay.rows, replay.env_steps) == (5, 29, 2 * 24)
    assert replay.episodes_in_memory == 3


def test_the_oldest_leave_memory_but_never_the_disk(tmp_path):
    replay = open_replay(tmp_path, rows_in_memory=10)
    for number in range(4):
        replay.add(paint(number, 5))
    assert episodes_drawn(replay) == {2, 3}
    assert replay.rows == 20
    for number in range(4):
        episode = read_episode(tmp_path / f"{number:06d}.npz")
        assert (episode.image == paint(number, 5).image).all()


def test_a_replay_cut_to_its_first_episodes_equals_one_that_never_had_more(tmp_path):
    kept, full = open_replay(tmp_path / "kept", 12), open_replay(tmp_path / "full", 12)
    for number in range(3):
        kept.add(paint(number, 5))
    for number in range(6):
        full.add(paint(number, 5))
    full.keep_first(3)  # episodes 1 and 2 had left memory
    for replay in (full, open_replay(tmp_path / "full", 12)):
        assert (replay.episodes, replay.rows) == (3, 15)
        assert all(same_batch(*pair) for pair in zip(draws(replay), draws(kept), strict=True))
    full.add(paint(7, 5))
    assert read_episode(tmp_path / "full" / "000003.npz").reward[0] == 700


def test_keeping_all_is_no_change(folder):
    replay = open_replay(folder, 12)
    for number in range(4):
        replay.add(paint(number, 5))
    before = draws(replay)
    replay.keep_first(4)
    assert replay.episodes == 4
    assert all(same_batch(*pair) for pair in zip(draws(replay), before, strict=True))


@pytest.mark.parametrize("name", ["000001.npz", "000003.npz"])
@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "remove"])
def test_a_broken_file_is_named_and_skipped_and_keeps_its_number(tmp_path, caplog, name, damage):
    replay = open_replay(tmp_path)
    for number in range(5):
        replay.add(paint(number, 5))
    path = tmp_path / name
    content = bytearray(path.read_bytes())
    if damage == "truncate":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flip":
        content[len("PK") + 60] ^= 16  # in the compressed images
        path.write_bytes(content)
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()
    with caplog.at_level(logging.WARNING, logger="worldmodel"):
        again = open_replay(tmp_path)
    assert [message for message in again.broken if name in message] == again.broken
    assert len(again.broken) == 1
    assert name in caplog.text
    assert (again.episodes, again.rows) == (5, 20)
    assert episodes_drawn(again) == {0, 1, 2, 3, 4} - {int(path.stem)}
    again.add(paint(5, 5))
    assert (tmp_path / "000005.npz").exists()


def test_files_that_vanished_before_the_checkpoint_are_named(tmp_path):
    replay = open_replay(tmp_path)
    for number in range(3):
        replay.add(paint(number, 5))
    (tmp_path / "000002.npz").unlink()
    again = open_replay(tmp_path)
    again.keep_first(3)
    assert "000002.npz: missing" in again.broken[0]
    again.add(paint(3, 5))
    assert (tmp_path / "000003.npz").exists()


def test_every_flipped_bit_of_a_file_is_detected(tmp_path):
    path = tmp_path / "000000.npz"
    episode = paint(1, 3)
    write_episode(path, episode)
    whole = path.read_bytes()
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << (place % 8)
        path.write_bytes(flipped)
        try:
            read = read_episode(path)
        except BrokenEpisodeError as error:
            assert "000000.npz" in str(error)  # noqa: PT017
        else:  # the date of a file in the archive and the like
            for name in ("image", "action", "reward", "discount", "env_steps"):
                assert (getattr(read, name) == getattr(episode, name)).all()


def test_an_unfinished_file_of_a_kill_is_ignored_and_removed(tmp_path):
    replay = open_replay(tmp_path)
    replay.add(paint(0, 5))
    unfinished = tmp_path / ".writing-000001.npz"
    for tidy in (lambda r: r.add(paint(1, 5)), lambda r: r.keep_first(1)):
        unfinished.write_bytes(b"PK half")
        again = open_replay(tmp_path)
        assert again.broken == []
        assert again.episodes == 1
        tidy(again)
        assert not unfinished.exists()
        again.keep_first(1)


def test_a_write_that_fails_changes_nothing(tmp_path, monkeypatch):
    replay = open_replay(tmp_path)
    replay.add(paint(0, 5))
    before = draws(replay), sorted(os.listdir(tmp_path))

    def fsync(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(DiskFullError, match=str(tmp_path)):
            replay.add(paint(1, 5))
    assert sorted(os.listdir(tmp_path)) == before[1]
    assert replay.episodes == 1
    assert all(same_batch(*pair) for pair in zip(draws(replay), before[0], strict=True))
    replay.add(paint(1, 5))
    assert replay.episodes == 2


def test_the_run_takes_no_more_than_its_share_of_the_disk(tmp_path, monkeypatch):
    disk = 30_000

    def usage(folder: Path) -> shutil._ntuple_diskusage:
        used = sum(path.stat().st_size for path in Path(folder).iterdir())
        return shutil._ntuple_diskusage(disk, used, disk - used)

    monkeypatch.setattr(replay_files.shutil, "disk_usage", usage)
    replay = open_replay(tmp_path, disk_share=0.5)

    def fill() -> None:
        for number in range(100):
            replay.add(paint(number, 5))

    with pytest.raises(DiskFullError, match=rf"{tmp_path}.*replay\.disk_share"):
        fill()
    assert replay.episodes > 0
    assert replay.disk_bytes <= disk / 2 < replay.disk_bytes + 5 * ROW + ARCHIVE_BYTES
    again = open_replay(tmp_path, disk_share=0.5)
    assert again.episodes == replay.episodes
    with pytest.raises(DiskFullError):
        again.add(paint(0, 5))


def test_bytes_per_row_is_what_an_episode_takes():
    episode = paint(0, 6)
    fields = ("image", "action", "reward", "discount", "env_steps")
    assert sum(getattr(episode, name).nbytes for name in fields) == 6 * ROW


def test_an_episode_larger_than_memory_names_the_setting(folder):
    replay = open_replay(folder, rows_in_memory=5)
    replay.add(paint(0, 5))
    with pytest.raises(ValueError, match=r"replay\.memory_gb"):
        replay.add(paint(1, 6))
    assert replay.episodes == 1
    if folder is not None:
        with pytest.raises(ValueError, match=r"replay\.memory_gb.*000000\.npz"):
            open_replay(folder, rows_in_memory=4)


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("image", np.zeros((5, H, W, C), np.float32), "image: expected uint8, got float32"),
        ("image", np.zeros((5, H, W), np.uint8), "image: expected"),
        ("action", np.zeros((4, A), np.float32), "action: expected a row for each of 5"),
        ("reward", np.full(5, np.nan, np.float32), "reward: expected finite numbers, got nan"),
        ("action", np.zeros((5, A + 1), np.float32), r"action: expected \[4\]"),
        ("image", np.zeros((5, W, H, C), np.uint8), r"image: expected \[3, 5, 2\]"),
    ],
)
def test_a_wrong_episode_is_refused_by_the_name_of_its_field(folder, name, value, complaint):
    replay = open_replay(folder)
    replay.add(paint(0, 5))
    fields = {**vars(paint(1, 5)), name: value}
    with pytest.raises((TypeError, ValueError), match=complaint):
        replay.add(Episode(**fields))
    assert replay.episodes == 1
    assert folder is None or len(os.listdir(folder)) == 1


@pytest.mark.parametrize("limit", [1, 2, 5, 6, 11, 100])
def test_images_are_spread_evenly_over_all_rows(limit):
    replay = open_replay(None)
    for number, rows in enumerate((3, 1, 7)):
        replay.add(paint(number, rows))
    every = np.concatenate([paint(number, rows).image for number, rows in ((0, 3), (1, 1), (2, 7))])
    images = replay.images(limit).numpy()
    assert len(images) <= limit
    assert any(np.array_equal(images, every[::stride]) for stride in range(1, 12))
    assert len(images) > limit / 2 or len(images) == len(every)


def test_sampling_from_an_empty_replay_raises():
    with pytest.raises(RuntimeError, match="replay: no episode"):
        open_replay(None).sample(np.random.default_rng(0))


def test_two_writers_do_not_overwrite_each_other(tmp_path):
    one, two = open_replay(tmp_path), open_replay(tmp_path)
    one.add(paint(1, 5))
    with pytest.raises(RuntimeError, match=r"000000\.npz: exists already"):
        two.add(paint(2, 5))
    assert read_episode(tmp_path / "000000.npz").reward[0] == 100


def know(replay: Replay, number: int, nats: list[float]) -> None:
    """As if a model had learned from every window of an episode."""
    priority = torch.tensor(nats)
    for begin in range(len(nats) - replay.length + 1):
        window = torch.tensor([[number, begin]])
        replay.learned_from(window, priority[None, begin : begin + replay.length])


def test_a_tournament_takes_the_window_of_the_highest_priority(folder):
    """The priority of a window of four rows is that of its last: the first three do not count."""
    replay = open_replay(folder, tournament=3)
    replay.add(paint(0, 40))
    replay.add(paint(1, 30))
    nats = [np.random.default_rng(n).permutation(rows) + 0.0 for n, rows in enumerate((40, 30))]
    for number, known in enumerate(nats):
        know(replay, number, known.tolist())
    windows = [(0, begin) for begin in range(37)] + [(1, begin) for begin in range(27)]
    for seed in range(20):
        drawn = np.random.default_rng(seed).integers(len(windows), size=(3, 7))
        batch = replay.sample(np.random.default_rng(seed))
        for column, got in zip(drawn.T, batch.window.tolist(), strict=True):
            best = max((windows[pick] for pick in column), key=lambda w: nats[w[0]][w[1] + 3])
            assert tuple(got) == best
        assert torch.equal(batch.image[:, 0, 0, 0, :2].long(), batch.window)  # its own rows


def test_one_draw_is_uniform_whatever_the_priorities(folder):
    one, other = open_replay(None, tournament=1), open_replay(folder)
    for replay in (one, other):
        replay.add(paint(0, 40))
    know(one, 0, [float(row) for row in range(40)])
    assert all(same_batch(a, b) for a, b in zip(draws(one), draws(other), strict=True))


def test_rows_that_were_never_learned_from_come_first(folder):
    replay = open_replay(folder, tournament=2)
    replay.add(paint(0, 40))
    know(replay, 0, [1e9] * 40)
    replay.add(paint(1, 4))  # one window among 38
    generator = np.random.default_rng(0)
    new = sum(int((replay.sample(generator).window[:, 0] == 1).sum()) for _ in range(400))
    assert new / 2800 == pytest.approx(1 - (37 / 38) ** 2, rel=0.2)  # where either draw has it


def test_priorities_are_restored_with_a_checkpoint(folder):
    """Also with less memory than before, and if an episode has left memory since the draw."""
    whole = open_replay(folder, tournament=2)
    for number in range(3):
        whole.add(paint(number, 10))
        know(whole, number, [float(number + row) for row in range(10)])
    state = {name: tensor.clone() for name, tensor in whole.state().items()}
    for rows_in_memory, first in ((1000, 0), (20, 1)):
        again = open_replay(None, rows_in_memory, tournament=2)
        for number in range(3):
            again.add(paint(number, 10))
        again.restore(state)
        for number in range(first, 3):
            for begin in range(7):
                known = whole.priorities.of_window(number, begin, 4)
                assert again.priorities.of_window(number, begin, 4) == known == number + begin + 3
    again.learned_from(torch.tensor([[0, 0]]), torch.ones(1, 4))
    kept = again.state()
    assert kept.keys() == {"1", "2"}
    assert all(torch.equal(kept[number], state[number]) for number in kept)
    gap = Priorities()  # the file of one in the middle is broken
    gap.keep([(0, 10), (2, 10)])
    gap.restore(state)
    assert all(torch.equal(gap.state()[number], state[number]) for number in ("0", "2"))


def test_a_short_episode_has_the_priority_of_the_rows_it_has(folder):
    replay = open_replay(folder, tournament=2)
    replay.add(paint(0, 2))
    replay.learned_from(torch.tensor([[0, 0]]), torch.ones(1, 4))
    assert replay.priorities.of_window(0, 0, 2) == 1.0
    assert replay.sample(np.random.default_rng(0)).valid.sum() == 14


# ------------------------------------------------------------------- stray files, reading only


@pytest.mark.parametrize("stray", ["20261130.npz", "999999999999.npz"])
def test_a_stray_file_that_is_named_like_an_episode_is_refused_at_once(tmp_path, stray):
    """Opening counts the files that are there, not all numbers up to the largest."""
    replay = open_replay(tmp_path)
    for number in range(3):
        replay.add(paint(number, 5))
    (tmp_path / stray).write_bytes(b"somebody's own file")
    began = time.process_time()
    with pytest.raises(ConfigError, match=rf"replay: .*{stray}.*the number 2; move it out"):
        open_replay(tmp_path)
    assert time.process_time() - began < 3  # of a processor; looking for every number takes longer
    assert (tmp_path / stray).read_bytes() == b"somebody's own file"


def test_episodes_whose_older_ones_are_gone_open_at_once(tmp_path):
    for number in (999_999, 1_000_000):
        write_episode(tmp_path / f"{number:06d}.npz", paint(1, 5))
    began = time.process_time()
    replay = open_replay(tmp_path)
    assert time.process_time() - began < 3  # of a processor; looking for every number takes longer
    assert (replay.episodes, replay.rows, replay.episodes_in_memory) == (1_000_001, 10, 2)
    (gone,) = replay.broken
    assert gone == f"{tmp_path / '000000.npz'} to 999998.npz: missing"
    replay.keep_first(1_000_000)
    assert [path.name for path in tmp_path.iterdir()] == ["999999.npz"]


def test_files_with_other_names_than_episodes_are_left_alone(tmp_path):
    open_replay(tmp_path).add(paint(0, 5))
    for name in ("1.npz", "0000001.npz", "notes.npz", "\u0663\u0663\u0663\u0663\u0663\u0663.npz"):
        (tmp_path / name).write_bytes(b"somebody's own file")
    replay = open_replay(tmp_path)
    assert (replay.episodes, replay.broken) == (1, [])
    replay.keep_first(0)
    assert len(list(tmp_path.iterdir())) == 4


def test_opened_to_read_only_nothing_in_the_folder_changes(tmp_path):
    writer = open_replay(tmp_path)
    for number in range(3):
        writer.add(paint(number, 5))
    (tmp_path / "000001.npz").write_bytes(b"PK half")
    (tmp_path / ".writing-000003.npz").write_bytes(b"PK half")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    tmp_path.chmod(0o555)
    try:
        reader = Replay.open(tmp_path, read_only=True, batch=7, length=4)
        assert episodes_drawn(reader) == {0, 2}
        for change in (lambda: reader.add(paint(3, 5)), lambda: reader.keep_first(1)):
            with pytest.raises(RuntimeError, match=f"replay: {tmp_path} was opened to read only"):
                change()
    finally:
        tmp_path.chmod(0o755)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert reader.episodes == 3


def test_a_folder_without_episodes_is_not_opened_and_not_made(tmp_path):
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(ConfigError, match="holds no episode such as"):
            Replay.open(folder, read_only=True)
    assert list(tmp_path.iterdir()) == []


def test_the_newest_episodes_are_whole_and_padded_to_the_longest(folder):
    replay = open_replay(folder)
    for number, rows in enumerate((9, 2, 6)):
        replay.add(paint(number, rows))
    batch = replay.newest(2)
    assert batch.window.tolist() == [[1, 0], [2, 0]]
    assert batch.valid.sum(1).tolist() == [2, 6]
    assert batch.valid.shape == (2, 6)
    for window, (number, rows) in zip(range(2), ((1, 2), (2, 6)), strict=True):
        episode = paint(number, rows)
        for name in ("image", "action", "reward", "discount"):
            got = getattr(batch, name)[window].numpy()
            assert (got[:rows] == getattr(episode, name)).all()
            assert (got[rows:] == (1 if name == "discount" else 0)).all()
    assert len(replay.newest(9).valid) == 3
