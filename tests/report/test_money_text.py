"""Money on the terminal."""

from __future__ import annotations

from factory_sim.report.layout import rendered
from factory_sim.report.money import money
from tests.report.synthetic import priced

WINDOW = {"window_s": {"start": 60.0, "end": 600.0}}


def test_costs_tokens_and_sales_fit_the_terminal() -> None:
    found = list(rendered(money(WINDOW | priced())))
    assert max(map(len, found)) <= 80
    assert found == [
        "                          USD/h  share",
        "  equipment                40.0   60 %",
        "  building and plant       13.3   20 %",
        "  electricity              10.0   15 %",
        "  charge on peaks          3.33  5.0 %",
        "  a GPU-hour             2.50 USD (2.00 to 3.00)",
        "  USD a million tokens    all costs    5 %   95 %  energy alone",
        "  by prompt + output          0.500  0.400  0.600",
        "  by prompt                   0.600  0.500  0.700",
        "  by output                    4.00   3.00   5.00         0.300",
        "  split by work          USD a million: prompt 0.200, output 3.00",
        "  revenue                80.0 USD/h, of tokens made in the window",
        "  profit                 20.0 USD/h, 5.00 MUSD a year for each utility MW",
        "                         provisioned (-1.00 MUSD to 9.00 MUSD)",
        "  breaks even            at 75 % of these tokens sold",
        "  one more MW            of the same earns 15.0 MUSD a year after electricity",
        "  an hour of downtime    loses 66.0 USD",
    ]


def test_without_money_there_is_nothing_to_say() -> None:
    assert list(rendered(money(WINDOW | {"revenue_usd": 3.0, "energy_cost_usd": 1.0}))) == []


def test_several_parts_stand_side_by_side() -> None:
    one = {"usd_per_million_output_tokens": 4.0, "profit_usd_per_h": -2.0}
    found = list(
        rendered(money({"classes": {"gold": one, "bulk": one | {"profit_usd_per_h": 0.0}}}))
    )
    assert [line.split() for line in found] == [
        ["USD/M", "output", "profit/h"],
        ["gold", "4.00", "-2.00"],
        ["bulk", "4.00", "0"],
    ]
