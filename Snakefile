# OpProof: data -> build -> verify -> train, timing -> summary -> check. One stage, one file of rules.
from snakemake.utils import min_version

min_version("9.27")


include: "workflow/rules/common.smk"
include: "workflow/rules/hooks.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/build.smk"
include: "workflow/rules/verify.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/timing.smk"
include: "workflow/rules/summary.smk"
include: "workflow/rules/nodes.smk"


# Every file by itself: one that is missing is made again although check.ok is there. Of those that
# are many only the missing ones, since each input costs.
rule all:
    default_target: True
    input:
        built_libraries(),
        gone,
        rules.summary.output,
        rules.check.output,
    localrule: True
