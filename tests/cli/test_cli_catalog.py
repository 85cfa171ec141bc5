"""`factory-sim catalog`: shelves, entries, and what it says of a name it does not know."""

from __future__ import annotations

import pytest

SECTIONS = [
    "accelerators",
    "systems",
    "models",
    "engines",
    "families",
    "power",
    "enclosures",
    "power_chains",
    "cooling",
    "failures",
    "fabrics",
    "gpu_prices",
    "site_costs",
    "token_prices",
    "lengths",
]


def test_without_a_section_every_shelf_is_named(factory_sim_command):
    code, out, err = factory_sim_command("catalog")
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines() if line[2] != " "] == SECTIONS
    assert "h100-sxm" in out and "llama-3.1-70b" in out


@pytest.mark.parametrize("section", SECTIONS)
def test_a_shelf_is_a_table_of_its_entries(factory_sim_command, section):
    code, out, err = factory_sim_command("catalog", section)
    assert (code, err) == (0, "")
    assert out.startswith("name")
    assert len(out.splitlines()) > 1


@pytest.mark.parametrize("section", SECTIONS)
def test_every_entry_of_a_shelf_can_be_shown(factory_sim_command, section):
    from factory_sim.catalog import load_catalog

    for name in getattr(load_catalog(), section):
        code, out, err = factory_sim_command("catalog", section, name)
        assert (code, err) == (0, ""), name
        assert out.splitlines()[0] == name


def test_an_entry_shows_every_figure_with_kind_and_source(factory_sim_command):
    from factory_sim.catalog import load_catalog

    h100 = load_catalog().accelerator("h100-sxm")
    out = factory_sim_command("catalog", "accelerators", "h100-sxm").out
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.strip()}
    assert rows["flops.bf16"][:3] == ["989", "Tflop/s", "datasheet"]
    assert rows["tdp"][:3] == ["700", "W", "datasheet"]
    assert rows["hbm"][:3] == ["85.52", "GB", "measured"]
    number = rows["hbm"][3]
    assert f"  {number} {h100.hbm.source}\n" in out


def test_names_are_forgiving(factory_sim_command):
    assert factory_sim_command("catalog", "models", "Llama_3.1_70B").code == 0


def test_a_catalog_of_your_own_is_shown_too(factory_sim_command, tmp_path):
    (tmp_path / "failures.yaml").write_text(
        "gpu: {title: Our GPUs, mtbf: {value: 3 year, kind: measured, source: us},"
        " repair: {value: 4 h, kind: measured, source: us},"
        " spread: {value: 0.5, kind: estimate, source: me}}\n"
    )
    code, out, _ = factory_sim_command("catalog", "failures", "gpu", "--catalog", str(tmp_path))
    assert code == 0
    assert out == (
        "gpu\n"
        "  title                  Our GPUs\n"
        "\n"
        "  figure                    value  kind      source\n"
        "  mtbf                    3 years  measured  [1]\n"
        "  repair                      4 h  measured  [1]\n"
        "  spread                      0.5  estimate  [2]\n"
        "\n"
        "  [1] us\n"
        "  [2] me\n"
    )


def test_an_unknown_section_names_those_there_are(factory_sim_command):
    assert factory_sim_command("catalog", "modles") == (
        2,
        "",
        f"error: SECTION: the catalog has no 'modles'; it has {', '.join(SECTIONS)}\n",
    )


def test_an_unknown_name_gets_a_guess(factory_sim_command):
    code, out, err = factory_sim_command("catalog", "cooling", "liquit")
    assert (code, out) == (2, "")
    assert err == "error: cooling: the catalog has no 'liquit' here; did you mean 'liquid'?\n"
    code, out, err = factory_sim_command("catalog", "models", "lama-3.1-8b")
    assert (code, out) == (2, "")
    assert "did you mean 'llama-3.1-8b'" in err
