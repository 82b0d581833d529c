"""Acting without planning: the policy's own actions as plans, and models that foresee nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import worldmodel
from tests.conftest import TINY, Painter, report_quickly
from worldmodel import export
from worldmodel.agent import Agent
from worldmodel.assembly import agent_of
from worldmodel.checks import ConfigError, read
from worldmodel.config import Config, NoiseSettings
from worldmodel.envs import adopt
from worldmodel.loop import online
from worldmodel.models import WorldModel, build
from worldmodel.planners import CEM, Limits
from worldmodel.report import visualize_run
from worldmodel.robot import Pilot, Row
from worldmodel.rollout import Noise, collect
from worldmodel.rollout.noise import Draws, exploration_of
from worldmodel.sizing import within
from worldmodel.structs import Spec, at, repeat

ALONE: dict[str, Any] = {
    **TINY,
    "planner": "none",
    "exploration": {"kind": "policy"},
    "loop": {**TINY["loop"], "seed_actions": "uniform"},  # type: ignore[dict-item]
}
STILL: dict[str, Any] = {
    **{name: TINY[name] for name in ("task", "env", "replay", "learner", "loop")},
    "model": {"dynamics": {"kind": "none", "size": 5}},
    "objective": {"kl": "none", "priority": "none"},
    "behaviour": "none",
}


@pytest.fixture
def alone() -> Config:
    return read(Config(), ALONE)


@pytest.fixture
def agent(alone: Config, model: WorldModel) -> Agent:
    assert model.policy is not None
    torch.nn.init.normal_(model.policy.last.weight)  # a new policy's mean is zero everywhere
    return agent_of(alone, model)


def seen(agent: Agent, batch: int) -> Any:
    images = np.random.default_rng(1).integers(0, 256, (batch, 16, 16, 3), np.uint8)
    return agent.observe(agent.initial(batch), agent.no_action(batch), images)


# --- plans ---------------------------------------------------------------------------------------


def test_the_plan_is_what_the_policy_would_do_next(agent: Agent) -> None:
    belief = seen(agent, 3)
    plan = agent.plan(belief)
    assert plan.actions.shape == (3, agent.horizon, 2)
    assert agent.horizon == agent.planning.policy_rows > 1
    assert (plan.origin, plan.iterations) == ("policy", 0)
    assert bool(plan.value.isnan().all())
    np.testing.assert_allclose(plan.first, agent.act(belief), atol=1e-6)
    ahead = agent.model.imagine(belief, plan.actions[:, :1], None)
    later = agent.act(at(ahead, (slice(None), 0)))
    np.testing.assert_allclose(plan.sequence[:, 1], later, atol=1e-5)


def test_a_batch_of_plans_is_the_plans_of_each(agent: Agent) -> None:
    belief = seen(agent, 3)
    plans = agent.plan(belief, seed=[5, 6, 7])
    for robot in range(3):
        alone = agent.plan(at(belief, robot), seed=0, deadline_ms=1e6)
        assert alone.actions.shape == (agent.horizon, 2)
        np.testing.assert_allclose(plans.sequence[robot], alone.sequence, atol=1e-5)


def test_without_time_the_plan_is_one_action(agent: Agent) -> None:
    belief = seen(agent, 2)
    hasty = agent.plan(belief, deadline_ms=1e-6)
    assert hasty.actions.shape == (2, 1, 2)
    np.testing.assert_allclose(hasty.first, agent.plan(belief).first, atol=1e-6)
    with pytest.raises(ValueError, match="deadline_ms"):
        agent.plan(belief, deadline_ms=-1.0)


def test_the_plan_keeps_limits(agent: Agent) -> None:
    belief = seen(agent, 2)
    assert np.abs(agent.plan(belief).sequence).max() > 0.05
    limits = Limits(low=-0.05, high=0.05, max_change=0.01, last=np.zeros(2))
    kept = agent.plan(belief, limits=limits).sequence
    assert np.abs(kept).max() <= 0.05
    assert np.abs(np.diff(kept, axis=1, prepend=0.0)).max() <= 0.0101
    never = Limits(allowed=lambda features, actions: features[..., 0] > torch.inf)
    assert not bool(agent.plan(belief, limits=never).is_allowed.any())


def test_what_needs_a_planner_says_so(agent: Agent, tmp_path: Path) -> None:
    belief = agent.initial()
    answers = []
    for needy in (
        lambda: agent.plan(belief, score=lambda latents, actions: latents[..., 0]),
        lambda: within(agent, 10.0),
        lambda: export.record(agent),
    ):
        with pytest.raises(ConfigError) as raised:
            needy()
        answers.append(str(raised.value))
    scored, within_time, exported = answers
    for answer, what in ((scored, "a score"), (within_time, "candidates")):
        assert answer.startswith("planner: none, so the policy acts and nothing is searched; ")
        assert what in answer
        assert answer.endswith("needs a planner; write planner.kind: cem")
    assert exported.startswith("planner: none, so the policy acts, and only a search can be")
    with_one = agent.changed(planner=CEM(candidates=8, elites=2))
    assert with_one.plan(belief).origin == "search"
    assert repr(agent).endswith("its policy)")
    agent.warm_up()


# --- exploration ---------------------------------------------------------------------------------


def test_the_policy_draws_by_the_seed_of_each_row(agent: Agent) -> None:
    belief = at(repeat(seen(agent, 1), 3), 0)  # three robots that believe the same
    drawn = agent.act(belief, [4, 4, 5])
    np.testing.assert_allclose(drawn[0], drawn[1], atol=1e-6)
    assert not np.allclose(drawn[0], drawn[2], atol=1e-3)
    np.testing.assert_allclose(agent.act(at(belief, 0), 5), drawn[2], atol=1e-6)


def test_collected_actions_are_draws_and_evaluated_ones_are_not(agent: Agent) -> None:
    envs = [adopt(Painter())]
    first, again, other = (
        next(iter(collect(envs, agent, [[seed]], Draws()))).episode.action for seed in (3, 3, 4)
    )
    (played,) = collect(envs, agent, [[3]], Noise.none())
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first, played.episode.action)


def test_noise_shrinks_in_a_straight_line() -> None:
    settings = NoiseSettings(size=1.0, last_size=0.2, shrinks_over=1000, memory=0.0, swell=0.0)
    noises = [exploration_of(settings, steps) for steps in (0, 500, 1000, 5000)]
    sizes = [noise.size for noise in noises if isinstance(noise, Noise)]
    assert sizes == pytest.approx([1.0, 0.6, 0.2, 0.2])
    constant = replace(settings, last_size=None)
    assert exploration_of(constant, 500) == exploration_of(constant, 0) == Noise(1.0, 0.0, 0.0)


# --- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (
            {"model": {"policy": "none", "value": "none"}, "behaviour": "none"},
            "planner: none lets the policy act, and model.policy is none; write model.policy.kind:"
            " tanh_normal and a behaviour that trains it, such as behaviour.kind: imagined",
        ),
        (
            {"behaviour": "none"},
            "planner: none lets the policy act, and behaviour is none, so nothing would train it;"
            " write behaviour.kind: imagined",
        ),
        (
            {"planning": {"goal": {}}},
            "planner: none lets the policy act, and planning.goal needs a planner; write"
            " planner.kind: cem, or planning.goal: none",
        ),
        (
            {"planner": {"kind": "mppi"}, "planning": {"proposals": 0}},
            "exploration.kind: policy needs planner: none, because a planner's action has no"
            " distribution to draw from; write exploration.kind: noise",
        ),
        (
            {"loop": {"seed_actions": "wander"}},
            "loop.seed_actions: wander is exploration noise, and exploration.kind is policy; write"
            " loop.seed_actions: uniform",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    alone: Config, said: dict[str, Any], answer: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        read(alone, said)
    assert str(raised.value) == answer


# --- no dynamics ---------------------------------------------------------------------------------


@pytest.mark.parametrize("latent", ["gaussian", "point"])
def test_without_dynamics_nothing_changes_unless_an_image_comes(latent: str) -> None:
    posterior = "one_step" if latent == "gaussian" else "deterministic"
    model = {**STILL["model"], "posterior": {"kind": posterior}}
    model["dynamics"] = {**model["dynamics"], "latent": latent}
    config = read(Config(), {**STILL, "model": model})
    agent = Agent(_built(config), None, config.planning, config.discount_rate)
    belief = seen(agent, 2)
    held = agent.imagine(belief, np.ones((2, 2), np.float32))
    assert torch.equal(held.features, belief.features)
    again = agent.observe(held, np.ones((2, 2), np.float32), np.zeros((2, 16, 16, 3), np.uint8))
    assert not torch.allclose(again.features, belief.features)
    assert agent.plan(belief).actions.shape == (2, agent.horizon, 2)


def test_a_planner_refuses_a_model_without_dynamics_before_anything_is_created(
    tmp_path: Path,
) -> None:
    config = read(Config(), STILL)
    with pytest.raises(ConfigError) as raised:
        worldmodel.train(config, tmp_path / "run", steps=10)
    assert str(raised.value) == (
        "planner: expected none, because model.dynamics.kind is none: whatever is done, this model"
        " imagines that nothing changes, and no action could be ranked; write planner: none"
    )
    assert not (tmp_path / "run").exists()


def test_terms_that_need_a_prediction_are_refused_without_dynamics() -> None:
    for name, term in (("kl", {}), ("predicted_image", {})):
        with pytest.raises(ConfigError, match=f"objective.{name}: needs d.*kind is none; write"):
            read(Config(), {**STILL, "objective": {**STILL["objective"], name: term}})
    with pytest.raises(ConfigError, match=r"behaviour: needs dynamics, and model\.dynamics"):
        read(Config(), {**STILL, "behaviour": {}})


def _built(config: Config) -> WorldModel:
    return build(config.model, Spec((16, 16, 3), 2))


# --- a run ---------------------------------------------------------------------------------------


def test_a_run_without_a_planner_learns_plays_and_is_reported(
    alone: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(online, "FINAL_EPISODES", 1)
    config = read(alone, {"loop": {"updates": 100}})
    outcome = worldmodel.train(config, tmp_path, steps=90, env=Painter(12))
    assert outcome.updates > 3
    agent = worldmodel.load(tmp_path)
    assert agent.planner is None
    assert len(worldmodel.evaluate(agent, Painter(12), 2).returns) == 2
    report_quickly(monkeypatch)
    visualize_run(agent, tmp_path, tmp_path / "report", config=config)
    assert "the policy acted" in (tmp_path / "report" / "report.html").read_text()


# --- a robot -------------------------------------------------------------------------------------


@pytest.mark.parametrize("deadline_ms", [None, 1e-3])
def test_a_robot_is_given_the_policys_actions_inside_its_limits(
    agent: Agent, deadline_ms: float | None
) -> None:
    pilot = Pilot(agent, deadline_ms, Limits(max_change=0.01, last=np.zeros(2)))
    pilot.warm_up()
    black, action = np.zeros((16, 16, 3), np.uint8), None
    for number in range(3):
        row = Row(number, action, black, begins=number == 0)
        answer = pilot.consume([row, replace(row, number=number, begins=False)])
        assert (answer.error, answer.origin) == (None, "policy")
        assert answer.actions is not None
        assert len(answer.actions) == (agent.horizon if deadline_ms is None else 1)
        before = np.zeros(2) if action is None else action
        assert np.abs(answer.actions[0] - before).max() <= 0.0101
        action = answer.actions[0]
