rule build:
    input:
        library_sources,
    output:
        "<results>/build/{library}/build.json",
    log:
        "<logs>/build/{library}.log",
    benchmark:
        "<benchmarks>/build/{library}.tsv"
    localrule: True
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 15 * attempt,
    params:
        code=codebase.digest("build"),
        toolchain=toolchain.describe(),
        library=library_to_build,
        # A source may be edited while it is compiled: its time is then before the library's.
        sources=lambda wildcards: sources.digest(SETTINGS.library(wildcards.library)),
    shell:
        "exec python -m opproof build --library {wildcards.library} > {log:q} 2>&1"
