"""Philox4x32-10 (Salmon et al. 2011), keyed as Sources/TensorCore's `Philox` is, so that a reference draws what a run draws."""
import numpy as np

INITIAL_LATENTS, WINDOW_NOISE, PATCHES, BOOTSTRAP = 1, 2, 5, 19
MEMBERS = 4096
MASK = np.uint64(0xFFFFFFFF)


def words(seed: int, purpose: int, coordinates: tuple[int, int, int], count: int) -> np.ndarray:
    """The first `count` words of a stream: counters (block, a, b, c)."""
    blocks = -(-count // 4)
    c = [np.arange(blocks, dtype=np.uint64)] + [np.full(blocks, value, dtype=np.uint64) for value in coordinates]
    k = [np.uint64(seed & 0xFFFFFFFF) ^ np.uint64(purpose * 0x9E3779B1 & 0xFFFFFFFF), np.uint64(seed >> 32)]
    for _ in range(10):
        first, second = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [(second >> np.uint64(32)) ^ c[1] ^ k[0], second & MASK, (first >> np.uint64(32)) ^ c[3] ^ k[1], first & MASK]
        k = [(k[0] + np.uint64(0x9E3779B9)) & MASK, (k[1] + np.uint64(0xBB67AE85)) & MASK]
    return np.stack(c, 1).reshape(-1)[:count]


def normals(seed: int, purpose: int, coordinates: tuple[int, int, int], count: int) -> np.ndarray:
    """Box and Muller, in double precision, rounded once to float32."""
    uniform = (words(seed, purpose, coordinates, count + count % 2).astype(np.float64) + 0.5) / 2 ** 32
    radius, angle = np.sqrt(-2 * np.log(uniform[0::2])), 2 * np.pi * uniform[1::2]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).reshape(-1)[:count].astype(np.float32)


def integers(seed: int, purpose: int, coordinates: tuple[int, int, int], count: int, below: int) -> np.ndarray:
    """Multiply and shift."""
    return (words(seed, purpose, coordinates, count) * np.uint64(below) >> np.uint64(32)).astype(np.int32)
