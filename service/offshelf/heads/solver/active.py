"""Newton steps of the hinge losses by direct solves: few images are active, so they are small.

A hinge bends only where an image is on the wrong side of its corner. With those images, A, the
Newton step solves `(G_AA + 1/D) a + b = target`, D the second derivatives: |A| unknowns a class,
where conjugate gradients would take tens of products with everything, the more the larger C is.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from offshelf.heads.solver.losses import Local
    from offshelf.heads.solver.newton import Point, Rules
    from offshelf.heads.solver.spaces import Space

# A direct solve of m unknowns (m^3 / 3 multiplications, at a lower rate than products reach) is
# taken to be cheaper than conjugate gradients on N images while m^3 < WORTH N^2. Measured.
WORTH: Final = 40.0
TINY: Final = 1e-30


def pays(space: Space, local: Local) -> bool:
    """Whether the active sets are small enough, in the mean over the problems."""
    active = (local.shape != 0).sum(0).double()
    return bool((active**3).mean() < WORTH * space.images**2)


def solve(space: Space, local: Local, point: Point, rules: Rules) -> tuple[Tensor, Tensor]:
    """Coefficients of the images (N, P, 1) and intercepts (P, 1) where the Newton step leads.

    Off the active set an image's coefficient is minus its slope. The intercept is solved for as a
    change of what it is: where a heavy image pins it, its own terms would drown the coefficients.
    """
    bends = local.shape != 0
    coefficients = torch.where(bends, 0.0, -local.slope)
    wanted = point.scores - local.slope / torch.where(bends, local.shape, 1.0)
    if coefficients.count_nonzero():
        wanted = wanted - space.scores(space.adjoint(coefficients))
    bias = point.bias.clone()

    def one(problem: int) -> None:
        rules.check()
        dual, own = coefficients[:, problem, 0], bias[problem]
        bend, wish = local.shape[:, problem, 0], wanted[:, problem, 0]
        active = bends[:, problem, 0].nonzero()[:, 0]
        others = dual.sum()
        if not len(active):  # flat in the intercept: a step of at most 1, which the search mends
            pull = (others - rules.penalty * own) * rules.intercept
            own += pull / (dual.abs().sum() + rules.penalty + TINY)
            return
        system = space.block(active)
        system.diagonal().add_(1 / bend[active])
        right = torch.stack([wish[active], torch.ones_like(system[0])], 1)
        plain, constant = torch.cholesky_solve(right, factor(system)).unbind(1)
        pull = (plain.sum() + others - rules.penalty * own) * rules.intercept
        change = pull / (constant.sum() + rules.penalty)
        dual[active] = plain - change * constant
        own += change

    _each(one, bends.shape[1], bends.device)
    return coefficients, bias


def factor(system: Tensor) -> Tensor:
    """The Cholesky factor; of a system that rounding made indefinite, of a damped one."""
    damping = torch.finfo(system.dtype).eps * system.diagonal().mean()
    while True:
        found: Tensor
        found, failed = torch.linalg.cholesky_ex(system)
        if not failed:
            return found
        system.diagonal().add_(damping)
        damping = damping * 10


def _each(one: Callable[[int], None], count: int, device: torch.device) -> None:
    """Call `one` for every problem; on a CPU in threads that have a core each.

    Factorisations so small are slower on several cores than on one: the cores wait for each other.
    """
    if device.type != "cpu":
        for problem in range(count):
            one(problem)
        return
    cores = torch.get_num_threads()
    with ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for _ in pool.map(one, range(count)):
            pass
