"""Embed to Control: locally linear latents, their objective, and iLQR to goal images."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, MultivariateNormal, Normal, kl_divergence

import worldmodel
from worldmodel.agent import Agent
from worldmodel.assembly import agent_of, learner_of
from worldmodel.checks import ConfigError, read
from worldmodel.config import Config
from worldmodel.envs import make_env
from worldmodel.loop import online
from worldmodel.losses import LatentKL, Objective, PredictedImage, UnitKL, at_update
from worldmodel.losses.image import errors_of_some
from worldmodel.models import WorldModel, build
from worldmodel.models.dynamics.locally_linear import LocallyLinear, LocallyLinearSettings
from worldmodel.models.imagination import Imagination
from worldmodel.models.latents import Affine, Gaussian, draw_gaussian
from worldmodel.models.world import Inference
from worldmodel.planners import ILQR, ilqr
from worldmodel.planning import ImaginedReturn
from worldmodel.presets import load_preset, presets
from worldmodel.robot import Controller, InlineWorker
from worldmodel.scores import Quadratic
from worldmodel.structs import Batch, Spec, at, each

SMALL: dict[str, Any] = {
    "env": {"image_size": 16},
    "replay": {"batch": 3, "length": 5, "memory_gb": 0.1},
    "model": {
        "encoder": {"width": 40},
        "decoder": {"width": 40},
        "dynamics": {"hidden_size": 11},
        "posterior": {"hidden_size": 7},
    },
    "planner": {"horizon": 3, "iterations": 2},
    "learner": {"precision": "float32"},
    "loop": {
        "seed_episodes": 1,
        "seed_updates": 2,
        "updates": 25,
        "evaluate_every": 1000,
        "evaluate_episodes": 1,
    },
}


OF_CLASSES = {"latent_kl": "none", "unit_kl": "none", "kl": {}}


@pytest.fixture
def config() -> Config:
    return read(load_preset("e2c"), SMALL)


@pytest.fixture
def model(config: Config) -> WorldModel:
    return build(config.model, Spec((16, 16, 3), 2))


@pytest.fixture
def agent(config: Config, model: WorldModel) -> Agent:
    return agent_of(config, model.requires_grad_(False))


def a_batch(windows: int = 3, length: int = 5) -> Batch:
    random = torch.Generator().manual_seed(3)
    valid = torch.ones(windows, length, dtype=torch.bool)
    valid[1, 3:] = False
    return Batch(
        image=torch.randint(0, 256, (windows, length, 16, 16, 3), generator=random).byte(),
        action=torch.rand(windows, length, 2, generator=random) * 2 - 1,
        reward=torch.zeros(windows, length),
        discount=torch.ones(windows, length),
        valid=valid,
    )


def inferred(model: WorldModel, batch: Batch | None = None) -> Inference:
    return model.infer(a_batch() if batch is None else batch, generator())


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


# --- the divergences in closed form -------------------------------------------------------------


def an_affine(inner: float, size: int = 3) -> tuple[Affine, Gaussian]:
    """A latent after a step with det A = ``inner``, and a diagonal Gaussian: [5, S], doubles."""
    v, r, mean, other = torch.randn(4, 5, size, dtype=torch.float64)
    before, std = 0.2 + torch.rand(2, 5, size, dtype=torch.float64)
    v = v * ((inner - 1) / (v * r).sum(-1, keepdim=True))
    return Affine(mean, before, mean, v, r), Gaussian(other, std, other)


def multivariate(latent: Affine | Gaussian) -> MultivariateNormal:
    if isinstance(latent, Gaussian):
        return MultivariateNormal(latent.mean, torch.diag_embed(latent.std.square()))
    eye = torch.eye(latent.mean.shape[-1], dtype=latent.mean.dtype)
    matrix = eye + latent.v[..., :, None] * latent.r[..., None, :]
    covariance = matrix @ torch.diag_embed(latent.before.square()) @ matrix.mT
    return MultivariateNormal(latent.mean, covariance)


@pytest.mark.parametrize("inner", [2.5, 1.0, 0.3, -0.4, -3.0])
def test_divergences_of_a_linear_step_are_those_of_full_covariances(inner: float) -> None:
    """Also where det A = 1 + v'r is negative, whose logarithm alone would be NaN."""
    affine, gaussian = an_affine(inner)
    torch.testing.assert_close(
        affine.divergence(gaussian), kl_divergence(multivariate(affine), multivariate(gaussian))
    )
    torch.testing.assert_close(
        gaussian.divergence(affine), kl_divergence(multivariate(gaussian), multivariate(affine))
    )
    deviations = multivariate(affine).covariance_matrix.diagonal(dim1=-2, dim2=-1).sqrt()
    torch.testing.assert_close(affine.std, deviations)


