"""The stream, against plainly written references."""

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit

from bbnn_uq import philox

MASK = 2**64 - 1


def philox_block(counter: list[int], key: list[int]) -> list[int]:
    """Philox4x64-10 as in the paper, on Python integers."""
    c, k = list(counter), list(key)
    for _ in range(10):
        a, b = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
        c = [(b >> 64) ^ c[1] ^ k[0], b & MASK, (a >> 64) ^ c[3] ^ k[1], a & MASK]
        k = [(k[0] + 0x9E3779B97F4A7C15) & MASK, (k[1] + 0xBB67AE8584CAA73B) & MASK]
    return c


def drawn_by_hand(natural_param, seed: int, index: int, name: str) -> list[bool]:
    """The layout of the package docstring, one weight at a time."""
    address = philox.parameter_address(name)

    def number(stage: int, position: int, bits: int) -> int:
        per_block = 256 // bits
        words = philox_block([position // per_block + 1, 0, address, stage], [seed, index])
        whole = sum(word << (64 * i) for i, word in enumerate(words))
        return (whole >> (bits * (position % per_block))) & (2**bits - 1)

    drawn, ties = [], {}
    for i, value in enumerate(natural_param):
        threshold = round(2**24 * float(expit(2 * value)))
        head = min(threshold >> 16, 255)
        byte = number(0, i, 8)
        if byte != head:
            drawn.append(byte < head)
            continue
        block = i // 32
        rank = ties.get(block, 0)
        ties[block] = rank + 1
        drawn.append(number(1 + rank, block, 16) < threshold - (head << 16))
    return drawn


def test_reference_matches_the_published_known_answers():
    # Known answers of the authors' Random123 library, kat_vectors, philox4x64 10.
    zeros = philox_block([0] * 4, [0] * 2)
    ones = philox_block([MASK] * 4, [MASK] * 2)
    assert zeros == [
        0x16554D9ECA36314C,
        0xDB20FE9D672D0FDC,
        0xD7E772CEE186176B,
        0x7E68B68AEC7BA23B,
    ]
    assert ones == [
        0x87B092C3013FE90B,
        0x438C3C67BE8D0224,
        0x9CC7D7C69CD777B6,
        0xA09CAEBF594F0BA0,
    ]


def test_words_are_those_of_the_reference():
    words = philox.stream_words((3, MASK), 12345, 2, 7, 2)
    expected = philox_block([8, 0, 12345, 2], [3, MASK]) + philox_block([9, 0, 12345, 2], [3, MASK])
    assert words.tolist() == expected


@pytest.mark.parametrize("spread", [0.0, 0.5, 3.0, 1000.0])
def test_weights_are_those_of_the_layout(spread):
    natural_param = np.random.default_rng(0).normal(0, 1, 3001) * spread
    drawn = philox.positive_weights(
        philox.thresholds(natural_param), (5, 2), philox.parameter_address("a.weight")
    )
    assert drawn.tolist() == drawn_by_hand(natural_param, 5, 2, "a.weight")


def test_a_block_may_hold_several_ties():
    # Heads made to equal the bytes: all 32 weights of every block are tied, ranks 0 to 31.
    address = philox.parameter_address("w")
    byte = philox.stream_words((0, 0), address, 0, 0, 4).view(np.uint8)
    certain = philox.Thresholds(byte.copy(), np.full(128, 65536, np.int32))
    never = philox.Thresholds(byte.copy(), np.zeros(128, np.int32))
    assert philox.positive_weights(certain, (0, 0), address).all()
    assert not philox.positive_weights(never, (0, 0), address).any()
    half = philox.Thresholds(byte.copy(), np.full(128, 32768, np.int32))
    expected = [
        philox.stream_words((0, 0), address, 1 + i % 32, 0, 1).view("<u2")[i // 32] < 32768
        for i in range(128)
    ]
    assert philox.positive_weights(half, (0, 0), address).tolist() == expected


@pytest.mark.parametrize("size", [1, 31, 32, 511, 512, 513, 5000])
def test_pieces_draw_what_the_whole_draws(size):
    natural_param = np.random.default_rng(1).normal(0, 1, size)
    address = philox.parameter_address("w")
    whole = philox.positive_weights(philox.thresholds(natural_param), (9, 1), address)
    pieces = [
        philox.positive_weights(
            philox.thresholds(natural_param[i : i + 512]), (9, 1), address, start=i
        )
        for i in range(0, size, 512)
    ]
    assert np.array_equal(np.concatenate(pieces), whole)


def test_threshold_probability_is_within_two_to_the_minus_24():
    natural_param = np.concatenate([np.linspace(-12, 12, 20001), [-1e3, 1e3]])
    head, tail = philox.thresholds(natural_param)
    probability = (head * 65536.0 + tail) / 2**24
    exact = 1 / (1 + np.exp(-2 * natural_param.astype(np.longdouble)))
    assert np.abs(probability - exact).max() <= 2**-24
    assert probability[-2] == 0.0
    assert probability[-1] == 1.0


@pytest.mark.parametrize("probability", [1 / 256, 0.3, 0.5, 129.5 / 256])
def test_frequencies(probability):
    # 2^20 weights: 4 standard errors, fixed seed.
    natural_param = np.full(2**20, 0.5 * np.log(probability / (1 - probability)))
    drawn = philox.positive_weights(philox.thresholds(natural_param), (0, 0), 1)
    error = np.sqrt(probability * (1 - probability) / drawn.size)
    assert abs(drawn.mean() - probability) < 4 * error


def test_ties_follow_their_tail():
    # A probability inside one byte step: among the tied, the tail decides.
    certain = philox.thresholds(np.full(2**20, 0.5 * np.log(3.0)))  # p = 3/4: head 192, tail 0
    tail = np.full(2**20, 16384, np.int32)
    address = philox.parameter_address("w")
    byte = philox.stream_words((0, 0), address, 0, 0, 2**15).view(np.uint8)
    drawn = philox.positive_weights(philox.Thresholds(certain.head, tail), (0, 0), address)
    tied = byte == 192
    assert np.array_equal(drawn[~tied], byte[~tied] < 192)
    error = np.sqrt(0.25 * 0.75 / tied.sum())
    assert abs(drawn[tied].mean() - 0.25) < 4 * error


def test_networks_parameters_and_neighbours_are_independent():
    fair = philox.thresholds(np.zeros(2**18))
    keys = [((0, 0), 1), ((0, 1), 1), ((1, 0), 1), ((0, 0), 2)]
    draws = np.array([philox.positive_weights(fair, key, address) for key, address in keys])
    sign = np.where(draws, 1.0, -1.0)
    correlation = np.corrcoef(np.vstack([sign, np.roll(sign[0], 1), np.roll(sign[0], 32)]))
    off_diagonal = correlation[~np.eye(6, dtype=bool)]
    assert np.abs(off_diagonal).max() < 4.5 / np.sqrt(2**18)
    counts = np.bincount(np.packbits(draws[0]), minlength=256)
    assert stats.chisquare(counts).pvalue > 1e-3
