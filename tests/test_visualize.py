import csv
import math
import subprocess
import sys
import types

import imageio.v3
import imageio_ffmpeg
import numpy as np
import pytest
import torch

from worldmodel.agent import Agent
from worldmodel.config import Config, ConfigError, read
from worldmodel.log import Evaluation, Journal, read_metrics
from worldmodel.models import WorldModel
from worldmodel.replay import write_episode
from worldmodel.structs import Episode, Latent
from worldmodel.visualize import (
    RewardFit,
    cut,
    draw_open_loop,
    draw_video,
    measure,
    plot_curves,
    plot_errors,
    predict,
    spread,
    visualize,
    visualize_run,
)
from worldmodel.visualize.errors import mean_of, psnr
from worldmodel.visualize.folder import mean_image
from worldmodel.visualize.predictions import newest
from worldmodel.visualize.strips import paint_error

HEIGHT, WIDTH = 2, 3
GREY = np.full((HEIGHT, WIDTH, 3), 0.5)


class Adder(torch.nn.Module):
    """Knows a world in which the action is added to the level that fills the image.

    ``deter`` sums the levels of all images seen; the reward is the level.
    """

    action_size = 1

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.image_shape = (HEIGHT, WIDTH, channels)
        self.nothing = torch.nn.Parameter(torch.zeros(1))
        self.dynamics = self
        self.pixels = types.SimpleNamespace(mean=torch.full(self.image_shape, 0.5))

    def initial(self, *batch: int) -> Latent:
        zero = torch.zeros(*batch, 1)
        return Latent(zero, zero, zero, zero)

    def observe_step(self, latent, action, image):
        level = image[..., 0, 0, -1:].float()
        return Latent(latent.deter + level, level, level, level)

    def imagine(self, latent, actions, noise):
        level = latent.stoch[..., None, :] + actions.cumsum(-2)
        return Latent(latent.deter[..., None, :].expand_as(level), level, level, level)

    def decode(self, features):
        return self.paint(features[..., 1])

    def paint(self, level):
        whole = level[..., None, None, None].expand(*level.shape, *self.image_shape)
        return whole.round().clamp(0, 255).byte()

    def reward(self, features):
        return features[..., 1]


class Rememberer(Adder):
    """Draws the sum of all that it saw."""

    def decode(self, features):
        return self.paint(features[..., 0])


def agent_of(model, **settings) -> Agent:
    return Agent(model, read(Config(), settings))


def adding(actions, start: int = 0, channels: int = 3) -> Episode:
    """An episode of the adder's world; the reset's action is zero."""
    action = np.array([0, *actions], np.float32)
    level = start + action.cumsum()
    rows = len(level)
    shape = (rows, HEIGHT, WIDTH, channels)
    return Episode(
        image=np.broadcast_to(level[:, None, None, None], shape).astype(np.uint8),
        action=action[:, None],
        reward=level.astype(np.float32),
        discount=np.ones(rows, np.float32),
        env_steps=np.ones(rows, np.int64),
    )


STAIRS = adding([51] * 5)  # levels of 0, 0.2, 0.4, 0.6, 0.8, 1 of the full scale


def test_errors_are_those_computed_by_hand():
    errors = measure(agent_of(Adder()), [STAIRS], GREY, context=2)
    assert errors.ahead.tolist() == [1, 2, 3, 4]
    assert errors.windows.tolist() == [1, 1, 1, 1]
    np.testing.assert_allclose(errors.model, 0)
    np.testing.assert_allclose(errors.hold_last, [0.04, 0.16, 0.36, 0.64], rtol=1e-5)
    np.testing.assert_allclose(errors.mean_image, [0.01, 0.01, 0.09, 0.25], rtol=1e-5)
    np.testing.assert_allclose(errors.reward_model, 0)
    np.testing.assert_allclose(errors.reward_hold_last, np.array([51, 102, 153, 204]) ** 2)
    np.testing.assert_allclose(errors.reward_mean, (np.array([-1.5, -0.5, 0.5, 1.5]) * 51) ** 2)


def test_errors_are_means_over_every_context_position():
    errors = measure(agent_of(Adder()), [STAIRS], GREY, context=2, ahead=2)
    assert errors.windows.tolist() == [3, 3]  # rows 2 3, 3 4 and 4 5 are imagined
    np.testing.assert_allclose(errors.hold_last, [0.04, 0.16], rtol=1e-5)
    np.testing.assert_allclose(errors.mean_image, [0.11 / 3, 0.35 / 3], rtol=1e-5)