@pytest.mark.parametrize("inner", [1.7, -2.0])
def test_the_divergence_of_a_linear_step_is_its_integral(inner: float) -> None:
    """On a grid of one dimension, from the densities alone."""
    affine, gaussian = (each(latent, lambda part: part[0]) for latent in an_affine(inner, size=1))
    x = torch.linspace(-40, 40, 400_001, dtype=torch.float64)
    p = Normal(affine.mean, (inner * affine.before).abs()).log_prob(x)
    q = Normal(gaussian.mean, gaussian.std).log_prob(x)
    torch.testing.assert_close(
        affine.divergence(gaussian), torch.trapezoid(p.exp() * (p - q), x), atol=1e-6, rtol=0
    )


def test_a_step_that_makes_all_flat_has_a_finite_divergence_and_gradient() -> None:
    affine, gaussian = an_affine(0.0)
    v = affine.v.clone().requires_grad_()
    for value in (
        replace(affine, v=v).divergence(gaussian),
        gaussian.divergence(replace(affine, v=v)),
    ):
        assert value.isfinite().all()
        (slope,) = torch.autograd.grad(value.sum(), v)
        assert slope.isfinite().all()


def test_the_unit_kl_is_the_divergence_from_a_unit_gaussian(model: WorldModel) -> None:
    seen = inferred(model)
    posterior = seen.posterior
    assert isinstance(posterior, Gaussian)
    value = UnitKL(weight=3.0)(model, seen, generator())["unit_kl"]
    exact = kl_divergence(Normal(posterior.mean, posterior.std), Normal(0.0, 1.0)).sum(-1)
    torch.testing.assert_close(value, 3.0 * exact)


def test_the_weight_of_the_latent_kl_stays_and_then_falls_by_the_same_share() -> None:
    objective = Objective(
        kl=None,
        latent_kl=LatentKL(weight=1.0, first_weight=16.0, first_updates=4),
        unit_kl=UnitKL(),
    )
    weights = [at_update(objective, updates).latent_kl.weight for updates in (0, 4, 5, 6, 8, 9)]
    assert weights == pytest.approx([16, 16, 8, 4, 1, 1])
    assert at_update(objective, 3).unit_kl == objective.unit_kl
    constant = replace(objective, latent_kl=LatentKL())
    assert at_update(constant, 3).latent_kl == LatentKL()


def test_the_learner_weighs_by_its_updates(config: Config) -> None:
    falling = LatentKL(weight=1.0, first_weight=100.0, first_updates=2)
    config = replace(config, objective=replace(config.objective, latent_kl=falling))
    slow = replace(config, learner=replace(config.learner, model_rate=1e-9))
    model = build(config.model, Spec((16, 16, 3), 2))
    learner = learner_of(slow, model)
    seen = [learner.update(a_batch()).metrics["latent_kl"] for _ in range(5)]
    assert seen[1] / seen[3] == pytest.approx(10, rel=0.3)
    assert seen[3] / seen[4] == pytest.approx(10, rel=0.3)


# --- the dynamics -------------------------------------------------------------------------------


def exactly_linear(action_size: int, size: int = 3) -> tuple[LocallyLinear, Tensor, Tensor, Tensor]:
    """Dynamics whose step is the same everywhere, and its A, B, o."""
    dynamics = LocallyLinear(LocallyLinearSettings(state_size=size), action_size, "normed").double()
    v, r, offset = 0.5 * torch.randn(3, size, dtype=torch.float64)
    push = torch.randn(size, action_size, dtype=torch.float64)
    last = dynamics.net[-1]
    assert isinstance(last, torch.nn.Linear)
    torch.nn.init.zeros_(last.weight)
    last.bias.data = torch.cat([v, r, offset, push.flatten()])
    dynamics.requires_grad_(False)
    return dynamics, torch.eye(size, dtype=torch.float64) + torch.outer(v, r), push, offset


