# The settings, and the helpers that rules share. Parsed again by every job of a cluster: cheap, no
# torch, no network, no clock.
import os
import re
import shlex
import sys
from dataclasses import asdict
from pathlib import Path

from snakemake.exceptions import WorkflowError

from opproof import (
    arguments,
    bad_nodes,
    codebase,
    config as configuration,
    driver,
    environment,
    holder,
    mnist,
    orphans,
    paths,
    permissions,
    settings,
    sources,
    toolchain,
)
from opproof.errors import UserError

# The controller validates the configuration once and freezes it before the first job; what runs on
# nodes reads the frozen copy, so that an edit of config.yaml waits for the next run.
FROZEN = arguments.FROZEN_CONFIG

if workflow.is_main_process and not workflow.configfiles:

    configfile: "config.yaml"


def load_settings():
    if not workflow.is_main_process:
        if FROZEN not in os.environ:
            raise WorkflowError(f"{FROZEN} has not reached this job: is its environment passed on?")
        return settings.read(Path(os.environ[FROZEN]))
    try:
        resolved = configuration.resolve(config)
    except UserError as error:
        raise WorkflowError(str(error)) from None
    os.environ[FROZEN] = str(resolved.frozen_path.absolute())
    return resolved


def clear_stale_lock():
    """Free the folder of a run that was killed on this machine, so that this one can go on."""
    if workflow.is_main_process and not workflow.output_settings.dryrun:
        if message := holder.clear_stale(Path.cwd()):
            print(message, file=sys.stderr)


permissions.keep_private()
# Made by now; and Snakemake lets the group write its records.
permissions.close(Path(".snakemake"))
clear_stale_lock()
SETTINGS = load_settings()
BLOCKS = SETTINGS.blocks()
BACKEND_NAMES = [backend.name for backend in SETTINGS.backends]


pathvars:
    results=SETTINGS.output,
    logs=f"{SETTINGS.output}/logs",
    benchmarks=f"{SETTINGS.output}/benchmarks",
    mnist=SETTINGS.data.folder,


# Only names of the settings are legal: another is "no rule to produce", never a wild match.
wildcard_constraints:
    backend="|".join(map(re.escape, BACKEND_NAMES)),
    library="|".join(re.escape(library.name) for library in SETTINGS.libraries) or "none",
    block=r"\d+",


# Rules call `python` and ninja of the environment that Snakemake itself runs in.
shell.prefix(
    "set -euo pipefail; export PATH={}:$PATH; ".format(
        shlex.quote(str(Path(sys.executable).parent)).replace("{", "{{").replace("}", "}}")
    )
)


def output_folder(wildcards):
    return SETTINGS.output


def project_file(path):
    """Return the path as an input: relative below the working folder, so that it may be moved."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def built_library(wildcards):
    """Return the build record that a backend needs, as a list of one or none."""
    library = SETTINGS.backend(wildcards.backend).library
    return expand(rules.build.output, library=library) if library else []


def built_step(wildcards):
    """Return the build record of what a backend is trained with, where verification has no use for it."""
    backend = SETTINGS.backend(wildcards.backend)
    library = SETTINGS.library_of_training(backend)
    return expand(rules.build.output, library=library) if library != backend.library else []


def built_libraries():
    """Return the build records of all libraries."""
    return expand(rules.build.output, library=[library.name for library in SETTINGS.libraries])


def gone(wildcards):
    """Return what was there and is not any more, of what nobody else would ask for."""
    data = rules.data.output if Path(rules.data.output[-1]).exists() else []
    summarised = rules.summary.input if Path(rules.summary.output.json).exists() else []
    return [file for file in (*data, *summarised) if not Path(file).exists()]


def library_sources(wildcards):
    library = SETTINGS.library(wildcards.library)
    return [project_file(path) for path in sources.files(library)]


def library_to_build(wildcards):
    """Return what identifies a library besides its files."""
    return asdict(SETTINGS.library(wildcards.library)) | asdict(SETTINGS.build)


# What identifies a backend's operator, its own code included: once, not for each of 10,000 jobs.
OPERATORS = {
    backend.name: asdict(backend)
    | {"code": [codebase.operator_digest(op) for op in (backend.op, backend.reference)]}
    for backend in SETTINGS.backends
}


def operator(wildcards):
    return OPERATORS[wildcards.backend]


def threads_on_device():
    """Return a job's share of the cores here: all of them where it has this machine's GPU to itself.

    On a cluster, where each job is given a GPU, Snakemake has no cores here.
    """
    on_gpu = SETTINGS.device == "cuda" or (SETTINGS.device == "auto" and driver.is_loaded())
    return workflow.resource_settings.cores or 1 if on_gpu else 1


def block_seeds(wildcards):
    return BLOCKS[int(wildcards.block)]
