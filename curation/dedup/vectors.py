"""Vectors to compare: which of them can be, and how close two of them are.

Two numbers are computed for a pair. A matrix product in bfloat16 proposes: fast, and off
by up to 0.004 near a cosine of 0.95. The cosine in float64, rounded to float32, decides.
It depends on the two rows alone, so that a pair is judged alike in whatever company,
order or batch, and on whatever machine, it is looked at.
"""

import warnings
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch.nn.functional import pad

from curation.errors import InputError

UNIT_LENGTH_TOLERANCE = 0.01
"""How far a vector's length may be from 1. Float16 rounding changes it by 0.0005."""

BFLOAT16_ERROR = 0.004
"""Largest error of a cosine from a bfloat16 product: half a unit in the last place of the
result, which is 2**-9 from 0.5 to 1, and about as much from rounding the factors."""

FLOAT32_ERROR = 1e-5

BLOCK_ROWS = 1024  # rows of a product; with 8192 columns, 16 MB in bfloat16
BLOCK_COLUMNS = 8192
_ROWS_AT_ONCE = 1 << 13  # of passes over all vectors; 16 MB in float32 at 512 numbers a row
_PAIRS_AT_ONCE = 1 << 11  # of float64 cosines; 8 MB at 512 numbers a row

_SHAPE_STEP = 128
"""Numbers of rows that are multiplied are multiples of it."""

_DENSE_SHARE = 1 / 256
"""Share of proposals from which a float32 product is cheaper than going pair by pair."""


@dataclass(frozen=True, slots=True)
class Unusable:
    """How many vectors take part in no comparison, and why."""

    not_finite: int
    """Hold NaN or an infinity."""
    zero: int
    """Have length 0, as null vectors have."""
    not_unit_length: int
    """Have a length that is neither 0 nor 1."""

    @property
    def total(self) -> int:
        """All of them."""
        return self.not_finite + self.zero + self.not_unit_length


