"""The settings that a folder was made with: two studies are never mixed in one."""

import json
from collections.abc import Collection, Mapping
from dataclasses import MISSING, Field, asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

from alsiseg import volumes

NAME = "settings.json"


def check_same(settings: Any, home: Path, *, may_differ: Collection[str] = ()) -> None:
    """Refuse a folder that was made with other settings; write them into one that has none.

    What was written before a field was added counts as made with its default.

    Parameters
    ----------
    settings
        A dataclass.
    home
        The folder.
    may_differ
        Fields that say how much is done, not how: a folder may grow. What is written is all that was asked for, now or
        before.

    Raises
    ------
    ValueError
        Naming what differs.
    """
    now, path = _plain(asdict(settings)), home / NAME
    if path.is_file():
        before = with_defaults(json.loads(path.read_text("utf-8")), settings)
        names = [name for name in {**now, **before} if name not in may_differ]
        changed = [name for name in names if before.get(name) != now.get(name)]
        if changed:
            raise ValueError(f"{home} holds a study with other settings ({', '.join(changed)}); choose another folder")
        now |= {name: _grown(before[name], now[name]) for name in may_differ if name in before and name in now}
    with volumes.written_whole(path) as partial:
        partial.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")


def _grown(before: Any, now: Any) -> Any:
    """Put two lists together, and take the larger of two numbers."""
    return [*before, *(each for each in now if each not in before)] if isinstance(now, list) else max(before, now)


def with_defaults(before: Any, now: Any) -> Any:
    """Give what was read from JSON the fields that `now` has got since, at their defaults."""
    if is_dataclass(now) and isinstance(before, dict):
        added = {f.name: _plain(_default(f)) for f in fields(now) if f.name not in before and _has_default(f)}
        return {name: with_defaults(value, getattr(now, name, None)) for name, value in before.items()} | added
    if isinstance(now, Mapping) and isinstance(before, dict):
        return {name: with_defaults(value, now.get(name)) for name, value in before.items()}
    if isinstance(now, list | tuple) and isinstance(before, list) and len(now) == len(before):
        return [with_defaults(value, then) for value, then in zip(before, now, strict=True)]
    return before


def _has_default(field: Field) -> bool:
    return field.default is not MISSING or field.default_factory is not MISSING


def _default(field: Field) -> Any:
    value = field.default if field.default_factory is MISSING else field.default_factory()
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def _plain(value: Any) -> Any:
    """Turn tuples into lists, as JSON does."""
    return json.loads(json.dumps(value))
