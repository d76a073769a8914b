rule train:
    input:
        data=rules.data.output,
        verdict=rules.verify.output,
        library=built_library,
    output:
        "<results>/train/{backend}/{block}/block.json",
    log:
        "<logs>/train/{backend}/{block}.log",
    benchmark:
        "<benchmarks>/train/{backend}/{block}.tsv"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: (
            (15 + SETTINGS.train.epochs * len(block_seeds(wildcards))) * attempt
        ),
    params:
        code=codebase.digest("train"),
        torch=toolchain.torch_version(),
        device=SETTINGS.device,
        engine=SETTINGS.engine,
        precision=SETTINGS.precision,
        train=asdict(SETTINGS.train),
        operator=operator,
        seeds=block_seeds,
    shell:
        "exec python -m opproof train "
        "--backend {wildcards.backend} --block {wildcards.block} > {log:q} 2>&1"
