"""Asks the executor plugin what it makes of a job's state; run in the environment that has it.

    python plugin_probe.py COMMAND STATE

COMMAND is sacct or squeue, STATE what it says of the job: "" for nothing, "fails" for no answer.
Prints what becomes of the job: succeeded, failed, lost (forgotten by the plugin), or waits, if it
still does after many looks.
"""

import asyncio
import contextlib
import logging
import sys
from types import SimpleNamespace
from typing import Any

import snakemake_executor_plugin_slurm as plugin

JOB = "12"
LOOKS = 50


async def fate(command: str, state: str) -> str:
    """Return what looks at a job in `state` make of it."""

    async def answer(
        query: str, logger: logging.Logger
    ) -> tuple[dict[str, str] | None, float | None]:
        if state == "fails":
            return None, None
        return ({JOB: state} if state else {}), 0.1

    plugin.query_job_status = answer
    plugin.get_min_job_age = lambda: 300
    plugin.is_query_tool_available = lambda name: True
    outcome: list[str] = []
    executor: Any = object.__new__(plugin.Executor)
    vars(executor).update(
        workflow=SimpleNamespace(
            executor_settings=SimpleNamespace(
                status_command=command,
                status_attempts=2,
                init_seconds_before_status_checks=1,
                keep_successful_logs=True,
                requeue=False,
            )
        ),
        run_uuid="run",
        logger=logging.getLogger("probe"),
        status_rate_limiter=contextlib.nullcontext(),
        report_job_success=lambda job: outcome.append("succeeded"),
        report_job_error=lambda job, **_: outcome.append("failed"),
        _next_seconds_between_status_checks=1,
        _preemption_warning=False,
        _failed_nodes=set(),
        _status_query_calls=0,
        _status_query_failures=0,
        _status_query_total_seconds=0.0,
        _status_query_min_seconds=None,
        _status_query_max_seconds=0.0,
        _status_query_cycle_rows=[],
    )
    job = SimpleNamespace(external_jobid=JOB, aux={"slurm_logfile": None})
    for _ in range(LOOKS):
        waits = [each async for each in executor.check_active_jobs([job])]
        if not waits:
            return outcome[0] if outcome else "lost"
    return "waits"


if __name__ == "__main__":
    print(asyncio.run(fate(*sys.argv[1:])))
