"""What a file and its user say of a run, and where they must agree."""

from __future__ import annotations

from typing import Any

import pytest

from factory_sim.errors import InputError
from factory_sim.validation.readers import READERS
from factory_sim.validation.readers.conditions import conditions, labels_stated, model_stated
from tests.validation.readers.making import KNOWN


def wrong(stated: dict[str, Any], known: dict[str, Any]) -> list[str]:
    with pytest.raises(InputError) as caught:
        conditions("result.json", stated, known)
    return [str(problem) for problem in caught.value.problems]


def test_the_readers_go_by_the_names_of_the_options() -> None:
    assert list(READERS) == ["vllm-bench", "guidellm", "aiperf", "inference-perf"]


def test_everything_missing_is_listed_with_its_option() -> None:
    assert wrong({}, {"gpu": None, "engine": {"profile": None}}) == [
        "gpu: result.json does not say it; give it, for example --gpu h100-sxm",
        "model: result.json does not say it; give it, for example --model llama-3.1-8b",
        "precision: result.json does not say it; give it, for example --precision bf16",
        "parallelism.tp: result.json does not say it; give it, for example --tp 1",
        "engine.profile: result.json does not say it; give it, for example --engine vllm",
        "engine.max_num_seqs: result.json does not say it; give it, for example --max-num-seqs 256",
    ]


def test_what_both_say_must_agree() -> None:
    stated = model_stated("meta-llama/Llama-3.1-8B-Instruct")
    assert wrong(stated, {**KNOWN, "model": "llama-3.1-70b"}) == [
        "model: result.json says 'llama-3.1-8b', and you say 'llama-3.1-70b'; leave yours out, or "
        "give the result of the run you mean"
    ]
    for same in ("llama3.1-8b", "meta-llama/Llama-3.1-8B", "my-own-model", "shape.json"):
        found = conditions("result.json", stated, {**KNOWN, "model": same})
        assert found["model"] == "llama-3.1-8b"


def test_fp16_is_bf16() -> None:
    found = conditions("result.json", {"precision": "bf16"}, {**KNOWN, "precision": "fp16"})
    assert found["precision"] == "bf16"


def test_a_name_the_catalogue_does_not_know_says_nothing() -> None:
    assert model_stated("/models/latest") == {}
    assert model_stated(None) == {}


def test_a_label_that_is_free_text_says_nothing() -> None:
    labels = {"gpu": "the old one", "tp": "four", "precision": "half", "engine": True, "dp": "0"}
    assert labels_stated(labels) == {}
    assert labels_stated(None) == {}


def test_what_is_no_fact_of_a_case_is_refused() -> None:
    assert wrong({}, {**KNOWN, "tp": 4}) == [
        "tp: is no fact of a case; known are gpu, system, model, precision, kv_precision, "
        "parallelism, engine, lengths"
    ]
