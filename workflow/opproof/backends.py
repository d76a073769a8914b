"""The built-in backends and the libraries that they need. To add one, add an entry.

An entry of `backends:` in config.yaml either names one of these or brings its own `op`.
"""

from opproof.settings import GELU, Backend, Expectation, Library

# F.gelu, which every operator of GELU is timed and verified beside.
BASELINE = "torch"

# Compiled with a header of csrc/activations/, whose functions they apply.
OVER_AN_ACTIVATION = ("elementwise.cpp", "elementwise.cu", "pooled.cpp", "pooled.cu")

# Compiled with one likewise: the operators that train LeNet-5 with it.
STEP = ("lenet_step.cpp", "lenet_step.cu")

# Library X registers its operators in the namespace opproof_X.
LIBRARIES = {
    library.name: library
    for library in (
        Library("aten_gelu", ("aten_gelu.cpp",)),
        Library("gelu", OVER_AN_ACTIVATION, header="gelu.h"),
        Library("gelu_step", STEP, header="gelu.h"),
        Library("gelu_erf", OVER_AN_ACTIVATION, header="gelu_erf.h"),
        Library("gelu_erf_step", STEP, header="gelu_erf.h"),
    )
}

BACKENDS = {
    backend.name: backend
    for backend in (
        Backend(BASELINE, op=GELU),
        Backend("python", op="opproof.textbook:gelu"),
        Backend("cpp", op="opproof_aten_gelu::forward", library="aten_gelu"),
        Backend("erf", op="opproof_gelu_erf::forward", library="gelu_erf", step="gelu_erf_step"),
        Backend("fused", op="opproof_gelu::forward", library="gelu", step="gelu_step", max_ulp=3.0),
        Backend(
            "pooled",
            op="opproof_gelu::forward",
            library="gelu",
            pooled="opproof_gelu::pooled_forward",
            max_ulp=3.0,
        ),
        Backend(
            "tanh",
            op="opproof.textbook:gelu_tanh",
            expect=Expectation("fail", "the tanh approximation is off by up to 5e-4"),
        ),
    )
}
