# What may run on a GPU keeps off the nodes whose GPU did not work, as known at each attempt. After
# the rules: what the site's profile asks of sbatch for them stays.


def keep_off_bad_nodes(kept):
    own = kept.resources.get("slurm_extra")

    def slurm_extra(wildcards, **job):
        excluded = getattr(workflow.executor_settings, "exclude_failed_nodes", None) or ""
        options = [
            own.evaluate(wildcards, **job).value,
            bad_nodes.exclusion(Path(SETTINGS.output), excluded),
        ]
        return " ".join(filter(None, options)) or None

    kept.resources["slurm_extra"] = slurm_extra


for kept in map(workflow.get_rule, ("verify", "train", "timing_operators", "timing_training")):
    keep_off_bad_nodes(kept)
