"""Run by two or four processes: a head in shards of these sizes against ``dense_token_stats`` on the whole one."""

import itertools
import json
from pathlib import Path

import torch
import torch.distributed as dist

from ptdpo.algo.dense_head import dense_token_stats
from ptdpo.algo.lm_head import teacher_topk
from ptdpo.algo.sharded_head import VocabularyShard, sharded_teacher_topk, sharded_token_stats

N, H, V = 9, 8, 37
ROWS = torch.tensor([7, 0, 3, 4])
PADDING = 2


def made(seed=0):
    """Return hidden states, head, bias with an impossible id, teacher's states and head, targets."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    hidden, weight, bias, seen, teacher = normal(N, H), normal(V, H), normal(V), normal(len(ROWS), H), normal(V, H)
    bias[5] = -torch.inf
    targets = torch.randint(6, V, (N,), generator=draw)
    return hidden, weight, bias, seen, teacher, targets


def loss(stats, weights):
    """Return a loss that weighs every token of every differentiable number differently."""
    terms = zip((stats.log_prob, stats.entropy, stats.divergence), weights, strict=True)
    return sum((value * weight[: len(value)]).sum() for value, weight in terms)


def difference(shard, parts, settings, *, tutored=True):
    """Return the largest difference of any number or gradient between a parted and the dense head."""
    hidden, weight, bias, seen, teacher, targets = made()
    weights = torch.randn(3, N, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    whole = [tensor.clone().requires_grad_() for tensor in (hidden, weight, bias)]
    # Rows of padding, as Megatron adds them, hold whatever they hold.
    held = [torch.cat([t[parts], 7 * torch.ones_like(t[:PADDING])]) for t in (weight, bias, teacher)]
    leaves = [tensor.clone().requires_grad_() for tensor in (hidden, *held[:2])]
    dense, parted = {}, {}
    if tutored:
        dense = {"teacher": teacher_topk(seen, teacher, bias, k=settings["k"], temperature=0.7), "rows": ROWS}
        parted = {
            "teacher": sharded_teacher_topk(
                seen, held[2], shard, held[1], k=settings["k"], temperature=0.7, row_chunk=3
            ),
            "rows": ROWS,
        }
    expected = dense_token_stats(whole[0], whole[1], targets, whole[2], temperature=0.7, **dense, **settings)
    got = sharded_token_stats(
        leaves[0],
        leaves[1],
        targets,
        shard,
        leaves[2],
        temperature=0.7,
        row_chunk=3,
        vocab_chunk=4,
        **parted,
        **settings,
    )
    loss(expected, weights).backward()
    loss(got, weights).backward()
    possible = bias[parts] > -torch.inf
    pairs = [*zip(got, expected, strict=True), (leaves[0].grad, whole[0].grad)]
    pairs += [(leaves[1].grad[: shard.size], whole[1].grad[parts])]
    pairs += [(leaves[2].grad[: shard.size][possible], whole[2].grad[parts][possible])]
    assert all(leaf.grad[shard.size :].abs().max() == 0 for leaf in leaves[1:]), "padding has no gradient"
    assert all(leaf.grad.abs().max() > 1e-3 for leaf in leaves)
    return max((one - other).abs().max().item() for one, other in pairs if len(one))


def refusal(call):
    """Return what a call is refused with."""
    try:
        call()
    except ValueError as error:
        return str(error)
    return "not refused"


def main(out, sizes):
    dist.init_process_group("gloo")
    rank, sizes = dist.get_rank(), json.loads(sizes)
    start = sum(sizes[:rank])
    parts = slice(start, start + sizes[rank])
    weight = torch.zeros(sizes[rank] + (PADDING if rank == len(sizes) - 1 else 0), H, dtype=torch.float64)
    shard = VocabularyShard.of(weight, vocabulary=V)
    assert (shard.start, shard.size) == (start, sizes[rank])
    settings = itertools.product(("jsd", "forward_kl", "reverse_kl"), ("union", "student", "teacher"),
                                 ("bucket", "none", "student"), (5, 50))  # fmt: skip
    differences = {
        f"{kind} {support} {tail} {k}": difference(
            shard, parts, {"kind": kind, "support": support, "tail": tail, "k": k}
        )
        for kind, support, tail, k in settings
        if (kind, tail) != ("reverse_kl", "student")
    }
    differences |= {f"no teacher {k}": difference(shard, parts, {"k": k}, tutored=False) for k in (5, 50)}
    other = VocabularyShard(shard.start, shard.size, V + 1, shard.largest)
    hidden, _, _, seen, teacher, targets = made()
    read = sharded_teacher_topk(seen, teacher[parts], other, k=2)
    result = {
        "differences": differences,
        "too many ids": refusal(lambda: VocabularyShard.of(weight, vocabulary=99)),
        "padding only": refusal(lambda: VocabularyShard.of(weight, vocabulary=V - sizes[-1])),
        "another shard": refusal(
            lambda: sharded_token_stats(hidden, teacher[parts], targets, shard, teacher=read, rows=ROWS)
        ),
        "target of nobody": refusal(lambda: sharded_token_stats(hidden, teacher[parts], targets + V, shard)),
    }
    (Path(out) / f"{rank}.json").write_text(json.dumps(result))
    dist.destroy_process_group()
