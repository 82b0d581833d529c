"""Visual foresight: pictures that kernels move, marked pixels, and plans to goal pixels."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import worldmodel
from worldmodel import run_folder
from worldmodel.agent import Agent
from worldmodel.analysis import follow_pixel, observe
from worldmodel.assembly import agent_of, learner_of
from worldmodel.checks import ConfigError, read
from worldmodel.cli import main
from worldmodel.config import Config
from worldmodel.envs import make_env
from worldmodel.loop import online
from worldmodel.losses import PredictedImage
from worldmodel.models import WorldModel, build
from worldmodel.models.dynamics.moving_kernels import MovingKernels
from worldmodel.models.flow import flow_of, gather, move_marks
from worldmodel.models.latents import Scene
from worldmodel.planners import CEM
from worldmodel.presets import load_preset
from worldmodel.replay import cut
from worldmodel.report import visualize_run
from worldmodel.scores import DesignatedPixels
from worldmodel.structs import Batch, Episode, Spec, at, each, repeat

# Shapes that differ: rows H, columns W, kernels K, marks Q.
B, H, W, K, Q = 4, 12, 10, 3, 2
SMALL: dict[str, Any] = {
    "env": {"image_size": 16},
    "model": {"dynamics": {"kernels": 3, "memory_size": 5}},
    "replay": {"batch": 3, "length": 5},
    "learner": {"precision": "float32"},
}


@pytest.fixture
def config() -> Config:
    return read(load_preset("foresight"), SMALL)


@pytest.fixture
def model(config: Config) -> WorldModel:
    torch.manual_seed(3)
    return build(config.model, Spec((16, 16, 3), 2))


@pytest.fixture
def agent(config: Config, model: WorldModel) -> Agent:
    return agent_of(config, model.requires_grad_(False))


def shift(rows: int, columns: int, side: int = 5) -> Tensor:
    """A kernel that moves a picture down and to the right by so many pixels: [k * k]"""
    kernel = torch.zeros(side, side)
    kernel[side // 2 - rows, side // 2 - columns] = 1.0
    return kernel.flatten()


def one_hot(row: int, column: int) -> Tensor:
    maps = torch.zeros(H, W)
    maps[row, column] = 1.0
    return maps


@pytest.mark.parametrize(("rows", "columns"), [(0, 0), (1, 2), (-2, 1), (2, -2)])
def test_a_shift_kernel_moves_picture_and_marks_by_exactly_that_shift(
    rows: int, columns: int
) -> None:
    image = torch.rand(B, 3, H, W)
    masks = torch.zeros(B, 1 + K, H, W)
    masks[:, 2] = 1.0  # all by the second kernel
    kernels = torch.rand(B, K, 25).softmax(-1)
    kernels[:, 1] = shift(rows, columns)
    flow = flow_of(masks, kernels)
    moved = gather(image, flow)
    inside = (slice(None), slice(None), slice(2, -2), slice(2, -2))
    assert torch.equal(moved[inside], image.roll((rows, columns), (-2, -1))[inside])
    marks = torch.stack([one_hot(5, 4), one_hot(6, 7)]).expand(B, Q, H, W)
    exact = torch.stack([one_hot(5 + rows, 4 + columns), one_hot(6 + rows, 7 + columns)])
    assert torch.equal(move_marks(marks, flow), exact.expand(B, Q, H, W))


def test_parts_of_a_picture_move_by_their_own_kernels() -> None:
    """The upper half goes right and the lower half stays."""
    image = torch.rand(B, 3, H, W)
    masks = torch.zeros(B, 1 + K, H, W)
    masks[:, 1, : H // 2], masks[:, 0, H // 2 :] = 1.0, 1.0
    moved = gather(image, flow_of(masks, shift(0, 1).expand(B, K, 25)))
    assert torch.equal(moved[:, :, : H // 2, 1:], image[:, :, : H // 2, :-1])
    assert torch.equal(moved[:, :, H // 2 :], image[:, :, H // 2 :])


def test_probability_sums_to_one_whatever_masks_and_kernels_are() -> None:
    masks = torch.rand(B, 1 + K + 1, H, W).softmax(1)
    flow = flow_of(masks[:, :-1], (5 * torch.randn(B, K, 25)).softmax(-1))
    marks = torch.rand(B, Q, H * W).softmax(-1).unflatten(-1, (H, W))
    for _ in range(20):
        marks = move_marks(marks, flow)
        torch.testing.assert_close(marks.sum((-1, -2)), torch.ones(B, Q))
        assert (marks >= 0).all()


def test_a_mark_that_leaves_the_picture_stays_where_it_was_seen_last() -> None:
    marks = one_hot(3, 0).expand(B, Q, H, W)
    masks = torch.zeros(B, 1 + K, H, W)
    masks[:, 1] = 1.0
    moved = move_marks(marks, flow_of(masks, shift(0, -2).expand(B, K, 25)))
    assert torch.equal(moved, marks)


def test_painted_pixels_move_no_probability() -> None:
    """Half the mixture is paint, everywhere or at the mark: the map moves as without."""
    kernels = shift(1, 0).expand(B, K, 25)
    marks = one_hot(5, 4).expand(B, Q, H, W)
    moving = torch.zeros(B, 1 + K, H, W)
    moving[:, 1] = 1.0
    exact = move_marks(marks, flow_of(moving, kernels))
    assert torch.equal(move_marks(marks, flow_of(0.5 * moving, kernels)), exact)
    partly = moving.clone()
    partly[..., 3:7, 3:6] *= 0.01
    torch.testing.assert_close(move_marks(marks, flow_of(partly, kernels)), exact)


def scene_of(model: WorldModel, batch: int, marks: int) -> Scene:
    zero = model.dynamics.initial(batch)
    assert isinstance(zero, Scene)
    maps = torch.rand(batch, marks, 16 * 16).softmax(-1).unflatten(-1, (16, 16))
    return Scene(torch.rand_like(zero.image) - 0.5, torch.randn_like(zero.memory), maps)


def test_four_robots_are_four_single_ones(model: WorldModel) -> None:
    scenes, actions = scene_of(model, B, Q), torch.rand(B, 3, 2)
    futures = model.imagine(scenes, actions, None)
    assert futures.shape == (B, 3)
    for robot in range(B):
        alone = model.imagine(at(scenes, robot), actions[robot], None)
        for one, all_ in zip(alone.parts, at(futures, robot).parts, strict=True):  # type: ignore[attr-defined]
            torch.testing.assert_close(one, all_)


def test_a_seen_picture_replaces_the_predicted_one_and_marks_are_carried(agent: Agent) -> None:
    image = torch.randint(0, 256, (16, 16, 3)).byte()
    belief = agent.mark(agent.observe(agent.initial(), agent.no_action(), image), [(3, 4), (9, 2)])
    assert isinstance(belief, Scene)
    assert belief.marks.shape == (2, 16, 16)
    assert belief.marks[0, 3, 4] == belief.marks[1, 9, 2] == 1.0
    assert torch.equal(agent.model.decode(belief), image)
    other = torch.randint(0, 256, (16, 16, 3)).byte()
    action = np.array([0.3, -0.6], np.float32)
    after = agent.observe(belief, action, other)
    imagined = agent.imagine(belief, action)
    assert isinstance(after, Scene)
    assert isinstance(imagined, Scene)
    assert torch.equal(agent.model.decode(after), other)
    assert torch.equal(after.marks, imagined.marks)
    assert not torch.equal(after.marks, belief.marks)
    assert agent.mark(after, [(0, 0)]).marks.shape == (1, 16, 16)  # type: ignore[attr-defined]


def test_learning_without_marks_predicts_the_same_pictures(model: WorldModel) -> None:
    scenes, actions = scene_of(model, B, Q), torch.rand(B, 3, 2)
    bare = replace(scenes, marks=scenes.marks[:, :0])
    with_marks, without = (model.imagine(s, actions, None) for s in (scenes, bare))
    assert torch.equal(model.draw(with_marks), model.draw(without))


# --- the score ----------------------------------------------------------------------------------


class Pushed(torch.nn.Module):
    """Dynamics whose every pixel moves by two columns at the action 1."""

    def __init__(self, exact: MovingKernels) -> None:
        super().__init__()
        self.exact, self.noise_size = exact, 0
        self.initial, self.mark = exact.initial, exact.mark

    def remember(self, latent: Scene, action: Tensor) -> Scene:
        move = (2 * action[..., 0]).round().long().clamp(-2, 2)  # [...]
        kernels = torch.stack([shift(0, int(step)) for step in move.flatten()])  # [M, 25]
        flow = kernels[..., None, None].expand(-1, -1, 16, 16)
        marks = move_marks(latent.marks.flatten(0, move.dim() - 1), flow)
        return Scene(latent.image, latent.memory, marks.reshape(latent.marks.shape))

    def imagine(self, context: Scene, noise: Tensor | None) -> Scene:
        return context


def test_the_expected_distance_is_that_of_the_map() -> None:
    marks = torch.stack([0.25 * one_hot(5, 4) + 0.75 * one_hot(5, 8), one_hot(1, 1)])
    scene = Scene(torch.zeros(3, H, W), torch.zeros(5, 3, 3), marks)
    distances = DesignatedPixels([(5, 4), (4, 5)]).distances(scene)
    torch.testing.assert_close(distances, torch.tensor([3.0, 5.0]))


def test_the_last_row_weighs_ten_times_as_much() -> None:
    scene = Scene(torch.zeros(3, H, W), torch.zeros(5, 3, 3), one_hot(2, 1)[None])
    futures = repeat(repeat(repeat(scene, 1), 2), 3)  # [B, N, L]
    rows = DesignatedPixels([(2, 6)]).of_rows(futures, torch.zeros(1, 2, 3, 2), None)  # type: ignore[arg-type]
    assert rows.tolist() == [[[-5.0, -5.0, -50.0]] * 2]


def test_a_plan_brings_the_mark_to_its_goal(model: WorldModel) -> None:
    dynamics = model.dynamics
    assert isinstance(dynamics, MovingKernels)
    model.dynamics = Pushed(dynamics)  # type: ignore[assignment]
    planner = CEM(horizon=3, iterations=3, candidates=40, elites=5)
    planning = replace(load_preset("foresight").planning, precision="float32")
    agent = Agent(model.requires_grad_(False), planner, planning, 0.99)
    belief = agent.mark(scene_of(model, 1, 0), [(8, 3)])
    score = DesignatedPixels([(8, 9)])
    plan = agent.plan(belief, score=score)
    reached = model.imagine(belief, plan.actions, None)
    assert score.distances(at(reached, (0, -1))).item() < 1.0
    back = agent.plan(belief, score=DesignatedPixels([(8, 0)]))
    assert back.actions[0, 0, 0] < 0 < plan.actions[0, 0, 0]


# --- the objective ------------------------------------------------------------------------------


def a_batch() -> Batch:
    random = torch.Generator().manual_seed(3)
    return Batch(
        image=torch.randint(0, 256, (3, 5, 16, 16, 3), generator=random).byte(),
        action=torch.rand(3, 5, 2, generator=random) * 2 - 1,
        reward=torch.zeros(3, 5),
        discount=torch.ones(3, 5),
        valid=torch.ones(3, 5, dtype=torch.bool),
    )


def predicted(model: WorldModel, batch: Batch, context: int | None) -> Tensor:
    random = torch.Generator().manual_seed(1)
    term = PredictedImage(decoded_share=1.0, context=context)
    return term(model, model.infer(batch, random), random)["predicted_image"]


def test_rows_after_the_context_are_predicted_without_their_images(model: WorldModel) -> None:
    """A changed image costs its own row; later rows see it only where it was observed."""
    batch = a_batch()
    image = batch.image.clone()
    image[:, 3] = 255 - image[:, 3]
    changed = replace(batch, image=image)
    for context, moved in ((2, [3]), (None, [3, 4])):
        before, after = (predicted(model, some, context) for some in (batch, changed))
        rows = (before != after).any(0)
        assert rows.tolist() == [row in moved for row in range(5)]


def test_one_observed_row_less_than_a_window_changes_nothing(model: WorldModel) -> None:
    torch.testing.assert_close(predicted(model, a_batch(), 4), predicted(model, a_batch(), None))


def test_one_update_moves_every_parameter(config: Config, model: WorldModel) -> None:
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    update = learner_of(config, model).update(a_batch())
    assert set(update.metrics) == {"predicted_image"}
    still = [name for name, weight in model.named_parameters() if torch.equal(weight, before[name])]
    assert not still


def test_bytes_come_back_from_a_belief_in_bfloat16(model: WorldModel) -> None:
    """Fast layers exist for every layer, whatever a plan computes in."""
    from worldmodel.models.imagination import Imagination

    scenes, actions = scene_of(model, 1, Q), torch.rand(1, 6, 3, 2)
    exact, fast = (
        Imagination(model, dtype).imagine(scenes, actions, None) for dtype in (None, torch.bfloat16)
    )
    torch.testing.assert_close(
        each(fast, Tensor.float).image,
        exact.image,
        atol=0.03,
        rtol=0,  # type: ignore[attr-defined]
    )


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"mean_image": True},
            "model.dynamics.kind: moving_kernels needs model.mean_image: false, got true; write"
            " model.mean_image: false",
        ),
        (
            {"encoder": {"kind": "slim"}},
            "model.posterior.kind: exact needs model.encoder.kind: pixels, got slim; write"
            " model.encoder.kind: pixels",
        ),
        (
            {"decoder": {"kind": "slim"}},
            "model.dynamics.kind: moving_kernels needs model.decoder.kind: itself, got slim; write"
            " model.decoder.kind: itself",
        ),
    ],
)
def test_parts_that_do_not_fit_say_so(config: Config, changes: Any, sentence: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read(config, {"model": changes})
    assert str(raised.value) == sentence


def test_a_decoder_that_draws_other_latents_says_so() -> None:
    with pytest.raises(ConfigError, match=r"decoder\.kind: itself draws latents that are scene;"):
        read(load_preset("vae"), {"model": {"decoder": {"kind": "itself"}}})


def test_a_marked_pixel_is_in_the_picture_of_a_model_that_has_one(agent: Agent) -> None:
    with pytest.raises(ValueError, match=r"pixel: 16,2 is outside of the picture; give row,column"):
        agent.mark(agent.initial(), [(3, 3), (16, 2)])
    with pytest.raises(ValueError, match=r"score: 1 goal pixels need as many marks, and the bel"):
        agent.plan(agent.initial(), score=DesignatedPixels([(3, 3)]))
    other = read(load_preset("vae"), {"env": {"image_size": 16}})
    blind = agent_of(other, build(other.model, Spec((16, 16, 3), 2)))
    with pytest.raises(ValueError, match=r"pixel: GaussianDynamics has no picture to mark a pixel"):
        blind.mark(blind.initial(), [(3, 3)])


# --- the command line ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the preset at a tiny size."""
    tiny = {
        **SMALL,
        "task": "toy",
        "env": {"image_size": 16, "action_repeat": 16},
        "planner": {"horizon": 2, "iterations": 1, "candidates": 8, "elites": 2},
        "loop": {"seed_episodes": 1, "seed_updates": 1, "evaluate_episodes": 1},
    }
    folder = tmp_path_factory.mktemp("foresight") / "run"
    config = read(load_preset("foresight"), tiny)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(online, "FINAL_EPISODES", 1)
        worldmodel.train(config, folder, steps=160, env=make_env("toy", config.env))
    return folder