def test_a_step_is_linear_in_the_latent_and_the_action() -> None:
    dynamics, a, b, o = exactly_linear(action_size=2)
    x, u = torch.randn(4, 3).double(), torch.randn(4, 2).double()
    expected = x @ a.T + u @ b.T + o
    torch.testing.assert_close(dynamics.step(x, u), expected)
    std = 0.1 + torch.rand(4, 3).double()
    belief = Gaussian(x, std, x + 1.0)
    prior = dynamics.imagine(dynamics.remember(belief, u), None)
    torch.testing.assert_close(prior.mean, expected)
    torch.testing.assert_close(prior.sample, expected + a.sum(1))
    covariance = multivariate(prior).covariance_matrix
    torch.testing.assert_close(covariance, a @ torch.diag_embed(std.square()) @ a.T)


def test_draws_of_the_prior_have_its_mean_and_its_covariance() -> None:
    dynamics, *_ = exactly_linear(action_size=2)
    one = Gaussian(*(torch.rand(3).double() + 0.1 for _ in range(3)))
    many = each(one, lambda part: part.expand(40_000, 3))
    context = dynamics.remember(many, torch.zeros(40_000, 2).double())
    drawn = dynamics.imagine(context, torch.randn(40_000, 3).double())
    exact = multivariate(at(drawn, 0))
    torch.testing.assert_close(drawn.sample.mean(0), exact.mean, atol=0.02, rtol=0)
    torch.testing.assert_close(
        torch.cov(drawn.sample.T), exact.covariance_matrix, atol=0.03, rtol=0.03
    )


def test_the_flat_step_is_the_step_of_the_beliefs(model: WorldModel) -> None:
    dynamics = model.dynamics
    assert isinstance(dynamics, LocallyLinear)
    belief = draw_gaussian(torch.randn(4, 2), torch.rand(4, 2), None)
    actions = torch.rand(4, 3, 2)
    futures = model.imagine(belief, actions, None)
    state = dynamics.state(belief)
    for row in range(3):
        state = dynamics.step(state, actions[:, row])
        torch.testing.assert_close(futures.features[:, row], state)


def riccati(
    a: Tensor, b: Tensor, o: Tensor, q: Tensor, r: Tensor, x: Tensor, length: int
) -> Tensor:
    """The best actions of x' = a x + b u + o, with the offset as a coordinate of its own: [L, A]"""
    size = len(a)
    joint = torch.eye(size + 1, dtype=a.dtype)
    joint[:size, :size], joint[:size, size] = a, o
    push = torch.cat([b, b.new_zeros(1, b.shape[1])])
    cost = torch.diag(torch.cat([q, q.new_zeros(1)]))
    value, gains = cost, []
    for _ in range(length):
        own = torch.diag(r) + push.T @ value @ push
        gains.insert(0, -torch.linalg.solve(own, push.T @ value @ joint))
        value = cost + joint.T @ value @ (joint + push @ gains[0])
    state, actions = torch.cat([x, x.new_ones(1)]), []
    for gain in gains:
        actions.append(gain @ state)
        state = joint @ state + push @ actions[-1]
    return torch.stack(actions)


def test_ilqr_on_exactly_linear_latents_is_the_riccati_solution() -> None:
    dynamics, a, b, o = exactly_linear(action_size=2)
    weight, effort = torch.rand(3).double() + 0.5, torch.rand(2).double() + 0.5
    score = Quadratic(torch.zeros(3).double(), weight, effort)
    state = 0.3 * torch.randn(2, 3).double()
    found = ilqr(
        dynamics.step,
        score.cost,
        score.final_cost,
        state,
        torch.zeros(2, 6, 2).double(),
        iterations=1,
        low=-100.0,
        high=100.0,
        out_of_time=lambda: False,
    )
    for row in range(2):
        exact = riccati(a, b, o, weight, effort, state[row], 6)
        torch.testing.assert_close(found.actions[row], exact, atol=1e-6, rtol=0)


