"""Distances to a goal image, and attempts to reach it that can be computed by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.conftest import Answer
from worldmodel.agent import Agent
from worldmodel.assembly import agent_of
from worldmodel.checks import ConfigError
from worldmodel.config import Config
from worldmodel.envs import Environment, adopt, make_env
from worldmodel.experiments import goal_distances
from worldmodel.experiments.goal_distances import DISTANCES, NOTHING, Attempt, Goal, attempt
from worldmodel.models import WorldModel
from worldmodel.structs import Plan, Step

PICTURE = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)


class Slider:
    """An environment whose position is the last action, from the next row on."""

    action_low, action_high = np.array([-1.0, -1.0], np.float32), np.array([3.0, 1.0], np.float32)

    def reset(self, seed: int | None = None) -> Step:
        self.place = np.zeros(2, np.float32)
        return Step(image=self.paint())

    def step(self, action: NDArray[np.float32]) -> Step:
        self.place = np.array(action, np.float32)
        return Step(image=self.paint())

    def paint(self) -> NDArray[np.uint8]:
        image = np.zeros((16, 16, 3), np.uint8)
        image[..., :2] = np.round(50 + 50 * self.place)
        return image

    def state(self) -> dict[str, NDArray[np.float32]]:
        return {"position": self.place}


@pytest.fixture
def agent(model: WorldModel, tiny: Config) -> Agent:
    return agent_of(tiny, model.requires_grad_(False))


@pytest.fixture
def env() -> Environment:
    return adopt(Slider())


@pytest.mark.parametrize("name", [name for name in DISTANCES if name != "picture"])
def test_a_distance_is_least_at_the_latent_of_the_picture(agent: Agent, name: str) -> None:
    picture = PICTURE
    target = agent.at_rest(picture).features
    near = torch.stack([target, target + torch.linspace(-1, 1, len(target)), -target])
    scores = DISTANCES[name](agent, picture)(near[None, :, None], torch.zeros(1, 3, 1, 2))
    assert scores.shape == (1, 3, 1)
    assert scores[0, 0, 0] > scores[0, 1:, 0].max()


def test_the_distance_of_images_compares_decoded_ones(agent: Agent) -> None:
    """A decoder that draws the picture brighter by z[0] is wrong by z[0]."""
    picture = PICTURE
    target = agent.model.pixels(torch.from_numpy(picture))
    agent.model.decoder = Answer(lambda z: target + z.features[:, 0, None, None, None])
    latents = torch.zeros(2, 3, 4, agent.model.dynamics.feature_size)
    latents[1, 2, :, 0] = torch.arange(4.0)
    scores = DISTANCES["picture"](agent, picture)(latents, torch.zeros(2, 3, 4, 2))
    expected = torch.zeros(2, 3, 4)
    expected[1, 2] = -torch.arange(4.0).square()
    torch.testing.assert_close(scores, expected)


def test_goals_can_be_held_and_are_the_same_each_time(env: Environment) -> None:
    first, again = list(goal_distances.goals(env, 5)), list(goal_distances.goals(env, 5))
    for goal, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(goal.picture, same.picture)
        np.testing.assert_array_equal(goal.position, same.position)
        middle, half = np.array([1, 0]), np.array([2, 1])
        assert (np.abs(goal.position - middle) <= goal_distances.REACH * half + 1e-6).all()
    assert len({tuple(goal.position) for goal in first}) == 5


def test_an_error_is_the_true_distance_over_the_last_rows(
    agent: Agent, env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    goal = Goal(0, Slider.paint(_at(0.3, 0.4)), np.array([0.3, 0.4], np.float32))
    # no action is the middle of what may be done, (1, 0)
    assert attempt(agent, env, NOTHING, goal).error == pytest.approx(np.hypot(0.7, 0.4))

    rows = []

    def plan(belief, previous, seed, score):  # type: ignore[no-untyped-def]
        rows.append(seed)
        arrives = len(rows) > goal_distances.ROWS - goal_distances.LAST
        actions = torch.tensor([[0.15, -0.2]] if arrives else [[-0.5, -0.5]])
        return Plan(actions, torch.zeros(()), actions[None], 1, 0.0, torch.ones((), dtype=bool))

    monkeypatch.setattr(agent, "plan", plan)
    # the slider's action [-1, 3] is seen as [-1, 1]: 0.15 is where 1.3 is
    assert attempt(agent, env, "latent", goal).error == pytest.approx(np.hypot(1.0, 0.6))
    assert rows == list(range(goal_distances.ROWS))


def test_a_table_shows_the_mean_and_the_worst_of_each_distance() -> None:
    attempts = [Attempt(NOTHING, 0, 1.0), Attempt("latent", 0, 0.5), Attempt("latent", 1, 0.1)]
    table = goal_distances.summarise(attempts)
    assert [row["distance"] for row in table.rows] == [NOTHING, "latent"]
    assert table.rows[1]["error"] == pytest.approx(0.3)
    assert table.rows[1]["worst"] == 0.5


def test_a_task_without_a_position_is_refused(tmp_path: Path) -> None:
    class Nowhere(Slider):
        def state(self) -> dict[str, NDArray[np.float32]]:
            return {"angle": np.zeros(1, np.float32)}

    with pytest.raises(ConfigError, match="no position; it has angle"):
        next(goal_distances.goals(adopt(Nowhere()), 1))
    assert next(goal_distances.goals(make_env("toy"), 1)).position.shape == (2,)


def _at(*place: float) -> Slider:
    slider = Slider()
    slider.place = np.array(place, np.float32)
    return slider