def test_a_short_episode_counts_as_far_as_it_goes():
    short = adding([0, 0, 0])  # black for ever
    errors = measure(agent_of(Adder()), [STAIRS, short], GREY, context=2)
    assert errors.windows.tolist() == [2, 2, 1, 1]
    np.testing.assert_allclose(errors.hold_last, [0.02, 0.08, 0.36, 0.64], rtol=1e-5)
    np.testing.assert_allclose(errors.mean_image, [0.13, 0.13, 0.09, 0.25], rtol=1e-5)


def test_many_windows_are_the_windows_one_by_one(monkeypatch):
    episodes = [adding([3, 9, 1, 7, 5, 2, 8, 4]), adding([6] * 5)]
    at_once = measure(agent_of(Adder()), episodes, GREY, context=2, ahead=3)
    monkeypatch.setattr("worldmodel.visualize.errors.CHUNK", 1)
    one_by_one = measure(agent_of(Adder()), episodes, GREY, context=2, ahead=3)
    np.testing.assert_allclose(at_once.hold_last, one_by_one.hold_last)
    np.testing.assert_allclose(at_once.reward_mean, one_by_one.reward_mean)


def test_a_model_that_knows_the_world_beats_both_baselines():
    random = np.random.default_rng(0)
    episodes = [adding(random.integers(0, 5, 60), start=start) for start in (0, 7)]
    at_ten = measure(agent_of(Adder()), episodes, mean_of(episodes, frames=1)).at(10)
    assert at_ten.ahead.tolist() == [10]
    assert at_ten.model[0] == 0 < min(at_ten.hold_last[0], at_ten.mean_image[0])


@pytest.mark.parametrize("late", [-1, 1])
def test_actions_out_of_line_are_errors(late):
    straight = adding([10, 0, 0, 60, 0, 0, 0, 30, 0])
    shifted = Episode(
        straight.image,
        np.roll(straight.action, late, 0),
        straight.reward,
        straight.discount,
        straight.env_steps,
    )
    agent = agent_of(Adder())
    assert measure(agent, [straight], GREY, context=2).model.max() == 0
    assert measure(agent, [shifted], GREY, context=2).model.max() > 0.01


@pytest.mark.parametrize("row", range(10))
def test_the_context_is_five_images(row):
    """What is seen before imagining: rows 2 to 6 of the episode, and no other."""
    episode = adding([0] * 9, start=10)
    image = episode.image.copy()
    image[row] += 7
    changed = Episode(image, episode.action, episode.reward, episode.discount, episode.env_steps)
    before, after = (
        predict(agent_of(Rememberer()), cut([one], [(0, 2)], rows=8)).model[:, 5:]
        for one in (episode, changed)
    )
    assert (before == 50).all()
    assert (after == (57 if 2 <= row < 7 else 50)).all()


def test_the_context_is_reconstructed_and_the_rest_imagined():
    prediction = predict(agent_of(Adder()), cut([STAIRS], [(0, 1)], rows=5), context=2)
    np.testing.assert_array_equal(prediction.truth, STAIRS.image[None, 1:])
    np.testing.assert_array_equal(prediction.model, STAIRS.image[None, 1:])
    np.testing.assert_array_equal(prediction.model_reward, STAIRS.reward[None, 1:])


def test_windows_are_spread_from_the_first_row_to_the_last():
    long, short = adding([0] * 10), adding([0] * 2)
    assert spread([long, short], rows=5, most=6) == [(0, 0), (0, 3), (0, 6), (1, 0)]
    assert spread([long], rows=11, most=6) == [(0, 0)]


def test_of_stacked_images_the_newest_is_shown():
    stacked = np.arange(6, dtype=np.uint8).reshape(1, 1, 6)
    assert newest(stacked, frames=2).tolist() == [[[3, 4, 5]]]
    assert newest(stacked, frames=6).tolist() == [[[5, 5, 5]]]  # grey ones

    episode = adding([51] * 5, channels=6)
    episode.image[..., :3] = 77  # older images: nobody measures or shows them
    errors = measure(agent_of(Adder(6), env={"frames": 2}), [episode], GREY, context=2)
    np.testing.assert_allclose(errors.model, 0)
    np.testing.assert_allclose(errors.mean_image, [0.01, 0.01, 0.09, 0.25], rtol=1e-5)


