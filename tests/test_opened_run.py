"""A run opened for looking: records are exact, axes have names, mistakes are one sentence."""

from __future__ import annotations

import ast
import dataclasses
import functools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import worldmodel
from tests.adder import HEIGHT, STAIRS, WIDTH, Adder, Knowing, adding, agent_of, with_vector
from tests.conftest import TINY, report_quickly
from worldmodel import analysis, checkpoint, opened_run
from worldmodel.analysis import mean_image, read_source
from worldmodel.checks import ConfigError, read
from worldmodel.config import Config
from worldmodel.envs import make_env
from worldmodel.log import Journal
from worldmodel.models import build
from worldmodel.opened_run.records import HeldoutEpisode, arrays
from worldmodel.replay import cut, write_episode
from worldmodel.report import draw_strip, strip_open_loop, visualize_run
from worldmodel.rollout import play_constant
from worldmodel.run_folder import claim
from worldmodel.structs import Episode, Spec

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "notebooks.md").read_text()
NOTEBOOK_PATH = ROOT / "docs" / "look_at_a_run.ipynb"
NOTEBOOK = json.loads(NOTEBOOK_PATH.read_text())
LONG, SHORT = 20, 12  # rows of the two episodes in the adder's run


def make_run(run: Path, spec: Spec, config: Config, episodes: list[Episode]) -> Path:
    """The folder of a run that was evaluated twice, the second time over ``episodes``."""
    journal = Journal(run)
    about = {
        "settings": dataclasses.asdict(config),
        "spec": spec.to_dict(),
        "environment": {"renderer": None},
        "versions": {"worldmodel": "1"},
    }
    (run / "config.yaml").write_text(yaml.safe_dump(about))
    journal.metrics({"env_steps": 100, "wall_clock_s": 2.0, "train_return": 3.5})
    journal.evaluation(150, 4.0, [7.0], [3])
    journal.metrics({"env_steps": 200, "wall_clock_s": 5.0, "loss/image": 0.25})
    journal.metrics({"env_steps": 2600, "wall_clock_s": 9.0, "loss/image": float("nan")})
    returns = [1.0 + number for number in range(len(episodes))]
    journal.evaluation(2400, 8.5, returns, [3 + number for number in range(len(episodes))])
    (run / "heldout").mkdir()
    for number, episode in enumerate(episodes):
        write_episode(run / "heldout" / f"{number:06d}.npz", episode)
    return run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run in the adder's world, whose agent knows that world."""
    monkeypatch.setattr(
        "worldmodel.opened_run.measurements.load", lambda *given, **named: agent_of(Adder())
    )
    episodes = [adding([4] * (LONG - 1)), adding([2] * (SHORT - 1), start=30)]
    return make_run(tmp_path / "runs" / "adder-0", Adder().spec, Config(task="toy"), episodes)


@pytest.fixture
def run(folder: Path) -> opened_run.Run:
    return worldmodel.open_run(folder)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> opened_run.Run:
    """A run of the toy whose weights are random, with three held-out episodes."""
    config = read(Config(), TINY)
    env, spec = make_env("toy", config.env), Spec((16, 16, 3), 2)
    action = np.array([0.3, -0.1], np.float32)
    episodes = [play_constant(env, action, seed).episode for seed in (3, 4, 5)]
    run = make_run(tmp_path_factory.mktemp("toy") / "run", spec, config, episodes)
    torch.manual_seed(0)
    weights = build(config.model, spec).state_dict()
    checkpoint.save(run / "checkpoints", 1, {"averaged": weights}, {"env_steps": 2400})
    return worldmodel.open_run(str(run))


def test_a_run_says_its_task_steps_best_score_and_episodes(run: opened_run.Run) -> None:
    assert repr(run) == "Run(toy, 2,600 env steps, best score 7, 2 held-out episodes)"


def test_a_run_that_was_never_evaluated_says_so(run: opened_run.Run) -> None:
    (run.folder / "eval.csv").unlink()
    for path in (run.folder / "heldout").iterdir():
        path.unlink()
    assert repr(run) == "Run(toy, 2,600 env steps, no score yet, 0 held-out episodes)"
    assert run.scores().returns.shape == (0, 0)


def test_scores_are_the_evaluations_with_nan_where_one_has_fewer_episodes(
    run: opened_run.Run,
) -> None:
    scores = run.scores()
    assert scores.env_steps.tolist() == [150, 2400]
    assert scores.wall_clock_s.tolist() == [4.0, 8.5]
    np.testing.assert_array_equal(scores.returns, [[7, np.nan], [1, 2]])
    assert scores.mean.tolist() == [7.0, 1.5]


