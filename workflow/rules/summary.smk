rule summary:
    input:
        expand(rules.verify.output, backend=BACKEND_NAMES),
        expand(rules.train.output, backend=BACKEND_NAMES, block=range(len(BLOCKS))),
        rules.timing_operators.output if SETTINGS.timing else [],
        rules.timing_training.output if SETTINGS.timing else [],
        project_file(paths.TEMPLATES / "report.html.j2"),
    output:
        json="<results>/summary.json",
        csv=report(
            "<results>/summary.csv",
            caption="../report/summary.rst",
            category="Summary",
            labels={"table": "summary"},
        ),
        markdown="<results>/summary.md",
        page="<results>/report.html",
        curves="<results>/curves.parquet",
        figures=report(
            directory("<results>/figures"),
            patterns=["{figure}.svg"],
            caption="../report/figures.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
    log:
        "<logs>/summary.log",
    benchmark:
        "<benchmarks>/summary.tsv"
    localrule: True
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 10 * attempt,
    params:
        code=codebase.digest("summary"),
        seeds=SETTINGS.seeds,
        margin=SETTINGS.margin,
    shell:
        "exec python -m opproof summary > {log:q} 2>&1"


# Fails the run where a result is missing or a verdict is not as expected; the summary is there then.
rule check:
    input:
        rules.summary.output.json,
        project_file(paths.SCHEMAS / "summary.schema.yaml"),
    output:
        touch("<results>/check.ok"),
    log:
        "<logs>/check.log",
    benchmark:
        "<benchmarks>/check.tsv"
    retries: 0
    localrule: True
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 10 * attempt,
    params:
        results=output_folder,
        code=codebase.digest("check"),
    shell:
        "exec python -m opproof check {params.results:q} > {log:q} 2>&1"
