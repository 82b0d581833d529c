"""Errors, plans, maps and probes, for models that can be computed by hand."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from tests.adder import (
    GREY,
    HEIGHT,
    STAIRS,
    WIDTH,
    Adder,
    Adding,
    Knowing,
    Rememberer,
    adding,
    agent_of,
    beliefs_of,
    with_vector,
)
from tests.conftest import Answer
from worldmodel import assembly
from worldmodel.analysis import (
    NoTruthError,
    PlanReturns,
    PlansMade,
    RewardFit,
    compare_returns,
    follow,
    look_into,
    map_latents,
    measure,
    predict,
    probe,
    recorded,
    sample_futures,
    spread,
    true_states,
    try_alternatives,
)
from worldmodel.analysis.errors import mean_of, psnr
from worldmodel.analysis.predictions import LEADS, events, image_change
from worldmodel.analysis.source import mean_image
from worldmodel.analysis.truth import angles, name_state
from worldmodel.checks import read
from worldmodel.config import Config
from worldmodel.envs import make_env
from worldmodel.models import build
from worldmodel.models.latents import Point, Remembered
from worldmodel.replay import cut, write_episode
from worldmodel.rollout import evaluate, play_constant
from worldmodel.structs import Episode, Spec, at


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


def test_a_short_episode_counts_until_its_end():
    short = adding([0, 0, 0])  # always black
    errors = measure(agent_of(Adder()), [STAIRS, short], GREY, context=2)
    assert errors.windows.tolist() == [2, 2, 1, 1]
    np.testing.assert_allclose(errors.hold_last, [0.02, 0.08, 0.36, 0.64], rtol=1e-5)
    np.testing.assert_allclose(errors.mean_image, [0.13, 0.13, 0.09, 0.25], rtol=1e-5)


def test_many_windows_equal_single_windows(monkeypatch):
    episodes = [adding([3, 9, 1, 7, 5, 2, 8, 4]), adding([6] * 5)]
    at_once = measure(agent_of(Adder()), episodes, GREY, context=2, ahead=3)
    monkeypatch.setattr("worldmodel.analysis.errors.CHUNK", 1)
    one_by_one = measure(agent_of(Adder()), episodes, GREY, context=2, ahead=3)
    np.testing.assert_allclose(at_once.hold_last, one_by_one.hold_last)
    np.testing.assert_allclose(at_once.reward_mean, one_by_one.reward_mean)


def test_a_model_that_knows_the_world_beats_both_baselines():
    random = np.random.default_rng(0)
    episodes = [adding(random.integers(0, 5, 60), start=start) for start in (0, 7)]
    at_ten = measure(agent_of(Adder()), episodes, mean_of(episodes, Adder().spec)).at(10)
    assert at_ten.ahead.tolist() == [10]
    assert at_ten.model[0] == 0 < min(at_ten.hold_last[0], at_ten.mean_image[0])


@pytest.mark.parametrize("late", [-1, 1])
def test_shifted_actions_cause_errors(late):
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
    """The model sees rows 2 to 6 of the episode, and no other, before it imagines."""
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


def test_some_windows_begin_shortly_before_the_largest_change_of_the_image():
    episode = adding([0] * 30 + [90] + [1] + [0] * 30)
    assert image_change(episode, Adder().spec).argmax() == 31
    begins = events([episode], rows=15, most=3, context=2, spec=Adder().spec)
    assert begins == [(0, 31 - 2 - lead) for lead in LEADS]
    still = adding([0] * 30)
    assert events([still], rows=15, most=3, context=2, spec=Adder().spec) == []


def test_errors_with_windows_before_events_know_of_the_event():
    """Evenly spread windows of this episode never imagine the only row in which it changes."""
    episode = adding([0] * 30 + [90] + [0] * 69)
    agent = agent_of(Adder())
    plain = measure(agent, [episode], GREY, context=2, ahead=3, windows=2)
    assert plain.hold_last.max() == 0
    informed = measure(agent, [episode], GREY, context=2, ahead=3, windows=2, before_events=True)
    assert informed.hold_last.max() > 0


def test_errors_of_an_episode_are_means_over_its_own_windows():
    episodes = [STAIRS, adding([0, 0, 0])]
    errors = measure(agent_of(Adder()), episodes, GREY, context=2)
    np.testing.assert_allclose(
        errors.hold_last_by_episode, [[0.04, 0.16, 0.36, 0.64], [0, 0, np.nan, np.nan]], rtol=1e-5
    )
    assert errors.at(3).hold_last_by_episode.shape == (2, 1)
    np.testing.assert_allclose(errors.at(3).hold_last, 0.36, rtol=1e-5)


def test_windows_are_spread_from_the_first_row_to_the_last():
    long, short = adding([0] * 10), adding([0] * 2)
    assert spread([long, short], rows=5, most=6) == [(0, 0), (0, 3), (0, 6), (1, 0)]
    assert spread([long], rows=11, most=6) == [(0, 0)]


def test_the_newest_of_stacked_images_is_shown():
    stacked = np.arange(6, dtype=np.uint8).reshape(1, 1, 6)
    assert Spec((1, 1, 6), 1, frames=2).shown(stacked).tolist() == [[[3, 4, 5]]]
    assert Spec((1, 1, 6), 1, frames=6).shown(stacked).tolist() == [[[5, 5, 5]]]  # grey ones

    episode = adding([51] * 5, channels=6)
    episode.image[..., :3] = 77  # older images are neither measured nor shown
    errors = measure(agent_of(Adder(6), env={"frames": 2}), [episode], GREY, context=2)
    np.testing.assert_allclose(errors.model, 0)
    np.testing.assert_allclose(errors.mean_image, [0.01, 0.01, 0.09, 0.25], rtol=1e-5)


def test_psnr_of_a_hundredth_is_twenty_decibels():
    np.testing.assert_allclose(psnr(np.array([0.01, 1.0, 0.0])), [20, 0, np.inf], atol=1e-12)


def test_r_squared_of_exact_mean_and_constant_numbers():
    true = np.array([1.0, 2.0, 3.0], np.float32)
    assert RewardFit(true, true).r_squared == 1
    assert RewardFit(true, np.full(3, 2, np.float32)).r_squared == 0
    assert math.isnan(RewardFit(np.ones(3, np.float32), true).r_squared)


def test_the_mean_image_is_of_training_data_if_there_is_any(tmp_path):
    heldout, trained = adding([51] * 5), adding([0] * 4, start=51)
    agent = agent_of(Adder())
    np.testing.assert_allclose(mean_image(agent, [heldout], None), 0.5)  # of levels 0 to 1
    agent.model.pixels.mean = torch.full((HEIGHT, WIDTH, 3), 0.25)
    np.testing.assert_allclose(mean_image(agent, [heldout], tmp_path), 0.25)
    (tmp_path / "replay").mkdir()
    write_episode(tmp_path / "replay" / "000000.npz", trained)
    np.testing.assert_allclose(mean_image(agent, [heldout], tmp_path), 0.2)


def test_predictions_use_only_images_of_the_context():
    settings = {
        "encoder": {"width": 2},
        "decoder": {"width": 2},
        "dynamics": {"deter_size": 7, "stoch_size": 3, "hidden_size": 5},
        "posterior": {"hidden_size": 5},
        "image_bits": 8,
    }
    config = read(Config(), {"env": {"image_size": 16}, "model": settings})
    torch.manual_seed(0)
    agent = assembly.agent_of(config, build(config.model, Spec((16, 16, 3), 2)))
    random = np.random.default_rng(0)
    rows = 9
    image = random.integers(0, 256, (rows, 16, 16, 3), np.uint8)
    action = random.uniform(-1, 1, (rows, 2)).astype(np.float32)
    reward, ones = random.random(rows, np.float32), np.ones(rows, np.float32)
    predicted = []
    for changed in (None, 4, 5):
        seen = image.copy()
        if changed is not None:
            seen[changed] = 255 - seen[changed]
        episode = Episode(seen, action, reward, ones, np.ones(rows, np.int64))
        predicted.append(predict(agent, cut([episode], [(0, 0)], rows)).model[:, 5:])
    as_it_was, last_of_context, first_imagined = predicted
    np.testing.assert_array_equal(as_it_was, first_imagined)
    assert (as_it_was != last_of_context).any()


def test_predicted_vectors_are_in_the_rows_of_their_images():
    windows = cut([with_vector(STAIRS), with_vector(adding([7] * 3))], [(0, 1), (1, 0)], rows=5)
    prediction = predict(agent_of(Knowing()), windows, context=2)
    truth, model = prediction.vectors["height"]
    np.testing.assert_array_equal(truth[0, :, 0], 1000 * STAIRS.reward[1:])
    valid = prediction.valid
    np.testing.assert_array_equal(truth[valid], model[valid])
    assert predict(agent_of(Adder()), windows, context=2).vectors == {}


class Praising(Adder):
    """A model that predicts each reward one too high, and values of ten times the level."""

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
    rows = 17 - 6, 10 - 6  # of each episode, with six rows after them
    assert sorted(returns.row.tolist()) == sorted([*range(rows[0]), *range(rows[1])])
    weights = 0.99 ** np.arange(6)
    assert returns.obtained[0] == pytest.approx((weights * episodes[0].reward[1:7]).sum())
    assert (returns.promised >= returns.imagined - 1e-4).all()  # the best action is always up


def test_a_promised_reward_that_does_not_come_is_a_model_error():
    agent = agent_of(Praising())
    episodes = [adding([0, 1] * 6)]
    returns = compare_returns(agent, episodes, [0], beliefs_of(agent, episodes))
    assert returns.model_bias == pytest.approx((0.99 ** np.arange(6)).sum(), rel=1e-4)
    last = 10 * episodes[0].reward[6] * 0.99**6  # both returns contain the value
    rewards = (0.99 ** np.arange(6) * episodes[0].reward[1:7]).sum()
    assert returns.obtained[0] == pytest.approx(rewards + last)


def test_rewards_after_the_end_of_the_task_do_not_count():
    ending = adding([0.25] * 12)
    ending.discount[3] = 0
    agent = agent_of(Adder())
    returns = compare_returns(agent, [ending], [0], beliefs_of(agent, [ending]))
    assert returns.obtained[0] == pytest.approx((0.99 ** np.arange(3) * ending.reward[1:4]).sum())


def test_the_weights_that_played_plan_the_same_again(model, tiny, painter):
    agent = assembly.agent_of(tiny, model)
    played = evaluate(agent, painter, 2, seed=7)
    beliefs = beliefs_of(agent, played.episodes)
    again = compare_returns(agent, played.episodes, played.seeds, beliefs)
    assert again.apart.max() < 1e-4
    other = compare_returns(agent, played.episodes, [70, 80], beliefs)
    assert other.apart.max() > 1e-2


def test_plans_kept_while_playing_are_those_that_are_made_again(model, tiny, painter):
    agent = assembly.agent_of(tiny, model)
    player, plans = recorded(agent)
    played = evaluate(player, painter, 2, seed=7)
    beliefs = beliefs_of(agent, played.episodes)
    made = plans.of(played.episodes)
    kept = compare_returns(agent, played.episodes, played.seeds, beliefs, made)
    again = compare_returns(agent, played.episodes, played.seeds, beliefs)
    assert kept.is_played
    assert not again.is_played
    assert kept.apart.max() == 0
    for name in ("promised", "imagined", "obtained", "spread"):
        kept_numbers, numbers = getattr(kept, name), getattr(again, name)
        np.testing.assert_allclose(kept_numbers, numbers, rtol=1e-3, atol=1e-3, err_msg=name)


def test_plans_that_were_made_are_compared_at_the_rows_of_their_own_episodes():
    agent = agent_of(Adder())
    episodes = [adding([0.0] * 3), adding([0.0] * 9, start=3), adding([0.0] * 7)]
    made = [
        PlansMade(100.0 * n + rows, 10.0 * n + rows, np.zeros((len(rows), 1), np.float32))
        for n, rows in enumerate(np.arange(len(episode) - 1) for episode in episodes)
    ]
    returns = compare_returns(agent, episodes, [0, 1, 2], beliefs_of(agent, episodes), made)
    places = list(zip(returns.episode.tolist(), returns.row.tolist(), strict=True))
    assert places == [(1, 0), (2, 0), (1, 1), (2, 1), (1, 2), (1, 3)]
    assert returns.promised.tolist() == [100 * n + row for n, row in places]
    assert returns.spread.tolist() == [10 * n + row for n, row in places]
    assert returns.apart.tolist() == [0.0] * 6  # these actions are zero, and zeros were planned


def test_short_episodes_are_skipped():
    agent = agent_of(Adder())
    episodes = [adding([0.0] * 3)] * 5 + [adding([0.0] * 9, start=3)]
    returns = compare_returns(agent, episodes, range(6), beliefs_of(agent, episodes))
    assert returns.row.tolist() == [0, 1, 2, 3]
    assert returns.obtained[0] == pytest.approx(3 * (0.99 ** np.arange(6)).sum())
    with pytest.raises(ValueError, match="more rows than the planner's look-ahead of 6, got 4"):
        compare_returns(agent, episodes[:1], [0], beliefs_of(agent, episodes[:1]))


def test_a_moment_records_the_search():
    agent = agent_of(Adder())
    episode = adding([1.0] * 12)
    beliefs = at(beliefs_of(agent, [episode]), 0)
    moment = look_into(agent, episode, beliefs, 2)
    assert [len(returns) for returns in moment.returns] == [64] * 3
    assert moment.last_returns[0] == max(moment.returns[-1])
    np.testing.assert_array_equal(moment.truth, episode.image[3:9])
    np.testing.assert_array_equal(moment.done, episode.action[3:9])
    level = 2 + moment.plan_actions[:, 0].cumsum()
    np.testing.assert_array_equal(moment.plan[:, 0, 0, 0], level.round().clip(0, 255))
    assert moment.last_returns.min() > np.median(moment.returns[0])
    best, middle, worst = moment.first_returns
    assert (best, worst) == (moment.returns[0].max(), moment.returns[0].min())
    assert worst < middle < best
    assert (moment.elite_actions[0] == moment.last_actions[0]).all()
    future = 2 + moment.plan_actions[:, 0].cumsum()  # its levels are the rewards
    assert moment.plan_return == pytest.approx((0.99 ** np.arange(6) * future).sum(), rel=1e-5)


def test_the_decisions_shown_are_those_whose_candidates_differ_most():
    numbers = np.zeros(6)
    returns = PlanReturns(
        promised=numbers,
        imagined=numbers,
        obtained=numbers,
        row=np.array([0, 1, 2, 9, 0, 1]),
        episode=np.array([0, 0, 0, 0, 1, 1]),
        horizon=3,
        spread=np.array([5.0, 9.0, 8.0, 1.0, 2.0, 7.0]),
        apart=numbers,
    )
    assert returns.decisive(1) == [(0, 1)]
    assert returns.decisive(2) == [(0, 1), (1, 1)]  # rows 0 and 2 are too near to row 1
    assert returns.decisive(9) == [(0, 1), (0, 9), (1, 1)]
    same = dataclasses.replace(returns, spread=np.array([5.0, 90.0, 8.0, 1.0, 2.0, 7.0]))
    assert same.decisive(9) == [(0, 1)]  # elsewhere the candidates look alike


def test_the_spread_of_a_decision_is_that_of_its_candidates_before_the_search():
    agent = agent_of(Adder())
    episode = adding([1.0] * 9)
    beliefs = beliefs_of(agent, [episode])
    returns = compare_returns(agent, [episode], [0], beliefs)
    assert returns.row.tolist() == [0, 1, 2, 3]
    assert returns.episode.tolist() == [0, 0, 0, 0]
    assert (returns.spread > 0.1).all()
    deaf = agent_of(Adder())
    deaf.model.reward = Answer(lambda features: torch.ones_like(features[..., 0]))
    same = compare_returns(deaf, [episode], [0], beliefs)
    np.testing.assert_allclose(same.spread, 0, atol=1e-5)


# ------------------------------------------------------------------------ futures of one belief


class Wandering(Adding):
    """The level also moves by chance: ten times the noise of each row."""

    def imagine(self, context, noise):
        if noise is None:
            return context
        return Remembered(context.deter, Point(context.stoch.z + 10 * noise))


def test_futures_of_a_world_without_chance_are_the_truth():
    agent = agent_of(Adder())
    episode = adding([3, 9, 1, 7, 5, 2])
    futures = sample_futures(agent, episode, at(beliefs_of(agent, [episode]), 0), 2, length=9)
    assert futures.images.shape[1] == 4  # to the end of the episode
    for images in futures.images:
        np.testing.assert_array_equal(images, futures.truth)
    assert futures.spread.max() == 0
    np.testing.assert_array_equal(futures.seen, episode.image[2])
    np.testing.assert_array_equal(futures.reward[5], episode.reward[3:])


def test_futures_of_a_world_with_chance_spread_with_time():
    agent = agent_of(Adder())
    agent.model.dynamics = Wandering()
    episode = adding([0] * 20, start=128)
    beliefs = at(beliefs_of(agent, [episode]), 0)
    spread = sample_futures(agent, episode, beliefs, 3, length=9).spread.mean((1, 2, 3)) * 255
    assert spread[0] == pytest.approx(10, rel=0.5)
    assert spread[8] == pytest.approx(10 * 3, rel=0.5)  # nine rows: three times as wide
    again = sample_futures(agent, episode, beliefs, 3, length=9).spread.mean((1, 2, 3)) * 255
    np.testing.assert_array_equal(spread, again)


def test_other_actions_have_the_futures_that_they_bring():
    agent = agent_of(Adder())
    episode = adding([1.0] * 6, start=40)
    beliefs = at(beliefs_of(agent, [episode]), 0)
    tried = try_alternatives(agent, episode, beliefs, 2, length=5)
    assert list(tried.names) == ["the planner", "full -", "full +", "no action"]
    down, up, still = tried.images[1:, :, 0, 0, 0].astype(int)
    assert up.tolist() == [43, 44, 45, 46, 47]
    assert down.tolist() == [41, 40, 39, 38, 37]
    assert still.tolist() == [42] * 5
    assert tried.reward[2].tolist() == [43, 44, 45, 46, 47]
    level = 42 + tried.actions[0, :, 0].cumsum()
    np.testing.assert_array_equal(tried.images[0, :, 0, 0, 0], level.round())
    assert (tried.actions[0] > 0).all()  # the reward is the level: every plan begins upwards
    without = try_alternatives(agent, episode, beliefs, 2, length=5, with_plan=False)
    assert list(without.names) == ["full -", "full +", "no action"]


class Weighted(Adding):
    """Action n + 1 moves the level by its own weight."""

    weights = torch.tensor([[1.0], [5.0], [0.0], [3.0]])

    def remember(self, latent, action):
        return Remembered(latent.deter, Point(latent.stoch.z + action @ self.weights))


def test_of_many_actions_those_are_shown_that_change_the_image_most():
    agent = agent_of(Adder())
    agent.model.dynamics = Weighted()
    agent.model.spec = Spec((HEIGHT, WIDTH, 3), 4)
    episode = dataclasses.replace(adding([0] * 5, start=100), action=np.zeros((6, 4), np.float32))
    beliefs = at(beliefs_of(agent, [episode]), 0)
    tried = try_alternatives(agent, episode, beliefs, 2, length=3, with_plan=False)
    actions = ["action 2 full -", "action 2 full +", "action 4 full -", "action 4 full +"]
    assert list(tried.names) == [*actions, "no action"]


def test_the_course_of_a_model_that_knows_the_world():
    agent = agent_of(Praising())
    episode = adding([3, 9, 1, 7, 5, 2])
    course = follow(agent, episode, at(beliefs_of(agent, [episode]), 0), context=2, rows=5)
    np.testing.assert_array_equal(course.reward, episode.reward[:5])
    np.testing.assert_array_equal(course.reward_imagined, episode.reward[:5] + 1)
    np.testing.assert_array_equal(course.value, 10 * episode.reward[:5])
    np.testing.assert_array_equal(course.value_imagined, course.value)
    assert np.isnan(course.surprise).all()  # its latent has no distribution


def test_only_the_imagined_course_ignores_later_images():
    agent = agent_of(Praising())
    episode = adding([1] * 6)
    image = episode.image.copy()
    image[4] += 50
    changed = dataclasses.replace(episode, image=image)
    before, after = (
        follow(agent, one, at(beliefs_of(agent, [one]), 0), context=2, rows=7)
        for one in (episode, changed)
    )
    np.testing.assert_array_equal(before.value_imagined, after.value_imagined)
    assert np.flatnonzero(before.value != after.value).tolist() == [4]


def test_surprise_is_the_divergence_of_the_belief_from_what_was_expected(model, tiny):
    agent = assembly.agent_of(tiny, model)
    random = np.random.default_rng(0)
    episode = Episode(
        random.integers(0, 256, (5, 16, 16, 3), np.uint8),
        random.uniform(-1, 1, (5, 2)).astype(np.float32),
        np.zeros(5, np.float32),
        np.ones(5, np.float32),
        np.ones(5, np.int64),
    )
    beliefs = at(beliefs_of(agent, [episode]), 0)
    surprise = follow(agent, episode, beliefs, context=2, rows=5).surprise
    assert np.isnan(surprise[0])
    belief = at(beliefs, 2)
    action = torch.from_numpy(episode.action[3])
    with torch.inference_mode():
        prior = agent.model.imagine(belief, action[None], None)
    expected = at(beliefs, 3).distribution.divergence(at(prior, 0).distribution)
    assert surprise[3] == pytest.approx(float(expected), rel=1e-4)
    assert surprise[3] > 0


# --------------------------------------------------------------------- latents: maps and probes


def rings(random, episodes=4, rows=40, size=12):
    """A ring, rotated into a space of ``size`` dimensions; each episode has other points of it."""
    axes = np.linalg.qr(random.standard_normal((size, size)))[0][:2]
    angle = [random.uniform(-np.pi, np.pi, rows) for _ in range(episodes)]
    return [np.stack([np.cos(a), np.sin(a)], 1) @ axes for a in angle], angle


def test_a_ring_is_mapped_to_a_ring():
    features, _ = rings(np.random.default_rng(0), rows=400)
    mapped = map_latents(features)
    centre = mapped.points[:, :2].mean(0)
    radius = np.linalg.norm(mapped.points[:, :2] - centre, axis=1)
    np.testing.assert_allclose(radius, 1, atol=0.1)
    np.testing.assert_allclose(mapped.shares, [0.5, 0.5, 0], atol=0.05)
    assert mapped.row[:3].tolist() == [0, 1, 2]
    assert mapped.episode.tolist() == sorted([0, 1, 2, 3] * 400)


def test_a_probe_reads_a_quantity_but_not_noise():
    random = np.random.default_rng(0)
    features, angle = rings(random)
    states = [
        {"sin of pole": np.sin(a), "noise": random.standard_normal(len(a)), "still": 0 * a}
        for a in angle
    ]
    sine, noise = probe(features, states)
    assert (sine.name, noise.name) == ("sin of pole", "noise")
    assert sine.r_squared > 0.999
    assert noise.r_squared < 0.1
    assert sine.spread[0] <= sine.r_squared <= sine.spread[1]


def test_a_probe_cannot_memorise_episodes():
    """Features that only name the episode would be perfect if single rows were held out."""
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
    return play_toy()


def play_toy():
    env = make_env(TOY.task, TOY.env)
    return [play_constant(env, np.array([0.3, -0.1], np.float32), seed).episode for seed in (3, 4)]


def test_an_episode_played_again_gives_its_true_states(toy_episodes):
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


def test_a_task_that_cannot_be_played_has_no_true_states(toy_episodes):
    gone = dataclasses.replace(TOY, task="corridor")
    with pytest.raises(NoTruthError, match=r"cannot be played here: .*corridor"):
        true_states(gone, toy_episodes, [3, 4])


def test_states_have_names_and_angles_become_sine_and_cosine():
    named = name_state("cartpole_swingup", {"position": np.array([0.5, 0.0, 1.0])})
    assert named == {"cart position": 0.5, "cos of pole": 0.0, "sin of pole": 1.0}
    assert angles({k: np.array([v]) for k, v in named.items()}) == {"angle of pole": np.pi / 2}
    named = name_state("reacher_easy", {"position": np.array([np.pi, 0.0]), "touch": np.array(3.0)})
    assert named["cos of shoulder"] == -1
    assert named["touch"] == 3
    assert list(name_state("fish_swim", {"a": np.zeros(2)})) == ["a 0", "a 1"]
