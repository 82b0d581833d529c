"""Probes that run in a process of their own: arithmetic, drawing, a short training."""

from __future__ import annotations

import time
import warnings

import numpy as np
import torch

from worldmodel.assembly import agent_of, learner_of
from worldmodel.config import Config
from worldmodel.doctor.drawing import IMAGE_SIZE, time_drawing
from worldmodel.doctor.facts import TASK
from worldmodel.doctor.own_process import tell
from worldmodel.envs import make_env
from worldmodel.envs.render import choose, make_renderer
from worldmodel.machine import precision_of
from worldmodel.models import build
from worldmodel.replay import Replay
from worldmodel.rollout import play_random
from worldmodel.structs import Spec

UPDATES = PLANS = 2  # the first of each also compiles and allocates


def examine_arithmetic() -> None:
    """Send torch's threads, precision and GPUs; a broken GPU driver may end this process."""
    capabilities = torch.cpu.get_capabilities()
    with precision_of("auto", torch.device("cpu"))():
        precision = "bfloat16" if torch.is_autocast_enabled("cpu") else "float32"
    tell(
        threads=torch.get_num_threads(),
        bfloat16=[name for name, has in capabilities.items() if "bf16" in name and has],
        precision=precision,
        cuda_build=torch.version.cuda or "",
        replay_gb=Config().replay.memory_gb,
    )
    with warnings.catch_warnings(record=True) as complaints:  # torch gives the reason only here
        warnings.simplefilter("always")
        devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    tell(cuda_failure=" ".join(str(complaint.message) for complaint in complaints[:1]))
    tell(cuda_devices=[torch.cuda.get_device_name(index) for index in range(devices)])
    if devices:
        tell(cuda_failure="no answer to a matrix product")
        product = torch.ones(64, 64, device="cuda") @ torch.ones(64, 64, device="cuda")
        tell(cuda_failure="" if product.sum().item() == 64**3 else "a matrix product is wrong")


def try_warp(picture: str) -> None:
    """Draw the first image of an episode repeatedly, and send the images a second."""
    from worldmodel.envs.suite import load  # the simulator is heavy

    choose("warp")
    env = load(TASK, np.random.RandomState(0))
    env.reset()
    renderer = make_renderer("warp", env.physics, 0, IMAGE_SIZE, samples=1)
    renderer.start()
    tell(**time_drawing(renderer.render, picture))


def try_training() -> None:
    """Run each stage of a training once, with the default settings."""
    torch.set_num_threads(1)  # on a busy machine two threads wait for each other
    config = Config(task=TASK)
    tell(stage="making the task")
    env = make_env(config.task, config.env)
    tell(stage="playing", renderer=env.describe()["renderer"])
    episode = play_random(env, seed=0).episode
    tell(stage="learning")
    sizes = config.replay
    replay = Replay(None, batch=sizes.batch, length=sizes.length, memory_bytes=10**9)
    replay.add(episode)
    height, _, channels = episode.image.shape[1:]
    model = build(config.model, Spec((height, height, channels), len(env.action_low)))
    learner = learner_of(config, model)
    update_s = []
    for seed in range(UPDATES):
        batch = replay.sample(np.random.default_rng(seed))
        begun = time.perf_counter()
        learner.update(batch)
        update_s.append(time.perf_counter() - begun)
    tell(stage="planning", update_ms=1e3 * min(update_s))
    agent = agent_of(config, model)
    belief = agent.observe(agent.initial(), agent.no_action(), episode.image[0])
    plans = [agent.plan(belief, seed=seed) for seed in range(PLANS)]
    tell(stage="closing", plan_ms=min(plan.milliseconds for plan in plans))
    env.close()
