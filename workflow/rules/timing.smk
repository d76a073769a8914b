# Timed alone: all the cores that Snakemake has on this machine, so that nothing runs beside them.
rule timing_operators:
    input:
        built_libraries(),
    output:
        "<results>/timing/operators.json",
    log:
        "<logs>/timing/operators.log",
    benchmark:
        "<benchmarks>/timing/operators.tsv"
    threads: workflow.resource_settings.cores or 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 20 * attempt,
    params:
        code=codebase.digest("timing.operators"),
        torch=toolchain.torch_version(),
        device=SETTINGS.device,
        operators=list(OPERATORS.values()),
    shell:
        "exec python -m opproof timing operators > {log:q} 2>&1"


rule timing_training:
    input:
        built_libraries(),
        data=rules.data.output[-1],
    output:
        "<results>/timing/training.json",
    log:
        "<logs>/timing/training.log",
    benchmark:
        "<benchmarks>/timing/training.tsv"
    threads: workflow.resource_settings.cores or 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 20 * attempt,
    params:
        code=codebase.digest("timing.training"),
        torch=toolchain.torch_version(),
        device=SETTINGS.device,
        precision=SETTINGS.precision,
        train=asdict(SETTINGS.train),
        operators=list(OPERATORS.values()),
    shell:
        "exec python -m opproof timing training > {log:q} 2>&1"
