"""Files that appear whole: written under a temporary name, synced to the disk, then renamed.

Only this module replaces files and folders. It never opens a symbolic link for writing, because a
folder from somebody else may hold links to files outside of it. It removes any file or link that
already has the temporary name, and creates the new file exclusively::

    files.write(run / "config.yaml", content)
    with files.replacing(run / "thumbnail.gif") as unfinished:
        imageio.mimwrite(unfinished, images)
"""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Prefixes of files that are not whole yet, and of folders that are about to be removed; nobody may
# read them. The suffix stays, because imageio and ffmpeg take the format from it.
UNFINISHED, DISCARDED = ".writing-", ".discarded-"


def unfinished(path: Path) -> Path:
    """The name under which ``path`` is written before it is whole."""
    return path.with_name(f"{UNFINISHED}{path.name}")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield an empty new file; when the block ends, sync it to the disk and rename it to ``path``.

    If the block raises, the new file is removed and ``path`` does not change.
    """
    new = unfinished(path)
    remove(new)
    os.close(_create(new))
    try:
        yield new
        _sync(new)
        os.replace(new, path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write(path: Path, content: bytes) -> None:
    """Replace ``path`` by a file with this content."""
    with replacing(path) as new:
        new.write_bytes(content)


def write_new(path: Path, content: bytes) -> None:
    """Create ``path``, which must not exist, in a folder that nobody reads yet; sync it."""
    with open(_create(path), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """``replacing`` for a folder: an older one is removed after the new one has its name."""
    new, old = unfinished(path), path.with_name(f"{DISCARDED}{path.name}")
    remove(new)
    new.mkdir(parents=True)
    try:
        yield new
        sync_folder(new)
        remove(old)
        if path.exists():
            os.replace(path, old)
        os.replace(new, path)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    sync_folder(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def discard(path: Path) -> None:
    """Remove a folder; rename it first, so that a kill leaves no half of it under its name."""
    discarded = path.with_name(f"{DISCARDED}{path.name}")
    os.replace(path, discarded)
    remove(discarded)


def remove(path: Path) -> None:
    """Remove a file, a folder with its content, or a link, but never what a link points to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def try_writing(folder: Path) -> None:
    """Create the folder and a file in it, and remove the file: an OSError now, and not later."""
    folder.mkdir(parents=True, exist_ok=True)
    probe = unfinished(folder / "probe")
    remove(probe)
    os.close(_create(probe))
    probe.unlink()


def sync_folder(folder: Path) -> None:
    """Sync the names in a folder: without it a power cut may undo a rename."""
    _sync(folder)


def links_among(folder: Path, names: Sequence[str]) -> list[Path]:
    """The paths of those ``names`` in a folder that are symbolic links."""
    return [folder / name for name in names if (folder / name).is_symlink()]


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file without the lines that begin with #; none if there is no file."""
    if not path.exists():
        return []
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    return list(csv.DictReader(lines))


def write_rows(
    path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]], comments: Sequence[str] = ()
) -> None:
    """Replace a CSV file. ``comments``: lines above the columns, each after a #."""
    text = io.StringIO()
    text.writelines(f"# {line}\n" for line in comments)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, text.getvalue().encode())


def keep_row(
    path: Path,
    row: Mapping[str, str],
    like: Sequence[str],
    order: Callable[[Mapping[str, str]], Any],
    comments: Sequence[str] = (),
) -> list[Mapping[str, str]]:
    """Put ``row`` into a CSV file, in the place of the row with the same values of ``like``.

    Return all rows, sorted by ``order``.
    """
    others = [each for each in read_rows(path) if any(each[name] != row[name] for name in like)]
    rows: list[Mapping[str, str]] = sorted([*others, row], key=order)
    write_rows(path, list(row), [[each[name] for name in row] for each in rows], comments)
    return rows


def _create(path: Path) -> int:
    """A file descriptor of a new file; raises if anything, even a broken link, has the name."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
