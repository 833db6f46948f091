"""The ways to find the heads of a fit, by the names that recipes give them.

To add one, write a `StepSolver` or a `DirectSolver` in a file of its own beside this one, and add
it to `SOLVERS`.
"""

from models.solvers.adamw import AdamW
from models.solvers.base import DirectSolver, Solver, StepSolver
from models.solvers.gda import Gda
from models.solvers.lbfgs import Lbfgs
from models.solvers.none import NoSolver

__all__ = ["SOLVERS", "DirectSolver", "Solver", "StepSolver"]

SOLVERS: dict[str, Solver] = {
    solver.name: solver for solver in (AdamW(), Lbfgs(), Gda(), NoSolver())
}
