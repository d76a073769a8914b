# Planning 10,000 jobs takes a tenth longer for each file here: one of MNIST's stands for all, as the
# verdict does for the library that it is on; what else is missing, `all` asks for.
rule train:
    input:
        data=rules.data.output[-1],
        verdict=rules.verify.output,
        step=built_step,
    output:
        "<results>/train/{backend}/{block}/block.json",
    log:
        "<logs>/train/{backend}/{block}.log",
    benchmark:
        "<benchmarks>/train/{backend}/{block}.tsv"
    threads: threads_on_device()
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
