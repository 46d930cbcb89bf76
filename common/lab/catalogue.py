"""All experiments: each module adds its own, and they are imported in the order of the lab sheet."""

from __future__ import annotations

import importlib

from common.lab.experiment import EXPERIMENTS as EXPERIMENTS

for part in ("memory", "shmget", "keys", "wrappers", "shmat", "shmctl", "shmdt"):
    importlib.import_module(f"common.lab.experiments.{part}")
