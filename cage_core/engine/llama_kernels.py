"""A Llama-shaped network as loops over tokens, compiled by Numba: no padding, no masks, no copies.

A token's numbers come from the same operations in the same order whatever stands beside it, so they are the same
bits in any batch. Arrays are C-contiguous float32. A weight [inputs, outputs] lies in *panels*, [panels, inputs,
PANEL], so that a panel's slice stays in a near cache while all tokens pass it.

All in one file, because Numba's cache of machine code notices changes only in the file of the function asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Integers = NDArray[np.int64]
Function = TypeVar("Function", bound=Callable[..., object])

# Measured (docs/decisions/0005-compiled-llama.md): five tokens by four inputs keep the multipliers busy, ten
# registers of 64 bytes make the innermost loop long enough, and 512 inputs of a panel fit into the second cache.
PANEL = 160
TOKENS_AT_ONCE = 5
INPUTS_AT_ONCE = 4
_INPUTS_OF_A_PASS = 512
STRIP = 32
CHUNK_TOKENS = 80

_LOG2_E = np.float32(1.4426950408889634)
_LN2_HIGH = np.float32(0.693359375)
_LN2_LOW = np.float32(-2.12194440e-4)
_SMALLEST_LOGIT = np.float32(-87.0)
_ONE = np.float32(1)


class Projection(NamedTuple):
    """Projections of the same inputs, side by side, and every adapter's share in them; stacked over the layers.

    Attributes:
        base: [layers, panels, inputs, PANEL].
        into: [layers, adapters, parts * rank, inputs].
        up: [layers, adapters, rank, outputs].
        parts: where each of the projections begins among the outputs, and where the last one ends.
    """

    base: Array
    into: Array
    up: Array
    parts: Integers


class Weights(NamedTuple):
    """A network.

    Attributes:
        embedding: [vocabulary, hidden].
        norms: [layers, 2, hidden] before attention and before the MLP; `last_norm` [hidden] before the head.
        head: [panels, hidden, PANEL].
        cosines, sines: [context, head size / 2].
    """

    embedding: Array
    norms: Array
    last_norm: Array
    epsilon: float
    qkv: Projection
    out: Projection
    gate_up: Projection
    down: Projection
    head: Array
    cosines: Array
    sines: Array


class Work(NamedTuple):
    """Memory that a forward pass writes on the way: [CHUNK_TOKENS, width of that stage], and scratch."""

    stream: Array
    normed: Array
    qkv: Array
    attended: Array
    gate_up: Array
    gated: Array
    branch: Array
    logits: Array
    inner: Array  # [parts * rank]
    scores: Array  # [context]
    powers: Array  # [widest stage]


def _compiled(*liberties: str) -> Callable[[Function], Function]:
    """Machine code, kept between runs; `liberties` are LLVM's with the order of sums."""

    def compile_one(function: Function) -> Function:
        options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": set(liberties)}
        try:
            return cast(Function, numba.njit(cache=True, **options)(function))
        except RuntimeError:  # nowhere to keep it: every process compiles for itself
            return cast(Function, numba.njit(**options)(function))

    return compile_one


