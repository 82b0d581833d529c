"""Pretraining: a masked autoencoder learns from recorded images, without actions or rewards."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import yaml
from torch import Tensor, nn

from worldmodel import checkpoint, files, run_folder, signals
from worldmodel.analysis.patches import from_neighbours
from worldmodel.checks import ConfigError, at_least, check, more_than, read, require
from worldmodel.compare_settings import differences
from worldmodel.log import Journal
from worldmodel.losses.masked_patches import masked_error, patch_error
from worldmodel.models import WorldModel
from worldmodel.models.encoders import MaskedSettings, PretrainedSettings
from worldmodel.models.pixels import Pixels
from worldmodel.replay import read_episode
from worldmodel.replay.files import episode_path, numbers_in

ABOUT = run_folder.PRETRAINED
CLIP = 100.0  # largest norm of a gradient, as learner.clip
HELD_OUT = 20  # every so many images one is not learned from
CHECKPOINT_SECONDS, SAY_SECONDS = 60.0, 10.0


@dataclass(frozen=True)
class MAE:
    """Settings of a masked autoencoder's pretraining."""

    seed: Annotated[int, at_least(0)] = 0
    batch: Annotated[int, at_least(1)] = 64
    """Images in a batch."""
    rate: Annotated[float, more_than(0)] = 1e-3
    """Learning rate after the warm-up."""
    warm_up: Annotated[int, at_least(1)] = 100
    """Updates in which the rate rises to ``rate``."""
    decay_after: Annotated[int, at_least(1)] = 1000
    """Updates after which the rate falls, by one over the root of the updates."""
    encoder: MaskedSettings = MaskedSettings()

    def __post_init__(self) -> None:
        check(self)


class Pretraining:
    """The weights, the optimizer and the random state; ``update`` learns from one batch."""

    def __init__(self, settings: MAE, images: Tensor) -> None:
        """``images``: [M, H, W, C] bytes"""
        size, _, channels = images.shape[1:]
        torch.manual_seed(settings.seed)
        self.settings, self.images = settings, images
        self.pixels = Pixels(size, channels, 8)
        self.pixels.fit(images)
        self.encoder = settings.encoder.build(size, channels)
        # the names that they have in a world model
        self.parts = nn.ModuleDict({"pixels": self.pixels, "encoder": self.encoder})
        self.optimizer = torch.optim.Adam(self.encoder.parameters(), fused=True)
        self.random = torch.Generator().manual_seed(settings.seed)
        self.updates = 0

    def update(self) -> float:
        """One gradient step; returns the error of the hidden patches."""
        self.optimizer.zero_grad(set_to_none=True)
        chosen = torch.randint(len(self.images), (self.settings.batch,), generator=self.random)
        loss = masked_error(self.encoder, self.pixels(self.images[chosen]), self.random).mean()
        if not torch.isfinite(loss):
            raise RuntimeError(
                f"pretrain: the error became {loss.item()}; the last checkpoint is whole; try a"
                " smaller --rate in a new run"
            )
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.encoder.parameters(), CLIP)
        settings, number = self.settings, self.updates + 1
        share = min(1.0, number / settings.warm_up, (settings.decay_after / number) ** 0.5)
        self.optimizer.param_groups[0]["lr"] = settings.rate * share
        self.optimizer.step()
        self.updates = number
        return float(loss.detach())

    def save(self, folder: Path, wall_clock_s: float, journal: Mapping[str, int]) -> None:
        checkpoint.save(
            folder,
            self.updates,
            {
                "model": self.parts.state_dict(),
                "optimizer": checkpoint.pack_optimizer(self.optimizer),
                "learner": {"generator": self.random.get_state()},
            },
            {"updates": self.updates, "wall_clock_s": wall_clock_s, "journal": dict(journal)},
            finite=("model", "optimizer"),
        )

    def restore(self, saved: checkpoint.Checkpoint) -> None:
        self.parts.load_state_dict(saved.tensors["model"])
        checkpoint.unpack_optimizer(self.optimizer, saved.tensors["optimizer"])
        self.random.set_state(saved.tensors["learner"]["generator"])
        self.updates = saved.state["updates"]


