"""Figures beside their targets, printed as they are found and kept for a record."""

import numpy as np


class Targets:
    """What was checked, by section."""

    def __init__(self, rows=None, name=""):
        self.rows = {} if rows is None else rows
        self._name = name

    def section(self, name):
        """The same record, for another set of fields."""
        return Targets(self.rows, f"{name}: ")

    def check(self, label, estimate, low=None, high=None):
        """Print an `estimates.Estimate` beside its target, where it has one."""
        self.check_number(label, estimate.value, estimate.error, low, high)

    def check_number(self, label, value, error, low=None, high=None):
        """Print a number with its error beside its target, where it has one."""
        value, error = float(value), float(error)
        target, verdict = describe_range(low, high), judge(value, error, low, high)
        print(f"  {label:<66}{value:>7.3f} ±{error:.3f}  {target:<18}{verdict}".rstrip())
        known = {"value": value, "error": error}
        row = {name: round(v, 4) if np.isfinite(v) else None for name, v in known.items()}
        if target:
            row |= {"target": target, "verdict": verdict}
        self.rows[f"{self._name}{label.strip()}"] = row


def describe_range(low, high):
    """A target in words; empty where there is none."""
    if low is None and high is None:
        return ""
    if low is None or high is None:
        return f"<= {high:g}" if low is None else f">= {low:g}"
    return f"{low:g} to {high:g}"


def judge(value, error, low, high):
    """Whether a target is met, and by how many errors it is missed."""
    if low is None and high is None:
        return ""
    if not np.isfinite(value):
        return "no figure"
    short = max(-np.inf if low is None else low - value, -np.inf if high is None else value - high)
    if short <= 0:
        return "met"
    return f"missed by {short:.3f} ({short / error:.1f} errors)" if error > 1e-6 else "missed"
