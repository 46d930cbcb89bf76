"""All experiments, by what they are about, in the order in which one reads them, and the exercises.

Each module adds its own when it is imported.
"""

from __future__ import annotations

import importlib

from common.lab.exercise import EXERCISES as EXERCISES
from common.lab.experiment import EXPERIMENTS as EXPERIMENTS

THE_SHEET = "the lab sheet"
_MODULES = {
    THE_SHEET: ("memory", "shmget", "keys", "wrappers", "shmat", "shmctl", "shmdt"),
    "ten mistakes, on the classic pair": ("mistakes_objects", "mistakes_others", "mistakes_inside"),
    "two generations": ("generations",),
    "for the oral exam": ("exam",),
}

for _part in sum(_MODULES.values(), ()):
    importlib.import_module(f"common.lab.experiments.{_part}")

for _part in ("segments", "waiting"):
    importlib.import_module(f"common.lab.exercises.{_part}")

PARTS = {
    title: [one for one in EXPERIMENTS.values() if one.observe.__module__.rpartition(".")[2] in modules]
    for title, modules in _MODULES.items()
}
