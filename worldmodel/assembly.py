"""The agent and the learner of a model, put together from the settings of a run."""

from __future__ import annotations

from concurrent.futures import Executor

from worldmodel.config import Config
from worldmodel.learner import Learner
from worldmodel.models import WorldModel


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