def test_scores_and_metrics_are_read_again_while_a_run_trains(run: opened_run.Run) -> None:
    assert len(run.scores().mean) == 2
    assert len(run.metrics()["env_steps"]) == 3
    with claim(run.folder):
        journal = Journal(run.folder)
        journal.evaluation(3000, 10.0, [99.0], [3])
        journal.metrics({"env_steps": 3000, "wall_clock_s": 11.0, "loss/image": 0.125})
        assert run.scores().mean.tolist() == [7.0, 1.5, 99.0]
        assert run.numbers("loss/image").env_steps.tolist() == [200, 2600, 3000]
        assert "best score 99" in repr(worldmodel.open_run(run.folder))


def test_numbers_are_those_lines_that_hold_the_name(run: opened_run.Run) -> None:
    image = run.numbers("loss/image")
    assert image.name == "loss/image"
    assert image.env_steps.tolist() == [200, 2600]
    assert image.wall_clock_s.tolist() == [5.0, 9.0]
    np.testing.assert_array_equal(image.values, [0.25, np.nan])
    metrics = run.metrics()
    assert list(metrics) == ["env_steps", "wall_clock_s", "train_return", "loss/image"]
    np.testing.assert_array_equal(metrics["train_return"], [3.5, np.nan, np.nan])


def test_held_out_episodes_are_those_of_the_files(run: opened_run.Run) -> None:
    stored = list(read_source(run.folder).heldout.values())
    assert len(run.heldout) == 2
    for number, (record, episode) in enumerate(zip(run.heldout, stored, strict=True)):
        assert record.number == number
        assert len(record) == len(episode)
        np.testing.assert_array_equal(record.images, episode.image)
        np.testing.assert_array_equal(record.actions, episode.action)
        np.testing.assert_array_equal(record.rewards, episode.reward)
        np.testing.assert_array_equal(record.discounts, episode.discount)
    assert run.heldout[-1].number == 1
    assert "1: 12 rows, return 492" in repr(run.heldout)  # 30 + 32 + ... + 52


def test_an_array_that_is_written_to_changes_no_later_result(run: opened_run.Run) -> None:
    before = run.predict(0)
    record = run.heldout[0]
    record.images[:] = 255
    record.actions[:] = 1
    np.testing.assert_array_equal(run.predict(0).images, before.images)
    np.testing.assert_array_equal(run.predict(0).model_images, before.model_images)


def test_the_newest_of_stacked_images_is_shown(run: opened_run.Run) -> None:
    spec = Adder(channels=6).spec
    run._measured.spec = spec
    stacked = adding([4] * 5, channels=6)
    stacked.image[..., :3] = 99  # the older image
    run._measured.source = analysis.Source(run.folder, {0: stacked})
    assert run.heldout[0].images.shape == (6, HEIGHT, WIDTH, 3)
    assert run.heldout[0].images.max() == 20
    assert run.heldout[0].episode is stacked


@torch.inference_mode()
def test_a_prediction_is_what_the_models_own_verbs_give(toy: opened_run.Run) -> None:
    seen, ahead, begin = 3, 4, 2
    episode, model = toy.heldout[1].episode, toy.agent.model
    belief, images, rewards = toy.agent.initial(1), [], []
    for row in range(begin, begin + seen):
        action, image = torch.tensor(episode.action[[row]]), torch.tensor(episode.image[[row]])
        belief = model.observe_step(belief, action, image, None, {})
        images.append(model.decode(belief)[0].numpy())
        rewards.append(float(model.reward(belief.features)[0]))
    actions = torch.tensor(episode.action[None, begin + seen : begin + seen + ahead])
    imagined = model.imagine(belief, actions, None)
    images += list(model.decode(imagined)[0].numpy())
    rewards += model.reward(imagined.features)[0].tolist()
    predicted = toy.predict(1, seen, ahead, begin=begin)
    taken = slice(begin, begin + seen + ahead)
    np.testing.assert_array_equal(predicted.images, episode.image[taken])
    np.testing.assert_array_equal(predicted.rewards, episode.reward[taken])
    np.testing.assert_array_equal(predicted.model_images, images)
    np.testing.assert_allclose(predicted.model_rewards, rewards, rtol=1e-5, atol=1e-7)
    assert (predicted.episode, predicted.begin, predicted.seen) == (1, 2, 3)