# --- the objective ------------------------------------------------------------------------------


@dataclass(frozen=True)
class SeenImage:
    """The sabotaged twin of ``PredictedImage``: it decodes the latent that the image gave."""

    needs: ClassVar[frozenset[str]] = frozenset()

    def __call__(
        self, model: WorldModel, seen: Inference, random: torch.Generator
    ) -> dict[str, Tensor]:
        error = errors_of_some(model, seen.posterior, seen.pixels, 1.0, random)
        return {"predicted_image": error * seen.follows}


def decodes_the_prediction(term: Any, model: WorldModel) -> bool:
    """Whether a row's loss changes with its action, and not with the latent of its own image."""
    seen = inferred(model)
    acted = inferred(model, replace(a_batch(), action=-a_batch().action))
    blind = replace(seen, posterior=each(seen.posterior, torch.zeros_like))
    value, other, unseen = (
        term(model, some, generator())["predicted_image"] for some in (seen, acted, blind)
    )
    moves = not (value == other)[seen.follows].any()
    return bool(moves and torch.equal(value, unseen))


def test_the_predicted_latent_is_decoded_and_not_the_one_of_the_image(model: WorldModel) -> None:
    assert decodes_the_prediction(PredictedImage(decoded_share=1.0), model)
    assert not decodes_the_prediction(SeenImage(), model)


def test_the_action_of_a_row_leads_to_the_image_of_that_row(model: WorldModel) -> None:
    batch = a_batch()
    action = batch.action.clone()
    action[:, 2] += 0.5
    before, after = (
        inferred(model, replace(batch, action=a)).prior for a in (batch.action, action)
    )
    changed = (before.features != after.features).any(-1)
    assert changed.tolist() == [[False, False, True, False, False]] * 3


def test_rows_without_one_before_them_have_no_loss_of_prediction(model: WorldModel) -> None:
    seen = inferred(model)
    for term in (PredictedImage(decoded_share=1.0), LatentKL()):
        (value,) = term(model, seen, generator()).values()
        assert torch.equal(value != 0, seen.follows)
    assert seen.follows.tolist()[1] == [False, True, True, False, False]


def test_a_share_of_the_predicted_images_has_the_same_mean(model: WorldModel) -> None:
    seen, random = inferred(model), generator()
    with torch.no_grad():
        whole = PredictedImage(decoded_share=1.0)(model, seen, random)["predicted_image"]
        part = PredictedImage(decoded_share=0.2)
        some = [part(model, seen, random)["predicted_image"] for _ in range(150)]
    assert torch.stack(some).count_nonzero(dim=(1, 2)).max() <= 3
    torch.testing.assert_close(torch.stack(some).mean(), whole.mean(), atol=0, rtol=0.1)


def test_the_latent_kl_is_of_the_prediction_from_what_the_image_gave(model: WorldModel) -> None:
    seen = inferred(model)
    assert isinstance(seen.prior, Affine)
    assert isinstance(seen.posterior, Gaussian)
    value = LatentKL(weight=0.5)(model, seen, generator())["latent_kl"]
    exact = kl_divergence(multivariate(seen.prior), multivariate(seen.posterior))
    torch.testing.assert_close(value[seen.follows], 0.5 * exact[seen.follows], rtol=1e-3, atol=1e-3)


def test_bernoulli_images_have_their_exact_log_probability(config: Config) -> None:
    settings = replace(config.model, likelihood="bernoulli")
    model = build(settings, Spec((16, 16, 3), 2))
    black_and_white = (torch.rand(6, 16, 16, 3) < 0.5).byte() * 255
    model.fit(black_and_white)
    latent = draw_gaussian(torch.randn(6, 2), torch.ones(6, 2), None)
    error = model.image_error(latent, model.pixels(black_and_white))
    logits = model.decoder(latent)
    shares = (black_and_white / 255).movedim(-1, 1)
    exact = -Bernoulli(logits=logits).log_prob(shares).sum((1, 2, 3))
    torch.testing.assert_close(error, exact, rtol=1e-4, atol=1e-2)
    drawn = model.decode(latent).movedim(-1, 1).float() / 255
    torch.testing.assert_close(drawn, logits.sigmoid(), atol=0.51 / 255, rtol=0)
    grey = torch.full((6, 16, 16, 3), 128, dtype=torch.uint8)
    assert (model.image_error(latent, model.pixels(grey)) >= 6 * math.log(2)).all()


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_one_update_moves_every_parameter(config: Config, likelihood: Any) -> None:
    config = replace(config, model=replace(config.model, likelihood=likelihood))
    model = build(config.model, Spec((16, 16, 3), 2))
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    update = learner_of(config, model).update(a_batch())
    assert set(update.metrics) == {"image", "predicted_image", "unit_kl", "latent_kl"}
    still = [name for name, weight in model.named_parameters() if torch.equal(weight, before[name])]
    assert not still


