"""The planar world: a point among six round obstacles."""

from __future__ import annotations

import numpy as np
import pytest

from worldmodel.envs import EnvSettings, check_env, make_env
from worldmodel.envs.planar import (
    AGENT_RADIUS,
    GOAL_DISTANCE,
    OBSTACLE_RADIUS,
    OBSTACLES,
    SIDE,
    STEP,
    Planar,
    is_free,
    moved,
)

PUBLISHED = EnvSettings(image_size=40)


def test_the_world_keeps_the_protocol() -> None:
    check_env(Planar(PUBLISHED, 0))
    env = make_env("planar", PUBLISHED)
    first = env.reset(0)
    assert first.image.shape == (40, 40, 3)
    assert env.describe()["task"] == "planar"
    rows = [env.step(np.zeros(2, np.float32)) for _ in range(40)]
    assert [row.is_last for row in rows] == [False] * 39 + [True]
    with pytest.raises(RuntimeError, match="call reset"):
        env.step(np.zeros(2, np.float32))


def test_six_obstacles_are_drawn_where_they_were_published() -> None:
    image = Planar(PUBLISHED, 0).reset(0).image[..., 0]
    for x, y in [(20.5, 5.5), (20.5, 13.5), (20.5, 27.5), (20.5, 35.5), (10.5, 20.5), (30.5, 20.5)]:
        column, row = int(x), int(y)
        assert (image[row, column - 2 : column + 3] == 255).all()
        assert (image[row - 2 : row + 3, column] == 255).all()
        assert image[row - 4 : row + 5, column - 4].max() < 255


@pytest.mark.parametrize("size", [40, 48])
def test_the_point_is_drawn_at_its_position(size: int) -> None:
    """The centre of what two images differ by, x to the right and y down."""
    env = Planar(EnvSettings(image_size=size), 0)
    for seed in range(5):
        image = env.reset(seed).image[..., 0].astype(float)
        added = image - 255 * env._ground.clip(0, 1)
        rows, columns = (np.arange(size) + 0.5) * SIDE / size, (np.arange(size) + 0.5) * SIDE / size
        centre = [(added.sum(0) * columns).sum(), (added.sum(1) * rows).sum()] / added.sum()
        np.testing.assert_allclose(centre, env.state()["position"], atol=0.1)
        area = added.sum() / 255 * (SIDE / size) ** 2
        assert area == pytest.approx(np.pi * AGENT_RADIUS**2, rel=0.1)


def test_a_full_action_moves_three_units_and_no_action_none() -> None:
    env = make_env("planar", PUBLISHED)
    for seed in range(8):
        env.reset(seed)
        before = env.state()["position"]
        np.testing.assert_array_equal(env.state()["position"], before)
        env.step(np.zeros(2, np.float32))
        np.testing.assert_array_equal(env.state()["position"], before)
        row = env.step(np.array([1.0, -1.0], np.float32))
        wanted = before + np.array([STEP, -STEP])
        if all(is_free(before + share * (wanted - before)) for share in np.linspace(0, 1, 50)):
            np.testing.assert_allclose(
                env.state()["position"], wanted.clip(AGENT_RADIUS, SIDE - AGENT_RADIUS), atol=1e-5
            )
        assert row.env_steps == 1


def test_no_move_leads_into_an_obstacle_or_over_it_or_out_of_the_world() -> None:
    random = np.random.default_rng(0)
    position = np.array([5.0, 5.0])
    for _ in range(3000):
        position = moved(position, random.uniform(-5, 5, 2))
        distances = np.linalg.norm(OBSTACLES - position, axis=1)
        assert (distances >= OBSTACLE_RADIUS + AGENT_RADIUS).all()
        assert ((position >= AGENT_RADIUS) & (position <= SIDE - AGENT_RADIUS)).all()
    beside = OBSTACLES[4] - [OBSTACLE_RADIUS + AGENT_RADIUS + 0.1, 0.0]
    np.testing.assert_array_equal(moved(beside, np.array([3.0, 0.0])), beside)
    assert is_free(moved(beside, np.array([-3.0, 0.0])))
    corner = OBSTACLES[4] + (OBSTACLE_RADIUS + AGENT_RADIUS + 0.1) * np.array([-1, 1]) / 2**0.5
    over = corner + np.array([3.0, -3.0])  # the way there touches the obstacle
    assert not all(is_free(corner + share * (over - corner)) for share in (0.25, 0.5, 0.75))
    np.testing.assert_array_equal(moved(corner, np.array([3.0, -3.0])), corner)


def test_the_goal_image_is_the_image_at_the_goal_which_alone_earns() -> None:
    env = Planar(PUBLISHED, 0)
    env.reset(3)
    assert np.linalg.norm(env._position - env._goal) >= 10
    assert env.step(np.zeros(2, np.float32)).reward == 0
    env._position = env._goal.copy()
    row = env.step(np.zeros(2, np.float32))
    np.testing.assert_array_equal(row.image, env.goal())
    assert row.reward == 1
    env._position = env._goal + 0.72 * GOAL_DISTANCE * np.array([1, -1])  # dx + dy is 0
    assert env.step(np.zeros(2, np.float32)).reward == 0


def test_the_same_seed_is_the_same_episode_and_goals_differ() -> None:
    one, other = Planar(PUBLISHED, 0), Planar(PUBLISHED, 7)
    np.testing.assert_array_equal(one.reset(5).image, other.reset(5).image)
    np.testing.assert_array_equal(one.goal(), other.goal())
    one.reset(6)
    assert not np.array_equal(one.goal(), other.goal())


def test_a_goal_of_stacked_frames_is_at_rest_and_leaves_the_episode_alone() -> None:
    env = make_env("planar", EnvSettings(image_size=40, frames=2))
    env.reset(0)
    before = env.step(np.ones(2, np.float32)).image
    goal = env.goal()
    assert goal.shape == (40, 40, 6)
    np.testing.assert_array_equal(goal[..., :3], goal[..., 3:])
    np.testing.assert_array_equal(env.step(np.ones(2, np.float32)).image[..., :3], before[..., 3:])


def test_the_toy_shows_its_goal_with_the_point_on_it() -> None:
    env = make_env("toy", EnvSettings(image_size=32))
    first = env.reset(2)
    goal = env.goal()
    assert goal.shape == first.image.shape
    x, y = env.state()["goal"]
    column, row = int((x + 1.15) / 2.3 * 32), int((1.15 - y) / 2.3 * 32)
    np.testing.assert_array_equal(goal[row, column], [255, 230, 120])
    assert (first.image[row, column] == [40, 140, 90]).all()
