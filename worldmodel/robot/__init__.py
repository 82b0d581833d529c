"""Beside a motor: whatever comes in, what goes out is finite, in time, and inside the limits."""

from worldmodel.robot.controller import Controller
from worldmodel.robot.guard import Guard
from worldmodel.robot.senses import Seen, Senses
from worldmodel.robot.worker import Answer, InlineWorker, Mind, ProcessWorker, Row, Worker

__all__ = [
    "Answer",
    "Controller",
    "Guard",
    "InlineWorker",
    "Mind",
    "ProcessWorker",
    "Row",
    "Seen",
    "Senses",
    "Worker",
]
