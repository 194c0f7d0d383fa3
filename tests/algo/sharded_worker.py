"""Run by two processes: heads given as DTensors, each process with tokens of its own, against plain heads."""

import json
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from ptdpo.algo.lm_head import teacher_topk, token_stats

N, H, V = 6, 8, 37


def step(hidden, weight, bias, teacher_weight, targets):
    """Return a loss of all that ``token_stats`` offers."""
    teacher = teacher_topk(hidden.detach() + 0.1, teacher_weight, bias.detach(), k=5)
    stats = token_stats(hidden, weight, targets, bias, teacher=teacher, k=5)
    return stats.divergence.mean() - stats.log_prob.mean() + 0.1 * stats.entropy.mean()


def mean(value):
    value = value.clone()
    dist.all_reduce(value)
    return value / dist.get_world_size()


def difference(placements, mesh, *, same_tokens):
    """Return the largest differences of loss and gradients between a sharded and a plain head."""
    shared = torch.Generator().manual_seed(0)
    own = shared if same_tokens else torch.Generator().manual_seed(1 + dist.get_rank())
    weight, teacher_weight = (torch.randn(V, H, generator=shared, dtype=torch.float64) for _ in range(2))
    bias = torch.randn(V, generator=shared, dtype=torch.float64)
    hidden = torch.randn(N, H, generator=own, dtype=torch.float64)
    targets = torch.randint(V, (N,), generator=own)
    plain = [tensor.clone().requires_grad_() for tensor in (hidden, weight, bias)]
    expected = step(*plain, teacher_weight, targets)
    expected.backward()
    sharded = [distribute_tensor(t, mesh, placements).requires_grad_() for t in (weight, bias)]
    leaf = hidden.clone().requires_grad_()
    got = step(leaf, *sharded, distribute_tensor(teacher_weight, mesh, placements), targets)
    got.backward()
    assert all(isinstance(tensor.grad, DTensor) for tensor in sharded)
    assert all(tensor.grad.placements == tuple(placements) for tensor in sharded)
    pairs = [(got, expected), (leaf.grad, plain[0].grad)]
    pairs += [(one.grad.full_tensor(), mean(other.grad)) for one, other in zip(sharded, plain[1:], strict=True)]
    assert all(other.abs().max() > 1e-3 for _, other in pairs)
    return max((one - other).abs().max().item() for one, other in pairs)


def main(out):
    dist.init_process_group("gloo")
    flat = init_device_mesh("cpu", (2,))
    # As hybrid sharding has it: copies along one dimension of the mesh, parts along the other.
    hybrid = init_device_mesh("cpu", (2, 1), mesh_dim_names=("copies", "parts"))
    result = {
        "own tokens": difference([Shard(0)], flat, same_tokens=False),
        "same tokens": difference([Shard(0)], flat, same_tokens=True),
        "hybrid": difference([Replicate(), Shard(0)], hybrid, same_tokens=False),
    }
    if dist.get_rank() == 0:
        Path(out).write_text(json.dumps(result))
    dist.destroy_process_group()
