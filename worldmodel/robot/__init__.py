"""Beside a motor: whatever comes in, what goes out is finite, in time, and inside the limits."""

from worldmodel.robot.controller import Controller
from worldmodel.robot.guard import Guard
from worldmodel.robot.messages import Answer, Row, Worker
from worldmodel.robot.pilot import InlineWorker, Pilot
from worldmodel.robot.process import ProcessWorker
from worldmodel.robot.senses import Seen, Senses

__all__ = [
    "Answer",
    "Controller",
    "Guard",
    "InlineWorker",
    "Pilot",
    "ProcessWorker",
    "Row",
    "Seen",
    "Senses",
    "Worker",
]