def test_psnr_of_a_hundredth_is_twenty_decibels():
    np.testing.assert_allclose(psnr(np.array([0.01, 1.0, 0.0])), [20, 0, np.inf], atol=1e-12)


def test_r_squared_is_one_for_right_zero_for_the_mean_and_nothing_for_a_constant():
    true = np.array([1.0, 2.0, 3.0], np.float32)
    assert RewardFit(true, true).r_squared == 1
    assert RewardFit(true, np.full(3, 2, np.float32)).r_squared == 0
    assert math.isnan(RewardFit(np.ones(3, np.float32), true).r_squared)


def test_the_mean_image_is_of_training_data_where_there_is_some(tmp_path):
    heldout, trained = adding([51] * 5), adding([0] * 4, start=51)
    agent = agent_of(Adder())
    np.testing.assert_allclose(mean_image(agent, [heldout], None), 0.5)  # of levels 0 to 1
    agent.model.pixels.mean = torch.full((HEIGHT, WIDTH, 3), 0.25)
    np.testing.assert_allclose(mean_image(agent, [heldout], tmp_path), 0.25)
    (tmp_path / "replay").mkdir()
    write_episode(tmp_path / "replay" / "000000.npz", trained)
    np.testing.assert_allclose(mean_image(agent, [heldout], tmp_path), 0.2)


def test_the_brighter_the_larger_the_error():
    truth = np.zeros((4, 1, 3), np.uint8)
    model = truth.copy()
    model[:, 0, 1] = 0, 30, 90, 255
    painted = paint_error(truth, model).sum(-1, dtype=int)[:, 0]
    assert painted[0] == 0
    assert (np.diff(painted) > 0).all()
    np.testing.assert_array_equal(paint_error(truth, model), paint_error(model, truth))


def test_pictures_show_the_very_pixels():
    episode = adding([20] * 12)
    prediction = predict(agent_of(Adder()), cut([episode], [(0, 0)], rows=13))
    for picture in (draw_open_loop(prediction), draw_video(prediction)[9]):
        flat = picture.reshape(-1, 3)
        assert (flat == 180).all(-1).sum() >= 2 * 100 * 150  # row 9, true and imagined


def test_a_video_has_a_frame_for_each_row_all_of_one_even_size():
    episodes = [adding([1] * 20), adding([1] * 6)]
    frames = draw_video(predict(agent_of(Adder()), cut(episodes, [(0, 0), (1, 0)], rows=21)))
    assert len(frames) == 21
    assert len({frame.shape for frame in frames}) == 1
    assert all(side % 2 == 0 for side in frames[0].shape[:2])


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run folder of the adder's world, with everything that visualize reads."""
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    run = tmp_path / "run"
    journal = Journal(run)
    for step in (100, 200):
        journal.evaluation(step, step / 10, [step / 7, step / 9], [0, 1])
        journal.metrics({"env_steps": step, "loss/image": 1 / step, "train_return": step / 8})
    for folder in ("heldout", "replay"):
        (run / folder).mkdir()
        for number in range(2):
            episode = adding([4] * (30 + number), start=number)
            write_episode(run / folder / f"{number:06d}.npz", episode)
    return run


PICTURES = {"reconstruction.png", "open_loop.png", "errors.png", "reward.png", "curves.png"}


def test_everything_is_written_and_can_be_read(run):
    summary = visualize_run(agent_of(Adder()), run)
    out = run / "report"
    assert {path.name for path in out.iterdir()} == PICTURES | {"errors.csv", "open_loop.mp4"}
    assert {path.name for path in summary.files} == {path.name for path in out.iterdir()}
    assert summary.notes == []
    for name in PICTURES:
        height, width, _ = imageio.v3.imread(out / name).shape
        assert height > 300
        assert width > 300
    frames, _ = imageio_ffmpeg.count_frames_and_secs(out / "open_loop.mp4")
    assert frames == 32  # rows of the longest episode
    lines = (out / "errors.csv").read_text().splitlines()
    rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    assert [int(row["ahead"]) for row in rows] == list(range(1, 28))
    assert [float(row["hold_last"]) for row in rows] == summary.errors.hold_last.tolist()
    assert float(rows[0]["psnr_hold_last"]) == pytest.approx(-20 * math.log10(4 / 255))
    assert summary.reward.r_squared == 1


