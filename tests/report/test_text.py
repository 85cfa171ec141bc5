"""Numbers as a person reads them."""

from __future__ import annotations

import pytest

from factory_sim.report import layout
from factory_sim.report.text import duration, megawatts, number, percent, plain_value, with_unit


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.00123456, "0.00123"),
        (0.9996, "1.00"),
        (9.996, "10.0"),
        (99.96, "100"),
        (12345.6, "12,300"),
        (-4.567, "-4.57"),
        (float("nan"), "nan"),
    ],
)
def test_numbers_have_three_digits(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0 W"),
        (0.0041, "4.10 mW"),
        (999.4, "999 W"),
        (999.6, "1.00 kW"),
        (187_345.0, "187 kW"),
        (20e6, "20.0 MW"),
        (-3200.0, "-3.20 kW"),
    ],
)
def test_a_prefix_keeps_the_figure_short(value, text):
    assert with_unit(value, "W") == text


def test_a_small_site_reads_in_kilowatts():
    assert megawatts(0.0412) == "41.2 kW"


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0 %"),
        (0.0004, "< 0.1 %"),
        (0.0621, "6.2 %"),
        (0.0996, "10 %"),
        (0.44, "44 %"),
        (0.994, "99.4 %"),
        (0.99996, "99.9 %"),
        (1.0, "100 %"),
        (1.2, "120 %"),
    ],
)
def test_nearly_all_is_not_all_and_a_little_is_not_nothing(share, text):
    assert percent(share) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (0.25, "250 ms"),
        (0.0565, "56.5 ms"),
        (2.0, "2 s"),
        (59.9, "59.9 s"),
        (59.96, "1 min"),
        (100.0, "1 min 40 s"),
        (3600.0, "1 h"),
        (3900.0, "1 h 5 min"),
    ],
)
def test_time_spans_read_as_spoken(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("989000000000000.0 flop/s", "989 Tflop/s"),
        ("85520809984.0 byte", "85.52 GB"),
        ("10200.0 W", "10.2 kW"),
        ("7e-05 s", "70 µs"),
        ("llama 3", "llama 3"),
        ("3 lamps", "3 lamps"),
        (True, "yes"),
        (131072, "131,072"),
        (70553706496.0, "70.55 bn"),
        (0.8321, "0.8321"),
        ("47200.0 USD", "47,200 USD"),
        ("0.0003916666666666667 USD/s", "1.41 USD/h"),
        ("11.7 USD/W", "11.7 MUSD/MW"),
        ("4.753213172104342e-09 USD/W/s", "150 USD/kW/year"),
    ],
)
def test_figures_of_a_file_are_made_readable(value, text):
    assert plain_value(value) == text


def test_a_long_sentence_wraps_under_itself_and_keeps_units_whole():
    words = "GPUs 93.9 kW, servers 125 kW, all IT 129 kW, meter 167 kW, and so on until it wraps"
    assert list(layout.Entry("mean by level", words).lines()) == [
        "  mean by level          GPUs 93.9 kW, servers 125 kW, all IT 129 kW, meter",
        "                         167 kW, and so on until it wraps",
    ]


def test_a_table_lines_up_with_no_blanks_at_the_end():
    assert list(
        layout.Table([["", "share", ""], ["a", "5 %", "##"], ["b", "50 %", ""]], (0, 2)).lines()
    ) == [
        "                          share",
        "  a                         5 %  ##",
        "  b                        50 %",
    ]