@dataclass(frozen=True, eq=False)
class Vectors:
    """Rows of about unit length, held in main memory, compared on a device."""

    rows: torch.Tensor
    """``(N, dim)`` float16 or float32, on the CPU."""
    device: torch.device
    length_error: float
    """The most that a usable row's length differs from 1."""

    @property
    def proposal_error(self) -> float:
        """How far a proposed cosine can be from the true one."""
        is_half = proposal_type(self.device) == torch.bfloat16
        # Proposals skip normalising: with lengths 1 + e, a cosine is off by 2 e.
        return (BFLOAT16_ERROR if is_half else FLOAT32_ERROR) + 2.1 * self.length_error

    def half(self, rows: np.ndarray) -> torch.Tensor:
        """Take rows for proposing: on the device, in its fastest precise enough type."""
        kind = proposal_type(self.device)
        if self.device.type != "cpu":
            return self._taken(rows).to(self.device, kind)
        found = torch.empty((len(rows), self.rows.shape[1]), dtype=kind)
        for start in range(0, len(rows), BLOCK_ROWS):
            part = slice(start, start + BLOCK_ROWS)
            # By way of float32, which takes half as long, and rounds the same.
            found[part] = self._taken(rows[part]).float()
        return found

    def single(self, rows: np.ndarray) -> torch.Tensor:
        """Take rows in float32, made unit length, on the device."""
        taken = self._taken(rows).to(self.device, torch.float32)
        return torch.nn.functional.normalize(taken, dim=1)

    def cosines(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Give the cosine of each pair of rows, float32, the same for any company."""
        found = [np.empty(0, np.float32)]
        for start in range(0, len(left), _PAIRS_AT_ONCE):
            part = slice(start, start + _PAIRS_AT_ONCE)
            x = self._double(left[part])
            y = self._double(right[part])
            lengths = ((x * x).sum(1) * (y * y).sum(1)).sqrt()
            found.append(((x * y).sum(1) / lengths).float().cpu().numpy())
        return np.concatenate(found)

    def _double(self, rows: np.ndarray) -> torch.Tensor:
        return self._taken(rows).to(self.device, torch.float64)

    def _taken(self, rows: np.ndarray) -> torch.Tensor:
        # Indexing with brackets takes six times as long.
        return self.rows.index_select(0, torch.from_numpy(rows))

    def similar_pairs(
        self,
        left: np.ndarray,
        right: np.ndarray,
        min_similarity: float,
        left_half: torch.Tensor,
        right_half: torch.Tensor,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Find the pairs of two lists of rows whose cosine is at least a bound.

        Args:
            left: ``(L,)`` row numbers, ``BLOCK_ROWS`` at most.
            right: ``(R,)`` row numbers, ``BLOCK_COLUMNS`` at most.
            min_similarity: The bound.
            left_half: What :meth:`half` gives for ``left``.
            right_half: The same for ``right``.

        Returns:
            Places in ``left`` and in ``right``, sorted by the first, then the second, and
            the cosines, float32, off by 1e-6 at most.
        """
        proposed = _products(left_half, right_half)
        bound = min_similarity - self.proposal_error
        near = (proposed.amax(dim=1) >= bound).nonzero().squeeze(1)
        i, j = (proposed[near] >= bound).nonzero(as_tuple=True)
        one, other = near[i].cpu().numpy(), j.cpu().numpy()
        if len(one) > max(_DENSE_SHARE * len(near) * len(right), _PAIRS_AT_ONCE):
            return self._dense_pairs(left, right, min_similarity)
        cosines = self.cosines(left[one], right[other])
        close = cosines >= np.float32(min_similarity)
        return one[close], other[close], cosines[close]

    def _dense_pairs(
        self, left: np.ndarray, right: np.ndarray, min_similarity: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Do the same where pairs are many; only what float32 can't tell is looked at."""
        products = self.single(left) @ self.single(right).T
        i, j = (products >= min_similarity - FLOAT32_ERROR).nonzero(as_tuple=True)
        cosines = products[i, j].cpu().numpy()
        one, other = i.cpu().numpy(), j.cpu().numpy()
        doubtful = np.flatnonzero(cosines < min_similarity + FLOAT32_ERROR)
        cosines[doubtful] = self.cosines(left[one[doubtful]], right[other[doubtful]])
        close = cosines >= np.float32(min_similarity)
        return one[close], other[close], cosines[close]


def _products(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Multiply every row of one matrix with every row of another.

    On a CPU the first product of a shape takes several times as long as the next, because
    code is generated for it. Cells have all sizes, so they are rounded up to few.
    """
    if left.device.type != "cpu":
        return left @ right.T
    padded = [pad(rows, (0, 0, 0, -len(rows) % _SHAPE_STEP)) for rows in (left, right)]
    return (padded[0] @ padded[1].T)[: len(left), : len(right)]


def make_vectors(
    array: np.ndarray, *, device: str | None = None, normalize: bool = False
) -> tuple[Vectors, np.ndarray, Unusable]:
    """Check vectors before they are compared.

    Args:
        array: ``(N, dim)`` float16 or float32. It is not copied unless ``normalize``.
        device: Where to compare, such as ``cuda:0``; by default a GPU if there is one.
        normalize: Divide rows by their lengths, into a float32 copy.

    Returns:
        The vectors; ``(N,)`` bool, whether a row can be compared; and what can't be.

    Raises:
        InputError: The array has another shape or type.
    """
    if array.ndim != 2 or array.dtype not in (np.float16, np.float32):
        raise InputError(
            f"vectors: expected (N, dim) float16 or float32; found {array.shape} "
            f"{array.dtype}"
        )
    rows = as_tensor(array)
    lengths = _lengths(rows)
    finite, zero = np.isfinite(lengths), lengths == 0
    if normalize:
        rows = torch.nn.functional.normalize(rows.float(), dim=1)
        lengths = np.where(finite & ~zero, np.float32(1), lengths)
    error = np.abs(lengths - 1)
    usable = finite & (error <= UNIT_LENGTH_TOLERANCE)
    unusable = Unusable(
        not_finite=int((~finite).sum()),
        zero=int(zero.sum()),
        not_unit_length=int((finite & ~zero & ~usable).sum()),
    )
    length_error = float(error[usable].max(initial=0))
    return Vectors(rows, find_device(device), length_error), usable, unusable


def find_device(name: str | None) -> torch.device:
    """Give the device of that name; by default a GPU if there is one."""
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))


def as_tensor(array: np.ndarray) -> torch.Tensor:
    """Give a tensor on an array's memory, which may be read-only."""
    with warnings.catch_warnings():
        # PyTorch can't mark a tensor as read-only and warns. Nothing here writes to one.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


@cache
def proposal_type(device: torch.device) -> torch.dtype:
    """Give the type that a device multiplies fastest: bfloat16, or float32 on old CPUs."""
    if device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return torch.float32
    return torch.bfloat16


def _lengths(rows: torch.Tensor) -> np.ndarray:
    """Give the length of each row: float32, infinite or NaN if a number is."""
    found = [torch.empty(0)] + [
        torch.linalg.vector_norm(
            rows[start : start + _ROWS_AT_ONCE], dim=1, dtype=torch.float32
        )
        for start in range(0, len(rows), _ROWS_AT_ONCE)
    ]
    return torch.cat(found).numpy()
