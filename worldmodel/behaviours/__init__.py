"""Behaviours: ways to learn a policy and its value, one file a kind.

``BehaviourSettings`` is the only list of kinds. None learns no policy, and the planner acts without
one.
"""

from __future__ import annotations

from worldmodel.behaviours.behaviour import Behaviour, LearnsFromRounds, Loss, ParameterGroup
from worldmodel.behaviours.dqn import DQN, QLearning
from worldmodel.behaviours.imagined import ActorCritic, Imagined
from worldmodel.behaviours.ppo import PPO, ProximalPolicy
from worldmodel.behaviours.regulator import LQR, Regulator
from worldmodel.behaviours.soft import Soft, SoftActorCritic

__all__ = [
    "DQN",
    "LQR",
    "PPO",
    "ActorCritic",
    "Behaviour",
    "BehaviourSettings",
    "Imagined",
    "LearnsFromRounds",
    "Loss",
    "ParameterGroup",
    "ProximalPolicy",
    "QLearning",
    "Regulator",
    "Soft",
    "SoftActorCritic",
]

BehaviourSettings = Imagined | Soft | DQN | PPO | LQR
