"""Small dense linear systems."""

from __future__ import annotations

from cage_core.kernels.compiling import Floats, compiled


@compiled
def solve_in_place(matrix: Floats, right: Floats, size: int) -> float:
    """Solve matrix @ x = right by elimination with partial pivoting; x replaces `right`.

    Both arguments are overwritten. Returns the determinant; 0 means singular, and then x is not a solution.
    """
    determinant = 1.0
    for column in range(size):
        pivot = column
        for row in range(column + 1, size):
            if abs(matrix[row, column]) > abs(matrix[pivot, column]):
                pivot = row
        if not abs(matrix[pivot, column]) > 0.0:
            return 0.0
        if pivot != column:
            determinant = -determinant
            for other in range(column, size):
                matrix[pivot, other], matrix[column, other] = matrix[column, other], matrix[pivot, other]
            right[pivot], right[column] = right[column], right[pivot]
        determinant *= matrix[column, column]
        for row in range(column + 1, size):
            factor = matrix[row, column] / matrix[column, column]
            if factor != 0.0:
                for other in range(column + 1, size):
                    matrix[row, other] -= factor * matrix[column, other]
                right[row] -= factor * right[column]
    for row in range(size - 1, -1, -1):
        total = right[row]
        for other in range(row + 1, size):
            total -= matrix[row, other] * right[other]
        right[row] = total / matrix[row, row]
    return determinant
