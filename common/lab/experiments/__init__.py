"""The experiments, one module for a part of the lab sheet."""
