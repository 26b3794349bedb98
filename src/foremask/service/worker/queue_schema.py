"""Procrastinate's part of the schema: all of it on a new database, what is new on an old one."""

from pathlib import Path

from procrastinate.schema import SchemaManager

from foremask.service.jobs import schema
from foremask.service.jobs.schema import Script

PREFIX = "procrastinate/"


def scripts(applied: frozenset[str]) -> list[Script]:
    """What brings Procrastinate's tables up to date; its releases name each change by a file."""
    changes = sorted(Path(SchemaManager.get_migrations_path()).glob("*.sql"))
    if any(name.startswith(PREFIX) for name in applied):
        return [Script(PREFIX + each.name, each.read_text(encoding="utf-8")) for each in changes]
    whole = Script(PREFIX + "schema.sql", SchemaManager.get_schema())
    return [whole, *(Script(PREFIX + each.name, "") for each in changes)]


async def migrate(url: str) -> list[str]:
    """Bring the whole schema up to date; returns the names of what was applied."""
    return await schema.migrate(url, scripts)
