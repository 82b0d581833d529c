"""Observe, plan and control a motor with an exported agent; this needs numpy and onnxruntime only.

This file is in the same folder as the graphs that it runs; copy the folder to a robot::

    from runner import Controller, Runner                       # the folder is on sys.path

    agent = Runner("export")
    agent.warm_up()
    belief = agent.initial()
    action, plan = agent.no_action(), None
    while True:
        belief = agent.observe(belief, action, camera())        # what was done, what was seen
        plan = agent.plan(belief, previous=plan, deadline_ms=40)
        action = robot.execute(plan.first)                      # the robot may clip or refuse

``Controller(agent, rate_hz=20, ...)`` does the same with the limits of a motor, in a process of
its own.
"""

from worldmodel.export.made import Goal, Plan
from worldmodel.export.runner import Runner
from worldmodel.images import fit_image
from worldmodel.limits import Limits
from worldmodel.robot import Controller, Guard, read_black_box

__all__ = [
    "Controller",
    "Goal",
    "Guard",
    "Limits",
    "Plan",
    "Runner",
    "fit_image",
    "read_black_box",
]
