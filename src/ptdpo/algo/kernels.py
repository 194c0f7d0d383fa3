"""Triton kernels of the fused head: everything that is element-wise over [tokens, vocabulary].

They read logits as the product left them (``raw``) and apply bias and temperature on the way, so that no logit is
written twice. A row of the vocabulary is cut into blocks of ``BLOCK`` ids. Sums are taken in the type of ``raw``:
float32, or float64. The wrappers with shapes and contracts are in ``ptdpo.algo.triton_calls``.
"""

import triton
import triton.language as tl

BLOCK = tl.constexpr(64)


@triton.jit
def _logits(raw, bias, ids, valid, TEMPERATURE: tl.constexpr, HAS_BIAS: tl.constexpr):
    z = tl.load(raw + ids, mask=valid, other=-float("inf"))
    if HAS_BIAS:
        z += tl.load(bias + ids, mask=valid, other=0.0).to(z.dtype)
    return z if TEMPERATURE == 1.0 else z / TEMPERATURE


@triton.jit
def _finite(x):
    """Return what may be subtracted from x without inf - inf."""
    return tl.where(x == -float("inf"), 0.0, x)


@triton.jit
def _log(x):
    """Return log x; of 0 the logarithm of a number too small to matter, so that 0 times it is 0."""
    return tl.log(tl.maximum(x, 1e-37))


@triton.jit
def _sort_key(x):
    """Return integers that are ordered as the floats are."""
    x = x + 0.0  # -0.0 becomes 0.0
    if x.dtype == tl.float64:
        wide = x.to(tl.int64, bitcast=True)
        key = tl.where(wide < 0, wide ^ 0x7FFFFFFFFFFFFFFF, wide)
    else:
        bits = x.to(tl.int32, bitcast=True)
        key = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    return key


@triton.jit
def _largest(key, valid, k):
    """Return which k of the keys are the largest; of equal ones the first. Bit by bit, from the sign down."""
    one = tl.full([], 1, key.dtype)
    bits: tl.constexpr = key.dtype.primitive_bitwidth
    least = one << (bits - 1)
    threshold = least
    for n in tl.static_range(bits):  # type: ignore[attr-defined]
        if n == 0:
            candidate = one - one
        else:
            candidate = threshold + (one << (bits - 1 - n))
        enough = tl.sum(((key >= candidate) & valid).to(tl.int32)) >= k
        threshold = tl.where(enough, candidate, threshold)
    above = (key > threshold) & valid
    level = (key == threshold) & valid
    free = k - tl.sum(above.to(tl.int32))
    return above | (level & (tl.cumsum(level.to(tl.int32), 0) <= free))


@triton.jit
def scan_blocks(
    raw,
    raw_stride,
    bias,
    vocabulary,
    tops,
    totals,
    weighted,
    blocks,
    TEMPERATURE: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    ENTROPY: tl.constexpr,
    STEP: tl.constexpr,
):
    """Per block of ids: the largest logit m, the sum of e^(z - m), and of (z - m) e^(z - m)."""
    row = tl.program_id(0).to(tl.int64)
    block = tl.program_id(1) * STEP + tl.arange(0, STEP)
    ids = block[:, None] * BLOCK + tl.arange(0, BLOCK)[None, :]
    z = _logits(raw + row * raw_stride, bias, ids, ids < vocabulary, TEMPERATURE, HAS_BIAS)
    top = tl.max(z, axis=1)
    below = z - _finite(top)[:, None]
    share = tl.exp(below)
    at = row * blocks + block
    tl.store(tops + at, top, mask=block < blocks)
    tl.store(totals + at, tl.sum(share, axis=1), mask=block < blocks)
    if ENTROPY:
        products = tl.where(share > 0, below, 0.0) * share
        tl.store(weighted + at, tl.sum(products, axis=1), mask=block < blocks)


