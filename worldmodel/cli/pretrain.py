"""``worldmodel pretrain``: learn an encoder from recorded images, before there is a task."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from worldmodel.checks import require
from worldmodel.cli.arguments import parse
from worldmodel.cli.requirements import require_writable
from worldmodel.cli.screen import say


def command(typed: list[str]) -> int:
    """Learn an encoder from recorded episodes: mae hides patches of images and draws them.

    The same command again resumes. Any run's folder replay holds episodes.

    Example:
        worldmodel pretrain mae --data runs/onestep-cartpole_swingup-0/replay
        worldmodel train cartpole_swingup --model.encoder.kind pretrained \
            --model.encoder.run runs/pretrained-mae-0
    """
    return parse("pretrain", command, _pretrain, typed)


def _pretrain(
    kind: Annotated[
        tyro.conf.Positional[Literal["mae"]],
        tyro.conf.arg(metavar="KIND", help="mae: a masked autoencoder"),
    ],
    *,
    data: Annotated[
        tuple[Path, ...], tyro.conf.arg(metavar="DIR", help="folders of episodes, read only")
    ] = (),
    run: Annotated[
        Path | None, tyro.conf.arg(metavar="DIR", help="default: runs/pretrained-mae-SEED")
    ] = None,
    updates: Annotated[int, tyro.conf.arg(metavar="N", help="in all")] = 5000,
    seed: int = 0,
    batch: Annotated[int, tyro.conf.arg(metavar="N", help="images of an update")] = 64,
    rate: Annotated[float, tyro.conf.arg(help="learning rate")] = 1e-3,
    patch: Annotated[int, tyro.conf.arg(metavar="PIXELS", help="side of a patch")] = 8,
    token_size: Annotated[int, tyro.conf.arg(metavar="N", help="numbers of a token")] = 64,
    layers: Annotated[int, tyro.conf.arg(metavar="N", help="blocks of the transformer")] = 2,
) -> int:
    require(updates > 0, f"updates: expected more than 0, got {updates}")
    run = run or Path("runs") / f"pretrained-mae-{seed}"
    require_writable(run, "run")

    from worldmodel.loop.pretraining import MAE, pretrain  # imports torch
    from worldmodel.models.encoders.masked import MaskedSettings

    encoder = MaskedSettings(patch=patch, token_size=token_size, layers=layers)
    settings = MAE(seed=seed, batch=batch, rate=rate, encoder=encoder)
    judged = pretrain(settings, run, data, updates, say)
    if judged is None:
        print("interrupted; the same command resumes the run")
        return 130
    print(
        "error of hidden patches on images that were held out:"
        f" model {judged['model']:.4g}, from their neighbours {judged['neighbours']:.4g},"
        f" mean image {judged['mean_image']:.4g}"
    )
    print(
        "to be used: worldmodel train TASK --model.encoder.kind pretrained"
        f" --model.encoder.run {run}"
    )
    return 0
