from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray

import worldmodel
from tests.conftest import TINY, Painter
from tests.test_learner import spoil_gradient
from tests.test_rollout import Broken
from worldmodel import checkpoint, files, log, loop, machine
from worldmodel.agent import Agent
from worldmodel.checks import ConfigError, read
from worldmodel.cli import main
from worldmodel.config import UPDATES_PER_ROW, Config
from worldmodel.envs import EnvSettings, make_env
from worldmodel.log import Journal, read_evaluations, read_metrics
from worldmodel.loop import Outcome, Round, disk, needs, online
from worldmodel.loop.environments import Environments
from worldmodel.loop.online import Online, open_run
from worldmodel.loop.reporter import SHOWN, Reporter
from worldmodel.loop.state import RunState
from worldmodel.machine import cores
from worldmodel.models import build
from worldmodel.progress import Progress
from worldmodel.replay import bytes_per_row, read_episode
from worldmodel.run_folder import read_run
from worldmodel.structs import Spec

SETTINGS = {**TINY, "env": {"image_size": 16, "action_repeat": 8}}  # episodes of 21 rows


@pytest.fixture(autouse=True, scope="module")
def _few_final_episodes() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(online, "FINAL_EPISODES", 2)
        yield


@pytest.fixture(scope="module")
def tiny() -> Config:
    return read(Config(), SETTINGS)


