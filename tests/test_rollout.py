from __future__ import annotations

import contextlib
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.conftest import Painter, parts_of
from worldmodel import checkpoint, loop
from worldmodel.agent import Agent
from worldmodel.assembly import agent_of
from worldmodel.checks import ConfigError, read
from worldmodel.config import Config
from worldmodel.envs import adopt, make_env
from worldmodel.log import read_metrics
from worldmodel.loop import online
from worldmodel.models import WorldModel
from worldmodel.replay import read_episode
from worldmodel.rollout import (
    IN_STEP,
    BadEpisodeError,
    Fleet,
    InlineCollector,
    Job,
    JobDone,
    Noise,
    ProcessCollector,
    collect,
    evaluate,
    play_constant,
    play_wandering,
)
from worldmodel.structs import Episode, Plan, Step


def is_aligned(episode: Episode) -> bool:
    """Every image shows the action of its own row."""
    painted = (episode.image[:, 0, 0, :2].astype(np.float32) - 127) / 100
    return bool(np.abs(painted - episode.action).max() < 0.01)


def test_a_row_is_the_action_and_what_came_back(painter: Painter) -> None:
    episode = play_wandering(adopt(painter), 0, 0.8).episode
    assert len(episode) == 9
    assert is_aligned(episode)
    np.testing.assert_allclose(episode.reward, episode.action[:, 0], atol=1e-6)
    assert episode.action[0].tolist() == [0, 0]
    assert episode.total_env_steps == 16
    assert np.abs(episode.action[1:]).max() > 0.1


def test_a_shifted_row_fails_the_check_of_rows(painter: Painter) -> None:
    episode = play_wandering(adopt(painter), 0, 0.8).episode
    late = Episode(
        episode.image,
        np.roll(episode.action, 1, axis=0),
        episode.reward,
        episode.discount,
        episode.env_steps,
    )
    assert not is_aligned(late)


def test_the_belief_gets_the_executed_action(model: WorldModel, tiny: Config) -> None:
    """An environment that halves every action: the agent must observe the half."""

    class Halving(Painter):
        def step(self, action: NDArray[np.float32]) -> Step:
            row = super().step(action / 2)
            return Step(row.image, row.reward, row.discount, row.is_last, action=action / 2)

    heard: list[NDArray[np.float32]] = []

    class Listening(Agent):
        def observe(self, belief, action, image, seed=0):  # type: ignore[no-untyped-def]
            heard.append(action)
            return super().observe(belief, action, image, seed)

    agent = Listening(*parts_of(agent_of(tiny, model)))
    (played,) = collect([adopt(Halving())], agent, [[0]], Noise(0.1, 0.8))
    episode = played.episode
    assert is_aligned(episode)
    np.testing.assert_array_equal(np.concatenate(heard), episode.action[:-1])


def test_everything_follows_from_the_seed(model: WorldModel, tiny: Config) -> None:
    agent = agent_of(tiny, model)

    def actions(seed: int) -> NDArray[np.float32]:
        (played,) = collect([adopt(Painter())], agent, [[seed]], Noise(0.3, 0.8))
        return played.episode.action

    np.testing.assert_array_equal(actions(1), actions(1))
    assert not np.array_equal(actions(1), actions(2))


@pytest.mark.parametrize("memory", [0.0, 0.8])
def test_exploration_noise_has_unit_variance(memory: float) -> None:
    walk = np.stack(
        [
            play_wandering(adopt(Painter(60)), seed, memory).episode.action[20:, 0]
            for seed in range(60)
        ]
    )
    inside = np.abs(walk) < 1  # the rest is clipped
    assert 0.6 < inside.mean() < 0.76  # 68 % of a standard normal
    kept = np.corrcoef(walk[:, :-1].ravel(), walk[:, 1:].ravel())[0, 1]
    assert abs(kept - memory) < 0.15  # clipped values remember a little less


def test_a_belief_is_sampled_if_the_setting_says_so(model: WorldModel, tiny: Config) -> None:
    """PlaNet acts on a sample of the posterior; all other agents use its mean."""
    image = np.zeros(model.spec.image, np.uint8)
    means = agent_of(tiny, model)
    draws = agent_of(read(tiny, {"planning": {"sampled": True}}), model)

    def stoch(agent: Agent, seed: int) -> torch.Tensor:
        return agent.observe(agent.initial(), agent.no_action(), image, seed=seed).features

    assert torch.equal(stoch(means, 1), stoch(means, 2))
    assert torch.equal(stoch(draws, 1), stoch(draws, 1))
    assert not torch.equal(stoch(draws, 1), stoch(draws, 2))


