"""The page of public names is what the code says, and its examples run."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import worldmodel
from tests import pages
from tests.conftest import TINY, Painter
from worldmodel.checks import read
from worldmodel.config import Config

PAGE = Path(__file__).parents[1] / "docs" / "api.md"


def test_the_page_of_public_names_is_up_to_date() -> None:
    assert PAGE.read_text() == pages.api(), "type: python -m tests.pages api > docs/api.md"


def test_every_public_name_says_what_it_is_and_has_an_example() -> None:
    assert sorted(dict(pages.read_examples())) == sorted(worldmodel.__all__)
    for name in worldmodel.__all__:
        assert pages.first_paragraph(getattr(worldmodel, name)), name


def test_a_signature_is_written_as_in_the_code() -> None:
    def verb(one: int, *, other: str | None = None, made: Any = pages.signature) -> list[str]:
        return []

    assert pages.signature("verb", verb) == (
        "verb(one: int, *, other: str | None = None, made: Any = tests.pages.signature)"
        " -> list[str]"
    )


def test_the_examples_run_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unchanged, but for a run of tiny parts, which ends after its first rounds."""
    pytest.importorskip("gymnasium", reason="the extra gym is not installed")
    train = worldmodel.train
    tiny = read(Config(), {**TINY, "env": {"image_size": 64}})

    def train_a_little(config: Config, *given: Any, **settings: Any) -> Any:
        inspect.signature(train).bind(config, *given, **settings)
        return train(tiny, *given, steps=1)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(worldmodel, "train", train_a_little)
    monkeypatch.setattr("worldmodel.loop.online.FINAL_EPISODES", 1)
    monkeypatch.setattr("worldmodel.loop.online.cores", lambda: 1)  # starts no second process
    monkeypatch.setattr("worldmodel.sizing.POPULATIONS", (16, 24))  # larger ones take longer
    random = np.random.default_rng(0)

    class Robot:
        def execute(self, action: np.ndarray) -> np.ndarray:
            return action / 2

    names: dict[str, Any] = {
        "camera": lambda: random.integers(0, 256, (64, 64, 3), np.uint8),
        "robot": Robot(),
        "Corridor": Painter,
    }
    for name, code in pages.read_examples():
        exec(compile(code, f"the example of {name}", "exec"), names)
    said = capsys.readouterr().out
    assert "seed: expected 0 or more, got -1" in said
    assert "Controller(2 Hz, 2 motors, " in said