def test_the_errors_of_a_prediction_are_those_computed_by_hand(run: opened_run.Run) -> None:
    run._measured.source = analysis.Source(run.folder, {4: STAIRS})  # 0, 0.2, ... 1 of full scale
    predicted = run.predict(4, seen=2, ahead=45)  # the episode ends after four more rows
    np.testing.assert_array_equal(predicted.model_images, STAIRS.image)
    np.testing.assert_allclose(predicted.error, 0)
    np.testing.assert_allclose(predicted.error_hold_last, [0.04, 0.16, 0.36, 0.64], rtol=1e-5)
    mean = np.array([0.1, -0.1, -0.3, -0.5])  # the mean of all six rows is a half
    np.testing.assert_allclose(predicted.error_mean_image, mean**2, rtol=1e-5)
    np.testing.assert_allclose(predicted.reward_error, 0)
    held = np.array([51, 102, 153, 204]) ** 2
    np.testing.assert_allclose(predicted.reward_error_hold_last, held)


def test_a_prediction_holds_vectors_too(run: opened_run.Run) -> None:
    run._measured.agent = agent_of(Knowing())
    run._measured.source = analysis.Source(run.folder, {0: with_vector(adding([4] * 8))})
    predicted = run.predict(0)
    assert predicted.vectors["height"].shape == (9, 1)
    np.testing.assert_allclose(predicted.model_vectors["height"], predicted.vectors["height"])
    assert "model_vectors['height']" in repr(predicted)


