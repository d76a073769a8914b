"""What of the environment jobs are handed."""

import pytest

from opproof import environment

KEPT = {
    "PATH": "/usr/bin:/opt/gcc@12/bin",
    "HOME": "/home/me",
    "LC_ALL": "C.UTF-8",
    "TMPDIR": "/scratch",
    "XDG_CACHE_HOME": "/scratch/cache",
    "CC": "gcc-12",
    "CXXFLAGS": "-march=native",
    "LD_LIBRARY_PATH": "/opt/cuda/lib64",
    "CUDA_HOME": "/opt/cuda",
    "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    "NVCC_APPEND_FLAGS": "-ccbin gcc-12",
    "TORCH_CUDA_ARCH_LIST": "9.0",
    "PYTORCH_ALLOC_CONF": "expandable_segments:True",
    "ATEN_CPU_CAPABILITY": "avx2",
    "OMP_NUM_THREADS": "4",
    "PYTHONPATH": "/home/me/lib",
    "VIRTUAL_ENV": "/home/me/.venv",
    "CONDA_PREFIX": "/opt/conda",
    "PIP_INDEX_URL": "https://mirror.example.org/simple",
    "MODULEPATH": "/opt/modules",
    "BASH_FUNC_module%%": "() { :; }",
    "SLURM_CONF": "/etc/slurm.conf",
    "SLURM_JWT": "sbatch itself may need it",
    "SBATCH_ACCOUNT": "mine",
    "SNAKEMAKE_PROFILE": "slurm",
    "OPPROOF_FROZEN_CONFIG": "/home/me/results/config/0.json",
    "https_proxy": "http://proxy:3128",
    "NO_PROXY": "localhost",
    "SSL_CERT_FILE": "/etc/ssl/cert.pem",
}
WITHHELD = {
    "AWS_SECRET_ACCESS_KEY": "x",
    "GITHUB_TOKEN": "x",
    "SSH_AUTH_SOCK": "/tmp/agent",
    "OLDPWD": "/home/me",
    "MY_OWN": "x",
    "MYPATH": "x",
    "PATHS": "x",
    # Of a kind that is needed, but secret by name, or by value.
    "CONDA_TOKEN": "x",
    "PIP_PASSWORD": "x",
    "SNAKEMAKE_STORAGE_S3_SECRET_KEY": "x",
    "OPPROOF_credential": "x",
    "PIP_EXTRA_INDEX_URL": "https://me:x@mirror.example.org/simple",
    "HTTPS_PROXY": "http://me:x@proxy:3128",
    "http_proxy": "me:x@proxy:3128",
    "CCACHE_REMOTE_STORAGE": "http://x@cache",
    # Of the controller's own machine.
    "CUDA_VISIBLE_DEVICES": "0",
    "NVIDIA_VISIBLE_DEVICES": "all",
}


@pytest.mark.parametrize("name", KEPT)
def test_what_is_needed_is_kept(name: str) -> None:
    handed = {name: KEPT[name]}
    assert environment.withhold(handed, set()) == []
    assert handed == {name: KEPT[name]}


@pytest.mark.parametrize("name", WITHHELD)
def test_the_rest_is_withheld_unless_it_is_wanted(name: str) -> None:
    handed = {name: WITHHELD[name], **KEPT}
    assert environment.withhold(handed, {name}) == []
    assert environment.withhold(handed, set()) == [name]
    assert handed == KEPT


def test_it_is_described_by_name_in_a_line() -> None:
    shown = environment.describe(["GITHUB_TOKEN", "MY_OWN"])
    assert shown == "Not handed to jobs (2; --envvars NAME hands one on): GITHUB_TOKEN, MY_OWN"
    many = environment.describe([f"VARIABLE_{number}" for number in range(99)])
    assert many.startswith("Not handed to jobs (99; ")
    assert many.endswith(" ...")
    assert len(many) <= 160
