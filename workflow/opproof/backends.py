"""The built-in backends and the libraries that they need. To add one, add an entry.

An entry of `backends:` in config.yaml either names one of these or brings its own `op`.
"""

from opproof.settings import Backend, Expectation

BASELINE = "torch"

# Sources in csrc/, compiled together; library X registers its operators in the namespace opproof_X.
LIBRARIES = {"aten_gelu": ("aten_gelu.cpp",)}

BACKENDS = {
    backend.name: backend
    for backend in (
        Backend(BASELINE, op="torch.nn.functional:gelu"),
        Backend("python", op="opproof.textbook:gelu"),
        Backend("cpp", op="opproof_aten_gelu::forward", library="aten_gelu"),
        Backend(
            "tanh",
            op="opproof.textbook:gelu_tanh",
            expect=Expectation("fail", "the tanh approximation is off by up to 5e-4"),
        ),
    )
}