def test_seed_episodes_have_uniform_actions_if_the_setting_says_so(
    model: WorldModel, tiny: Config
) -> None:
    def share_inside(kind: str) -> float:
        config = read(tiny, {"loop": {"seed_actions": kind}})
        collector = InlineCollector(Fleet.of(adopt(Painter(200))), model, config)
        collector.begin(Job(0, random=True))
        action = collector.end().played[0].episode.action[1:]
        return float((np.abs(action) < 0.999).mean())

    assert share_inside("uniform") > 0.97
    assert share_inside("wander") < 0.85


def test_evaluating_adds_no_noise_and_starts_from_its_seeds(
    model: WorldModel, tiny: Config
) -> None:
    agent = agent_of(tiny, model)
    evaluated = evaluate(agent, Painter(), episodes=3, seed=5)
    (alone,) = collect([adopt(Painter())], agent, [[6]], Noise.none())
    np.testing.assert_array_equal(evaluated.episodes[1].action, alone.episode.action)
    assert list(evaluated.seeds) == [5, 6, 7]
    assert len(evaluated.plan_milliseconds) == 3 * 8
    assert evaluated.env_steps == 3 * 16
    np.testing.assert_allclose(
        evaluated.returns, [episode.reward.sum() for episode in evaluated.episodes], rtol=1e-5
    )


def test_episodes_played_in_step_equal_those_played_one_by_one(
    model: WorldModel, tiny: Config
) -> None:
    agent = agent_of(tiny, model)
    alone = evaluate(agent, Painter(), episodes=5, seed=5)
    together = evaluate(agent, [Painter(), Painter(), Painter()], episodes=5, seed=5)
    assert list(together.seeds) == list(alone.seeds)
    for one, other in zip(together.episodes, alone.episodes, strict=True):
        np.testing.assert_array_equal(one.image[0], other.image[0])
        np.testing.assert_allclose(one.action, other.action, atol=1e-4)
        np.testing.assert_allclose(one.reward, other.reward, atol=1e-4)


class Short(Painter):
    """Ends earlier from one start than from another."""

    def reset(self, seed: int | None = None) -> Step:
        self.length = 8 if seed is None else 3 + seed % 4
        return super().reset(seed)


def test_in_step_each_episode_has_its_own_end(model: WorldModel, tiny: Config) -> None:
    evaluated = evaluate(agent_of(tiny, model), [Short() for _ in range(4)], episodes=4, seed=4)
    alone = evaluate(agent_of(tiny, model), Short(), episodes=4, seed=4)
    assert [len(one) for one in evaluated.episodes] == [len(one) for one in alone.episodes]
    assert len({len(one) for one in evaluated.episodes}) == 4
    assert len(evaluated.plan_milliseconds) == sum(len(one) - 1 for one in evaluated.episodes)


def test_a_constant_action_is_played(painter: Painter) -> None:
    episode = play_constant(adopt(painter), np.array([0.5, 0.0], np.float32), seed=0).episode
    np.testing.assert_allclose(episode.total_reward, 8 * 0.5)


class Broken(Painter):
    """Every third episode is bad, in the way that the test asks for."""

    def __init__(self, defect: str, every: int = 3, after: int = 0) -> None:
        super().__init__()
        self.defect = defect
        self.every = every
        self.episodes = -1 - after

    def reset(self, seed: int | None = None) -> Step:
        self.episodes += 1
        return super().reset(seed)

    def step(self, action: NDArray[np.float32]) -> Step:
        row = super().step(action)
        if self.episodes < 0 or self.episodes % self.every or self.time < 4:
            return row
        if self.defect == "raises":
            raise ZeroDivisionError("by a robot")
        image, reward = row.image, row.reward
        if self.defect == "shape":
            image = image[:8]
        if self.defect == "dtype":
            image = image / np.float32(255)
        if self.defect == "nan":
            reward = float("nan")
        if self.defect == "huge":
            reward = 1e300
        return Step(image, reward, 7.0 if self.defect == "discount" else 1.0, row.is_last)


