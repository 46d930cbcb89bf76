"""Twelve exercises, in the order in which one does them."""
