"""The true simulator in a model's place: what would these actions earn, from this moment on?

::

    env = make_env("cartpole_balance")
    env.reset(seed=0)
    returns = Simulator(env)(actions)  # a score: [1, N, L, A] -> [1, N]; env does not notice

A planner's return with it is what the planner could reach with a perfect model.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldmodel.envs.actions import Bounded
from worldmodel.envs.adopted import Adopted
from worldmodel.envs.altered import Altered
from worldmodel.envs.contract import Environment
from worldmodel.envs.images import ImageStack
from worldmodel.envs.suite import _NO_OPENGL, TIME_LIMIT, Suite


class Simulator:
    """A score for planners: the task's own rewards along each candidate, summed.

    ``env`` is one of ``make_env`` with a task of dm_control, or a ``fork``. Each call starts where
    ``env`` is then. Candidates are played one after another by dm_control's own code, action
    repeat and time limit included, in a copy that gets the whole state anew for each: the physics,
    the counters, and whatever the task keeps in Python, its random numbers too. Only the model is
    shared: what a task changes in it at a reset is followed, what it would change while it steps
    would be seen by ``env`` (no task of the suite does). Nothing is earned after the end of the
    episode; physics that diverge earn -inf. ``discount`` is for each row.

    One thread: the reward is Python and takes as long as the physics. Processor time of a
    simulator step, in microseconds, on cartpole and walker: 60 and 110 like this, 79 and 121 by
    two threads, 51 and 102 by mujoco's own parallel rollouts, whose states the reward needs one by
    one and without their controls (measured on a busy machine). Several episodes at a time belong
    in several processes.
    """

    def __init__(self, env: Environment, discount: float = 1.0) -> None:
        adopted, self._origin = _opened(env)
        _, self._twin = _opened(_copied(env, share_model=True))
        assert isinstance(adopted.actions, Bounded)  # every task of dm_control
        self._actions = adopted.actions
        self._discount = discount

    @torch.no_grad()
    def __call__(self, actions: Tensor) -> Tensor:
        """[1, N, L, A] -> [1, N]"""
        if actions.ndim != 4 or len(actions) != 1:
            raise ValueError(
                f"actions: expected [1, N, L, A], one environment, got {list(actions.shape)}"
            )
        if self._origin._over:
            raise RuntimeError("simulator: the episode is over, nothing lies ahead; reset() first")
        asked = actions[0].float().cpu().numpy().clip(-1, 1)  # [N, L, A]
        pushes = self._actions.scale(asked).astype(np.float64)
        return actions.new_tensor([[self._play(candidate) for candidate in pushes]])

    def _play(self, pushes: NDArray[np.float64]) -> float:
        """[L, A] -> the return, as rows of ``Suite.step`` add it up"""
        from dm_control.rl.control import PhysicsError

        self._rewind()
        env, left = self._twin._env, TIME_LIMIT - self._origin._steps
        earned, weight = 0.0, 1.0
        for push in pushes:
            reward = 0.0
            for _ in range(min(self._twin._repeat, left)):
                try:
                    moment = env.step(push)
                except PhysicsError:
                    return -np.inf
                left -= 1
                reward += float(moment.reward)
                if moment.last():
                    left = 0
                    break
            earned += weight * reward
            weight *= self._discount
            if not left:
                break
        return earned

    def _rewind(self) -> None:
        """The twin stands where the original stands."""
        import mujoco

        physics, origin = self._twin._physics, self._origin
        mujoco.mj_copyData(physics.data.ptr, physics.model.ptr, origin._physics.data.ptr)
        random = self._twin._random
        random.set_state(origin._random.get_state())
        task = copy.deepcopy(origin._env.task, {id(origin._random): random})
        task.get_observation = _nothing  # takes up to half the time, and nobody looks
        vars(self._twin._env).update(vars(origin._env) | {"_physics": physics, "_task": task})


def fork(env: Environment) -> Environment:
    """A copy at the same moment of the same episode, which goes its own way and draws no images.

    It may be reset too, and then does as ``env`` would have. Its images are one black pixel.
    """
    copied = _copied(env, share_model=False)
    if not isinstance(env, Altered):
        return copied
    altered = copy.copy(env)
    altered.env = copied
    return altered


def _copied(env: Environment, *, share_model: bool) -> Adopted:
    """``share_model``: what a reset changes in the original's model is seen by the copy."""
    adopted, origin = _opened(env)
    physics = origin._physics.copy(share_model=share_model)
    physics.legacy_step = origin._physics.legacy_step
    physics._contexts = _NO_OPENGL
    twin = copy.copy(origin)
    twin._physics = physics
    twin._seeds = copy.deepcopy(origin._seeds)
    twin._env = copy.copy(origin._env)
    twin._env._physics = physics
    twin._env._task = copy.deepcopy(origin._env.task)
    twin._random = twin._env.task.random
    twin._renderer = _Blind()
    twin._images = ImageStack(frames=1)
    adopted = copy.copy(adopted)
    adopted._env = twin
    return adopted


def _opened(env: Environment) -> tuple[Adopted, Suite]:
    """Vectors are read from the same simulator, so an environment with them opens too."""
    env = env.env if isinstance(env, Altered) else env
    if isinstance(env, Adopted) and isinstance(env._env, Suite):
        return env, env._env
    name = type(env._env if isinstance(env, Adopted) else env).__name__
    raise TypeError(
        "simulator: only a task of dm_control, made by make_env, can be copied with its physics;"
        f" got {name}"
    )


def _nothing(physics: Any) -> dict[str, Any]:
    """The observation of somebody who looks at rewards only."""
    return {}


class _Blind:
    """A renderer that draws nothing."""

    name = "none"

    def start(self) -> None: ...

    def render(self) -> NDArray[np.uint8]:
        return np.zeros((1, 1, 3), np.uint8)

    def close(self) -> None: ...