@pytest.fixture(scope="module")
def trained(tiny: Config, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """A run of five episodes that reached its end; tests that change it copy it."""
    run = tmp_path_factory.mktemp("trained") / "deep" / "run"
    return run, go(tiny, run, steps=800)


@pytest.fixture
def copied(trained: tuple[Path, Outcome], tmp_path: Path) -> Path:
    return shutil.copytree(trained[0], tmp_path / "run")


def go(config: Config, run: Path, **limits: Any) -> Outcome:
    return worldmodel.train(config, run, env=make_env("toy", config.env), **limits)


def opened(config: Config, run: Path) -> Online:
    """A run of the toy; the episodes are played in this process."""
    return open_run(config, run, Environments.of(config, make_env("toy", config.env)))


def saved(run: Path) -> checkpoint.Checkpoint:
    loaded = checkpoint.load(run / "checkpoints")
    assert loaded is not None
    return loaded


def assert_same_run(one: Path, other: Path, config: Config) -> None:
    """Parameters, optimizer, random states, experience, the next batch and the next action."""
    a, b = saved(one), saved(other)
    assert a.step == b.step
    assert a.tensors.keys() == b.tensors.keys()
    for group in a.tensors:
        assert a.tensors[group].keys() == b.tensors[group].keys()
        for name, tensor in a.tensors[group].items():
            assert torch.equal(tensor, b.tensors[group][name]), (group, name)
    timeless = {"wall_clock_s", "journal"}
    assert {k: v for k, v in a.state.items() if k not in timeless} == {
        k: v for k, v in b.state.items() if k not in timeless
    }
    next_steps = []
    for run in (one, other):
        rounds = opened(config, run)
        training = rounds.training
        batch = training.replay.sample(training.data_random)
        plan = worldmodel.load(run).plan(training.model.dynamics.initial())
        next_steps.append((batch.image, batch.action, plan.actions))
        rounds.close()
    for left, right in zip(*next_steps, strict=True):
        assert torch.equal(left, right)


def test_a_run_that_stopped_resumes_with_the_same_results(tiny: Config, tmp_path: Path) -> None:
    """Stop between any two updates, several times; the results are the same bit for bit."""
    tiny = read(tiny, {"loop": {"updates": 40}, "replay": {"tournament": 2}})
    go(tiny, tmp_path / "whole", steps=700)
    sittings = 0
    while True:
        sittings += 1
        rounds = opened(tiny, tmp_path / "parts")
        training = rounds.training
        limit = training.state.updates + 3
        learn = training.learner.update

        def update(batch, learn=learn, training=training, limit=limit):  # type: ignore[no-untyped-def]
            losses = learn(batch)
            if training.state.updates + 1 == limit:
                os.kill(os.getpid(), signal.SIGTERM)
            return losses

        training.learner.update = update  # type: ignore[method-assign]
        with Progress("stops often", steps=600, minutes=None) as progress:
            reporter = Reporter(training.journal, progress)
            rounds.go_on(700, None, reporter)
            rounds.finish(reporter)
        rounds.close()
        if not rounds.interrupted:
            break
    assert sittings > 5
    assert_same_run(tmp_path / "whole", tmp_path / "parts", tiny)
    whole, parts = (
        [(e.env_steps, e.returns) for e in read_evaluations(tmp_path / name / "eval.csv")]
        for name in ("whole", "parts")
    )
    assert whole == parts
    assert len(whole) >= 2


KILLED = """
import json, sys
from pathlib import Path
import worldmodel
from worldmodel.checks import read
from worldmodel.config import Config
import worldmodel.loop.online
worldmodel.loop.online.CHECKPOINT_SECONDS = 0.0
if __name__ == "__main__":
    worldmodel.train(read(Config(), json.loads(sys.argv[1])), sys.argv[2], steps=1100)
"""


def test_a_run_that_was_killed_resumes_with_the_same_results(
    tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL before the first checkpoint and after one; the results are the same bit for bit.

    The collecting process is killed with it. What is compared plays in this process: starting
    another takes 2 s.
    """
    script = tmp_path / "train.py"
    script.write_text(KILLED)
    in_step = {
        "loop": {**TINY["loop"], "episodes_at_once": 2},
        "replay": {**TINY.get("replay", {}), "tournament": 2},
    }
    tiny = read(tiny, in_step)
    command = [sys.executable, str(script), json.dumps({**SETTINGS, **in_step})]
    run = tmp_path / "parts"
    for episodes, has_checkpoint in ((1, False), (5, True)):
        process = subprocess.Popen([*command, run])
        while len(list((run / "replay").glob("*.npz"))) < episodes:
            assert process.poll() is None  # it has not ended before the kill
            time.sleep(0.005)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        assert (checkpoint.load(run / "checkpoints") is not None) == has_checkpoint
    monkeypatch.setattr(online, "cores", lambda: 1)
    for each in (tmp_path / "whole", run):
        worldmodel.train(tiny, each, steps=1100)
    assert_same_run(tmp_path / "whole", run, tiny)


def test_a_run_folder_holds_what_it_promises(tiny: Config, trained: tuple[Path, Outcome]) -> None:
    run, outcome = trained
    assert outcome.env_steps >= 800
    rows = read_metrics(run / "metrics.jsonl")
    assert all({"env_steps", "wall_clock_s"} <= row.keys() for row in rows)
    assert [row["episodes"] for row in rows if "episodes" in row] == list(
        range(1, 1 + len(list((run / "replay").glob("*.npz"))))
    )
    assert read_run(run) == tiny
    heldout = [read_episode(path) for path in sorted((run / "heldout").glob("*.npz"))]
    assert [e.total_reward for e in heldout] == pytest.approx(outcome.returns)
    assert isinstance(worldmodel.load(run), Agent)
    text = (run / "config.yaml").read_text()
    for name in ("settings_hash", "environment", "torch", "python"):
        assert name in text


def test_the_number_of_updates_follows_from_the_steps(trained: tuple[Path, Outcome]) -> None:
    """25 for each 1000 simulator steps collected before the round, after the first 3."""
    run, outcome = trained
    state = saved(run).state
    last = read_episode(sorted((run / "replay").glob("*.npz"))[-1])
    before_last = outcome.env_steps - last.total_env_steps - state["seed_env_steps"]
    assert outcome.updates == 3 + int(25 * before_last / 1000)


@pytest.mark.parametrize("action_repeat", [4, 10])
def test_the_number_of_updates_follows_from_the_rows_if_no_rate_is_set(
    tiny: Config, tmp_path: Path, action_repeat: int
) -> None:
    unevaluated = {"updates": None, "evaluate_every": 10_000}
    asked = {"loop": unevaluated, "env": {"action_repeat": action_repeat}}
    outcome = go(read(tiny, asked), tmp_path / "run", steps=500)
    *collected, _ = sorted((tmp_path / "run" / "replay").glob("*.npz"))
    actions = sum(len(read_episode(path)) - 1 for path in collected[tiny.loop.seed_episodes :])
    assert outcome.updates == 3 + int(UPDATES_PER_ROW * actions)


def test_no_more_episodes_are_played_together_than_the_steps_that_are_left(
    tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(online, "cores", lambda: 1)  # in this process: starting one takes longer
    seeds = tiny.loop.seed_episodes
    first = worldmodel.train(tiny, tmp_path / "first", steps=1)
    length = first.env_steps // seeds
    config = read(tiny, {"loop": {"episodes_at_once": 3}})
    outcome = worldmodel.train(config, tmp_path / "run", steps=(seeds + 4) * length)
    assert outcome.env_steps == (seeds + 4) * length  # in rounds of three and one


def test_a_reached_limit_is_no_more_work(
    tiny: Config, trained: tuple[Path, Outcome], copied: Path
) -> None:
    first = trained[1]
    again = go(tiny, copied, steps=800)
    assert (again.env_steps, again.updates) == (first.env_steps, first.updates)
    more = go(tiny, copied, steps=first.env_steps + 100)
    assert more.env_steps > first.env_steps


def test_minutes_are_a_total_over_all_calls(tiny: Config, tmp_path: Path) -> None:
    outcome = go(tiny, tmp_path / "run", minutes=0.02)
    assert outcome.wall_clock_s >= 1.2
    again = go(tiny, tmp_path / "run", minutes=0.02)
    assert again.updates == outcome.updates


def test_other_settings_are_refused_by_name(tiny: Config, copied: Path) -> None:
    other = read(tiny, {"planner": {"horizon": 9}, "seed": 3})
    with pytest.raises(ConfigError, match=r"seed: 0 -> 3\n\s+planner.horizon: 4 -> 9"):
        go(other, copied, steps=200)


@pytest.mark.skipif(sys.platform == "win32", reason="files are locked on POSIX alone")
def test_a_run_has_one_trainer_at_a_time(tiny: Config, tmp_path: Path) -> None:
    run = tmp_path / "run"
    rounds = opened(tiny, run)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    asked = [sys.executable, "-m", "worldmodel", "train", str(tmp_path / "tiny.yaml")]
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(dataclasses.asdict(tiny)))
    other = subprocess.run(
        [*asked, "--run", str(run), "--steps", "200"], capture_output=True, text=True, timeout=600
    )
    assert other.returncode == 2, other.stderr
    holder = f" (pid {os.getpid()})" if Path("/proc/locks").exists() else ""
    assert f"another process{holder} is training {run}" in other.stderr
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    rounds.close()
    opened(tiny, run).close()


def test_a_run_without_its_replay_is_refused_in_one_sentence(
    tiny: Config, copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copied
    episodes = saved(run).state["episodes"]
    shutil.rmtree(run / "replay")
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(dataclasses.asdict(tiny)))
    typed = ["train", str(tmp_path / "tiny.yaml"), "--run", str(run), "--steps", "5000"]
    assert main(typed) == 2
    said = capsys.readouterr().err
    assert f"replay: all {episodes} episodes of {run / 'replay'} are missing" in said
    assert len(said.splitlines()) == 1


def test_a_folder_that_is_not_a_run_is_left_alone(tiny: Config, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(ConfigError, match="exists and is not a run"):
        go(tiny, tmp_path, steps=200)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_environment_of_ones_own_trains(tiny: Config, tmp_path: Path) -> None:
    outcome = worldmodel.train(tiny, tmp_path / "run", env=Painter(), steps=100)
    assert outcome.env_steps >= 100


def test_a_bad_environment_is_explained_before_anything_is_written(
    tiny: Config, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="action_low"):
        worldmodel.train(tiny, tmp_path / "run", env=object(), steps=100)
    assert not (tmp_path / "run").exists()


class Camera(Painter):
    """An environment with images of another shape."""

    shape: tuple[int, ...] = (60, 80, 3)

    def paint(self, action: NDArray[np.float32]) -> NDArray[np.uint8]:
        return np.full(self.shape, self.time, np.uint8)


class FloatCamera(Camera):
    def paint(self, action: NDArray[np.float32]) -> Any:
        return super().paint(action) / 255


def make_float_camera() -> FloatCamera:
    return FloatCamera()


@pytest.mark.parametrize("env", [FloatCamera(), make_float_camera], ids=["an object", "a function"])
def test_images_that_cannot_be_fitted_are_refused_before_anything_is_written(
    tiny: Config, tmp_path: Path, env: object
) -> None:
    with pytest.raises(ValueError, match=r"image: .* got float64 \[60, 80, 3\]; type: image = "):
        worldmodel.train(tiny, tmp_path / "run", env=env, steps=100)
    assert not (tmp_path / "run").exists()


def test_a_planner_that_cannot_plan_for_the_reward_is_refused_before_anything_is_written(
    tiny: Config, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"planner\.kind: ilqr plans for a score with a cost"):
        go(read(tiny, {"planner": {"kind": "ilqr"}}), tmp_path / "run", steps=800)
    assert not (tmp_path / "run").exists()


def test_images_that_this_encoder_does_not_take_are_refused_before_anything_is_written(
    tiny: Config, tmp_path: Path
) -> None:
    planet = read(tiny, {"env": {"image_size": 64}, "model": {"encoder": {"kind": "planet"}}})
    env = make_env("toy", EnvSettings(image_size=48))
    with pytest.raises(ConfigError, match=r"image: the planet encoder takes 64, got 48; the envir"):
        worldmodel.train(planet, tmp_path / "run", env=env, steps=100)
    assert not (tmp_path / "run").exists()


def test_dropped_episodes_are_counted_and_the_run_continues(tiny: Config, tmp_path: Path) -> None:
    worldmodel.train(tiny, tmp_path / "run", env=Broken("raises", every=4, after=4), steps=100)
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert rows[-1]["dropped_episodes"] >= 1


def test_a_loss_that_is_not_finite_ends_the_run(tiny: Config, tmp_path: Path) -> None:
    config = read(tiny, {"learner": {"model_rate": 1e30}})
    with pytest.raises(RuntimeError, match="loss became nan"):
        go(config, tmp_path / "run", steps=2000)


def test_a_loaded_agent_plans_as_the_trained_one(
    tiny: Config, trained: tuple[Path, Outcome]
) -> None:
    run, _ = trained
    weights = checkpoint.load_group(run / "checkpoints", "averaged")
    assert weights is not None
    agent = worldmodel.load(run)
    for name, tensor in agent.model.state_dict().items():
        assert torch.equal(tensor, weights[name])
    env = make_env("toy", tiny.env, 0)
    result = worldmodel.evaluate(agent, env, episodes=1)
    again = worldmodel.evaluate(worldmodel.load(run), env, episodes=1)
    np.testing.assert_array_equal(result.episodes[0].action, again.episodes[0].action)


def test_loading_what_is_no_run_or_has_no_weights_is_explained(copied: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no config.yaml"):
        worldmodel.load(copied.parent)
    shutil.rmtree(copied / "checkpoints")
    with pytest.raises(ConfigError, match="no checkpoint yet"):
        worldmodel.load(copied)


def test_a_checkpoint_names_the_model_of_its_weights(tiny: Config, copied: Path) -> None:
    (newest, *_) = sorted((copied / "checkpoints").iterdir(), reverse=True)
    manifest = json.loads((newest / "manifest.json").read_text())
    assert manifest["parts"]["planner"] == tiny.planner.kind
    assert manifest["parts"]["dynamics"] == "recurrent"
    about = yaml.safe_load((copied / "config.yaml").read_text())
    assert manifest["spec"] == about["spec"]
    about["spec"]["action_size"] += 1
    (copied / "config.yaml").write_text(yaml.safe_dump(about))
    with pytest.raises(ConfigError, match=r"made with spec\.action_size = \d, and \d is asked"):
        worldmodel.load(copied)


def test_weights_that_are_not_finite_are_refused_by_the_tensors_name(
    copied: Path, tmp_path: Path
) -> None:
    run = copied
    agent = worldmodel.load(run)
    weights = agent.model.state_dict()
    weights["reward.net.0.0.weight"][2, :3] = torch.tensor([np.nan, np.inf, -np.inf])
    said = r"weights: reward.net.0.0.weight: expected finite numbers; 3 of \d+ are NaN or infinite"
    with pytest.raises(ValueError, match=said):
        agent.changed()
    whole = checkpoint.load(run / "checkpoints")
    assert whole is not None
    checkpoint.save(run / "checkpoints", whole.step + 1, {"averaged": weights}, whole.state)
    with pytest.raises(ConfigError, match=rf"run: {run}: {said}; move the newest"):
        worldmodel.load(run)
    shutil.move(run / "checkpoints" / f"{whole.step + 1:09d}", tmp_path)
    worldmodel.load(run)  # as the sentence says


def test_a_skipped_update_is_counted_reported_once_and_saved(
    tiny: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    rounds = opened(tiny, run)
    spoil_gradient(next(rounds.training.model.encoder.parameters()), np.inf, updates=2)
    with Progress("skips", steps=300, minutes=None) as progress:
        rounds.go_on(300, None, Reporter(rounds.training.journal, progress))
    rounds.close()
    assert capsys.readouterr().out.count("gradient was NaN or infinite") == 1
    rows = read_metrics(run / "metrics.jsonl")
    assert [row["skipped_updates"] for row in rows if "skipped_updates" in row][-1] == 2
    again = opened(tiny, run)
    assert again.training.state.skipped == 2
    again.close()


def test_weights_that_are_not_finite_are_not_saved(tiny: Config, copied: Path) -> None:
    run = copied
    rounds = opened(tiny, run)
    before = sorted(path.name for path in (run / "checkpoints").iterdir())
    with torch.no_grad():
        next(rounds.training.learner.averaged.encoder.parameters()).view(-1)[0] = torch.nan
    said = r"averaged: encoder\..*: 1 of \d+ are NaN or infinite, so no checkpoint was written"
    with pytest.raises(RuntimeError, match=said):
        rounds.save()
    rounds.close()
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == before


@pytest.mark.parametrize("group", ["model", "optimizer"])
def test_a_run_resumes_from_the_checkpoint_before_one_that_is_not_finite(
    tiny: Config, copied: Path, caplog: pytest.LogCaptureFixture, group: str
) -> None:
    run = copied
    whole = saved(run)
    poisoned = {name: dict(tensors) for name, tensors in whole.tensors.items()}
    for name, tensor in poisoned[group].items():
        if tensor.is_floating_point() and tensor.numel():
            poisoned[group][name] = torch.full_like(tensor, torch.nan)
            break
    path = checkpoint.save(run / "checkpoints", whole.step + 1, poisoned, whole.state)
    outcome = go(tiny, run, steps=900)
    assert outcome.env_steps >= 900
    assert f"{path}: {group}: {name}: " in caplog.text
    assert "trying the one before" in caplog.text
    worldmodel.load(run)


def test_counters_survive_a_checkpoint_and_older_ones_lack_some() -> None:
    state = RunState(updates=7, returns=[1.5, 2.0], wall_clock_s=3.25, skipped=1)
    written = json.loads(json.dumps(dataclasses.asdict(state)))
    assert RunState.restored({**written, "episodes": 4}) == state
    del written["skipped"], written["replaced"]
    assert RunState.restored(written) == dataclasses.replace(state, skipped=0)


def test_numbers_go_to_the_files_and_to_the_screen_once(
    tiny: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = Journal(tmp_path)
    with Progress("twice", None, None, SHOWN) as progress:
        Reporter(journal, progress).numbers({"env_steps": 4, "train_return": 2.0})
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"env_steps": 4, "train_return": 2.0}]
    assert capsys.readouterr().out.count("training return 2") == 1


def test_nothing_is_written_when_a_batch_does_not_fit_the_memory(
    tiny: Config, tmp_path: Path
) -> None:
    config = read(tiny, {"replay": {"memory_gb": 1e-6}})
    with pytest.raises(ConfigError, match=r"replay.memory_gb: one batch alone needs"):
        go(config, tmp_path / "run", steps=100)
    assert not (tmp_path / "run").exists()


def test_a_run_that_cannot_be_resumed_unlocks_its_folder(tiny: Config, tmp_path: Path) -> None:
    go(tiny, tmp_path / "run", steps=200)
    shutil.move(tmp_path / "run" / "replay", tmp_path / "aside")
    with pytest.raises(ConfigError, match="missing or broken"):
        opened(tiny, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "replay")
    shutil.move(tmp_path / "aside", tmp_path / "run" / "replay")
    opened(tiny, tmp_path / "run").close()


def test_each_round_is_reported_with_the_numbers_of_the_runs_files(
    tiny: Config, copied: Path
) -> None:
    reports: list[Round] = []
    before = len(read_evaluations(copied / "eval.csv"))
    outcome = go(tiny, copied, steps=1100, on_round=reports.append)
    final = reports[-1]
    assert [report.round for report in reports] == [4, 5, 5]  # three were before
    assert [report.is_final for report in reports] == [False, False, True]
    assert [report.env_steps for report in reports] == [960, 1120, 1120]
    assert (final.run, final.updates, final.episodes) == (copied, outcome.updates, 7)
    evaluations = read_evaluations(copied / "eval.csv")[before:]
    evaluated = [report for report in reports if len(report.returns)]
    assert [[*report.returns] for report in evaluated] == [e.returns for e in evaluations]
    assert len(evaluated) == 2
    for report in reports:
        is_new = len(report.returns) > 0
        assert report.metrics.get("score") == (np.mean(report.returns) if is_new else None)
        assert {"loss/image", "train_return", "updates_per_s"} <= report.metrics.keys()


def test_an_error_in_the_callers_report_leaves_a_checkpoint_that_resumes(
    tiny: Config, copied: Path, tmp_path: Path
) -> None:
    """With the same results, bit for bit, as without the error."""

    def fail(report: Round) -> None:
        if report.round == 2:
            raise KeyError("the dashboard")

    with pytest.raises(KeyError, match="the dashboard"):
        go(tiny, tmp_path / "parts", steps=800, on_round=fail)
    assert saved(tmp_path / "parts").state["rounds"] == 2
    go(tiny, tmp_path / "parts", steps=800)
    assert_same_run(copied, tmp_path / "parts", tiny)


def test_a_resumed_run_shows_what_it_has_learned_before(
    tiny: Config, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rounds = opened(tiny, copied)
    progress = Progress("again", 2000, None, SHOWN)
    rounds.go_on(1, None, Reporter(rounds.training.journal, progress))
    rounds.close()
    state = progress._state
    scores = [np.mean(e.returns) for e in read_evaluations(copied / "eval.csv")]
    returns = [
        line["train_return"]
        for line in read_metrics(copied / "metrics.jsonl")
        if "train_return" in line
    ]
    assert state.curves["score"].points(99) == pytest.approx(scores)
    assert state.curves["train_return"].points(99) == pytest.approx(returns)
    assert state.latest["score"] == pytest.approx(scores[-1])
    assert state.latest["checkpoint_env_steps"] == rounds.training.replay.env_steps
    costs = rounds._outlook.costs
    assert costs.of("update") is not None
    assert costs.of("planned row") is not None


def test_phases_are_said_in_their_order(
    tiny: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    go(tiny, tmp_path / "run", steps=480)
    lines = capsys.readouterr().out.splitlines()
    phases = ("playing random episodes 1/2", "learning from them 0/3", "training: episode 3")
    places = [
        next(number for number, line in enumerate(lines) if phase in line)
        for phase in (*phases, "final evaluation 2 episodes")
    ]
    assert places == sorted(places)
    assert all(len(line) <= 100 for line in lines if str(tmp_path) not in line)


def test_an_outcome_prints_what_was_reached() -> None:
    outcome = Outcome(Path("runs/a"), 8000, 1234, 90.0, [1.0, 3.0], interrupted=True)
    assert repr(outcome) == (
        "Outcome(runs/a: 8,000 env steps, 1,234 updates, 1.5 minutes,"
        " score 2.0 ± 1.0 over 2 episodes, interrupted)"
    )


def test_a_run_that_does_not_fit_the_disk_is_refused_before_anything_is_written(
    tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    monkeypatch.setattr(disk, "free_bytes", lambda folder: (10_000, tmp_path))
    said = rf"run: {run} needs about .* for its checkpoints .* 0 MB are free at {tmp_path}; free"
    with pytest.raises(ConfigError, match=said):
        go(tiny, run, steps=480)
    assert not run.exists()


def test_the_size_of_a_checkpoint_is_known_before_it_is_written(
    tiny: Config, trained: tuple[Path, Outcome]
) -> None:
    (newest, *_) = sorted((trained[0] / "checkpoints").iterdir(), reverse=True)
    written = sum(path.stat().st_size for path in newest.glob("*.safetensors"))
    expected = disk.checkpoint_bytes(build(tiny.model, Spec((16, 16, 3), 2)))
    assert expected == pytest.approx(written, rel=0.5)  # a tiny model has a large part of names


@pytest.mark.parametrize("full", ["checkpoint", "metrics"])
def test_a_disk_that_gets_full_is_one_sentence(
    tiny: Config, copied: Path, monkeypatch: pytest.MonkeyPatch, full: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = saved(copied).step
    if full == "checkpoint":
        monkeypatch.setattr(files, "write_new", refuse)
    else:
        monkeypatch.setattr(log, "_append", refuse)
    with pytest.raises(RuntimeError, match=f"the disk of {copied} is full .* resumes the run"):
        go(tiny, copied, steps=810)
    assert saved(copied).step == before


def test_a_dry_run_says_what_a_run_needs_and_writes_nothing(
    tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LEARN_S", "PLAN_S"):
        monkeypatch.setattr(needs, name, 0.0)  # one measurement of each
    run, env = tmp_path / "deep" / "run", make_env("toy", tiny.env)
    needed = loop.dry_run(tiny, run, steps=2000, env=env)
    assert needed.env_steps == 2000
    assert needed.is_whole_episode
    assert needed.rows_bytes == 2000 / 8 * bytes_per_row((16, 16, 3), 2)
    assert needed.checkpoints_bytes == 3 * disk.checkpoint_bytes(
        build(tiny.model, Spec((16, 16, 3), 2))
    )
    assert f"free at {tmp_path}" in str(needed)
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_says_if_other_work_makes_its_times_too_long() -> None:
    idle = needs.Needs(
        env_steps=1000,
        seconds=60.0,
        memory_bytes=1e9,
        rows_bytes=1e6,
        checkpoints_bytes=1e6,
        free_bytes=10**9,
        free_at=Path("here"),
        update_ms=1.0,
        plan_ms=2.0,
        row_ms=3.0,
        is_whole_episode=True,
        load=0.5 * cores(),
    )
    assert "busy" not in str(idle)
    busy = str(dataclasses.replace(idle, load=5.0 * cores()))
    assert f"busy    a load of {5 * cores():.1f} on {cores()} cores: other work runs here" in busy


def test_a_dry_run_computes_with_the_threads_of_a_run(
    tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan on two threads of a busy machine takes a hundred times as long as on one."""
    seen: dict[str, int] = {}

    def noting(name: str) -> Callable[..., float]:
        return lambda *_: seen.setdefault(name, torch.get_num_threads()) * 0.0 + 0.1

    before = torch.get_num_threads()
    monkeypatch.setattr(needs, "cores", lambda: 6)
    monkeypatch.setattr(machine, "cores", lambda: 6)
    monkeypatch.setattr(needs, "_learn", noting("learn"))
    monkeypatch.setattr(needs, "_plan", noting("plan"))
    loop.dry_run(dataclasses.replace(tiny, task="toy"), tmp_path / "run", steps=2000)
    assert seen == {"learn": 3, "plan": 1}
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(("limit_s", "asked", "most"), [(50.0, None, 400), (50.0, 300, 300)])
def test_a_dry_run_finds_the_most_steps_that_the_minutes_allow(
    limit_s: float, asked: int | None, most: int
) -> None:
    assert needs._most(lambda steps: 0.1 * steps, limit_s, asked) == most


def test_a_dry_run_says_if_it_did_not_see_the_end_of_an_episode(
    tiny: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(needs, "PLAY_S", 0.0)
    episode, spec, _, is_whole = needs._play(make_env("toy", tiny.env), tiny)
    assert (len(episode), spec.image, is_whole) == (2, (16, 16, 3), False)