@triton.jit
def sum_blocks(
    tops,
    totals,
    weighted,
    blocks,
    log_sums,
    means,
    largest,
    chosen,
    log_rest,
    chosen_count,
    ENTROPY: tl.constexpr,
    CHOOSE: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """Per row: log-sum-exp L, mean of z - L, largest logit, blocks with the largest tops, log-sum-exp of the rest."""
    row = tl.program_id(0).to(tl.int64)
    block = tl.arange(0, WIDTH)
    valid = block < blocks
    top = tl.load(tops + row * blocks + block, mask=valid, other=-float("inf"))
    total = tl.load(totals + row * blocks + block, mask=valid, other=0.0)
    highest = tl.max(top, axis=0)
    scale = tl.exp(top - _finite(highest))
    whole = tl.sum(total * scale, axis=0)
    log_sum = highest + tl.log(whole)
    tl.store(log_sums + row, log_sum)
    tl.store(largest + row, highest)
    if ENTROPY:
        inside = tl.load(weighted + row * blocks + block, mask=valid, other=0.0)
        terms = (inside + tl.where(total * scale > 0, top - log_sum, 0.0) * total) * scale
        tl.store(means + row, tl.sum(terms, axis=0) / whole)
    if CHOOSE:
        taken = _largest(_sort_key(top), valid, chosen_count)
        slot = tl.cumsum(taken.to(tl.int32), 0) - 1
        tl.store(chosen + row * chosen_count + slot, block, mask=taken)
        others = tl.where(taken, -float("inf"), top)
        peak = tl.max(others, axis=0)
        rest = tl.sum(tl.where(taken, 0.0, total * tl.exp(others - _finite(peak))), axis=0)
        tl.store(log_rest + row, peak + _log(rest))


@triton.jit
def select_ids(
    raw,
    raw_stride,
    bias,
    vocabulary,
    chosen,
    chosen_count,
    ids_out,
    logits_out,
    log_rest,
    k,
    TEMPERATURE: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """Per row: the k largest logits of the chosen blocks, in the order of their ids, and the log-sum-exp of the rest.

    ``log_rest`` holds that of the other blocks and becomes that of everything that was not selected.
    """
    row = tl.program_id(0).to(tl.int64)
    slot = tl.arange(0, WIDTH)
    block = tl.load(chosen + row * chosen_count + slot, mask=slot < chosen_count, other=0)
    ids = block[:, None] * BLOCK + tl.arange(0, BLOCK)[None, :]
    valid = (slot < chosen_count)[:, None] & (ids < vocabulary)
    z = _logits(raw + row * raw_stride, bias, ids, valid, TEMPERATURE, HAS_BIAS)
    z = tl.reshape(z, [WIDTH * BLOCK])
    ids = tl.reshape(ids, [WIDTH * BLOCK])
    valid = tl.reshape(valid, [WIDTH * BLOCK])
    taken = _largest(_sort_key(z), valid, k)
    place = row * k + tl.cumsum(taken.to(tl.int32), 0) - 1
    tl.store(ids_out + place, ids, mask=taken)
    tl.store(logits_out + place, z, mask=taken)
    left = tl.where(taken, -float("inf"), z)
    before = tl.load(log_rest + row)
    peak = tl.maximum(tl.max(left, axis=0), before)
    safe = _finite(peak)
    tl.store(log_rest + row, peak + _log(tl.sum(tl.exp(left - safe), axis=0) + tl.exp(before - safe)))


@triton.jit
def keep_shares(
    raw,
    raw_stride,
    bias,
    vocabulary,
    ceilings,
    shares,
    shares_stride,
    peaks,
    sums,
    parts,
    TEMPERATURE: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    KEEP: tl.constexpr,
    SIZE: tl.constexpr,
):
    """Write e^(z - ceiling), at most 1, and per part of the row its largest logit m and the sum of e^(z - m)."""
    row = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1)
    ids = part * SIZE + tl.arange(0, SIZE)
    valid = ids < vocabulary
    z = _logits(raw + row * raw_stride, bias, ids, valid, TEMPERATURE, HAS_BIAS)
    if KEEP:
        share = tl.exp(z - tl.load(ceilings + row))
        tl.store(shares + row * shares_stride + ids, share.to(shares.dtype.element_ty), mask=valid)
    peak = tl.max(z, axis=0)
    tl.store(peaks + row * parts + part, peak)
    tl.store(sums + row * parts + part, tl.sum(tl.exp(z - _finite(peak)), axis=0))


@triton.jit
def fill_gradient(
    raw,
    raw_stride,
    bias,
    gradient,
    gradient_stride,
    vocabulary,
    log_outside,
    offsets,
    scales,
    slants,
    TEMPERATURE: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    FROM_LOGITS: tl.constexpr,
    SLANTED: tl.constexpr,
    SIZE: tl.constexpr,
):
    """Write e^x (scale + slant x) with x = z - log_outside, from the logits or from the shares that lie there.

    A share is e^(x - offset).
    """
    row = tl.program_id(0).to(tl.int64)
    ids = tl.program_id(1) * SIZE + tl.arange(0, SIZE)
    valid = ids < vocabulary
    at = gradient + row * gradient_stride + ids
    scale = tl.load(scales + row)
    if FROM_LOGITS:
        x = _logits(raw + row * raw_stride, bias, ids, valid, TEMPERATURE, HAS_BIAS)
        x = tl.maximum(x - tl.load(log_outside + row), -1e30)
        share = tl.exp(x)
    else:
        offset = tl.load(offsets + row)
        kept = tl.load(at, mask=valid, other=0.0).to(scale.dtype)
        share = kept * tl.exp(offset)
        if SLANTED:
            x = _log(kept) + offset
    if SLANTED:
        value = share * (scale + tl.load(slants + row) * x)
    else:
        value = share * scale
    tl.store(at, value.to(gradient.dtype.element_ty), mask=valid)


@triton.jit
def place_values(gradient, gradient_stride, ids, values, counted, width, WIDTH: tl.constexpr):
    """Set the gradient at the ids of each row that count."""
    token = tl.program_id(0).to(tl.int64)
    slot = tl.arange(0, WIDTH)
    here = slot < width
    at = token * width + slot
    wanted = here & (tl.load(counted + at, mask=here, other=0) != 0)
    column = tl.load(ids + at, mask=here, other=0)
    value = tl.load(values + at, mask=here, other=0.0).to(gradient.dtype.element_ty)
    tl.store(gradient + token * gradient_stride + column, value, mask=wanted)


@triton.jit
def dot_at(
    states,
    weight,
    ids,
    needed,
    out,
    width,
    HIDDEN: tl.constexpr,
    SLOTS: tl.constexpr,
    SIZE: tl.constexpr,
):
    """Write the product of a token's hidden state with the head's rows that it needs."""
    token = tl.program_id(0).to(tl.int64)
    slot = tl.program_id(1) * SLOTS + tl.arange(0, SLOTS)
    here = slot < width
    wanted = here & (tl.load(needed + token * width + slot, mask=here, other=0) != 0)
    row = tl.load(ids + token * width + slot, mask=wanted, other=0).to(tl.int64)
    total = tl.zeros([SLOTS], dtype=out.dtype.element_ty)
    for start in range(0, HIDDEN, SIZE):
        column = start + tl.arange(0, SIZE)
        inside = column < HIDDEN
        state = tl.load(states + token * HIDDEN + column, mask=inside, other=0.0).to(out.dtype.element_ty)
        at = row[:, None] * HIDDEN + column[None, :]
        weights = tl.load(weight + at, mask=wanted[:, None] & inside[None, :], other=0.0)
        total += tl.sum(weights.to(out.dtype.element_ty) * state[None, :], axis=1)
    tl.store(out + token * width + slot, total, mask=here)
