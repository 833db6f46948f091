"""What an experiment says of a trial's resources reaches its fit."""

from __future__ import annotations

from unittest import mock

import pytest

from records import Cell
from search_spaces import ResourcesConfig
from tune.trials import trial_context
from tune.trials.trial_context import TrialContext


@pytest.mark.parametrize("cuda_graph", [False, True])
def test_a_fit_is_told_whether_to_record_its_steps(
    cuda_graph: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit, context = mock.MagicMock(), mock.MagicMock(precision="float32")
    for name in ("Fit", "select"):
        monkeypatch.setattr(trial_context, name, fit)
    context.experiment.seed = 0
    context.experiment.resources = ResourcesConfig(cuda_graph=cuda_graph)
    TrialContext.fit(context, Cell(100, "llrd"), {"head_start": "zeros"}, None, 0)
    assert fit.call_args.kwargs["cuda_graph"] is cuda_graph