def test_the_dynamics_learn_from_the_predicted_image_and_from_the_latent_kl(
    model: WorldModel,
) -> None:
    for term in (PredictedImage(decoded_share=1.0), LatentKL()):
        model.zero_grad()
        sum(term(model, inferred(model), generator()).values()).sum().backward()  # type: ignore[union-attr]
        for part in (model.dynamics, model.posterior, model.encoder):
            assert all(w.grad is not None and w.grad.any() for w in part.parameters())


# --- planning to a goal image -------------------------------------------------------------------


def test_several_goals_are_planned_to_as_each_is_alone(agent: Agent) -> None:
    agent = agent.changed(planner=ILQR(horizon=3, iterations=4))
    random = np.random.default_rng(0)
    seen, goals = random.integers(0, 256, (2, 4, 16, 16, 3), dtype=np.uint8)
    belief = agent.observe(agent.initial(4), agent.no_action(4), seen)
    together = agent.plan(belief, score=agent.goal(goals))
    for robot in range(4):
        alone = agent.plan(at(belief, robot), score=agent.goal(goals[robot]))
        torch.testing.assert_close(together.actions[robot], alone.actions, atol=1e-4, rtol=1e-3)
    assert len({tuple(first) for first in together.first.round(3)}) > 1


def test_the_problem_of_a_search_costs_what_its_score_says(agent: Agent) -> None:
    belief = agent.observe(agent.initial(2), agent.no_action(2), np.zeros((2, 16, 16, 3), np.uint8))
    goal = agent.goal(np.full((2, 16, 16, 3), 255, np.uint8))
    assert goal.action_cost == 0.01
    exact = Imagination(agent.model, None)
    score = ImaginedReturn(exact, exact, belief, goal)
    problem, actions = score.problem(), torch.rand(2, 1, 3, 2)
    for robot in range(2):
        state, cost = problem.state[robot], torch.zeros(())
        for row in range(3):
            action = actions[robot, 0, row]
            state = problem.step(state, action)
            cost = cost + problem.final_cost(state) + 0.01 * action.square().sum()
        torch.testing.assert_close(score(actions)[robot, 0], -cost)


def test_a_goal_image_of_another_size_is_refused(agent: Agent) -> None:
    with pytest.raises(ValueError, match=r"image: expected .*16, 16, 3.*got .*16, 17, 3"):
        agent.goal(np.zeros((16, 17, 3), np.uint8))


def test_an_agent_without_its_goal_says_how_to_give_it_one(agent: Agent) -> None:
    with pytest.raises(ValueError, match=r"planning\.goal.*agent\.towards\(picture\)"):
        agent.plan(agent.initial())
    aimless = agent.changed(planning=replace(agent.planning, goal=None))
    with pytest.raises(ValueError, match=r"ilqr needs a score with a cost .* agent\.goal\(picture"):
        aimless.plan(agent.initial())


def test_an_agent_of_a_goal_plans_to_it_without_a_score(agent: Agent) -> None:
    picture = np.full((16, 16, 3), 200, np.uint8)
    aimed = agent.towards(picture)
    given = agent.plan(agent.initial(), score=agent.goal(picture))
    assert torch.equal(aimed.plan(agent.initial()).actions, given.actions)
    assert agent.aim is None
    other = agent.goal(np.zeros((16, 16, 3), np.uint8))
    assert torch.equal(
        aimed.plan(agent.initial(), score=other).actions,
        agent.plan(agent.initial(), score=other).actions,
    )


