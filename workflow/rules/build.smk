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
    shell:
        "exec python -m opproof build --library {wildcards.library} > {log:q} 2>&1"
