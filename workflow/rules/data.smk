# No `code` here: the files' digests are fixed, so no edit can change them. `update` keeps those that
# are already right from being fetched again.
rule data:
    output:
        update([f"<mnist>/{file.name}" for file in mnist.FILES]),
    log:
        "<logs>/data.log",
    benchmark:
        "<benchmarks>/data.tsv"
    localrule: True
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 15 * attempt,
    shell:
        "exec python -m opproof data > {log:q} 2>&1"
