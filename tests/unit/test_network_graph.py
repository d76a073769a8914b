"""The graph of LeNet-5: of every built-in operator, and of ones that can't be traced."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from tensorboard.compat.proto.graph_pb2 import GraphDef
from torch import Tensor
from torch.nn import functional as F

from opproof import operators
from opproof.backends import BACKENDS
from opproof.network_graph import network_graph
from opproof.operators import Activation
from tests.unit.test_build import built

# What each has in place of an activation; the textbook's formula is written out.
OPERATIONS = {
    "torch": {"aten::gelu": 6},
    "python": {
        "aten::mul.Tensor": 12,
        "aten::div.Tensor": 6,
        "aten::erf": 6,
        "aten::add.Tensor": 6,
    },
    "cpp": {"opproof_aten_gelu::forward": 6},
    "erf": {"opproof_gelu_erf::forward": 6},
    "fused": {"opproof_gelu::forward": 6},
    "pooled": {"opproof_gelu::forward": 2, "opproof_gelu::pooled_forward": 2},
    "tanh": {"aten::gelu": 6},
}
LAYERS = {"aten::conv2d": 2, "aten::linear": 3, "aten::flatten.using_ints": 1}
ENDS = {"placeholder": 1, "output": 1, "Parameter": 10}


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory)


def graph_of(activation: Activation, pooled: Activation | None = None) -> GraphDef:
    return GraphDef.FromString(network_graph(activation, pooled, batch_size=64))


@pytest.mark.parametrize("name", BACKENDS)
def test_operators_are_nodes(output: Path, name: str) -> None:
    activation = operators.resolve(BACKENDS[name], output)
    graph = graph_of(activation, operators.resolve_pooled(BACKENDS[name], output))
    pools = {} if name == "pooled" else {"aten::avg_pool2d": 2}
    found = Counter(node.op for node in graph.node)
    assert found == {**ENDS, **LAYERS, **pools, **OPERATIONS[name]}


def test_nodes_form_the_network() -> None:
    """Layers one after another, each a scope of its own, with the shapes of a batch of 64."""
    graph = graph_of(F.gelu)
    shapes = {node.name: shape_of(node) for node in graph.node}
    inputs = {node.name: [*node.input] for node in graph.node}
    assert len(inputs) == len(graph.node), "no two of one name"
    line, node = [], "output"
    while inputs[node]:
        node = inputs[node][0]
        line.append((node, shapes[node]))
    assert line[::-1] == [
        ("images", [64, 1, 28, 28]),
        ("conv1/conv2d", [64, 6, 24, 24]),
        ("activation/gelu", [64, 6, 24, 24]),
        ("pool/avg_pool2d", [64, 6, 12, 12]),
        ("activation_1/gelu_1", [64, 6, 12, 12]),
        ("conv2/conv2d_1", [64, 16, 8, 8]),
        ("activation_2/gelu_2", [64, 16, 8, 8]),
        ("pool_1/avg_pool2d_1", [64, 16, 4, 4]),
        ("activation_3/gelu_3", [64, 16, 4, 4]),
        ("flatten", [64, 256]),
        ("fc1/linear", [64, 120]),
        ("activation_4/gelu_4", [64, 120]),
        ("fc2/linear_1", [64, 84]),
        ("activation_5/gelu_5", [64, 84]),
        ("fc3/linear_2", [64, 10]),
    ]
    assert inputs["fc2/linear_1"] == ["activation_4/gelu_4", "fc2/weight", "fc2/bias"]
    assert shapes["fc2/weight"] == [84, 120]


def test_what_python_does_is_together() -> None:
    graph = graph_of(lambda x: x * torch.sigmoid(1.702 * x))
    scopes = Counter(node.name.partition("/")[0] for node in graph.node)
    assert [scopes[f"activation{call}"] for call in ("", "_1", "_5")] == [3, 3, 3]


def by_value(x: Tensor) -> Tensor:
    return F.gelu(x) if x.sum() > 0 else x


def test_what_cannot_be_traced_raises() -> None:
    with pytest.raises(RuntimeError):
        graph_of(by_value)


def shape_of(node: object) -> list[int]:
    (shape,) = node.attr["_output_shapes"].list.shape or [None]  # type: ignore[attr-defined]
    return [dimension.size for dimension in shape.dim] if shape else []
