"""The page of a dream, and the two ways to it: a server on this computer, or one HTML file."""

from __future__ import annotations

import base64
import json
import secrets
import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from worldmodel.dream.dream import Dream, Row
from worldmodel.local_page import Content, LocalPage
from worldmodel.report.palette import DARK, LIGHT
from worldmodel.report.templates import render

HERE = Path(__file__).parent
KEPT = 32  # dreams at once; a new one replaces the one that nobody used for the longest time
# The browser may load nothing from elsewhere; the script is the page's own.
ALONE = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"
SERVED = f"{ALONE}; connect-src 'self'"  # the page asks the server that sent it


class DreamServer(LocalPage):
    """Serves the page on this computer. Each open page has a dream of its own::

    with DreamServer(dream, "cartpole_swingup", port) as server:
        print(server.address)
    """

    def __init__(self, dream: Dream, task: str, port: int) -> None:
        self._dream, self._task = dream, task
        self._rows: OrderedDict[str, Row] = OrderedDict()  # by the name of the dream, oldest first
        self._lock = threading.Lock()  # the dreams share one core
        super().__init__(port, self._answer, self._take)

    def _answer(self, path: str) -> Content | None:
        if path not in ("/", "/index.html"):
            return None
        page = write_page(describe(self._dream, self._task))
        return Content(
            "text/html; charset=utf-8", page.encode(), f"{SERVED}; frame-ancestors 'none'"
        )

    def _take(self, path: str, posted: bytes) -> Content | None:
        asked = json.loads(posted)  # a JSONDecodeError is a ValueError
        if not isinstance(asked, dict):
            raise ValueError("expected a JSON object")
        with self._lock:
            match path:
                case "/begin":
                    return self._sent(secrets.token_urlsafe(16), self._begin(asked))
                case "/step":
                    name = str(asked.get("dream"))
                    row = self._rows.pop(name, None)
                    return None if row is None else self._sent(name, self._step(name, row, asked))
        return None

    def _begin(self, asked: Mapping[str, Any]) -> Row:
        start = asked.get("start")
        if not isinstance(start, int):
            raise ValueError("start: expected a number")
        return self._dream.begin(start)

    def _step(self, name: str, row: Row, asked: Mapping[str, Any]) -> Row:
        self._rows[name] = row  # it stays if the action is refused
        action = asked.get("action")
        if action is None:
            return self._dream.let_act(row)
        try:
            return self._dream.step(row, action)
        except TypeError as error:
            raise ValueError("action: expected a list of numbers") from error

    def _sent(self, name: str, row: Row) -> Content:
        self._rows[name] = row
        while len(self._rows) > KEPT:
            self._rows.popitem(last=False)
        sent = {
            "dream": name,
            "image": encoded(row.image),
            "action": row.action.tolist(),
            **{head: getattr(row, head) for head in self._dream.learned},
        }
        return Content("application/json", json.dumps(sent).encode())


def describe(dream: Dream, task: str) -> dict[str, Any]:
    """What the page must know of a model, apart from its rows."""
    starts, spec = dream.starts, dream.spec
    has_policy = dream.agent.model.policy is not None
    return {
        "task": task,
        "height": starts.images.shape[1],
        "width": starts.images.shape[2],
        "actions": spec.action_size,
        "choices": spec.has_choices,
        "starts": [encoded(image) for image in starts.images],
        "seen": starts.rows,
        "heldout": starts.are_heldout,
        "learned": dream.learned,
        "agent": "policy" if has_policy else "planner",
        "model": None,  # the page asks the server that sent it
    }


def write_page(description: Mapping[str, Any], model_script: str = "") -> str:
    """The HTML. ``model_script``: the program that imagines in the page itself."""
    return render(
        "dream.html",
        templates=HERE,
        task=description["task"],
        description=description,
        model_script=model_script,
        policy=ALONE if model_script else SERVED,
        light=vars(LIGHT),
        dark=vars(DARK),
    )


def encoded(image: NDArray[Any]) -> str:
    """The bytes of an image in base64, row by row, red, green, blue."""
    return base64.b64encode(image.tobytes()).decode()