@torch.no_grad()
def judged(pretraining: Pretraining, images: Tensor, seed: int = 0) -> dict[str, float]:
    """The errors of hidden patches [M, H, W, C]: the model's, and those of two guesses."""
    encoder, random = pretraining.encoder, torch.Generator().manual_seed(seed)
    patches = encoder.cut(pretraining.pixels(images))
    count = len(images)
    shuffled = torch.rand(count, encoder.count, generator=random).argsort(1)
    seen, hidden = shuffled.tensor_split([encoder.kept], 1)
    guesses = {
        "model": encoder.draw(encoder.encode(patches, seen), seen),
        "neighbours": from_neighbours(patches, seen, encoder.patch),
        "mean_image": torch.zeros_like(patches),  # pixels are what differs from it
    }
    return {
        name: float(patch_error(drawn, patches, hidden).mean()) for name, drawn in guesses.items()
    }


def pretrain(
    settings: MAE,
    run: Path,
    data: Sequence[Path],
    updates: int,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, float] | None:
    """Begin a run or resume it; ``updates`` is a total over all calls.

    Returns the errors on held-out images at the end, as ``judged``; None if a signal came first.
    """
    about = _about(run)
    counts = _counts(run, about, settings, data)
    images = read_images(counts)
    kept = torch.arange(len(images)) % HELD_OUT != HELD_OUT - 1
    require(
        bool((~kept).any()), f"data: expected at least {HELD_OUT} images, got {len(images)} in all"
    )
    complaint = settings.encoder.wrong_size(images.shape[1])
    require(
        not complaint and images.shape[1] == images.shape[2],
        f"data: the encoder takes {complaint or 'square images'}, got images of"
        f" {images.shape[1]} x {images.shape[2]}; choose another --patch",
    )
    if about is None:
        _create(run, settings, counts, images)
    with run_folder.claim(run, ABOUT):
        pretraining, journal = Pretraining(settings, images[kept]), Journal(run)
        saved = checkpoint.load(run / "checkpoints", finite=("model", "optimizer"))
        before = 0.0
        if saved is not None:
            pretraining.restore(saved)
            before = saved.state["wall_clock_s"]
        journal.rewind({} if saved is None else saved.state["journal"])
        begun = saved_at = said_at = time.monotonic()

        def save() -> None:
            wall_clock_s = before + time.monotonic() - begun
            pretraining.save(run / "checkpoints", wall_clock_s, journal.position())

        with signals.noted() as received:
            while pretraining.updates < updates and not received:
                error = pretraining.update()
                now = time.monotonic()
                if now - said_at > SAY_SECONDS:
                    said_at = now
                    numbers = {"updates": pretraining.updates, "loss/masked_patches": error}
                    journal.metrics({"wall_clock_s": before + now - begun, **numbers})
                    say(f"{pretraining.updates:,} updates: error of hidden patches {error:.4g}")
                if now - saved_at > CHECKPOINT_SECONDS:
                    saved_at = now
                    save()
        save()
        return None if received else judged(pretraining, images[~kept][:200])


def read_images(counts: Mapping[str, int]) -> Tensor:
    """[M, H, W, C] all images of the first episodes of each folder."""
    found: list[Tensor] = []
    for folder, count in counts.items():
        for number in numbers_in(Path(folder))[:count]:
            image = torch.from_numpy(read_episode(episode_path(Path(folder), number)).image)
            require(
                not found or image.shape[1:] == found[0].shape[1:],
                f"data: expected images of {[*(found or [image])[0].shape[1:]]} as in the others,"
                f" got {[*image.shape[1:]]} in {folder}",
            )
            found.append(image)
    return torch.cat(found)


