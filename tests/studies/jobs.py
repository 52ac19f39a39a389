"""Jobs of campaigns for tests: importable, so that other processes find them."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np


def draw(parameters):
    """The mean of some random numbers; leaves a mark, so that a test can count the calls."""
    Path(parameters["marks"], f"{parameters['seed']}-{os.getpid()}-{os.urandom(4).hex()}").touch()
    rng = np.random.default_rng(parameters["seed"])
    return {"mean": float(rng.normal(size=100).mean())}


def refuse_odd(parameters):
    if parameters["seed"] % 2:
        raise ValueError(f"seed {parameters['seed']} is odd")
    return {"seed": parameters["seed"]}


def not_data(parameters):
    return {"value": float("nan") if parameters["seed"] else 1.0}


def die_once(parameters):
    """End this process by force the first time that a seed of 2 comes up."""
    mark = Path(parameters["marks"]) / "dead"
    if parameters["seed"] == 2 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"seed": parameters["seed"]}


def always_die(parameters):
    if parameters["seed"] == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"seed": parameters["seed"]}


def lone(scatters, grid, *, spectrum, detector, workers):
    """A reconstruction method that knows of no team."""
    raise AssertionError("never called")


def slowly_times(kept, factor, seconds):
    time.sleep(seconds)
    return kept * factor
