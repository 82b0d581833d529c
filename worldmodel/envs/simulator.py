"""A score for planners that plays candidates in the true simulator instead of a model.

::

    env = make_env("cartpole_balance")
    env.reset(seed=0)
    returns = Simulator(env)(actions)  # a score: [1, N, L, A] -> [1, N]; env does not change

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
from worldmodel.envs.images import CameraImages
from worldmodel.envs.suite import _NO_OPENGL, TIME_LIMIT, Suite


class Simulator:
    """A score for planners: the sum of the task's own rewards along each candidate.

    ``env`` comes from ``make_env`` with a task of dm_control, or from ``fork``. Each call starts at
    the present state of ``env``. dm_control's own code plays one candidate after another in a copy,
    with action repeat and time limit. For each candidate the copy gets the whole state again: the
    physics, the counters, and everything that the task keeps in Python, random numbers included.
    ``env`` and the copy share MuJoCo's model: the copy sees what a task changes in it at a reset,
    and a change during a step would affect ``env`` (no task of the suite makes one). Rewards after
    the end of the episode are zero; physics that diverge earn -inf. ``discount`` is for each row.

    It uses one thread, because the reward is Python and takes as long as the physics. Processor
    time of a simulator step, in microseconds, on cartpole and walker: 60 and 110 with one thread,
    79 and 121 with two, 51 and 102 with mujoco's own parallel rollouts (measured on a busy
    machine). These rollouts return states without controls, and the reward would need one state
    at a time. To play several episodes at a time, use several processes.
    """

    def __init__(self, env: Environment, discount: float = 1.0) -> None:
        adopted, self._origin = _opened(env)
        _, self._copy = _opened(_copied(env, share_model=True))
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
            raise RuntimeError("simulator: the episode is over; call reset() first")
        asked = actions[0].float().cpu().numpy().clip(-1, 1)  # [N, L, A]
        pushes = self._actions.scale(asked).astype(np.float64)
        return actions.new_tensor([[self._play(candidate) for candidate in pushes]])

    def _play(self, pushes: NDArray[np.float64]) -> float:
        """[L, A] -> the return, summed as rows of ``Suite.step`` would sum it"""
        from dm_control.rl.control import PhysicsError

        self._rewind()
        env, left = self._copy._env, TIME_LIMIT - self._origin._steps
        earned, weight = 0.0, 1.0
        for push in pushes:
            reward = 0.0
            for _ in range(min(self._copy._repeat, left)):
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
        """Give the copy the whole state of the original."""
        import mujoco

        physics, origin = self._copy._physics, self._origin
        mujoco.mj_copyData(physics.data.ptr, physics.model.ptr, origin._physics.data.ptr)
        random = self._copy._random
        random.set_state(origin._random.get_state())
        task = copy.deepcopy(origin._env.task, {id(origin._random): random})
        task.get_observation = _nothing  # it takes up to half the time, and a return needs none
        vars(self._copy._env).update(vars(origin._env) | {"_physics": physics, "_task": task})


def fork(env: Environment) -> Environment:
    """Copy an environment at the present moment of its episode; the copy draws no images.

    Both then continue independently. A reset of the copy does what a reset of ``env`` would have
    done. Each image of the copy is one black pixel.
    """
    copied = _copied(env, share_model=False)
    if not isinstance(env, Altered):
        return copied
    altered = copy.copy(env)
    altered.env = copied
    return altered


def _copied(env: Environment, *, share_model: bool) -> Adopted:
    """Copy; with ``share_model`` the copy uses the original's model, with its later changes."""
    adopted, origin = _opened(env)
    physics = origin._physics.copy(share_model=share_model)
    physics.legacy_step = origin._physics.legacy_step
    physics._contexts = _NO_OPENGL
    copied = copy.copy(origin)
    copied._physics = physics
    copied._seeds = copy.deepcopy(origin._seeds)
    copied._env = copy.copy(origin._env)
    copied._env._physics = physics
    copied._env._task = copy.deepcopy(origin._env.task)
    copied._random = copied._env.task.random
    copied._renderers = {"none": _Blind()}
    adopted = copy.copy(adopted)
    adopted._env = copied
    adopted._images = CameraImages(None)
    return adopted


def _opened(env: Environment) -> tuple[Adopted, Suite]:
    """The adopted environment in ``env`` and the suite's task in it; ``Altered`` is unwrapped."""
    env = env.env if isinstance(env, Altered) else env
    if isinstance(env, Adopted) and isinstance(env._env, Suite):
        return env, env._env
    name = type(env._env if isinstance(env, Adopted) else env).__name__
    raise TypeError(
        "simulator: only a task of dm_control, made by make_env, can be copied with its physics;"
        f" got {name}"
    )


def _nothing(physics: Any) -> dict[str, Any]:
    """An empty observation."""
    return {}


class _Blind:
    """A renderer that draws nothing."""

    name = "none"

    def start(self) -> None: ...

    def render(self) -> NDArray[np.uint8]:
        return np.zeros((1, 1, 3), np.uint8)

    def close(self) -> None: ...
