"""Asking the catalogue for an entry, and what it says when it has none."""

from pathlib import Path

import pytest

from factory_sim.catalog import load_catalog
from factory_sim.errors import InputError

CATALOG = load_catalog()


def message(error: pytest.ExceptionInfo[InputError]) -> str:
    return str(error.value)


def test_names_ignore_case_underscores_and_spaces() -> None:
    assert CATALOG.system("DGX_H100") is CATALOG.system("dgx-h100")
    assert CATALOG.model("Llama 3.1 70B") is CATALOG.models["llama-3.1-70b"]
    assert CATALOG.accelerator(" H100_SXM ").name == "h100-sxm"
    assert CATALOG.engine("vLLM").name == "vllm"


@pytest.mark.parametrize(
    ("written", "name", "precision"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b", "bf16"),
        ("meta-llama/Meta-Llama-3.1-70B-Instruct", "llama-3.1-70b", "bf16"),
        ("nvidia/Llama-3.1-70B-Instruct-FP8", "llama-3.1-70b", "fp8"),
        ("nvidia/DeepSeek-V3.1-NVFP4", "deepseek-v3.1", "nvfp4"),
        ("Qwen/Qwen3-235B-A22B-FP8", "qwen3-235b-a22b", "fp8"),
        ("Qwen/Qwen3-235B-A22B-Instruct-2507-FP8", "qwen3-235b-a22b-2507", "fp8"),
        ("Qwen/Qwen3-30B-A3B-Thinking-2507", "qwen3-30b-a3b-2507", "bf16"),
        ("openai/gpt-oss-120b", "gpt-oss-120b", "mxfp4"),
        ("google/gemma-3-27b-it", "gemma-3-27b", "bf16"),
        ("meta-llama/Llama-2-70b-hf", "llama-2-70b", "bf16"),
        ("llama2-70b-99", "llama-2-70b", "bf16"),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", "mixtral-8x7b", "bf16"),
        ("moonshotai/Kimi-K2-Instruct", "kimi-k2", "fp8"),
        ("nvidia/NVIDIA-Nemotron-Nano-9B-v2", "nemotron-nano-9b-v2", "bf16"),
        ("nvidia/NVIDIA-Nemotron-Nano-12B-v2-VL-BF16", "nemotron-nano-12b-v2", "bf16"),
    ],
)
def test_a_model_is_known_as_its_publisher_writes_it(
    written: str, name: str, precision: str
) -> None:
    model = CATALOG.model(written)
    assert (model.name, model.released_precision) == (name, precision)


@pytest.mark.parametrize(
    "name",
    [
        "deepseek-ai/DeepSeek-R1-Distill-Llama-70B",  # another model
        "meta-llama/Llama-3.1-8B-Instruct-AWQ",  # a precision that is not modelled
        "RedHatAI/Llama-3.1-8B-NVFP4-FP8",  # two precisions
        "nvidia",
        "-",
        "",
    ],
)
def test_a_name_that_only_resembles_one_is_not_taken_for_it(name: str) -> None:
    with pytest.raises(InputError, match="unknown model"):
        CATALOG.model(name)


def test_what_sounds_alike_is_sought_without_the_organisation() -> None:
    with pytest.raises(InputError, match=r"did you mean 'llama-3\.1-8b'"):
        CATALOG.model("meta-llama/Llama-3.1-9B-Instruct")


def test_no_two_models_answer_to_one_name() -> None:
    names = [name for model in CATALOG.models.values() for name in (model.name, *model.aliases)]
    assert len(set(names)) == len(names)
    assert all(CATALOG.model(name.upper()).released_precision for name in names)
    assert all(CATALOG.model(model.name) is model for model in CATALOG.models.values())


def test_an_unknown_name_hears_what_sounds_alike() -> None:
    with pytest.raises(InputError) as error:
        CATALOG.model("lama-3.1-70b")
    assert message(error) == (
        "unknown model 'lama-3.1-70b'; did you mean 'llama-3.1-70b' or 'llama-3.3-70b' or "
        "'llama-3.1-405b'? `factory-sim catalog models` lists all"
    )