def test_eval_plans_for_pixels_and_says_how_near_they_came(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = ["eval", str(run), "--pixel", "3,4", "0,0", "--to", "3,8", "0,0", "--episodes", "2"]
    assert main([*typed, "--json"]) == 0
    output = capsys.readouterr()
    answer = json.loads(output.out)
    assert answer["pixel_distances_at_first"] == [4.0, 0.0]
    assert np.shape(answer["pixel_distances_at_last"]) == (2, 2)
    assert "episode 1: pixel 3,4 was 4.0 pixels from 3,8; at the end the model" in output.err
    assert len(answer["returns"]) == 2


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        (
            "--pixel 16,2 --to 3,3",
            "pixel: 16,2 is outside of the picture; give row,column with a row of 0 to 15 and a"
            " column of 0 to 15",
        ),
        ("--pixel 1,2 --to 3,-1", "to: 3,-1 is outside of the picture; give row,column"),
        ("--pixel 1,2", "pixel: every pixel has a goal, got 1 of --pixel and 0 of --to; type"),
        ("--pixel 1 --to 3,3", "pixel: expected row,column, such as 12,40; got 1"),
    ],
)
def test_a_wrong_pixel_is_answered_in_a_sentence(
    run: Path, capsys: pytest.CaptureFixture[str], typed: str, sentence: str
) -> None:
    assert main(["eval", str(run), *typed.split()]) == 2
    output = capsys.readouterr()
    assert sentence in output.err.replace("\n", " ")
    assert output.out == ""


