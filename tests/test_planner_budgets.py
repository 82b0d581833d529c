"""Costs and returns of planners, of episodes that can be computed in the head."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.conftest import Answer, Painter
from worldmodel.agent import Agent
from worldmodel.assembly import agent_of
from worldmodel.config import Config
from worldmodel.envs import adopt
from worldmodel.experiments.planner_budgets import (
    BUDGETS,
    DEFAULT,
    POLICY,
    WITH_DEADLINES,
    Budget,
    Episode,
    keep,
    play,
    plot_deadlines,
    read,
    summarise,
)
from worldmodel.models import WorldModel

ROWS = 3


@pytest.fixture
def agent(model: WorldModel, tiny: Config) -> Agent:
    """A model that imagines a reward of 1 in every row, and no value after the horizon."""
    model.reward = model.discount = Answer(lambda z: 1.0 + 0.0 * z[..., 0])
    model.slow_value = Answer(lambda z: 0.0 * z[..., 0])
    return agent_of(tiny, model.requires_grad_(False))


@pytest.mark.parametrize(
    ("kind", "proposals", "latents"),
    [
        ("cem", 0, 2 * 8 * 4),
        ("mppi", 0, 2 * 8 * 4),
        ("mppi", 2, (2 + 8 + 6) * 4),  # a proposal is rolled out, and scored once
        ("shooting", 0, 2 * 8 * 4),
        ("gradient", 0, 2 * 8 * 4),
    ],
)
def test_every_imagined_latent_is_counted(
    agent: Agent, kind: str, proposals: int, latents: int
) -> None:
    budget = Budget(kind, 8, 2, 4, 3, {"proposals": proposals})
    played = play(budget.of(agent), adopt(Painter()), kind, seed=0, rows=ROWS)
    assert played.latent_steps == latents
    assert played.rows == ROWS


@pytest.mark.parametrize("planner", ["mppi", POLICY])
def test_promised_is_the_models_return_and_earned_the_tasks(agent: Agent, planner: str) -> None:
    done = []

    class Watched(Painter):
        def step(self, action):  # type: ignore[no-untyped-def]
            done.append(float(action[0]))
            return super().step(action)

    played = play(agent, adopt(Watched()), planner, seed=0)
    rate = agent.discount_rate
    assert played.promised == pytest.approx(1 + rate + rate**2 + rate**3)
    assert played.earned == pytest.approx(sum(done))
    assert len(done) == played.rows == 8
    assert (played.latent_steps == 0) == (planner == POLICY)


def test_the_same_start_and_planner_play_the_same_episode(agent: Agent) -> None:
    first = play(agent, adopt(Painter()), "mppi", seed=0)
    assert play(agent, adopt(Painter()), "mppi", seed=0) == first
    assert play(agent, adopt(Painter()), "mppi", seed=1).earned != first.earned


def test_every_budget_is_allowed_by_the_settings(model: WorldModel, tiny: Config) -> None:
    agent = agent_of(tiny, model)
    for budget in (*BUDGETS.values(), *WITH_DEADLINES.values()):
        changed = budget.of(agent)
        dataclasses.replace(tiny, planner=changed.planner, planning=changed.planning)


def test_an_episode_played_again_replaces_the_old_one(tmp_path: Path) -> None:
    file = tmp_path / "new" / "file.csv"
    cem, *_, mppi = BUDGETS
    one, other = Episode(mppi, None, 0, 9, 24, 1, 2.5), Episode(cem, 5.0, 0, 9, 24, 3, 4)
    keep(file, one, ["what it is"])
    keep(file, dataclasses.replace(other, earned=7.0), ["what it is"])
    kept = keep(file, other, ["what it is"])
    assert kept == read(file) == [other, one]  # in the order of the table
    assert file.read_text().startswith("# what it is\nplanner,")


def test_a_table_and_a_drawing_show_the_mean_of_each_deadline() -> None:
    episodes = [
        Episode(DEFAULT, deadline, seed, 9, 24, earned, 0)
        for deadline, earned in ((5.0, 1.0), (20.0, 4.0), (None, 9.0))
        for seed in (0, 1)
    ]
    episodes[0] = dataclasses.replace(episodes[0], earned=3.0)
    rows = summarise(episodes).rows
    assert [row["deadline ms"] for row in rows] == [5.0, 20.0, "none"]
    assert [row["return"] for row in rows] == [2.0, 4.0, 9.0]
    assert rows[0]["spread"] == 1.0
    (axes,) = plot_deadlines(episodes).axes
    lines = {str(line.get_label()): line for line in axes.lines}
    assert lines[DEFAULT].get_xydata().tolist() == [[5.0, 2.0], [20.0, 4.0]]  # type: ignore[union-attr]
    assert set(lines["without a deadline"].get_ydata()) == {9.0}  # type: ignore[arg-type]


def test_counting_leaves_the_agent_as_it_is(agent: Agent) -> None:
    before = vars(agent).copy()
    play(agent, adopt(Painter()), "mppi", seed=0, rows=1)
    assert vars(agent) == before