@_compiled("contract")
def _multiply(inputs: Array, count: int, weight: Array, products: Array) -> None:
    """products[:count] = inputs[:count] @ weight; some rows behind may be written too."""
    for panel in range(weight.shape[0]):
        start = panel * PANEL
        for first in range(0, weight.shape[1], _INPUTS_OF_A_PASS):
            end = min(first + _INPUTS_OF_A_PASS, weight.shape[1])
            for row in range(0, count, TOKENS_AT_ONCE):
                y0 = products[row, start : start + PANEL]
                y1 = products[row + 1, start : start + PANEL]
                y2 = products[row + 2, start : start + PANEL]
                y3 = products[row + 3, start : start + PANEL]
                y4 = products[row + 4, start : start + PANEL]
                if first == 0:
                    y0[:] = 0
                    y1[:] = 0
                    y2[:] = 0
                    y3[:] = 0
                    y4[:] = 0
                a, b, c, d, e = inputs[row], inputs[row + 1], inputs[row + 2], inputs[row + 3], inputs[row + 4]
                for k in range(first, end, INPUTS_AT_ONCE):
                    w0, w1, w2, w3 = weight[panel, k], weight[panel, k + 1], weight[panel, k + 2], weight[panel, k + 3]
                    a0, a1, a2, a3 = a[k], a[k + 1], a[k + 2], a[k + 3]
                    b0, b1, b2, b3 = b[k], b[k + 1], b[k + 2], b[k + 3]
                    c0, c1, c2, c3 = c[k], c[k + 1], c[k + 2], c[k + 3]
                    d0, d1, d2, d3 = d[k], d[k + 1], d[k + 2], d[k + 3]
                    e0, e1, e2, e3 = e[k], e[k + 1], e[k + 2], e[k + 3]
                    for n in range(PANEL):
                        x0, x1, x2, x3 = w0[n], w1[n], w2[n], w3[n]
                        y0[n] = (((y0[n] + a0 * x0) + a1 * x1) + a2 * x2) + a3 * x3
                        y1[n] = (((y1[n] + b0 * x0) + b1 * x1) + b2 * x2) + b3 * x3
                        y2[n] = (((y2[n] + c0 * x0) + c1 * x1) + c2 * x2) + c3 * x3
                        y3[n] = (((y3[n] + d0 * x0) + d1 * x1) + d2 * x2) + d3 * x3
                        y4[n] = (((y4[n] + e0 * x0) + e1 * x1) + e2 * x2) + e3 * x3


@_compiled("contract")
def _add_product(factors: Array, matrix: Array, start: int, sums: Array) -> None:
    """sums += factors @ matrix, for one row and as many columns from `start` on as there are sums."""
    whole_columns, whole_factors = sums.shape[0] // STRIP * STRIP, factors.shape[0] // 8 * 8
    for column in range(0, whole_columns, STRIP):
        strip, low = sums[column : column + STRIP], start + column
        for k in range(0, whole_factors, 8):
            w0, w1 = matrix[k, low : low + STRIP], matrix[k + 1, low : low + STRIP]
            w2, w3 = matrix[k + 2, low : low + STRIP], matrix[k + 3, low : low + STRIP]
            w4, w5 = matrix[k + 4, low : low + STRIP], matrix[k + 5, low : low + STRIP]
            w6, w7 = matrix[k + 6, low : low + STRIP], matrix[k + 7, low : low + STRIP]
            a0, a1, a2, a3 = factors[k], factors[k + 1], factors[k + 2], factors[k + 3]
            a4, a5, a6, a7 = factors[k + 4], factors[k + 5], factors[k + 6], factors[k + 7]
            for n in range(STRIP):
                even = ((a0 * w0[n] + a2 * w2[n]) + a4 * w4[n]) + a6 * w6[n]
                odd = ((a1 * w1[n] + a3 * w3[n]) + a5 * w5[n]) + a7 * w7[n]
                strip[n] += even + odd
        for k in range(whole_factors, factors.shape[0]):
            factor, row = factors[k], matrix[k, low : low + STRIP]
            for n in range(STRIP):
                strip[n] += factor * row[n]
    for k in range(factors.shape[0]):
        for n in range(whole_columns, sums.shape[0]):
            sums[n] += factors[k] * matrix[k, start + n]


@_compiled("contract", "reassoc", "nsz", "nnan")
def _dot_products(factors: Array, matrix: Array, products: Array) -> None:
    """products = matrix @ factors, for one row and as many rows of the matrix as there are products."""
    for n in range(products.shape[0]):
        row = matrix[n]
        total = np.float32(0)
        for k in range(factors.shape[0]):
            total += factors[k] * row[k]
        products[n] = total


@_compiled("contract")
def _project(inputs: Array, adapters: Integers, weight: Projection, layer: int, inner: Array, products: Array) -> None:
    """One layer's projections of every token, its own adapter included if it has one."""
    _multiply(inputs, adapters.shape[0], weight.base[layer], products)
    into, up, parts = weight.into[layer], weight.up[layer], weight.parts
    rank, wide = up.shape[1], inner[: into.shape[1]]
    for token in range(adapters.shape[0]):
        adapter = adapters[token] - 1
        if adapter < 0:
            continue
        _dot_products(inputs[token], into[adapter], wide)
        for part in range(parts.shape[0] - 1):
            share, start = wide[part * rank : (part + 1) * rank], parts[part]
            _add_product(share, up[adapter], start, products[token, start : parts[part + 1]])


