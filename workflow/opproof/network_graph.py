"""The graph of LeNet-5 with an operator, for TensorBoard. Needs tensorboard."""

from typing import Any

import torch
from tensorboard.compat.proto.attr_value_pb2 import AttrValue
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.compat.proto.node_def_pb2 import NodeDef
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from torch import Tensor, nn
from torch.fx import Node

from opproof.lenet import LeNet5
from opproof.operators import Activation


@torch.no_grad()
def network_graph(activation: Activation, pooled: Activation | None, batch_size: int) -> bytes:
    """Return the forward pass of a batch as a serialised GraphDef.

    A registered operator is one node, whatever it is made of; one in Python is those that it calls.
    Nothing is computed: no device is needed, only that the operator can be traced.
    """
    model = LeNet5(_Layer(activation), _Layer(pooled) if pooled else None)
    program = torch.export.export(model, (torch.empty(batch_size, 1, 28, 28),))
    parameters = program.graph_signature.inputs_to_parameters
    names: dict[Node, str] = {}
    nodes = []
    for node in program.graph.nodes:
        names[node] = parameters.get(node.name, "").replace(".", "/") or _scope(node) + node.name
        nodes.append(
            NodeDef(
                name=names[node],
                op="Parameter" if node.name in parameters else _operation(node),
                input=[names[source] for source in node.all_input_nodes],
                attr=_shape(node),
            )
        )
    return GraphDef(node=nodes).SerializeToString()


class _Layer(nn.Module):
    """An operator as a layer: what it does stands together in the graph, once for each call."""

    def __init__(self, operator: Activation) -> None:
        super().__init__()
        self.operator = operator

    def forward(self, x: Tensor) -> Tensor:
        return self.operator(x)


def _scope(node: Node) -> str:
    """Return the layer that the node is in: "conv1/", or "activation_2/" for its third call."""
    layers = node.meta.get("nn_module_stack") or {"": ("", None)}
    call, (path, _) = [*layers.items()][-1]
    number = call.partition("@")[2]
    layer = f"{path}_{number}" if number else path
    return f"{layer}/" if layer else ""


def _operation(node: Node) -> str:
    """Return what the node is or calls: "placeholder", "aten::gelu", "my_namespace::my_gelu"."""
    if isinstance(node.target, torch._ops.OpOverload):
        return node.target.name()
    return node.op if isinstance(node.target, str) else str(node.target)


def _shape(node: Node) -> dict[str, Any]:
    """Return the attribute by which TensorBoard writes the shape at the edges."""
    value = node.meta.get("val")
    if not isinstance(value, Tensor):
        return {}
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in value.shape])
    return {"_output_shapes": AttrValue(list=AttrValue.ListValue(shape=[shape]))}