# --- the report ---------------------------------------------------------------------------------


def test_the_report_follows_a_marked_pixel_and_a_click_writes_the_command(
    run: Path, tmp_path: Path
) -> None:
    agent, config = worldmodel.load(run), run_folder.read_run(run)
    visualize_run(agent, run, tmp_path / "report", config=config)
    page = (tmp_path / "report" / "report.html").read_text()
    assert "Where it expects a marked pixel to go" in page
    assert re.search(rf"worldmodel eval {run} --pixel \d+,\d+ --to \d+,\d+", page)
    assert {"mark.png"} < {path.name for path in (tmp_path / "report").iterdir()}
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page
    assert "http" not in script  # it calls nobody, and starts nothing


def test_a_followed_pixel_is_one_of_what_moves(agent: Agent) -> None:
    """One white pixel goes down a black picture, two rows at a time."""
    image = np.zeros((8, 16, 16, 3), np.uint8)
    for row in range(8):
        image[row, 2 * row, 5] = 255
    episode = Episode(
        image=image,
        action=np.zeros((8, 2), np.float32),
        reward=np.zeros(8, np.float32),
        discount=np.ones(8, np.float32),
        env_steps=np.ones(8, np.int64),
    )
    beliefs = at(observe(agent, cut([episode], [(0, 0)], 8), 8), 0)
    followed = follow_pixel(agent, episode, beliefs)
    assert followed.pixel == (2 * followed.row, 5)
    assert followed.maps.shape == (7, 16, 16)
    np.testing.assert_allclose(followed.maps.sum((1, 2)), 1.0, rtol=1e-4)
