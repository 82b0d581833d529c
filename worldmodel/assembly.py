"""Assembly: the agent and the learner of a model, built from the settings of a run."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Executor

from worldmodel.agent import Agent
from worldmodel.config import Config
from worldmodel.learner import Learner
from worldmodel.models import WorldModel
from worldmodel.models.imagination import Imagination
from worldmodel.origin import Origin


def agent_of(
    config: Config,
    model: WorldModel,
    *,
    imagination: Imagination | None = None,
    clock: Callable[[], float] = time.perf_counter,
    origin: Origin | None = None,
) -> Agent:
    return Agent(
        model,
        config.planner,
        config.planning,
        config.discount_rate,
        imagination=imagination,
        clock=clock,
        origin=origin,
    )


def learner_of(config: Config, model: WorldModel, executor: Executor | None = None) -> Learner:
    return Learner(
        model,
        config.objective,
        config.behaviour,
        config.learner,
        seed=config.seed,
        discount_rate=config.discount_rate,
        executor=executor,
    )
