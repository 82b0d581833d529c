"""The pendulum that the package draws: gymnasium's equations, and its own picture."""

from __future__ import annotations

import numpy as np
import pytest

from worldmodel.envs import EnvSettings, check_env, make_env
from worldmodel.envs.pendulum import Pendulum, picture

SMALL = EnvSettings(image_size=32)


def test_the_pendulum_keeps_the_protocol() -> None:
    check_env(Pendulum(SMALL, 0))
    env = make_env("pendulum", SMALL)
    assert env.reset(0).image.shape == (32, 32, 3)
    rows = [env.step(np.zeros(1, np.float32)) for _ in range(200)]
    assert [row.is_last for row in rows] == [False] * 199 + [True]
    with pytest.raises(RuntimeError, match="call reset"):
        env.step(np.zeros(1, np.float32))


def test_it_moves_and_pays_as_gymnasium_does() -> None:
    gymnasium = pytest.importorskip("gymnasium")
    theirs = gymnasium.make("Pendulum-v1")
    random = np.random.default_rng(0)
    for seed in range(3):
        (cosine, sine, speed), _ = theirs.reset(seed=seed)
        env = Pendulum(SMALL, 0)
        env.start(*theirs.unwrapped.state)
        for _ in range(200):
            torque = random.uniform(-2.5, 2.5, 1)  # in float64, so that both round alike
            (cosine, sine, speed), reward, *_ = theirs.step(torque)
            row = env.step(torque)
            np.testing.assert_allclose(row.reward, reward, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(env.state()["orientation"], [cosine, sine], atol=1e-6)
            np.testing.assert_allclose(env.state()["velocity"], [speed], atol=1e-6)
        assert row.is_last


def test_an_action_that_lasts_several_steps_is_the_sum_of_them() -> None:
    once, twice = Pendulum(SMALL, 0), Pendulum(EnvSettings(image_size=32, action_repeat=2), 0)
    once.start(1.0, 2.0)
    twice.start(1.0, 2.0)
    torque = np.ones(1, np.float32)
    rows = [once.step(torque), once.step(torque)]
    row = twice.step(torque)
    assert row.reward == pytest.approx(rows[0].reward + rows[1].reward)
    assert row.env_steps == 2
    np.testing.assert_array_equal(row.image, rows[1].image)


@pytest.mark.parametrize("size", [32, 48])
@pytest.mark.parametrize("angle", [0.0, 0.7, np.pi / 2, np.pi, -2.0])
def test_the_rod_is_drawn_at_its_angle(size: int, angle: float) -> None:
    """The centre of what is red lies half a rod away: to the left by the sine, up by the cosine."""
    red = 255 - picture(angle, size)[..., 1].astype(float)
    axis = ((np.arange(size) + 0.5) / size * 2 - 1) * 1.3
    left, up = -(red.sum(0) * axis).sum() / red.sum(), -(red.sum(1) * axis).sum() / red.sum()
    np.testing.assert_allclose([left, up], [np.sin(angle) / 2, np.cos(angle) / 2], atol=0.01)


def test_the_image_shows_no_speed_and_the_goal_is_upright() -> None:
    env = Pendulum(SMALL, 0)
    np.testing.assert_array_equal(env.start(0.3, 5.0).image, env.start(0.3, -5.0).image)
    np.testing.assert_array_equal(env.goal(), env.start(0.0, 1.0).image)