def test_a_name_like_no_other_is_sent_to_the_list() -> None:
    with pytest.raises(InputError) as error:
        CATALOG.engine("zzz")
    assert message(error) == (
        "unknown engine profile 'zzz'; `factory-sim catalog engines` lists all"
    )


def test_an_accelerator_is_not_a_system() -> None:
    with pytest.raises(InputError) as error:
        CATALOG.system("h100-sxm")
    assert message(error) == "'h100-sxm' is an accelerator; name a system: dgx-h100"
    with pytest.raises(InputError, match="no system holds, for want of published server power"):
        CATALOG.system("tpu_v7")


def test_a_figure_nobody_published_is_named_with_a_way_to_add_it() -> None:
    with pytest.raises(InputError) as error:
        CATALOG.accelerator("tpu-v5p").need("tdp")
    assert message(error) == (
        "accelerator 'tpu-v5p' has no published figure for 'tdp'; add it in accelerators.yaml of "
        "your own catalog folder, for example 'tpu-v5p: {tdp: {value: 700 W, kind: estimate, "
        "source: where it is from}}'"
    )
    with pytest.raises(InputError, match=r"vera-rubin: \{flops: \{bf16: \{value: 989 Tflop/s"):
        CATALOG.accelerator("vera-rubin").need("flops.bf16")


def test_a_figure_is_returned_in_si_units() -> None:
    h100 = CATALOG.accelerator("h100-sxm")
    assert h100.need("tdp") == 700.0
    assert h100.need("hbm") == 81559 * 2**20
    assert h100.need("flops.fp8") == 1979e12
    assert h100.need("scaleup_bandwidth") == 450e9


@pytest.mark.parametrize(
    ("accelerator", "weights", "arithmetic"),
    [
        ("h100-sxm", "fp8", "fp8"),
        ("h100-sxm", "nvfp4", "bf16"),
        ("a100-sxm", "fp8", "bf16"),
        ("a100-sxm", "int8", "int8"),
        ("b200-sxm", "mxfp4", "mxfp4"),
        ("mi355x", "nvfp4", "bf16"),
        ("mi300x", "fp32", "fp32"),
    ],
)
def test_weights_run_in_the_arithmetic_the_chip_has(
    accelerator: str, weights: str, arithmetic: str
) -> None:
    assert CATALOG.accelerator(accelerator).arithmetic(weights) == arithmetic  # type: ignore[arg-type]


def test_a_family_without_a_row_says_how_to_add_one() -> None:
    with pytest.raises(InputError, match=r"'ampere-fp8: \{like: hopper-bf16, family: ampere"):
        CATALOG.efficiency("ampere", "fp8")


def test_a_copied_row_is_an_estimate() -> None:
    fitted, copied = CATALOG.efficiency("hopper", "bf16"), CATALOG.efficiency("ada", "bf16")
    assert copied.per_layer.value == fitted.per_layer.value
    assert (fitted.per_layer.kind, copied.per_layer.kind) == ("calibrated", "estimate")
    assert copied.per_layer.note == "as hopper-bf16"


