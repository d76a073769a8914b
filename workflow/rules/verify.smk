rule verify:
    input:
        built_library,
    output:
        "<results>/verify/{backend}.json",
    log:
        "<logs>/verify/{backend}.log",
    benchmark:
        "<benchmarks>/verify/{backend}.tsv"
    threads: threads_on_device()
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 10 * attempt,
    params:
        code=codebase.digest("verify"),
        torch=toolchain.torch_version(),
        device=SETTINGS.device,
        operator=operator,
    shell:
        "exec python -m opproof verify --backend {wildcards.backend} > {log:q} 2>&1"