def test_a_world_model_sees_its_context_alone():
    settings = {
        "encoder": {"width": 2},
        "decoder": {"width": 2},
        "dynamics": {"deter_size": 7, "stoch_size": 3, "hidden_size": 5},
        "image_bits": 8,
    }
    config = read(Config(), {"env": {"image_size": 16}, "model": settings})
    torch.manual_seed(0)
    agent = Agent(WorldModel(config.model, 16, channels=3, action_size=2), config)
    random = np.random.default_rng(0)
    rows = 9
    image = random.integers(0, 256, (rows, 16, 16, 3), np.uint8)
    action = random.uniform(-1, 1, (rows, 2)).astype(np.float32)
    reward, ones = random.random(rows, np.float32), np.ones(rows, np.float32)
    told = []
    for changed in (None, 4, 5):
        seen = image.copy()
        if changed is not None:
            seen[changed] = 255 - seen[changed]
        episode = Episode(seen, action, reward, ones, np.ones(rows, np.int64))
        told.append(predict(agent, cut([episode], [(0, 0)], rows)).model[:, 5:])
    as_it_was, last_of_context, first_imagined = told
    np.testing.assert_array_equal(as_it_was, first_imagined)
    assert (as_it_was != last_of_context).any()


def test_the_summary_is_one_line_about_ten_steps(run):
    told = str(visualize_run(agent_of(Adder()), run))
    hold_last = (40 / 255) ** 2
    assert told.startswith(f"open-loop at 10 steps: model 0, hold-last {hold_last:.4g}, mean image")
    assert told.endswith("(mean squared error; lower is better)")
    assert "\n" not in told


def test_the_summary_of_short_episodes_says_how_far_it_goes(tmp_path):
    summary = visualize(agent_of(Adder()), [adding([4] * 8), adding([4] * 2)], tmp_path)
    assert str(summary).startswith("open-loop at 4 steps:")


def test_without_ffmpeg_the_video_is_a_gif_and_a_note_says_how_to_get_mp4(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    summary = visualize_run(agent_of(Adder()), run)
    assert not (run / "report" / "open_loop.mp4").exists()
    assert len(imageio.v3.imread(run / "report" / "open_loop.gif", index=None)) == 32
    (note,) = summary.notes
    assert "pip install imageio-ffmpeg" in note


def test_without_matplotlib_strips_video_and_numbers_are_still_there(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    summary = visualize_run(agent_of(Adder()), run)
    names = {path.name for path in (run / "report").iterdir()}
    assert names == {"reconstruction.png", "open_loop.png", "open_loop.mp4", "errors.csv"}
    (note,) = summary.notes
    assert "pip install matplotlib" in note


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(ConfigError, match=f"out: cannot write {file}"):
        visualize(agent_of(Adder()), [STAIRS], file / "report")


def test_episodes_that_are_too_short_are_refused_with_a_remedy(tmp_path):
    with pytest.raises(ValueError, match=r"at least 6 rows .* got 5, 3; give longer episodes"):
        visualize(agent_of(Adder()), [adding([1] * 4), adding([1] * 2)], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_episodes_of_another_camera_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"image: .* takes \[2, 3, 3\], got \[2, 3, 6\]"):
        visualize(agent_of(Adder()), [adding([1] * 9, channels=6)], tmp_path)


def test_a_run_without_held_out_episodes_is_named(tmp_path):
    with pytest.raises(ConfigError, match="heldout holds no episode yet"):
        visualize_run(agent_of(Adder()), tmp_path)


def test_a_broken_held_out_episode_is_skipped_and_told(run):
    (run / "heldout" / "000001.npz").write_bytes(b"torn")
    summary = visualize_run(agent_of(Adder()), run)
    (note,) = summary.notes
    assert "000001.npz" in note


def test_figures_of_little_are_drawn_too(tmp_path, run):
    errors = measure(agent_of(Adder()), [adding([1] * 5)], GREY)
    metrics = read_metrics(run / "metrics.jsonl")
    for number, figure in enumerate(
        [
            plot_errors(errors),
            plot_curves([], []),
            plot_curves([Evaluation(5, 1.0, [3.0], [0])], metrics[:1]),
        ]
    ):
        figure.savefig(tmp_path / f"{number}.png")


def test_importing_loads_no_plotting_and_no_video():
    heavy = "{'matplotlib', 'imageio', 'imageio_ffmpeg', 'PIL'}"
    code = f"import sys, worldmodel.visualize; sys.exit(str({heavy} & set(sys.modules) or ''))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""
