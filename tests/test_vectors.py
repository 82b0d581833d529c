"""Vectors in addition to the image: from the environment's row to the belief and the gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import worldmodel
from tests.conftest import Painter
from worldmodel import demo, model_file
from worldmodel.assembly import agent_of, learner_of
from worldmodel.checks import ConfigError, read
from worldmodel.config import Config
from worldmodel.envs import adopt, check_env, make_env
from worldmodel.envs.settings import EnvSettings
from worldmodel.loop import online
from worldmodel.models import WorldModel, build
from worldmodel.models.encoders.vectors import Vectors
from worldmodel.models.layers import normed
from worldmodel.replay import Replay, check_episode, read_episode, write_episode
from worldmodel.rollout import BadEpisodeError, play_random
from worldmodel.structs import Episode, Spec, Step

SIZES = {"joints": 2, "torque": 1}
Named = dict[str, np.ndarray]


class PainterWithVectors(Painter):
    """The painter with two vectors: joints are the time and its half, torque is the reward."""

    def __init__(
        self, change: Callable[[Named, int], Named] = lambda vectors, time: vectors
    ) -> None:
        super().__init__()
        self.change = change

    def with_vectors(self, row: Step) -> Step:
        vectors = {
            "joints": np.array([self.time, self.time / 2], np.float64),
            "torque": np.array([row.reward]),
        }
        return replace(row, vectors=self.change(vectors, self.time))

    def reset(self, seed: int | None = None) -> Step:
        return self.with_vectors(super().reset(seed))

    def step(self, action: np.ndarray) -> Step:
        return self.with_vectors(super().step(action))


def episode() -> Episode:
    return play_random(adopt(PainterWithVectors()), seed=0).episode


@pytest.fixture
def model(tiny: Config) -> WorldModel:
    return build(tiny.model, Spec((16, 16, 3), 2, vectors=SIZES))


def test_vectors_are_in_the_row_that_they_were_measured_in() -> None:
    played = episode()
    assert played.vectors["joints"].dtype == np.float32
    assert played.vectors["joints"][:, 0].tolist() == played.image[:, 0, 0, 2].tolist()
    np.testing.assert_array_equal(played.vectors["torque"][:, 0], played.reward)


DEFECTS: dict[str, Callable[[Named, int], Named]] = {
    "joints: expected finite numbers": lambda vectors, time: (
        vectors | {"joints": np.full(2, np.nan)}
    ),
    r"joints: expected numbers \[V\]": lambda vectors, time: vectors | {"joints": np.ones((2, 1))},
    "vectors: expected .*torque.* as in the first row": lambda vectors, time: (
        vectors if time < 2 else {"joints": np.ones(2)}
    ),
    "vectors: image is the image's own name": lambda vectors, time: vectors | {"image": np.ones(2)},
}


@pytest.mark.parametrize("sentence", DEFECTS)
def test_the_check_names_mistakes_in_vectors(sentence: str) -> None:
    check_env(PainterWithVectors())
    with pytest.raises(ValueError, match=sentence):
        check_env(PainterWithVectors(DEFECTS[sentence]))


def test_an_episode_with_a_broken_vector_is_dropped() -> None:
    for change in (
        lambda vectors, time: vectors | {"joints": np.full(2, np.nan if time == 3 else 0.0)},
        lambda vectors, time: vectors if time < 3 else {"joints": np.ones(2)},
    ):
        with pytest.raises(BadEpisodeError, match="joints"):
            play_random(adopt(PainterWithVectors(change)), seed=0)


def test_vectors_are_kept_and_sampled_in_the_windows_of_their_images(tmp_path: Path) -> None:
    played = episode()
    write_episode(tmp_path / "one.npz", played)
    back = read_episode(tmp_path / "one.npz")
    assert back.vectors.keys() == played.vectors.keys()
    for name, vectors in played.vectors.items():
        np.testing.assert_array_equal(back.vectors[name], vectors)
    replay = Replay(tmp_path / "replay", batch=40, length=4, memory_bytes=10**6)
    replay.add(played)
    replay.add(replace(played, **{name: getattr(played, name)[:2] for name in ROWS}, vectors={
        name: vectors[:2] for name, vectors in played.vectors.items()
    }))  # fmt: skip
    batch = replay.sample(np.random.default_rng(0))
    assert not batch.valid.all()
    shown = batch.image[..., 0, 0, 2].float()
    torch.testing.assert_close(batch.vectors["joints"][..., 0], shown)
    torch.testing.assert_close(batch.vectors["torque"][..., 0], batch.reward)
    again = Replay(tmp_path / "replay", batch=40, length=4, memory_bytes=10**6)
    same = again.sample(np.random.default_rng(0)).vectors["joints"]
    assert torch.equal(same, batch.vectors["joints"])
    with pytest.raises(ValueError, match=r"vectors: expected joints, torque .* got none"):
        replay.add(replace(played, vectors={}))
    with pytest.raises(ValueError, match=r"vectors\.joints: expected a row for each"):
        check_episode(replace(played, vectors={"joints": np.zeros((3, 2), np.float32)}))


ROWS = ("image", "action", "reward", "discount", "env_steps")


def test_a_vector_is_predicted_in_its_own_unit() -> None:
    """From features that hold its symlog, over five orders of magnitude."""
    vectors = Vectors(3, SIZES, normed)
    truth = {"joints": torch.tensor([[-4000.0, 0.02]]), "torque": torch.tensor([[7.0]])}
    vectors.decoder = torch.nn.Identity()  # type: ignore[assignment]
    decoded = vectors.decode(vectors.join(truth))
    for name, expected in truth.items():
        torch.testing.assert_close(decoded[name], expected)
    assert vectors.log_prob(vectors.join(truth), truth).item() == pytest.approx(0)


def test_vectors_are_learned_and_learned_from(model: WorldModel, tiny: Config) -> None:
    replay = Replay(None, batch=3, length=5, memory_bytes=10**6)
    replay.add(episode())
    assert model.vectors is not None
    before = {name: p.detach().clone() for name, p in model.vectors.named_parameters()}
    losses = learner_of(tiny, model).update(replay.sample(np.random.default_rng(0))).metrics
    assert losses["vectors"] > 0
    for name, parameter in model.vectors.named_parameters():
        assert not torch.equal(parameter, before[name]), name


def test_a_belief_takes_the_dict_and_depends_on_every_part(model: WorldModel, tiny: Config) -> None:
    agent = agent_of(tiny, model.requires_grad_(False))
    seen = {"image": np.zeros((16, 16, 3), np.uint8), "joints": np.ones(2), "torque": np.zeros(1)}

    def belief(**change: np.ndarray) -> torch.Tensor:
        return agent.observe(agent.initial(), agent.no_action(), {**seen, **change}).features

    for name, other in (
        ("image", seen["image"] + 99),
        ("joints", -np.ones(2)),
        ("torque", np.ones(1)),
    ):
        assert not torch.equal(belief(), belief(**{name: other})), name
    two = {name: np.stack([part, part]) for name, part in seen.items()}
    together = agent.observe(agent.initial(2), agent.no_action(2), two)
    torch.testing.assert_close(together.features[1], belief())


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"joints": np.zeros(3)}, r"joints: expected float32 \[2\], got float32 \[3\]"),
        ({"joints": np.full(2, np.inf)}, "joints: expected finite numbers"),
        ({"knees": np.zeros(2)}, "image: expected image, joints, torque; got .*knees"),
    ],
)
def test_a_wrong_vector_is_named(
    model: WorldModel, tiny: Config, change: Named, complaint: str
) -> None:
    agent = agent_of(tiny, model)
    seen = {"image": np.zeros((16, 16, 3), np.uint8), "joints": np.ones(2), "torque": np.zeros(1)}
    with pytest.raises(ValueError, match=complaint):
        agent.observe(agent.initial(), agent.no_action(), seen | change)
    with pytest.raises(ValueError, match="also takes the vectors joints, torque"):
        agent.observe(agent.initial(), agent.no_action(), seen["image"])


def test_the_simulators_vectors_are_given_with_the_image_on_request() -> None:
    assert not make_env("toy").reset(0).vectors
    env = make_env("toy", EnvSettings(vectors=True))
    row = env.reset(0)
    assert set(row.vectors) == {"position", "velocity", "goal"}
    row = env.step(np.ones(2))
    np.testing.assert_array_equal(row.vectors["velocity"], env.state()["velocity"])
    pytest.importorskip("pygame")
    with pytest.raises(ConfigError, match=r"env\.vectors: gym:FrozenLake-v1 has no state"):
        make_env("gym:FrozenLake-v1", EnvSettings(vectors=True))


def test_image_and_vectors_train_and_the_run_is_loaded(
    tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(online, "cores", lambda: 1)  # in this process: starting one takes longer
    monkeypatch.setattr(online, "FINAL_EPISODES", 2)
    config = read(tiny, {"env": {"vectors": True, "action_repeat": 8}})
    outcome = worldmodel.train(config, tmp_path / "run", steps=500)
    assert len(outcome.returns) == 2
    agent = worldmodel.load(tmp_path / "run")
    assert agent.model.spec.vectors == {"position": 2, "velocity": 2, "goal": 2}
    worldmodel.evaluate(agent, make_env("toy", config.env), episodes=1)
    demo.pack(tmp_path / "run", tmp_path / "demo.safetensors")
    packed = model_file.read(tmp_path / "demo.safetensors").agent
    assert packed.model.spec.vectors == agent.model.spec.vectors