def test_the_errors_of_a_run_are_measured_as_its_report_does(
    run: opened_run.Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The same episodes, mean image and windows are given to the same function."""
    asked: list[Any] = []

    def record(agent: Any, episodes: Any, mean: Any, **settings: Any) -> Any:
        asked.append(([episode.image for episode in episodes], mean, settings))
        return analysis.measure(agent, episodes, mean, windows=4)

    report_quickly(monkeypatch)
    monkeypatch.setattr("worldmodel.report.compose.measure", record)
    monkeypatch.setattr("worldmodel.opened_run.measurements.measure", record)
    errors = run.errors()
    summary = visualize_run(run.agent, run.folder, tmp_path / "report")
    ours, reports = asked
    np.testing.assert_equal(ours, reports)
    assert ours[2] == {"windows": 20, "before_events": True}
    for field in dataclasses.fields(summary.errors):
        mine, others = getattr(errors, field.name), getattr(summary.errors, field.name)
        np.testing.assert_array_equal(mine, others)


def test_errors_by_episode_name_their_episodes(run: opened_run.Run) -> None:
    long = [adding([4] * 9), adding([4] * 8)]
    run._measured.source = analysis.Source(run.folder, {2: long[0], 3: adding([4]), 7: long[1]})
    errors = run.errors()
    assert errors.episodes.tolist() == [2, 7]
    assert errors.model_by_episode.shape == (2, 5)
    assert np.isnan(errors.model_by_episode).tolist() == [[False] * 5, [False] * 4 + [True]]
    expected = analysis.measure(
        run.agent, long, mean_image(run.agent, long, None), windows=20, before_events=True
    )
    np.testing.assert_array_equal(errors.hold_last, expected.hold_last)


def test_plans_hold_every_candidate_with_its_imagined_return(run: opened_run.Run) -> None:
    plans, horizon = run.plans(0, 3), run.agent.planner.horizon
    level = 4 * 3 + plans.candidates[..., 0].cumsum(-1)  # [iteration, candidate, step]
    weights = run.agent.discount_rate ** np.arange(horizon)
    np.testing.assert_allclose(plans.returns, (weights * level).sum(-1), rtol=1e-5)
    assert plans.iterations == len(plans.candidates) == 3
    order = np.argsort(-plans.returns[-1], kind="stable")[: len(plans.elites)]
    np.testing.assert_array_equal(plans.elites, plans.candidates[-1][order])
    chosen = 4 * 3 + plans.plan[:, 0].cumsum()
    assert plans.plan_return == pytest.approx((weights * chosen).sum(), rel=1e-5)
    np.testing.assert_array_equal(plans.plan_images[:, 0, 0, 0], chosen.round())
    np.testing.assert_array_equal(plans.done, run.heldout[0].actions[4 : 4 + horizon])
    np.testing.assert_array_equal(plans.images, run.heldout[0].images[4 : 4 + horizon])


def test_an_iteration_with_fewer_candidates_is_filled_up_with_nan(run: opened_run.Run) -> None:
    icem = {"kind": "icem", "horizon": 5, "candidates": 16, "elites": 4, "decay": 0.7}
    run._measured.agent = agent_of(Adder(), planner=icem, planning={"proposals": 0})
    plans = run.plans(1, 2)
    counts = (~np.isnan(plans.returns)).sum(1).tolist()
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] < counts[0] == plans.returns.shape[1]
    np.testing.assert_array_equal(np.isnan(plans.candidates[..., 0, 0]), np.isnan(plans.returns))


def test_probes_are_those_of_the_analysis(toy: opened_run.Run) -> None:
    probed, latents = toy.probe(), toy.latents()
    episodes = [record.episode for record in toy.heldout]
    states = analysis.true_states(toy.config, episodes, [3, 4, 5])
    parts = [latents.features[latents.episode == number] for number in range(3)]
    expected = analysis.probe(parts, states)
    assert probed.names == tuple(each.name for each in expected)
    assert probed.r_squared.tolist() == [each.r_squared for each in expected]
    for row, each in enumerate(expected):
        np.testing.assert_array_equal(probed.true[row], each.true)
        np.testing.assert_array_equal(probed.read[row], each.read)
        np.testing.assert_array_equal([probed.lowest[row], probed.highest[row]], each.spread)
    assert probed.episode.tolist() == sorted([0, 1, 2] * len(episodes[0]))


@torch.inference_mode()
def test_latents_are_the_beliefs_after_each_image(toy: opened_run.Run) -> None:
    episode = toy.heldout[2].episode
    windows = cut([episode], [(0, 0)], len(episode))
    beliefs = analysis.observe(toy.agent, windows, len(episode))
    latents = toy.latents()
    mine = latents.features[latents.episode == 2]
    np.testing.assert_allclose(mine, beliefs.features[0], rtol=1e-5, atol=1e-6)
    assert latents.row[:3].tolist() == [0, 1, 2]


# ------------------------------------------------------------------------------------- axes


def test_each_record_names_its_axes_and_its_text_says_them(run: opened_run.Run) -> None:
    horizon = run.agent.planner.horizon
    expected: dict[str, tuple[Any, dict[str, tuple[int, ...]]]] = {
        "scores": (run.scores(), {"returns": (2, 2)}),
        "numbers": (run.numbers("loss/image"), {"values": (2,)}),
        "metrics": (run.metrics(), {"columns['loss/image']": (3,)}),
        "heldout": (run.heldout[1], {"images": (SHORT, HEIGHT, WIDTH, 3), "actions": (SHORT, 1)}),
        "predict": (run.predict(0, 4, 7), {"model_images": (11, HEIGHT, WIDTH, 3), "error": (7,)}),
        "plans": (run.plans(0, 0), {"candidates": (3, 64, horizon, 1)}),
        "errors": (run.errors(), {"model_by_episode": (2, LONG - 5)}),
        "latents": (run.latents(), {"features": (LONG + SHORT, 2), "points": (32, 3)}),
    }
    for name, (record, shapes) in expected.items():
        said = {array: (value.shape, axes) for array, value, axes in arrays(record)}
        text = repr(record)
        for array, (shape, axes) in said.items():
            assert shapes.get(array, shape) == shape, (name, array)
            assert len(axes) == len(shape)
            line = next(each for each in text.splitlines() if each.split()[0] == array)
            assert str(shape) in line, (name, array)
            assert line.endswith(", ".join(axes)), (name, array)
        assert set(shapes) <= set(said)
        with pytest.raises(dataclasses.FrozenInstanceError):
            record.axes = {}


def test_a_record_whose_axes_differ_cannot_be_made(run: opened_run.Run) -> None:
    record = run.heldout[0]
    with pytest.raises(ValueError, match=r"rewards: expected 20 along row, got 19"):
        dataclasses.replace(record, rewards=record.rewards[1:])
    with pytest.raises(ValueError, match=r"HeldoutEpisode\.actions: expected axes \('row', 'act"):
        dataclasses.replace(record, actions=record.actions[:, 0])
    vectors = {"a": np.zeros((LONG, 2), np.float32), "b": np.zeros((LONG, 5), np.float32)}
    assert isinstance(dataclasses.replace(record, vectors=vectors), HeldoutEpisode)


# --------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("mistake", "sentence"),
    [
        (lambda run: run.heldout[2], "no held-out episode 2; known: 0 to 1"),
        (lambda run: run.predict(-3), "no held-out episode -3; known: 0 to 1"),
        (lambda run: run.predict(1, seen=12), "seen: expected 1 to 11 rows, so that one of the 12"),
        (lambda run: run.predict(1, 5, begin=7), "rows from row 7 of episode 1 is left to predict"),
        (lambda run: run.predict(0, seen=0), "seen: expected 1 to 19 rows"),
        (lambda run: run.predict(0, ahead=0), "ahead: expected at least 1 row to imagine, got 0"),
        (lambda run: run.predict(0, begin=20), "begin: expected a row from 0 to 19, got 20"),
        (lambda run: run.plans(1, 6), "row: expected 0 to 5 in episode 1, so that the 6 rows of"),
        (lambda run: run.plans(1, -1), "row: expected 0 to 5 in episode 1"),
        (lambda run: run.probe(), "probe: expected at least 3 held-out episodes, got 2"),
        (lambda run: run.numbers("loss/imag"), "'loss/imag'; did you mean loss/image?"),
        (
            lambda run: run.figure("eror"),
            "no figure 'eror'; there are alternatives, course, errors",
        ),
    ],
)
def test_a_mistake_is_answered_in_one_sentence(
    run: opened_run.Run, mistake: Callable[[opened_run.Run], Any], sentence: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        mistake(run)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_run_that_is_missing_names_a_similar_one(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"so it is not a run; did you mean .*adder-0\?"):
        worldmodel.open_run(folder.with_name("addder-0"))


def test_a_run_without_held_out_episodes_says_when_they_come(run: opened_run.Run) -> None:
    for path in (run.folder / "heldout").iterdir():
        path.unlink()
    with pytest.raises(ConfigError, match="holds no episode yet; the first evaluation brings some"):
        run.predict(0)


def test_a_plan_longer_than_the_episode_and_a_planner_without_a_cost_are_named(
    run: opened_run.Run,
) -> None:
    run._measured.source = analysis.Source(run.folder, {0: adding([4] * 3)})
    with pytest.raises(ConfigError, match="episode 0 has 4 rows, and a plan of 6 rows cannot be"):
        run.plans(0, 0)
    model = Adder()
    for verb in ("state", "step", "features_of"):  # what ilqr asks dynamics for
        setattr(model.dynamics, verb, lambda *given: given[0])
    run._measured.agent = agent_of(model, planner={"kind": "ilqr"}, planning={"proposals": 0})
    with pytest.raises(ConfigError, match="plans: ilqr plans for a score with a cost"):
        run.plans(0, 0)


def test_states_of_other_episodes_are_not_probed(toy: opened_run.Run) -> None:
    other = worldmodel.open_run(toy.folder)
    other._measured.source = analysis.Source(
        toy.folder, {number: adding([4] * 9) for number in range(3)}
    )
    other._measured.agent = agent_of(Adder())
    with pytest.raises(ConfigError, match="probe: no true states to read: played again from seed"):
        other.probe()


# ---------------------------------------------------------------------------------- figures


def test_every_figure_is_drawn_and_shows_itself_in_a_notebook(
    run: opened_run.Run, toy: opened_run.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = functools.partial(analysis.measure, windows=2)
    monkeypatch.setattr(
        "worldmodel.opened_run.measurements.measure", lambda *given, **settings: few(*given)
    )
    for name in opened_run.FIGURES:
        opened = toy if name == "probe" else run  # the adder's world tells no true states
        figure = opened.figure(name, episode=1, row=3)
        assert type(figure).__name__ == "Figure", name
        assert figure.axes or figure.subfigs, name
    assert figure._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]


def test_a_strip_is_that_of_the_report_and_names_the_episode(run: opened_run.Run) -> None:
    (axes,) = run.figure("open_loop", episode=1).axes
    episode = run.heldout[1].episode
    prediction = analysis.predict(run.agent, cut([episode], [(0, 0)], SHORT))
    strip = strip_open_loop(prediction, first=1)
    assert strip.rows[0].label == "episode 1\ntruth"
    np.testing.assert_array_equal(axes.images[0].get_array(), draw_strip(strip))


def test_without_matplotlib_a_figure_names_what_is_missing(
    run: opened_run.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match="draws with matplotlib and pillow: pip install"):
        run.figure("scores")


def test_looking_writes_nothing(toy: opened_run.Run) -> None:
    def state() -> dict[Path, tuple[int, int]]:
        paths = sorted(toy.folder.rglob("*"))
        return {p: (p.stat().st_size, p.stat().st_mtime_ns) for p in [toy.folder, *paths]}

    before = state()
    fresh = worldmodel.open_run(toy.folder)
    repr(fresh), fresh.scores(), fresh.metrics(), fresh.predict(0), fresh.plans(0, 3)
    fresh.latents(), fresh.probe(), fresh.figure("plans", row=3)
    assert state() == before


def test_weights_are_loaded_when_they_are_first_needed(folder: Path) -> None:
    run = worldmodel.open_run(folder)
    repr(run), run.scores(), run.metrics(), run.heldout[0], run.config
    assert "agent" not in vars(run._measured)
    assert run.agent is run.agent


# ------------------------------------------------------------------------- page and notebook


def test_the_lines_of_the_page_run(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    folder.rename(tmp_path / "runs" / "default-cartpole_swingup-0")
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(block, names)
    assert type(names["figure"]).__name__ == "Figure"
    assert "Run(toy, 2,600 env steps" in capsys.readouterr().out


def test_the_page_lists_every_figure_and_every_verb() -> None:
    numbers, figures = PAGE.split("## Figures")
    assert sorted(re.findall(r"^\| `(\w+)` \|", figures, re.MULTILINE)) == sorted(
        opened_run.FIGURES
    )
    listed = {name for row in numbers.splitlines() for name in re.findall(r"`run\.(\w+)", row)}
    public = {name for name in vars(opened_run.Run) if not name.startswith("_")}
    assert listed | {"figure", "folder"} == public
    last = "".join(NOTEBOOK["cells"][-1]["source"])
    assert [name for name in opened_run.FIGURES if f"`{name}`" not in last] == []


def code_cells() -> list[str]:
    return ["".join(c["source"]) for c in NOTEBOOK["cells"] if c["cell_type"] == "code"]


def test_the_notebook_is_valid_small_and_without_results() -> None:
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    assert set(NOTEBOOK) == {"cells", "metadata", "nbformat", "nbformat_minor"}
    ids = [cell["id"] for cell in NOTEBOOK["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in NOTEBOOK["cells"]:
        needed = {"cell_type", "id", "metadata", "source"}
        if cell["cell_type"] == "code":
            needed |= {"execution_count", "outputs"}
            assert (cell["execution_count"], cell["outputs"]) == (None, [])
        assert set(cell) == needed
    assert NOTEBOOK_PATH.stat().st_size < 20_000


def test_the_notebook_uses_public_names_only() -> None:
    nodes = [node for cell in code_cells() for node in ast.walk(ast.parse(cell))]
    imported = {
        alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names
    }
    imported |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    assert imported == {"dataclasses", "pathlib", "worldmodel"}
    read = [node for node in nodes if isinstance(node, ast.Attribute)]
    of = {(node.value.id, node.attr) for node in read if isinstance(node.value, ast.Name)}
    public = {name for name in vars(opened_run.Run) if not name.startswith("_")}
    assert {name for owner, name in of if owner == "worldmodel"} <= set(worldmodel.__all__)
    assert {name for owner, name in of if owner == "run"} <= public
    assert not any(node.attr.startswith("_") for node in read)


def test_the_notebook_runs_on_a_small_run(
    toy: opened_run.Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its training is replaced by a copy of a run; the rest is as it stands."""
    few = functools.partial(analysis.measure, windows=2)
    monkeypatch.setattr(
        "worldmodel.opened_run.measurements.measure", lambda *given, **settings: few(*given)
    )
    monkeypatch.chdir(tmp_path)
    trained: list[Config] = []

    def copy(config: Config, run: Path, *, steps: int) -> None:
        trained.append(config)
        shutil.copytree(toy.folder, run)

    monkeypatch.setattr(worldmodel, "train", copy)
    names: dict[str, Any] = {}
    for number, cell in enumerate(code_cells()):
        exec(compile(cell, f"cell {number}", "exec"), names)
    assert [config.task for config in trained] == ["toy"]
    said = capsys.readouterr().out
    for words in ("45 rows ahead: model", "best candidate of each iteration", "velocity x"):
        assert words in said


@pytest.mark.slow
def test_the_notebook_runs_as_it_stands(tmp_path: Path) -> None:
    program = "\n".join(code_cells())
    search = {**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=search, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert "45 rows ahead: model" in ended.stdout
