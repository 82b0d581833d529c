"""How far the exported agent is from the one it was recorded from."""

from __future__ import annotations

import dataclasses

import numpy as np

from worldmodel.agent import Agent
from worldmodel.export.graphs import Drawn
from worldmodel.export.runner import Runner


def difference(agent: Agent, runner: Runner, steps: int, seed: int = 0) -> float:
    """The largest of any action or part of a belief, over so many images and plans.

    Each keeps its own belief; both see the same images, draw the same noise and start each search
    at the original's last plan, for a search makes rounding larger and another one begun there
    larger still. Elites are not compared: of two candidates that are imagined to earn the same,
    rounding says which one comes first. The original plans in float32, as the graph does.
    """
    planning = dataclasses.replace(agent.config.planning, precision="float32")
    agent = Agent(agent.model, dataclasses.replace(agent.config, planning=planning))
    random = np.random.default_rng(seed)
    theirs, ours = agent.initial(), runner.initial()
    plan, last = None, None
    done = agent.no_action()
    largest = 0.0
    for step in range(steps):
        image = random.integers(0, 256, agent.model.spec.image, np.uint8)
        with Drawn() as drawn:
            theirs = agent.observe(theirs, done, image, seed=step)
        ours = runner.observe(ours, done, image, noise=drawn.noise.numpy())
        with Drawn() as drawn:
            plan = agent.plan(theirs, previous=plan, seed=step)
        last = runner.plan(ours, previous=last, noise=drawn.noise.numpy())
        pairs = [
            (plan.actions.numpy(), last.actions),
            *((getattr(theirs, name).numpy(), part) for name, part in ours.items()),
        ]
        largest = max(largest, *(float(np.abs(one - other).max()) for one, other in pairs))
        last = dataclasses.replace(last, actions=plan.actions.numpy())
        done = plan.first
    return largest
