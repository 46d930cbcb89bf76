"""Numbers with their nouns."""

from __future__ import annotations


def plural(count: int, noun: str) -> str:
    """Such as: 1 record, 2 records."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