COMPLAINTS = {
    "nan": "reward: expected a finite number, got nan",
    "huge": r"reward: expected a number that float32 can hold, got 1e\+300",
    "shape": r"image: expected image \[16, 16, 3\] as before, got image \[8, 16, 3\]",
    "dtype": r"image: expected uint8 \[H, W, C\], got float32 \[16, 16, 3\]",
    "discount": "discount: expected 0 to 1, got 7.0",
    "raises": "by a robot",
}


@pytest.mark.parametrize("defect", COMPLAINTS)
def test_a_bad_episode_is_dropped_and_reported(
    defect: str, model: WorldModel, tiny: Config
) -> None:
    errors = (BadEpisodeError, ValueError, ZeroDivisionError)
    with pytest.raises(errors, match=COMPLAINTS[defect]):
        play_wandering(adopt(Broken(defect)), 0, 0.8)
    collector = InlineCollector(Fleet.of(adopt(Broken(defect))), model, tiny)
    collector.begin(Job(0, random=True))
    done = collector.end()
    assert len(done.dropped) == 1
    assert is_aligned(done.played[0].episode)
    collector.close()


@pytest.mark.parametrize("defect", ["nan", "raises"])
def test_in_step_a_bad_episode_is_played_again_and_the_others_stay(
    defect: str, model: WorldModel, tiny: Config
) -> None:
    agent, dropped = agent_of(tiny, model), list[str]()
    good = evaluate(agent, [Painter() for _ in range(3)], episodes=3)
    evaluated = evaluate(agent, [Painter(), Broken(defect), Painter()], episodes=3, dropped=dropped)
    assert len(dropped) == 1
    np.testing.assert_allclose(evaluated.returns, good.returns, atol=1e-3)
    with pytest.raises((BadEpisodeError, ZeroDivisionError), match=COMPLAINTS[defect]):
        evaluate(agent, [Painter(), Broken(defect), Painter()], episodes=3)


@pytest.mark.parametrize("defect", ["nan", "raises"])
def test_three_bad_episodes_in_a_row_end_the_run_with_the_reason(
    defect: str, model: WorldModel, tiny: Config
) -> None:
    collector = InlineCollector(Fleet.of(adopt(Broken(defect, every=1))), model, tiny)
    with pytest.raises(RuntimeError, match=f"3 bad episodes in a row.*{COMPLAINTS[defect]}"):
        collector.begin(Job(0, random=True))


class Failing(Agent):
    """An agent that raises at its ``at``-th plan, or returns an invalid one."""

    at = 3
    gives: float | None = None

    def plan(self, *args: Any, **named: Any) -> Plan:
        self.at -= 1
        plan = super().plan(*args, **named)
        if self.at > 0:
            return plan
        if self.gives is None:
            raise ZeroDivisionError("by a planner")
        return replace(plan, actions=torch.full_like(plan.actions, self.gives))


@pytest.mark.parametrize("robots", [1, 2])
@pytest.mark.parametrize(
    ("gives", "error", "said"),
    [(None, ZeroDivisionError, "^by a planner$"), (math.nan, ValueError, "^plan: expected finite")],
)
def test_an_error_of_the_agent_is_not_a_bad_episode(
    robots: int,
    gives: float | None,
    error: type[Exception],
    said: str,
    model: WorldModel,
    tiny: Config,
) -> None:
    agent, dropped = Failing(*parts_of(agent_of(tiny, model))), list[str]()
    agent.gives = gives
    envs = [Painter() for _ in range(robots)]
    with pytest.raises(error, match=said):
        evaluate(agent, envs, episodes=robots, dropped=dropped)
    assert dropped == []


@pytest.mark.parametrize("robots", [1, 2])
def test_a_first_row_that_the_agent_does_not_take_is_a_bad_episode(
    robots: int, model: WorldModel, tiny: Config
) -> None:
    class Grey(Painter):
        def reset(self, seed: int | None = None) -> Step:
            first = super().reset(seed)
            return replace(first, image=first.image[..., :1])

    agent, dropped = agent_of(tiny, model), list[str]()
    envs = [Grey(), Painter()][:robots]
    with pytest.raises(RuntimeError, match=r"3 bad episodes in a row.*first row.*\(16, 16, 1\)"):
        evaluate(agent, envs, episodes=robots, dropped=dropped)


