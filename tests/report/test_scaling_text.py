"""What autoscaling did, as it is printed."""

from __future__ import annotations

from factory_sim.report.layout import rendered
from factory_sim.report.scaling import autoscaling
from tests.report import synthetic


def test_a_scaled_deployment_has_a_row() -> None:
    summary = synthetic.scaled(50).summary
    assert list(rendered(autoscaling(summary))) == [
        "                          up, mean  placed  starts  took, mean  stops  waited",
        "  chat                        4.00       8       4  1 min 40 s      1   1,234",
        "  waited                 requests that found no replica open, and waited for one",
        "                         to start",
    ]
    summary["deployments"]["chat"]["autoscaling"]["requests_resent"] = 7
    assert list(rendered(autoscaling(summary)))[-1] == (
        "  sent again             7 requests, at the deadline of a drain"
    )
    assert list(rendered(autoscaling(synthetic.run(50).summary))) == []
