"""The folder of a run: its settings, its lock, and loading its agent."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import logging
import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import yaml

from worldmodel import files, older_settings
from worldmodel.checks import ConfigError, kinds_of_parts, nearest, read, require, require_device
from worldmodel.compare_settings import differences, settings_hash, unsaid
from worldmodel.log import EVALUATIONS, METRICS
from worldmodel.machine import cores

# These rooms import torch, which takes seconds: a missing run, or one with other settings, is
# answered without it.
if TYPE_CHECKING:
    from worldmodel.agent import Agent
    from worldmodel.config import Config
    from worldmodel.envs import Environment
    from worldmodel.rollout import Evaluated
    from worldmodel.structs import Spec

try:
    import fcntl
except ImportError:  # not POSIX
    fcntl = None  # type: ignore[assignment]

# Files and folders that a run writes, apart from those that are replaced as a whole
OWN = (
    "config.yaml",
    METRICS,
    EVALUATIONS,
    "checkpoints",
    "replay",
    "heldout",
    "report",
    "tensorboard",
)

PRETRAINED = "pretraining.yaml"  # what `worldmodel pretrain` writes in place of config.yaml
LOOK_S = 0.1  # a list of runs holds a run's lock for less than this

logger = logging.getLogger("worldmodel")


def require_run(run: Path) -> None:
    """Raise if the folder is not a run; name a similar one."""
    if not (run / "config.yaml").is_file():
        others = sorted(str(path.parent) for path in run.parent.glob("*/config.yaml"))
        raise ConfigError(
            f"run: {run} holds no config.yaml, so it is not a run"
            f"{nearest(str(run), others) if others else ''}"
        )


def default_run(preset: str, config: Config) -> Path:
    task = config.task.replace(":", "_").replace("/", "_")
    return Path("runs") / f"{Path(preset).stem}-{task}-{config.seed}"


def refuse_other_settings(run: Path, config: Config) -> None:
    """Raise if the folder is a run with other settings, or not a run; nothing is written."""
    path = run / "config.yaml"
    if not path.exists():
        if run.exists() and (not run.is_dir() or any(run.iterdir())):
            raise ConfigError(f"run: {run} exists and is not a run; choose another with --run")
        return
    if older_settings.is_older(read_about(run)["settings"]):
        raise ConfigError(
            f"run: {run} was made when settings had other names: it can be evaluated, visualized"
            " and exported, but only the version that made it can resume it; choose another folder"
            " with --run"
        )
    written = older_settings.upgraded(read_about(run)["settings"])
    made_with = read(config, written)  # parts may be the user's own
    newer = unsaid(made_with, written)
    if newer:
        raise ConfigError(
            f"run: {run} was made before these settings existed; add them to its config.yaml, with"
            " the values to continue with (as asked for now):\n  " + "\n  ".join(newer)
        )
    differing = differences(made_with, config)
    if differing:
        raise ConfigError(
            f"run: {run} was made with other settings; choose another folder with --run, or these"
            " settings (run -> asked):\n  " + "\n  ".join(differing)
        )


def create(run: Path, config: Config, env: Environment, spec: Spec) -> None:
    """Make the folder and write config.yaml: settings, versions, renderer."""
    path = run / "config.yaml"
    if path.exists():
        return
    packages = ("worldmodel", "torch", "numpy")
    about = {
        "settings": dataclasses.asdict(config),
        "settings_hash": settings_hash(config),
        "spec": spec.to_dict(),
        "environment": env.describe(),
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "machine": f"{platform.machine()}, {cores()} cores",
        "python": platform.python_version(),
    }
    try:
        run.mkdir(parents=True, exist_ok=True)
        files.write(path, yaml.safe_dump(_plain(about), sort_keys=False).encode())
    except OSError as error:
        raise ConfigError(f"run: cannot write {run}: {error.strerror}") from error


def claim(run: Path, about: str = "config.yaml") -> IO[bytes]:
    """Lock the run until the returned file closes: two trainers would overwrite each other's files.

    ``about``: the file of the run that is locked. The system also releases the lock when the
    process ends, however it ends.
    """
    lock = (run / about).open("rb")
    try:
        _lock(lock)
    except BlockingIOError:
        time.sleep(LOOK_S)  # `is_training` holds the lock for a moment
        try:
            _lock(lock)
        except BlockingIOError:
            holder = _holder(lock)
            lock.close()
            raise ConfigError(
                f"run: another process{holder} is training {run}; wait until it has stopped, or"
                " choose another folder with --run"
            ) from None
    except OSError as error:  # a file system without locks
        logger.warning("run: %s cannot be locked (%s): train it once at a time", run, error)
    return lock


def _lock(file: IO[bytes]) -> None:
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_training(run: Path) -> bool:
    """Whether a process holds the lock of ``claim``; False if the file system knows no locks."""
    try:
        with (run / "config.yaml").open("rb") as file:
            _lock(file)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def put_away(run: Path) -> Path:
    """Rename a run that nobody trains, so that its name is free; return the new name.

    Nothing is removed: the old folder is next to the new one, as NAME.old-1, NAME.old-2 and so on.
    """
    with claim(run):
        number = 1
        while (old := run.with_name(f"{run.name}.old-{number}")).exists():
            number += 1
        run.rename(old)
    return old


def _holder(lock: IO[bytes]) -> str:
    """`` (pid 123)``, the process that holds a lock; empty if the system does not tell."""
    inode = os.fstat(lock.fileno()).st_ino
    try:
        rows = [row.split() for row in Path("/proc/locks").read_text().splitlines()]
    except OSError:  # not Linux
        return ""
    # such as: 1: FLOCK ADVISORY WRITE 123 fd:01:456 0 EOF
    found = {row[4] for row in rows if row[1] == "FLOCK" and row[5].endswith(f":{inode}")}
    return f" (pid {found.pop()})" if len(found) == 1 and "0" not in found else ""


def refuse_links(run: Path) -> None:
    """Raise if one of the run's own files is a symbolic link.

    A run that was received from others may hold links: a resumed training, or the report, would
    write through them into files outside the run.
    """
    links = files.links_among(run, OWN)
    if links:
        raise ConfigError(
            f"run: {links[0]} is a symbolic link to {links[0].readlink()}, and writing through it"
            " would change what is outside the run; put the file or folder itself in its place"
        )


def read_run(run: Path, config: Config | None = None) -> Config:
    """Read the settings of a run; those of an older version get today's names.

    ``config``: the settings that it was made with, needed if some of its parts are your own. The
    file only names such parts, and nothing that a file names is imported.
    """
    return _settings_in(read_about(run), run, config)


def _settings_in(about: Mapping[str, Any], run: Path, config: Config | None) -> Config:
    """The settings in ``about``, which is what ``read_about`` read of ``run``."""
    written = older_settings.upgraded(about["settings"])
    if config is None:
        from worldmodel.config import Config

        try:
            return read(Config(), written)
        except ConfigError as error:
            made_with = about.get("versions", {}).get("worldmodel")
            if made_with not in (None, worldmodel_version()):
                raise ConfigError(
                    f"run: {run}: {error}; it was made with worldmodel {made_with}, which reads it,"
                    f" and this is {worldmodel_version()}"
                ) from error
            raise ConfigError(
                f"run: {run}: {error}; if that is a part of your own, give the settings"
                " that the run was made with: worldmodel.load(run, config=config)"
            ) from error
    differing = differences(read(config, written), config)
    if differing:
        raise ConfigError(
            f"run: {run} was made with other settings than those given (run -> given):\n  "
            + "\n  ".join(differing)
        )
    return config


def read_about(run: Path) -> dict[str, Any]:
    """Read all of a run's config.yaml: settings, image, environment, versions."""
    path = run / "config.yaml"
    refuse_links(run)
    require_run(run)
    try:
        written = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not readable as YAML: {error}") from error
    missing = {"settings", "environment"} - set(written or {})
    if not missing and "spec" not in written:  # older runs hold its fields one by one
        missing = {"image", "action_size"} - set(written)
    if missing:
        raise ConfigError(f"{path}: is damaged: {', '.join(sorted(missing))} missing")
    about: dict[str, Any] = written
    return about


