"""How a stage's state reads, on a terminal and in a file alike."""

import math

from snakemake_logger_plugin_opproof.progress import Stage


def under_way(stage: Stage) -> str:
    """Return such as "2 running"; empty where nothing is under way."""
    return ", ".join(f"{count} {state}" for state, count in stage.under_way.items())


def failed(stage: Stage) -> str:
    """Return such as "1 failed"; empty where nothing has."""
    return f"{stage.failed} failed" if stage.failed else ""


def time_to_go(seconds: float) -> str:
    """Return such as "about 4 min to go", rounded up."""
    minutes = math.ceil(seconds / 60)
    if seconds <= 90:
        span = f"{math.ceil(seconds)} s"
    elif minutes <= 90:
        span = f"{minutes} min"
    else:
        span = f"{minutes // 60} h {minutes % 60} min"
    return f"about {span} to go"
