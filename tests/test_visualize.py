import csv
import dataclasses
import html.parser
import math
import shutil
import subprocess
import sys
import types

import imageio.v3
import imageio_ffmpeg
import matplotlib.colors
import matplotlib.text
import numpy as np
import pytest
import torch
from mpl_toolkits.mplot3d import proj3d

from tests.conftest import Answer, report_quickly
from tests.test_choices import Levers
from worldmodel.agent import Agent
from worldmodel.checks import ConfigError, read
from worldmodel.config import Config
from worldmodel.envs import make_env
from worldmodel.log import Evaluation, Journal, read_metrics
from worldmodel.models import build
from worldmodel.replay import write_episode
from worldmodel.rollout import evaluate, play_constant
from worldmodel.structs import Episode, Latent, Spec
from worldmodel.visualize import (
    NoTruthError,
    RewardFit,
    compare_returns,
    cut,
    darken,
    draw_open_loop,
    draw_video,
    look_into,
    map_latents,
    measure,
    observe,
    plot_curves,
    plot_errors,
    plot_map,
    plot_sensors,
    predict,
    probe,
    spread,
    true_states,
    visualize,
    visualize_run,
    write_page,
)
from worldmodel.visualize.errors import mean_of, psnr
from worldmodel.visualize.figures import how_far_apart
from worldmodel.visualize.page import Fact, Section, Table
from worldmodel.visualize.predictions import newest
from worldmodel.visualize.source import mean_image
from worldmodel.visualize.strips import Row, draw_strip, paint_error, say_action
from worldmodel.visualize.truth import angles, name_state

HEIGHT, WIDTH = 2, 3
GREY = np.full((HEIGHT, WIDTH, 3), 0.5)


class Adding(torch.nn.Module):
    """The dynamics of a world in which the action is added to the level that fills the image."""

    stoch_size = 1

    def initial(self, *batch: int) -> Latent:
        zero = torch.zeros(*batch, 1)
        return Latent(zero, zero, zero, zero)

    def imagine_step(self, latent, action, noise):
        level = latent.stoch + action
        return Latent(latent.deter, level, level, level)


class Adder(torch.nn.Module):
    """Knows that world. ``deter`` sums the levels of all images seen; the reward is the level."""

    policy = None
    vectors = None

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.spec = Spec((HEIGHT, WIDTH, channels), 1)
        self.nothing = torch.nn.Parameter(torch.zeros(1))
        self.dynamics = Adding()
        self.reward = Answer(lambda features: features[..., 1])
        self.discount = Answer(lambda features: torch.ones_like(features[..., 0]))
        self.slow_value = Answer(lambda features: torch.zeros_like(features[..., 0]))
        self.pixels = types.SimpleNamespace(mean=torch.full(self.spec.image, 0.5))

    def observe_step(self, latent, action, image, noise=None, vectors=None):
        level = image[..., 0, 0, -1:].float()
        return Latent(latent.deter + level, level, level, level)

    def imagine(self, latent, actions, noise):
        level = latent.stoch[..., None, :] + actions.cumsum(-2)
        return Latent(latent.deter[..., None, :].expand_as(level), level, level, level)

    def decode(self, features):
        return self.paint(features[..., 1])

    def paint(self, level):
        whole = level[..., None, None, None].expand(*level.shape, *self.spec.image)
        return whole.round().clamp(0, 255).byte()


class Rememberer(Adder):
    """Draws the sum of all that it saw."""

    def decode(self, features):
        return self.paint(features[..., 0])


def agent_of(model, **settings) -> Agent:
    exact = {"task": "toy", "planner": {"precision": "float32"}}
    return Agent(model, read(Config(), exact | settings))


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


def test_no_label_is_cut_off():
    image = np.zeros((1, 4, 4, 3), np.uint8)
    row = Row("", image, np.ones(1, np.bool_), np.zeros(1, np.bool_))
    narrow = draw_strip("", [""], [row])
    for longer in ("before: -0.000123456789", "of two\nlines, of which this is longer"):
        wide = draw_strip("", [""], [dataclasses.replace(row, label=longer)])
        assert wide.shape[1] > narrow.shape[1]
        assert (wide[:, :6] == 255).all()  # nothing stands at the edge
    foot = draw_strip("", [""], [row], foot="as long a foot as there may be " * 3)
    assert (foot[:, -6:] == 255).all()