@_compiled("contract")
def _exponentials(logits: Array, powers: Array) -> None:
    """exp in place: 2**n exp(r), |r| <= log(2) / 2, with the coefficients of Cephes' expf. `powers` is scratch."""
    bits = powers.view(np.int32)
    for k in range(logits.shape[0]):
        x = min(max(logits[k], _SMALLEST_LOGIT), -_SMALLEST_LOGIT)
        n = np.floor(x * _LOG2_E + np.float32(0.5))
        r = (x - n * _LN2_HIGH) - n * _LN2_LOW
        p = np.float32(1.9875691500e-4)
        p = p * r + np.float32(1.3981999507e-3)
        p = p * r + np.float32(8.3334519073e-3)
        p = p * r + np.float32(4.1665795894e-2)
        p = p * r + np.float32(1.6666665459e-1)
        p = p * r + np.float32(5.0000001201e-1)
        logits[k] = p * (r * r) + r + _ONE
        bits[k] = np.int32(np.int32(n) + np.int32(127)) << np.int32(23)
    for k in range(logits.shape[0]):
        logits[k] *= powers[k]


@_compiled("contract", "reassoc", "nsz", "nnan")
def _largest(values: Array) -> np.float32:
    result: np.float32 = values[0]
    for k in range(values.shape[0]):
        result = max(result, values[k])
    return result


@_compiled("contract", "reassoc", "nsz", "nnan")
def _sum(values: Array) -> np.float32:
    total = np.float32(0)
    for k in range(values.shape[0]):
        total += values[k]
    return total


@_compiled("contract", "reassoc", "nsz", "nnan")
def _mean_square(values: Array) -> np.float32:
    total = np.float32(0)
    for k in range(values.shape[0]):
        total += values[k] * values[k]
    return total / np.float32(values.shape[0])


@_compiled("contract")
def _normalise(rows: Array, scale: Array, epsilon: float, normed: Array) -> None:
    """Root-mean-square norm of every row."""
    for token in range(rows.shape[0]):
        row, result = rows[token], normed[token]
        factor = np.float32(1 / np.sqrt(_mean_square(row) + np.float32(epsilon)))
        for k in range(row.shape[0]):
            result[k] = scale[k] * (row[k] * factor)


@_compiled("contract")
def _add(terms: Array, sums: Array) -> None:
    for token in range(sums.shape[0]):
        term, total = terms[token], sums[token]
        for k in range(total.shape[0]):
            total[k] += term[k]


@_compiled("contract")
def _rotate(head: Array, cosines: Array, sines: Array) -> None:
    half = cosines.shape[0]
    for k in range(half):
        first, second = head[k], head[half + k]
        head[k] = first * cosines[k] - second * sines[k]
        head[half + k] = second * cosines[k] + first * sines[k]


@_compiled("contract")
def _store(qkv: Array, rows: Integers, positions: Integers, weights: Weights, keys: Array, values: Array) -> None:
    """Turn queries and keys to their positions; put keys and values into one layer of the cache."""
    num_kept, size = keys.shape[1], keys.shape[3]
    num_turned = weights.qkv.parts[2] // size
    for token in range(rows.shape[0]):
        row, position = rows[token], positions[token]
        for head in range(num_turned):
            _rotate(qkv[token, head * size : (head + 1) * size], weights.cosines[position], weights.sines[position])
        new_keys, new_values = qkv[token, weights.qkv.parts[1] :], qkv[token, weights.qkv.parts[2] :]
        for head in range(num_kept):
            for k in range(size):
                keys[row, head, position, k] = new_keys[head * size + k]
                values[row, head, position, k] = new_values[head * size + k]


