"""How far the exported agent is from the one it was recorded from."""

from __future__ import annotations

import dataclasses

import numpy as np

from worldmodel.agent import Agent
from worldmodel.export.graphs import Drawn
from worldmodel.export.runner import Runner


def difference(agent: Agent, runner: Runner, steps: int, seed: int = 0) -> float:
    """The largest of any action, elite or part of a belief, over so many images and plans.

    Each walks by itself: its own belief, its own last plan, the same images and the same noise.
    The original plans in float32, as the graph does.
    """
    planner = dataclasses.replace(agent.config.planner, precision="float32")
    agent = Agent(agent.model, dataclasses.replace(agent.config, planner=planner))
    random = np.random.default_rng(seed)
    theirs, ours = agent.initial(), runner.initial()
    their_plan, our_plan = None, None
    done = agent.no_action()
    largest = 0.0
    for step in range(steps):
        image = random.integers(0, 256, agent.model.image_shape, np.uint8)
        with Drawn() as drawn:
            theirs = agent.observe(theirs, done, image, seed=step)
        ours = runner.observe(ours, done, image, noise=drawn.noise.numpy())
        with Drawn() as drawn:
            their_plan = agent.plan(theirs, previous=their_plan, seed=step)
        our_plan = runner.plan(ours, previous=our_plan, noise=drawn.noise.numpy())
        pairs = [
            (their_plan.actions.numpy(), our_plan.actions),
            (their_plan.elites.numpy(), our_plan.elites),
            *((getattr(theirs, name).numpy(), part) for name, part in ours.items()),
        ]
        largest = max(largest, *(float(np.abs(one - other).max()) for one, other in pairs))
        done = their_plan.first
    return largest