def load(
    run: Path | str,
    device: str = "cpu",
    *,
    config: Config | None = None,
    strict: bool = False,
) -> Agent:
    """Load the agent of a run. Reads weights; never runs code from a file.

    ``config``: the settings that it was made with, where its parts are of your own making.
    ``strict``: raise if the newest checkpoint is broken. Otherwise the one before is used, and
    ``agent.origin.fallback`` says why.
    """
    from worldmodel import checkpoint
    from worldmodel.assembly import agent_of
    from worldmodel.models import build, refuse_infinite_weights
    from worldmodel.origin import Origin
    from worldmodel.structs import Spec

    run = Path(run)
    require_device(device, "device='cpu'")
    about = read_about(run)
    config = _settings_in(about, run, config)
    spec = Spec.described(about)
    model = build(config.model, spec)
    made = checkpoint.Made(spec, kinds_of_parts(config.model))
    newest = checkpoint.load(run / "checkpoints", device, made=made, group="averaged")
    if newest is None:
        raise ConfigError(f"run: {run} has no checkpoint yet; train it a little longer")
    require(
        newest.fallback is None or not strict,
        f"run: strict: expected the newest checkpoint, which cannot be used ({newest.fallback});"
        f" without strict=True the one before it, {newest.path.name}, is loaded",
    )
    weights = newest.tensors["averaged"]
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ConfigError(
            f"run: the weights of {run} do not fit its settings in this version of worldmodel"
            f" ({worldmodel_version()}; the run was made with {about['versions']['worldmodel']})"
        ) from error
    try:
        refuse_infinite_weights(model)
    except ValueError as error:
        raise ConfigError(
            f"run: {run}: {error}; move the newest folder out of {run / 'checkpoints'}, and the one"
            " before it is read"
        ) from error
    env_steps = newest.state.get("env_steps")  # checkpoints of version 0.1.0 do not say it
    origin = Origin(str(run), config.task, env_steps, newest.path.name, newest.fallback)
    return agent_of(config, model.to(device).requires_grad_(False), origin=origin)


def keep_heldout(run: Path, evaluated: Evaluated) -> None:
    """Write the episodes of the last evaluation, one file each."""
    from worldmodel.replay import write_episode

    folder = run / "heldout"
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.npz"):
        old.unlink()
    for number, episode in enumerate(evaluated.episodes):
        write_episode(folder / f"{number:06d}.npz", episode)


def worldmodel_version() -> str:
    return importlib.metadata.version("worldmodel")


def _plain(value: Any) -> Any:
    """Replace tuples by lists, because YAML would tag them as Python's."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value