def assert_same_done(one: JobDone, other: JobDone) -> None:
    for name in ("image", "action", "reward"):
        np.testing.assert_array_equal(
            getattr(one.played[0].episode, name), getattr(other.played[0].episode, name)
        )
    assert (one.evaluated is None) == (other.evaluated is None)
    if one.evaluated is not None and other.evaluated is not None:
        np.testing.assert_array_equal(one.evaluated.returns, other.evaluated.returns)


def disturb(monkeypatch: pytest.MonkeyPatch, signals: Mapping[int, signal.Signals]) -> None:
    """Send a signal to the process that plays one of these jobs; a stopped one hangs soon.

    The process is stopped before it is given the job, so that it cannot have finished it.
    """
    begin, start = ProcessCollector.begin, ProcessCollector._start

    def begin_and_disturb(
        self: ProcessCollector, job: Job, watch: Callable[[], object] = lambda: None
    ) -> None:
        if job.episode in signals:
            assert self._process.pid is not None
            os.kill(self._process.pid, signal.SIGSTOP)
        begin(self, job, watch)
        if job.episode in signals:
            os.kill(self._process.pid, signals[job.episode])
            self.config = read(self.config, {"loop": {"patience_s": 0.5}})

    def start_with_patience(self: ProcessCollector) -> None:
        self.config = read(self.config, {"loop": {"patience_s": 300.0}})
        start(self)

    monkeypatch.setattr(ProcessCollector, "begin", begin_and_disturb)
    monkeypatch.setattr(ProcessCollector, "_start", start_with_patience)


DISTURBANCES = {
    signal.SIGKILL: r"the collecting process died \(exit code -9\)",
    signal.SIGSTOP: r"the collecting process gave no row for 0.5 s \(exit code -9\)",
}