@_compiled("contract")
def _attend(rows: Integers, positions: Integers, keys: Array, values: Array, work: Work) -> None:
    """Every token attends to its row's positions up to its own."""
    num_kept, size = keys.shape[1], keys.shape[3]
    num_heads = work.attended.shape[1] // size
    scale = np.float32(1 / np.sqrt(size))
    for token in range(rows.shape[0]):
        row, length = rows[token], positions[token] + 1
        shares = work.scores[:length]
        for head in range(num_heads):
            kept = head * num_kept // num_heads
            _dot_products(work.qkv[token, head * size : (head + 1) * size], keys[row, kept], shares)
            top = _largest(shares)
            for k in range(length):
                shares[k] = (shares[k] - top) * scale
            _exponentials(shares, work.powers)
            total = _sum(shares)
            result = work.attended[token, head * size : (head + 1) * size]
            result[:] = 0
            _add_product(shares, values[row, kept], 0, result)
            for k in range(size):
                result[k] /= total


@_compiled("contract")
def _gate(gate_up: Array, count: int, powers: Array, gated: Array) -> None:
    """silu(gate) * up."""
    width = gated.shape[1]
    for token in range(count):
        gate, up, result = gate_up[token, :width], gate_up[token, width : 2 * width], gated[token]
        for k in range(width):
            result[k] = -gate[k]
        _exponentials(result, powers)
        for k in range(width):
            result[k] = gate[k] / (_ONE + result[k]) * up[k]


@_compiled("contract")
def _finish(weights: Weights, ends: Integers, work: Work, log_probs: Array) -> None:
    """Norm, head and log-softmax, at the tokens that end a row."""
    count = 0
    for token in range(ends.shape[0]):
        if ends[token] >= 0:
            work.stream[count] = work.stream[token]
            count += 1
    _normalise(work.stream[:count], weights.last_norm, weights.epsilon, work.normed)
    _multiply(work.normed, count, weights.head, work.logits)
    count = 0
    for token in range(ends.shape[0]):
        if ends[token] >= 0:
            result = log_probs[ends[token]]
            logits = work.logits[count, : result.shape[0]]
            top = _largest(logits)
            for k in range(result.shape[0]):
                logits[k] -= top
                result[k] = logits[k]
            _exponentials(logits, work.powers)
            log_total = np.float32(np.log(_sum(logits)))
            for k in range(result.shape[0]):
                result[k] -= log_total
            count += 1


@_compiled("contract")
def forward(
    weights: Weights,
    keys: Array,
    values: Array,
    work: Work,
    tokens: Integers,
    rows: Integers,
    positions: Integers,
    adapters: Integers,
    ends: Integers,
    log_probs: Array,
) -> None:
    """Run tokens through the network and write what comes after those that end a row.

    Args:
        keys, values: [layers, cache rows, heads, context, size].
        tokens, rows, positions, adapters: [tokens]; those of one row in order. Adapter 0 is none.
        ends: [tokens] row of `log_probs` that a token's successor is described in; -1 for none.
        log_probs: [rows, vocabulary], filled in; nats.
    """
    for first in range(0, tokens.shape[0], CHUNK_TOKENS):
        last = min(first + CHUNK_TOKENS, tokens.shape[0])
        its_rows, its_positions, its_adapters = rows[first:last], positions[first:last], adapters[first:last]
        stream = work.stream[: last - first]
        for token in range(first, last):
            stream[token - first] = weights.embedding[tokens[token]]
        for layer in range(weights.norms.shape[0]):
            _normalise(stream, weights.norms[layer, 0], weights.epsilon, work.normed)
            _project(work.normed, its_adapters, weights.qkv, layer, work.inner, work.qkv)
            _store(work.qkv, its_rows, its_positions, weights, keys[layer], values[layer])
            _attend(its_rows, its_positions, keys[layer], values[layer], work)
            _project(work.attended, its_adapters, weights.out, layer, work.inner, work.branch)
            _add(work.branch, stream)
            _normalise(stream, weights.norms[layer, 1], weights.epsilon, work.normed)
            _project(work.normed, its_adapters, weights.gate_up, layer, work.inner, work.gate_up)
            _gate(work.gate_up, last - first, work.powers, work.gated)
            _project(work.gated, its_adapters, weights.down, layer, work.inner, work.branch)
            _add(work.branch, stream)
        _finish(weights, ends[first:last], work, log_probs)
