"""The environment that jobs on a cluster are handed: what they need, and nothing that is secret.

SLURM's sbatch hands on all of its own: tokens and passwords too, to every node.
"""

import re
import textwrap
from collections.abc import Container, MutableMapping
from fnmatch import fnmatchcase

from opproof.redaction import redact

# Also what Snakemake, sbatch, pip and the compilers need, which run where the controller does.
_NEEDED = """
    PATH HOME USER LOGNAME SHELL LANG LANGUAGE LC_* TZ TMPDIR TMP TEMP XDG_*_HOME KRB5CCNAME
    TERM COLORTERM COLUMNS LINES NO_COLOR FORCE_COLOR
    LD_LIBRARY_PATH LD_PRELOAD LIBRARY_PATH CPATH C_INCLUDE_PATH CPLUS_INCLUDE_PATH COMPILER_PATH
    CC CXX CPP CFLAGS CXXFLAGS CPPFLAGS LDFLAGS AR AS LD NM RANLIB MAX_JOBS CCACHE_* GCC_* CRAY*
    PE_* MKLROOT TBBROOT CMPLR_ROOT ONEAPI_ROOT SPACK_ROOT EBROOT* EBVERSION* LM_LICENSE_FILE
    PYTHON* VIRTUAL_ENV CONDA_* MAMBA_* PYENV_* PIP_*
    MODULE* LOADEDMODULES LMOD_* __LMOD_* _LMFILES_* _ModuleTable* BASH_ENV BASH_FUNC_*
    CUDA* NVCC_* NVHPC* NVIDIA_* NCCL_* CUDNN_* CUBLAS_*
    TORCH* PYTORCH_* TRITON_* ATEN_* DNNL_* ONEDNN_*
    OMP_* GOMP_* KMP_* MKL_* OPENBLAS_* BLIS_* NUMEXPR_* MALLOC_* GLIBC_TUNABLES
    SLURM_* SBATCH_* SRUN_* SQUEUE_* SACCT_* SNAKEMAKE_* OPPROOF_*
    http_proxy https_proxy ftp_proxy all_proxy no_proxy HTTP_PROXY HTTPS_PROXY FTP_PROXY ALL_PROXY
    NO_PROXY SSL_CERT_* CURL_CA_BUNDLE REQUESTS_CA_BUNDLE
"""

# Of the machine that the controller runs on; SLURM gives each job its own.
_ELSEWHERE = ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")

_SECRET = re.compile("TOKEN|SECRET|PASSW|CREDENTIAL|AUTH|KEY", re.IGNORECASE)


def withhold(environment: MutableMapping[str, str], wanted: Container[str]) -> list[str]:
    """Remove from `environment` what is not needed, or may be secret, and not `wanted` by name.

    Returns the names of what is removed.
    """
    names = [
        name
        for name, value in environment.items()
        if name not in wanted and not _is_needed(name, value)
    ]
    for name in names:
        del environment[name]
    return sorted(names)


def describe(names: list[str]) -> str:
    """Return in a line which names jobs are not given."""
    shown = textwrap.shorten(", ".join(names), 100, placeholder=" ...")
    return f"Not handed to jobs ({len(names)}; --envvars NAME hands one on): {shown}"


def _is_needed(name: str, value: str) -> bool:
    return (
        any(fnmatchcase(name, pattern) for pattern in _NEEDED.split())
        and name not in _ELSEWHERE
        and not _SECRET.search(name)
        and redact(value) == value
    )
