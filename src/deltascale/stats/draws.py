"""Random numbers keyed by what they are for, not by when or in which thread they are drawn."""

import numpy as np

__all__ = ["keyed_generator"]

_WORD = 2**64


def keyed_generator(seed: int, *, purpose: int = 0, block: int = 0) -> np.random.Generator:
    """A stream of its own for each (seed, purpose, block), all three in [0, 2^64).

    Philox is counter-based: `seed` and `purpose` are its key and `block` the third word of its
    counter, so streams are 2^128 draws apart and the same whoever asks first.

    Raises ValueError outside the range. Source: Salmon et al. 2011, SC '11, "Parallel random
    numbers: as easy as 1, 2, 3".
    """
    if not all(0 <= word < _WORD for word in (seed, purpose, block)):
        raise ValueError(
            f"seed, purpose and block must lie in [0, 2^64): {seed}, {purpose}, {block}"
        )
    key = np.array([seed, purpose], dtype=np.uint64)
    counter = np.array([0, 0, block, 0], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))