def test_a_video_has_a_frame_for_each_row_all_of_one_even_size():
    episodes = [adding([1] * 20), adding([1] * 6)]
    frames = draw_video(predict(agent_of(Adder()), cut(episodes, [(0, 0), (1, 0)], rows=21)))
    assert len(frames) == 21
    assert len({frame.shape for frame in frames}) == 1
    assert all(side % 2 == 0 for side in frames[0].shape[:2])


def make_run(run):
    """A run folder of the adder's world, with everything that visualize reads."""
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


@pytest.fixture
def quickly(monkeypatch):
    """A few windows measured, and no figures drawn."""
    report_quickly(monkeypatch)


@pytest.fixture
def run(tmp_path, quickly):
    return make_run(tmp_path / "run")


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """A run and all that is seen of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torch.utils.tensorboard", None)
        run = make_run(tmp_path_factory.mktemp("seen") / "run")
        return run, visualize_run(agent_of(Adder()), run)


STRIPS = {"reconstruction.png", "open_loop.png", "plans_0.png", "plans_1.png", "plans_2.png"}
FIGURES = {f"{name}.png" for name in ("errors", "reward", "returns", "search", "curves")}
FIGURES |= {"map_2d.png", "map_3d.png"}
TEXTS = {"errors.csv", "plans.csv", "report.html"}


def test_everything_is_written_and_can_be_read(seen):
    run, summary = seen
    out = run / "report"
    assert {path.name for path in out.iterdir()} == STRIPS | FIGURES | TEXTS | {"open_loop.mp4"}
    assert {path.name for path in summary.files} == {path.name for path in out.iterdir()}
    (note,) = summary.notes  # the adder's world is not the toy's
    assert "no true states" in note
    for name in STRIPS | FIGURES:
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
    agent = Agent(build(config.model, Spec((16, 16, 3), 2)), config)
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


@pytest.mark.usefixtures("quickly")
def test_the_summary_of_short_episodes_says_how_far_it_goes(tmp_path):
    summary = visualize(agent_of(Adder()), [adding([4] * 8), adding([4] * 2)], tmp_path)
    assert str(summary).startswith("open-loop at 4 steps:")


def test_without_ffmpeg_the_video_is_a_gif_and_a_note_says_how_to_get_mp4(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    summary = visualize_run(agent_of(Adder()), run)
    assert not (run / "report" / "open_loop.mp4").exists()
    assert len(imageio.v3.imread(run / "report" / "open_loop.gif", index=None)) == 32
    assert "pip install imageio-ffmpeg" in summary.notes[0]


def test_without_matplotlib_strips_video_and_numbers_are_still_there(run):
    summary = visualize_run(agent_of(Adder()), run)
    names = {path.name for path in (run / "report").iterdir()}
    assert names == STRIPS | TEXTS | {"open_loop.mp4"}
    (note, _) = summary.notes
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


# ------------------------------------------------------------------------------------ sensors


class Knowing(Adder):
    """It feels the level too, as ``height`` in thousands, and knows what it will be."""

    def __init__(self) -> None:
        super().__init__()
        self.spec = Spec((HEIGHT, WIDTH, 3), 1, vectors={"height": 1})
        self.vectors = types.SimpleNamespace(
            decode=lambda features: {"height": 1000 * features[..., 1:]}
        )


def felt(episode: Episode) -> Episode:
    return dataclasses.replace(episode, vectors={"height": 1000 * episode.reward[:, None]})


def test_sensors_stand_beside_the_images_of_their_rows():
    windows = cut([felt(STAIRS), felt(adding([7] * 3))], [(0, 1), (1, 0)], rows=5)
    prediction = predict(agent_of(Knowing()), windows, context=2)
    truth, model = prediction.felt["height"]
    np.testing.assert_array_equal(truth[0, :, 0], 1000 * STAIRS.reward[1:])
    valid = prediction.valid
    np.testing.assert_array_equal(truth[valid], model[valid])
    assert predict(agent_of(Adder()), windows, context=2).felt == {}


def test_sensors_are_drawn_as_they_came_and_as_they_were_foreseen():
    windows = cut([felt(adding([7] * 3))], [(0, 0)], rows=6)  # it ends before the window does
    prediction = predict(agent_of(Knowing()), windows, context=2)
    height = tuple(part[..., 0] for part in prediction.felt["height"])
    (axes,) = plot_sensors(prediction, {"height": height}).axes
    truth, model = axes.lines
    for line in (truth, model):
        np.testing.assert_array_equal(line.get_xydata(), [[n, 7000 * n] for n in range(4)])


@pytest.mark.usefixtures("quickly")
def test_the_report_tells_how_far_sensors_are_foreseen(tmp_path):
    visualize(agent_of(Knowing()), [felt(adding([1] * 9))], tmp_path)
    page = (tmp_path / "report.html").read_text()
    held = 1000 * math.sqrt(np.square(range(1, 6)).mean())
    assert f"<tr><td>height</td><td>0</td><td>{held:.3g}</td></tr>" in page
    visualize(agent_of(Adder()), [felt(adding([1] * 9))], tmp_path)
    assert "<td>height</td>" not in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("vectors", "got"), [({}, "none"), ({"height": np.zeros((10, 2))}, r"\[2")]
)
def test_episodes_without_what_the_model_feels_are_refused(tmp_path, vectors, got):
    episode = dataclasses.replace(adding([1] * 9), vectors=vectors)
    with pytest.raises(ValueError, match=rf"height: .* takes this vector \[1\] .*, got {got}"):
        visualize(agent_of(Knowing()), [episode], tmp_path)


@pytest.mark.usefixtures("quickly")
def test_a_model_of_images_and_sensors_is_reported(tmp_path, tiny):
    config = read(tiny, {"env": {"vectors": True, "action_repeat": 8}})
    env = make_env("toy", config.env)
    episode = play_constant(env, np.array([0.3, -0.1], np.float32), seed=3).episode
    sizes = {name: part.shape[-1] for name, part in episode.vectors.items()}
    model = build(config.model, Spec((16, 16, 3), 2, vectors=sizes)).requires_grad_(False)
    visualize(Agent(model, config), [episode], tmp_path)
    page = (tmp_path / "report.html").read_text()
    for name in ("position x", "velocity y", "goal x"):
        assert f"<td>{name}</td>" in page


# ------------------------------------------------------------------------------------ choices


def test_an_action_is_said_in_a_few_characters():
    assert say_action(np.array([0.0, 0.0, 1.0]), has_choices=True) == "choice 2"
    assert say_action(np.array([0.53, -1.0]), has_choices=False) == "+0.5 -1.0"
    assert say_action(np.zeros(6), has_choices=False) == ""


@pytest.mark.usefixtures("quickly")
def test_a_model_of_choices_is_reported(tmp_path, tiny):
    agent = Agent(
        build(tiny.model, Spec((16, 16, 3), 3, has_choices=True)).requires_grad_(False), tiny
    )
    played = evaluate(agent, Levers(14), 1, seed=7)
    visualize(agent, played.episodes, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "What it weighs up" in page
    assert "another choice comes first at" in page  # planned from seeds that nobody told
    beliefs = beliefs_of(agent, played.episodes).map(lambda part: part[0])
    moment = look_into(agent, played.episodes[0], beliefs, 2)
    for actions in (moment.plan_actions, moment.first_actions, moment.last_actions):
        assert set(np.unique(actions)) == {0, 1}
        assert (actions.sum(-1) == 1).all()


def test_elites_lie_apart_by_how_many_make_another_choice():
    choices = np.eye(3, dtype=np.float32)[[[1, 2], [1, 0]]]  # two elites, two rows ahead
    assert how_far_apart(choices, has_choices=True).tolist() == [0, 0.5]
    numbers = np.array([[[1.0], [2.0]], [[1.0], [4.0]]], np.float32)
    assert how_far_apart(numbers, has_choices=False).tolist() == [0, 1]


def test_a_run_without_held_out_episodes_is_named(tmp_path):
    with pytest.raises(ConfigError, match="heldout holds no episode yet"):
        visualize_run(agent_of(Adder()), tmp_path)


def test_a_broken_held_out_episode_is_skipped_and_told(run):
    (run / "heldout" / "000001.npz").write_bytes(b"torn")
    summary = visualize_run(agent_of(Adder()), run)
    assert "000001.npz" in summary.notes[0]
    assert "000001.npz" in (run / "report" / "report.html").read_text()
    (run / "heldout" / "000000.npz").write_bytes(b"torn")
    with pytest.raises(ConfigError, match=r"heldout holds no episode; .*000000.npz.*: delete it"):
        visualize_run(agent_of(Adder()), run)


def test_figures_of_little_are_drawn_too(tmp_path, seen):
    errors = measure(agent_of(Adder()), [adding([1] * 5)], GREY)
    metrics = read_metrics(seen[0] / "metrics.jsonl")
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


# ------------------------------------------------------------------- plans: promised and obtained


def beliefs_of(agent, episodes):
    whole = cut(episodes, [(n, 0) for n in range(len(episodes))], max(map(len, episodes)))
    return observe(agent, whole, whole.reward.shape[1])


class Praising(Adder):
    """Believes each reward to be one more than it is, and what is bright to be worth much."""

    def __init__(self) -> None:
        super().__init__()
        self.reward = Answer(lambda features: features[..., 1] + 1)
        self.slow_value = Answer(lambda features: 10 * features[..., 1])


def test_a_model_that_knows_the_world_imagines_what_is_obtained():
    agent = agent_of(Adder())
    episodes = [adding([1, 0, 1, -1] * 4), adding([0] * 9, start=3)]
    returns = compare_returns(agent, episodes, [0, 1], beliefs_of(agent, episodes))
    np.testing.assert_allclose(returns.imagined, returns.obtained, rtol=1e-5)
    assert returns.model_error < 1e-4
    rows = 17 - 6, 10 - 6  # of each, with six rows after them
    assert sorted(returns.row.tolist()) == sorted([*range(rows[0]), *range(rows[1])])
    weights = 0.99 ** np.arange(6)
    assert returns.obtained[0] == pytest.approx((weights * episodes[0].reward[1:7]).sum())
    assert (returns.promised >= returns.imagined - 1e-4).all()  # nothing beats going up


def test_praise_that_is_not_obtained_is_the_models_error():
    agent = agent_of(Praising())
    episodes = [adding([0, 1] * 6)]
    returns = compare_returns(agent, episodes, [0], beliefs_of(agent, episodes))
    assert returns.model_bias == pytest.approx((0.99 ** np.arange(6)).sum(), rel=1e-4)
    last = 10 * episodes[0].reward[6] * 0.99**6  # the value is on both sides
    rewards = (0.99 ** np.arange(6) * episodes[0].reward[1:7]).sum()
    assert returns.obtained[0] == pytest.approx(rewards + last)


def test_what_came_after_the_end_of_the_task_does_not_count():
    ending = adding([0.25] * 12)
    ending.discount[3] = 0
    agent = agent_of(Adder())
    returns = compare_returns(agent, [ending], [0], beliefs_of(agent, [ending]))
    assert returns.obtained[0] == pytest.approx((0.99 ** np.arange(3) * ending.reward[1:4]).sum())


def test_the_weights_that_played_plan_the_same_again(model, tiny, painter):
    agent = Agent(model, tiny)
    played = evaluate(agent, painter, 2, seed=7)
    beliefs = beliefs_of(agent, played.episodes)
    again = compare_returns(agent, played.episodes, played.seeds, beliefs)
    assert again.apart.max() < 1e-4
    other = compare_returns(agent, played.episodes, [70, 80], beliefs)
    assert other.apart.max() > 1e-2


def test_short_episodes_are_passed_over():
    agent = agent_of(Adder())
    episodes = [adding([0.0] * 3)] * 5 + [adding([0.0] * 9, start=3)]
    returns = compare_returns(agent, episodes, range(6), beliefs_of(agent, episodes))
    assert returns.row.tolist() == [0, 1, 2, 3]
    assert returns.obtained[0] == pytest.approx(3 * (0.99 ** np.arange(6)).sum())
    with pytest.raises(ValueError, match="more rows than the planner's look-ahead of 6, got 4"):
        compare_returns(agent, episodes[:1], [0], beliefs_of(agent, episodes[:1]))


def test_a_moment_shows_the_search_as_it_was():
    agent = agent_of(Adder())
    episode = adding([1.0] * 12)
    beliefs = beliefs_of(agent, [episode]).map(lambda part: part[0])
    moment = look_into(agent, episode, beliefs, 2)
    assert [len(returns) for returns in moment.returns] == [64] * 3
    assert moment.last_returns[0] == max(moment.returns[-1])
    np.testing.assert_array_equal(moment.truth, episode.image[3:9])
    np.testing.assert_array_equal(moment.done, episode.action[3:9])
    level = 2 + moment.plan_actions[:, 0].cumsum()
    np.testing.assert_array_equal(moment.plan[:, 0, 0, 0], level.round().clip(0, 255))
    assert moment.last_returns.min() > moment.first_returns.max()


# --------------------------------------------------------------------- latents: maps and probes


def rings(random, episodes=4, rows=40, size=12):
    """A ring, turned into a space of many dimensions; each episode lies somewhere else on it."""
    axes = np.linalg.qr(random.standard_normal((size, size)))[0][:2]
    angle = [random.uniform(-np.pi, np.pi, rows) for _ in range(episodes)]
    return [np.stack([np.cos(a), np.sin(a)], 1) @ axes for a in angle], angle


def test_a_ring_is_mapped_to_a_ring():
    features, _ = rings(np.random.default_rng(0), rows=400)
    found = map_latents(features)
    centre = found.points[:, :2].mean(0)
    radius = np.linalg.norm(found.points[:, :2] - centre, axis=1)
    np.testing.assert_allclose(radius, 1, atol=0.1)
    np.testing.assert_allclose(found.shares, [0.5, 0.5, 0], atol=0.05)
    assert found.row[:3].tolist() == [0, 1, 2]
    assert found.episode.tolist() == sorted([0, 1, 2, 3] * 400)


def test_a_ring_is_drawn_as_a_ring():
    """Seen from a low place it would be a line; stretched, an egg."""
    features, angle = rings(np.random.default_rng(0), rows=100)
    found = map_latents(features)
    colours = {"angle of pole": np.concatenate(angle)}
    (flat, _), (solid, bar) = (
        plot_map(found, colours, solid=is_solid).axes for is_solid in (False, True)
    )
    assert flat.get_aspect() == 1
    solid.apply_aspect()
    seen = np.stack(proj3d.proj_transform(*found.points.T, solid.get_proj())[:2], 1)
    sizes = np.linalg.svd(seen - seen.mean(0), compute_uv=False)
    assert sizes[1] > 0.6 * sizes[0]
    colour = solid.collections[0].to_rgba([-np.pi, np.pi, 0.0])
    assert np.abs(colour[0] - colour[1]).max() < 0.12  # the circle of colours is closed
    assert np.abs(colour[0] - colour[2]).max() > 0.8
    assert [label.get_text() for label in bar.get_yticklabels()][::2] == ["-π", "0", "π"]


def test_a_probe_reads_what_is_there_and_nothing_else():
    random = np.random.default_rng(0)
    features, angle = rings(random)
    states = [
        {"sin of pole": np.sin(a), "noise": random.standard_normal(len(a)), "still": 0 * a}
        for a in angle
    ]
    there, noise = probe(features, states)
    assert (there.name, noise.name) == ("sin of pole", "noise")
    assert there.r_squared > 0.999
    assert noise.r_squared < 0.1
    assert there.spread[0] <= there.r_squared <= there.spread[1]


def test_knowing_the_episode_by_heart_is_not_knowing_the_state():
    """Rows held out singly would be read perfectly from a mark of their episode."""
    random = np.random.default_rng(0)
    marks = [np.tile(np.eye(5)[n], (30, 1)) for n in range(5)]
    states = [{"wind": np.full(30, random.standard_normal())} for _ in range(5)]
    (wind,) = probe(marks, states)
    assert wind.r_squared <= 0


def test_a_probe_of_two_episodes_is_refused():
    with pytest.raises(ValueError, match="at least 3 episodes"):
        probe([np.zeros((4, 2))] * 2, [{"x": np.arange(4.0)}] * 2)


# --------------------------------------------------------------------------------- true states

TOY = read(Config(), {"task": "toy", "env": {"image_size": 16, "action_repeat": 8}})


@pytest.fixture(scope="module")
def toy_episodes():
    env = make_env(TOY.task, TOY.env)
    return [play_constant(env, np.array([0.3, -0.1], np.float32), seed).episode for seed in (3, 4)]


def test_an_episode_played_again_tells_its_true_states(toy_episodes):
    states = true_states(TOY, toy_episodes, [3, 4])
    env = make_env(TOY.task, TOY.env)
    env.reset(4)
    for _ in range(5):
        env.step(np.array([0.3, -0.1], np.float32))
    assert states[1]["velocity x"][5] == env.state()["velocity"][0]
    assert states[1]["goal y"].std() == 0
    assert {len(values) for values in states[0].values()} == {len(toy_episodes[0])}


def test_states_of_another_episode_are_refused(toy_episodes):
    with pytest.raises(NoTruthError, match="from seed 5, row 0 is not as it is stored"):
        true_states(TOY, toy_episodes[:1], [5])
    image = toy_episodes[0].image.copy()
    image[7] += 1
    changed = dataclasses.replace(toy_episodes[0], image=image)
    with pytest.raises(NoTruthError, match="row 7 is not"):
        true_states(TOY, [changed], [3])


def test_where_the_task_cannot_be_played_there_is_no_truth(toy_episodes):
    gone = dataclasses.replace(TOY, task="corridor")
    with pytest.raises(NoTruthError, match=r"cannot be played here: .*corridor"):
        true_states(gone, toy_episodes, [3, 4])


def test_states_have_names_and_angles_come_as_sine_and_cosine():
    named = name_state("cartpole_swingup", {"position": np.array([0.5, 0.0, 1.0])})
    assert named == {"cart position": 0.5, "cos of pole": 0.0, "sin of pole": 1.0}
    assert angles({k: np.array([v]) for k, v in named.items()}) == {"angle of pole": np.pi / 2}
    named = name_state("reacher_easy", {"position": np.array([np.pi, 0.0]), "touch": np.array(3.0)})
    assert named["cos of shoulder"] == -1
    assert named["touch"] == 3
    assert list(name_state("fish_swim", {"a": np.zeros(2)})) == ["a 0", "a 1"]


@pytest.mark.usefixtures("quickly")
def test_the_report_holds_the_truth_where_there_is_one(tmp_path, toy_episodes, model, tiny):
    episodes = [*toy_episodes, dataclasses.replace(toy_episodes[0])]
    run = tmp_path / "run"
    (run / "heldout").mkdir(parents=True)
    for number, episode in enumerate(episodes):
        write_episode(run / "heldout" / f"{number:06d}.npz", episode)
    Journal(run).evaluation(100, 1.0, [1.0, 2.0, 3.0], [3, 4, 3])
    as_played = read(tiny, {"env": {"action_repeat": 8}})
    summary = visualize_run(Agent(model, as_played), run)
    assert [note for note in summary.notes if "matplotlib" not in note] == []
    assert {"position x", "velocity y"} <= {one.name for one in summary.probes}
    assert (run / "report" / "probe.csv").read_text().count("\n") == 4 + len(summary.probes)
    page = (run / "report" / "report.html").read_text()
    assert "velocity y" in page


# ------------------------------------------------------------------------------------- the page


class Reader(html.parser.HTMLParser):
    """Every tag, and every value that a browser might fetch."""

    def __init__(self):
        super().__init__()
        self.tags, self.asked, self.named = [], [], set()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name in ("src", "href", "srcset", "action", "poster", "data", "background"):
                self.asked.append(value)
            if name == "id":
                self.named.add(value)
            assert not name.startswith("on"), f"{tag} {name}: a script"


def test_the_page_asks_nobody_for_anything(seen):
    run, _ = seen
    page = (run / "report" / "report.html").read_text()
    reader = Reader()
    reader.feed(page)
    assert not {"script", "iframe", "object", "embed", "form"} & set(reader.tags)
    outside = [value for value in reader.asked if not value.startswith("data:")]
    assert outside
    assert {f"#{name}" for name in reader.named} == set(outside)  # the way down the page
    assert "url(" not in page
    assert "@import" not in page
    for kind, least in (("image/png", 2 * len(STRIPS | FIGURES) + 1), ("video/mp4", 1)):
        assert page.count(f"data:{kind};base64,") == least
    assert reader.tags.count("source") == len(STRIPS | FIGURES)  # each for a dark page too
    assert "default-src 'none'" in page


def test_what_is_written_on_the_page_is_text():
    parts = [Table(["<i>"], [["<s>"]])]
    page = write_page("<kbd>", "&", [Fact("<u>", "<p>")], [Section("<q>", "<a>", parts)], ["<em>"])
    for tag in ("<kbd>", "<u>", "<q>", "<em>", "<i>", "<s>"):
        assert tag not in page
        assert tag.replace("<", "&lt;").replace(">", "&gt;") in page


def test_in_the_dark_every_word_can_be_read():
    errors = measure(agent_of(Adder()), [STAIRS], GREY, context=2)
    light = plot_errors(errors)
    words = [text.get_text() for text in light.findobj(matplotlib.text.Text)]
    dark = darken(plot_errors(errors))
    assert [text.get_text() for text in dark.findobj(matplotlib.text.Text)] == words
    for text in dark.findobj(matplotlib.text.Text):
        assert min(matplotlib.colors.to_rgb(text.get_color())) > 0.8
    assert max(matplotlib.colors.to_rgb(dark.get_facecolor())) < 0.2
    colours = {line.get_color() for line in dark.axes[0].lines}
    assert all(max(matplotlib.colors.to_rgb(colour)) > 0.6 for colour in colours)


SMALLEST_WORDS = 11 * 110 / 72  # pixels: 11 points in a figure of 110 dots per inch
READABLE = 6  # pixels on the screen
SEEN = """async () => ({
  pictures: [...document.images].map(i => [i.complete, i.naturalWidth, i.width / i.naturalWidth]),
  light: [...document.images].map(i => i.currentSrc === i.src),
  films: await Promise.all([...document.querySelectorAll('video')].map(async film => {
    const poster = new Image(); poster.src = film.poster; await poster.decode();
    return [film.videoWidth, poster.naturalWidth]; })),
  paper: getComputedStyle(document.body).backgroundColor,
  across: document.documentElement.scrollWidth,
  cut_off: [...document.querySelectorAll('p, h1, h2, dd, nav a, video')]
    .filter(part => part.getBoundingClientRect().right > innerWidth).map(part => part.outerHTML),
})"""


@pytest.fixture(scope="module")
def browser():
    """Chromium without a window: the system's own, or playwright's."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="needs playwright: pip install 'worldmodel[browser]'"
    )
    own = shutil.which("chromium") or shutil.which("google-chrome")
    with playwright.sync_playwright() as play:
        try:
            opened = play.chromium.launch(executable_path=own, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"no Chromium; to have one: playwright install chromium ({error})")
        yield opened
        opened.close()


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
def test_a_browser_shows_all_of_the_page_without_a_word_or_a_request(seen, browser, scheme, width):
    run, _ = seen
    told, asked = [], []
    page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 800})
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto((run / "report" / "report.html").as_uri())
    page.wait_for_load_state("load")
    page.wait_for_function("[...document.querySelectorAll('video')].every(v => v.readyState > 1)")
    found = page.evaluate(SEEN)
    page.close()
    assert told == []
    assert [url for url in asked if not url.startswith(("data:", "file:"))] == []
    assert sum(url.startswith("file:") for url in asked) == 1
    assert len(found["pictures"]) == len(STRIPS | FIGURES)
    assert all(complete and size > 0 for complete, size, _ in found["pictures"])
    assert min(scale for *_, scale in found["pictures"]) * SMALLEST_WORDS > READABLE
    assert set(found["light"]) == {scheme == "light"}
    ((film, poster),) = found["films"]
    assert film == poster > 0  # something is seen before it is played
    assert found["paper"] == {"light": "rgb(246, 246, 244)", "dark": "rgb(15, 17, 21)"}[scheme]
    assert found["across"] <= width  # nothing makes the page itself scroll sideways
    assert found["cut_off"] == []