class TestUsersFolder:
    def test_adds_an_entry_and_leaves_the_rest(self, tmp_path: Path) -> None:
        (tmp_path / "cooling.yaml").write_text(
            "lake: {like: air, overhead: {value: 3 %, kind: measured, source: our meter}}\n"
        )
        catalog = load_catalog(tmp_path)
        assert catalog.cooling["lake"].overhead.value == 0.03
        assert catalog.cooling["lake"].air.supply.value == CATALOG.cooling["air"].air.supply.value
        assert catalog.cooling["air"] == CATALOG.cooling["air"]

    def test_overrides_only_the_fields_it_gives(self, tmp_path: Path) -> None:
        (tmp_path / "accelerators.yaml").write_text(
            "tpu-v5p: {tdp: {value: 450 W, kind: estimate, source: our guess}}\n"
        )
        chip = load_catalog(tmp_path).accelerator("tpu-v5p")
        assert chip.need("tdp") == 450.0
        assert chip.hbm == CATALOG.accelerator("tpu-v5p").hbm
        assert CATALOG.accelerator("tpu-v5p").tdp is None

    def test_every_problem_names_file_entry_and_field(self, tmp_path: Path) -> None:
        (tmp_path / "accelerators.yaml").write_text(
            "h100-sxm:\n"
            "  tdp: {value: 700, kind: datasheet, source: x}\n"
            "  hbm: {value: 80 GB, kind: rumour, source: x}\n"
        )
        (tmp_path / "cooling.yaml").write_text(
            "hot: {like: air, overhead: {value: -0.9, kind: estimate, source: x}}\n"
        )
        with pytest.raises(InputError) as error:
            load_catalog(tmp_path)
        assert message(error).splitlines() == [
            f"{tmp_path}/accelerators.yaml: h100-sxm.hbm.kind: must be 'measured', 'datasheet', "
            "'calibrated' or 'estimate', not 'rumour'",
            f"{tmp_path}/accelerators.yaml: h100-sxm.tdp.value: 700 is a bare number; "
            "write for example '20 MW'",
            f"{tmp_path}/cooling.yaml: hot.overhead.value: must be greater than or equal to 0, not "
            "-0.9",
        ]

    def test_watts_and_bytes_below_nothing_are_refused(self, tmp_path: Path) -> None:
        figure = "{value: %s, kind: estimate, source: x}"
        (tmp_path / "systems.yaml").write_text(
            f"ours: {{like: dgx-h100, nameplate: {figure % '-12 kW'}, "
            f"host_load: {figure % '-1 W'}, nvme_bandwidth: {figure % '0 GB/s'}}}\n"
        )
        with pytest.raises(InputError) as error:
            load_catalog(tmp_path)
        where = f"{tmp_path}/systems.yaml: ours"
        assert message(error).splitlines() == [
            f"{where}.nameplate.value: must be greater than 0, not '-12 kW'",
            f"{where}.host_load.value: must be greater than or equal to 0, not '-1 W'",
            f"{where}.nvme_bandwidth.value: must be greater than 0, not '0 GB/s'",
        ]

    def test_like_must_name_a_complete_entry(self, tmp_path: Path) -> None:
        (tmp_path / "power.yaml").write_text("ours: {like: ampere}\n")
        with pytest.raises(InputError, match=r"power.yaml: ours.like: must name a complete entry"):
            load_catalog(tmp_path)

    def test_a_key_given_twice_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "cooling.yaml").write_text("air: {title: A, title: B}\n")
        with pytest.raises(InputError, match="the key 'title' is given twice"):
            load_catalog(tmp_path)

    def test_a_file_of_another_name_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "gpus.yaml").write_text("{}\n")
        with pytest.raises(InputError, match=r"gpus.yaml: is no catalog file; known: accelerators"):
            load_catalog(tmp_path)

    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="is not a folder"):
            load_catalog(tmp_path / "none")

    @pytest.mark.parametrize("text", ["- a\n- b\n", "air: 3\n", "air: {title: [\n"])
    def test_a_file_that_is_no_mapping_of_entries(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "cooling.yaml").write_text(text)
        with pytest.raises(InputError, match=r"cooling.yaml(, line 2)?: "):
            load_catalog(tmp_path)

    def test_an_empty_file_changes_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "cooling.yaml").write_text("")
        assert load_catalog(tmp_path).cooling == CATALOG.cooling


def test_weights_that_are_unpacked_have_a_row_of_their_own_where_there_is_one() -> None:
    hopper, blackwell = CATALOG.accelerator("h100-sxm"), CATALOG.accelerator("b200-sxm")
    assert hopper.arithmetic("mxfp4") == "bf16"
    assert CATALOG.efficiency_of(hopper, "mxfp4") is CATALOG.families["hopper-mxfp4"]
    assert CATALOG.efficiency_of(hopper, "nvfp4") is CATALOG.families["hopper-bf16"]
    assert CATALOG.efficiency_of(blackwell, "fp8") is CATALOG.families["blackwell-fp8"]
    with pytest.raises(InputError, match="no efficiencies for fp8"):
        CATALOG.efficiency_of(hopper.model_copy(update={"family": "abacus"}), "fp8")