def test_a_process_plays_the_same_episodes_and_is_replaced_if_it_dies_or_hangs(
    model: WorldModel, tiny: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = read(tiny, {"env": {"action_repeat": 8}})
    job = Job(4, evaluation_episodes=1)
    inline = InlineCollector(Fleet(lambda: make_env("toy", tiny.env), IN_STEP), model, tiny)
    inline.begin(job)
    expected = inline.end()
    collector = ProcessCollector(model, tiny)
    collector.begin(job)
    done = collector.end()
    assert_same_done(done, expected)
    assert done.replaced == []
    for number, reason in DISTURBANCES.items():
        with monkeypatch.context() as patches:
            disturb(patches, {4: number})
            collector.begin(job)
            done = collector.end()
        assert_same_done(done, expected)
        assert len(done.replaced) == 1
        assert re.fullmatch(reason, done.replaced[0])
    assert collector._process.pid is not None
    os.kill(collector._process.pid, signal.SIGSTOP)  # nor does it keep anybody from leaving
    collector.close()
    assert not collector._process.is_alive()


def test_an_episode_that_ends_every_process_ends_the_run(
    model: WorldModel, tiny: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector = ProcessCollector(model, tiny)
    start = ProcessCollector._start

    def start_and_kill(self: ProcessCollector) -> None:
        start(self)
        self._process.kill()

    monkeypatch.setattr(ProcessCollector, "_start", start_and_kill)
    collector._process.kill()
    collector._process.join()
    collector.begin(Job(0, random=True))
    with pytest.raises(RuntimeError, match="4 times in a row at the same episode"):
        collector.end()
    collector.close()


@pytest.mark.slow  # the collector alone is disturbed by default
def test_a_collecting_process_that_dies_or_hangs_changes_nothing_but_a_counter(
    tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a seed episode, and later while learning; compared bit for bit with an undisturbed run.

    The undisturbed one plays in this process: starting another takes longer.
    """
    tiny = read(tiny, {"env": {"action_repeat": 8}})
    monkeypatch.setattr(online, "cores", lambda: 1)
    monkeypatch.setattr(online, "FINAL_EPISODES", 1)
    loop.train(tiny, tmp_path / "whole", steps=500)
    whole = checkpoint.load(tmp_path / "whole" / "checkpoints", torch.device("cpu"))
    assert whole is not None
    assert whole.state["replaced"] == 0
    monkeypatch.setattr(online, "cores", lambda: 2)
    kill, stop = DISTURBANCES
    disturb(monkeypatch, {1: stop, 2: kill})  # the first is a seed episode
    loop.train(tiny, tmp_path / "disturbed", steps=500)
    assert_same_but_replaced(tmp_path / "whole", tmp_path / "disturbed", whole, replaced=2)


def assert_same_but_replaced(
    one: Path, other: Path, whole: checkpoint.Checkpoint, replaced: int
) -> None:
    disturbed = checkpoint.load(other / "checkpoints", torch.device("cpu"))
    assert disturbed is not None
    for group, tensors in whole.tensors.items():
        for name, tensor in tensors.items():
            assert torch.equal(tensor, disturbed.tensors[group][name]), (group, name)
    differing = {name for name in whole.state if whole.state[name] != disturbed.state[name]}
    assert differing <= {"replaced", "wall_clock_s", "journal"}
    assert disturbed.state["replaced"] == replaced
    assert read_metrics(other / "metrics.jsonl")[-1]["replaced_processes"] == replaced
    names = sorted(path.name for path in (one / "replay").glob("*.npz"))
    assert len(names) >= 3
    for name in names:
        left, right = (read_episode(run / "replay" / name) for run in (one, other))
        np.testing.assert_array_equal(left.image, right.image)
        np.testing.assert_array_equal(left.action, right.action)


def make_painter() -> Painter:
    return Painter()


def test_a_function_that_makes_ones_own_is_played_in_a_process(
    tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(online, "cores", lambda: 2)
    monkeypatch.setattr(online, "FINAL_EPISODES", 1)
    loop.train(tiny, tmp_path / "inside", env=Painter(), steps=50)
    disturb(monkeypatch, {2: signal.SIGKILL})
    loop.train(tiny, tmp_path / "in_process", env=make_painter, steps=50)
    inside = checkpoint.load(tmp_path / "inside" / "checkpoints", torch.device("cpu"))
    assert inside is not None
    assert_same_but_replaced(tmp_path / "inside", tmp_path / "in_process", inside, replaced=1)


def test_a_function_that_a_process_cannot_find_is_refused(tiny: Config, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"must stand at the top of a module; got .*<lambda>"):
        loop.train(tiny, tmp_path / "run", env=lambda: Painter(), steps=50)
    assert not (tmp_path / "run").exists()


def test_an_error_in_the_process_is_raised_here(model: WorldModel, tiny: Config) -> None:
    collector = ProcessCollector(model, read(tiny, {"task": "nowhere"}))
    collector.begin(Job(0, random=True))
    with pytest.raises(RuntimeError, match="no task nowhere"):
        collector.end()
    collector.close()


ORPHANED = """
import os, pathlib, sys, time
from tests.conftest import TINY, Painter
from worldmodel.checks import read
from worldmodel.config import Config
from worldmodel.envs import adopt
from worldmodel.models import build
from worldmodel.rollout import Job, ProcessCollector
from worldmodel.structs import Spec

class Hanging(Painter):
    def step(self, action):
        pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))
        time.sleep(3600)

def hanging():
    return adopt(Hanging())

if __name__ == "__main__":
    config = read(Config(), TINY)
    collector = ProcessCollector(build(config.model, Spec((16, 16, 3), 2)), config, hanging)
    collector.begin(Job(0, random=True))
    collector.end()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Linux ends a process with its parent")
def test_a_collecting_process_that_hangs_does_not_outlive_its_trainer(tmp_path: Path) -> None:
    script, pid_file = tmp_path / "orphaned.py", tmp_path / "pid"
    script.write_text(ORPHANED)
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    trainer = subprocess.Popen(
        [sys.executable, script, pid_file], env={**os.environ, "PYTHONPATH": path}
    )
    try:
        assert comes_true(
            lambda: (
                trainer.poll() is not None or (pid_file.exists() and pid_file.read_text() != "")
            ),
            600,
        )
        child = int(pid_file.read_text())
        assert is_running(child)
    finally:
        trainer.kill()
        trainer.wait()
    try:
        assert comes_true(lambda: not is_running(child), 300)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def comes_true(happened: Callable[[], bool], within_s: float) -> bool:
    until = time.monotonic() + within_s
    while not happened() and time.monotonic() < until:
        time.sleep(0.05)
    return happened()


def is_running(process: int) -> bool:
    """Whether a process runs; one that has ended does not, even if its exit code is uncollected."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"
