"""The numerical difference between an exported agent and the original."""

from __future__ import annotations

import dataclasses

import numpy as np

from worldmodel.agent import Agent
from worldmodel.export.graphs import Drawn
from worldmodel.export.runner import Runner
from worldmodel.structs import Step, leaves


def difference(agent: Agent, runner: Runner, steps: int, seed: int = 0) -> float:
    """The largest difference in any action or part of a belief, over ``steps`` rows and plans.

    Each keeps its own belief. Both see the same rows, draw the same noise, and start each search
    at the original's last plan: a search makes rounding errors larger, and a search that starts
    from the result of another makes them larger still. Elites are not compared, because rounding
    decides the order of two candidates whose imagined returns are equal. The original plans in
    float32, as the graph does.
    """
    planning = dataclasses.replace(agent.planning, precision="float32")
    agent = agent.changed(planning=planning)
    random, spec = np.random.default_rng(seed), agent.model.spec
    theirs, ours = agent.initial(), runner.initial()
    plan, last = None, None
    done = agent.no_action()
    largest = 0.0
    for step in range(steps):
        image = random.integers(0, 256, spec.image, np.uint8)
        vectors = {n: random.standard_normal(size, np.float32) for n, size in spec.vectors.items()}
        row = Step(image, vectors=vectors).observation
        with Drawn() as drawn:
            theirs = agent.observe(theirs, done, row, seed=step)
        ours = runner.observe(ours, done, row, noise=drawn.noise.numpy())
        with Drawn() as drawn:
            plan = agent.plan(theirs, previous=plan, seed=step)
        last = runner.plan(ours, previous=last, noise=drawn.noise.numpy())
        pairs = [
            (plan.actions.numpy(), last.actions),
            *((part.numpy(), ours[name]) for name, part in leaves(theirs).items()),
        ]
        largest = max(largest, *(float(np.abs(one - other).max()) for one, other in pairs))
        last = dataclasses.replace(last, actions=plan.actions.numpy())
        done = plan.first
    return largest
