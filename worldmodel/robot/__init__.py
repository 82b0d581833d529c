"""Control of a motor: actions are finite, in time and inside the limits, whatever fails."""

from worldmodel.robot.actor import Actor
from worldmodel.robot.black_box import BlackBox, Recording, read_black_box
from worldmodel.robot.controller import Controller
from worldmodel.robot.guard import Guard
from worldmodel.robot.input_check import CheckedInput, InputCheck
from worldmodel.robot.messages import Answer, Row, Worker
from worldmodel.robot.pilot import InlineWorker, Pilot
from worldmodel.robot.process import ProcessWorker

__all__ = [
    "Actor",
    "Answer",
    "BlackBox",
    "CheckedInput",
    "Controller",
    "Guard",
    "InlineWorker",
    "InputCheck",
    "Pilot",
    "ProcessWorker",
    "Recording",
    "Row",
    "Worker",
    "read_black_box",
]