def _about(run: Path) -> dict[str, Any] | None:
    """What a run says about itself; None if it has not begun."""
    path = run / ABOUT
    if not path.exists():
        require(
            not run.exists() or (run.is_dir() and not any(run.iterdir())),
            f"run: {run} exists and is no pretraining; choose another with --run",
        )
        return None
    about: dict[str, Any] = yaml.safe_load(path.read_text())
    return about


def _counts(
    run: Path, about: Mapping[str, Any] | None, settings: MAE, data: Sequence[Path]
) -> dict[str, int]:
    """Folder -> episodes. A resumed run reads those that it began with, and no newer ones."""
    now: dict[str, int] = {}
    for folder in data:
        now[str(folder)] = len(numbers_in(folder)) if folder.is_dir() else 0
        require(
            now[str(folder)] > 0,
            f"data: {folder} holds no episode such as 000000.npz; give the folder replay of a run:"
            " --data runs/NAME/replay",
        )
    require(
        bool(now), "data: expected at least one folder of episodes; give --data runs/NAME/replay"
    )
    if about is None:
        return now
    changed = differences(read(MAE(), about["settings"]), settings)
    require(
        not changed,
        f"run: {run} was made with other settings; choose another folder with --run, or these"
        " settings (run -> asked):\n  " + "\n  ".join(changed),
    )
    counts: dict[str, int] = about["data"]
    for name, count in counts.items():
        if now.get(name, 0) < count:
            raise ConfigError(
                f"data: {run} began with {count} episodes of {name}, and"
                f" {now.get(name, 0)} are given now; give --data {' '.join(counts)}"
            )
    return counts


def _create(run: Path, settings: MAE, counts: Mapping[str, int], images: Tensor) -> None:
    about = {
        "settings": dataclasses.asdict(settings),
        "image": list(images.shape[1:]),
        "data": dict(counts),
        "versions": {"worldmodel": importlib.metadata.version("worldmodel")},
    }
    try:
        run.mkdir(parents=True, exist_ok=True)
        files.write(run / ABOUT, yaml.safe_dump(about, sort_keys=False).encode())
    except OSError as error:
        raise ConfigError(f"run: cannot write {run}: {error.strerror}") from error


def load_encoder(model: WorldModel, settings: PretrainedSettings) -> None:
    """Copy encoder and mean image of a pretraining into a new model; raise if they do not fit."""
    path = "model.encoder.run"
    require(
        bool(settings.run),
        f"{path}: expected the folder of a pretraining; make one with worldmodel pretrain mae"
        f" --data runs/NAME/replay, then give --{path} runs/pretrained-mae-0",
    )
    run = Path(settings.run)
    require((run / ABOUT).is_file(), f"{path}: {run} holds no {ABOUT}, so it is no pretraining")
    about = _about(run)
    assert about is not None
    made = read(MAE(), about["settings"]).encoder
    differing = differences(dataclasses.replace(made, masked=settings.net.masked), settings.net)
    require(
        not differing,
        f"{path}: {run} has an encoder of other sizes; write those before the arrows as"
        " model.encoder.net (pretraining -> asked):\n  " + "\n  ".join(differing),
    )
    image = list(model.spec.image)
    require(
        about["image"] == image,
        f"{path}: {run} learned from images of {about['image']}, and the task's are {image}; choose"
        " another pretraining, or other env.image_size and env.frames",
    )
    weights = checkpoint.load_group(run / "checkpoints", "model")
    require(weights is not None, f"{path}: {run} has no checkpoint yet; pretrain a little longer")
    assert weights is not None
    for name, part in (("pixels", model.pixels), ("encoder", model.encoder)):
        prefix = f"{name}."
        own = {key.removeprefix(prefix): t for key, t in weights.items() if key.startswith(prefix)}
        part.load_state_dict(own)