def test_a_controller_runs_an_agent_of_a_goal_and_refuses_one_without(agent: Agent) -> None:
    worker = InlineWorker(agent.towards(np.full((16, 16, 3), 200, np.uint8)))
    with Controller(worker, 20, [-1, -1], [1, 1], 2.0, 0.5) as controller:
        action = controller.step(np.zeros((16, 16, 3), np.uint8))
        assert np.isfinite(action).all()
        assert controller.state == "plan"
    with pytest.raises(RuntimeError, match=r"planning\.goal.*agent\.towards\(picture\)"):
        InlineWorker(agent)


# --- the preset, and what does not fit ----------------------------------------------------------


def test_the_preset_is_a_dozen_lines() -> None:
    lines = [line for line in presets()["e2c"].read_text().splitlines() if line[:1] != "#"]
    assert len(lines) <= 12


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            {"model": {"posterior": {"kind": "filter"}}},
            r"model\.posterior\.kind: filter .*model\.dynamics\.kind = locally_linear are affine",
        ),
        (
            {"model": {"dynamics": {"kind": "recurrent"}}},
            r"objective\.latent_kl: needs affine, and model\.dynamics\.kind is recurrent; write"
            r" objective\.latent_kl: none",
        ),
        (
            {"model": {"dynamics": {"kind": "recurrent_categorical"}}, "objective": OF_CLASSES},
            r"planner\.kind: ilqr needs .* which model\.dynamics\.kind = recurrent_categorical does"
            r" not have; write planner\.kind: cem",
        ),
        (
            {"objective": {"latent_kl": {"weight": 0.0, "first_weight": 9.0}}},
            r"objective\.latent_kl\.weight: falling from objective\.latent_kl\.first_weight = 9\.0"
            r" .* write a weight above 0",
        ),
        (
            {"objective": {"reward": {}}},
            r"objective\.reward: needs head:reward, and model\.reward is none",
        ),
        (
            {"objective": {"latent_kl": "none", "priority": "latent_kl"}},
            r"objective\.priority: latent_kl is a loss of objective\.latent_kl, which is none",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(change: dict[str, Any], complaint: str) -> None:
    change = {"model": {}, **change}
    model = {"posterior": {"kind": "one_step"}, **change["model"]}
    with pytest.raises(ConfigError, match=complaint):
        read(load_preset("e2c"), {**change, "model": model})


def test_a_run_without_a_goal_to_plan_to_is_refused_before_it_begins(
    config: Config, tmp_path: Path
) -> None:
    aimless = replace(config, planning=replace(config.planning, goal=None))
    with pytest.raises(ConfigError, match=r"planner\.kind: ilqr .* planning\.goal is none"):
        worldmodel.train(aimless, tmp_path / "run", steps=10)

    class Endless:
        action_low, action_high = -np.ones(2, np.float32), np.ones(2, np.float32)

        def reset(self) -> worldmodel.Step:
            return worldmodel.Step(np.zeros((16, 16, 3), np.uint8))

        def step(self, action: Any) -> worldmodel.Step:
            return worldmodel.Step(np.zeros((16, 16, 3), np.uint8), is_last=True)

    with pytest.raises(ConfigError, match=r"planning\.goal: the task planar gives no goal image"):
        worldmodel.train(config, tmp_path / "run", steps=10, env=Endless())
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match=r"planning\.goal: the environment gives no goal image"):
        worldmodel.evaluate(
            agent_of(config, build(config.model, Spec((16, 16, 3), 2))), Endless(), 1
        )


def test_a_run_learns_and_plays_to_the_goals_of_its_task(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(online, "FINAL_EPISODES", 2)
    quick = replace(config, planner=ILQR(horizon=1, iterations=1))
    quick = replace(quick, env=replace(config.env, action_repeat=20))
    env = make_env("planar", quick.env)
    outcome = worldmodel.train(quick, tmp_path / "run", steps=80, env=env)
    assert len(outcome.returns) == 2
    agent = worldmodel.load(tmp_path / "run")
    assert agent.planning.goal is not None
    agent.warm_up()
    assert len(worldmodel.evaluate(agent, env, 1).returns) == 1
