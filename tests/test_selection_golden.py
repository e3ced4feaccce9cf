"""FastV, DivPrune and CDPruner against what the official functions gave (tests/data/golden, fp32, CPU).

Where the official choice is a tie, which token it takes is the library's whim (FastV), either copy of a duplicated row
(DivPrune), or rounding noise (CDPruner); then what can be compared is.
"""

import pytest
import torch
from golden import CASES, close, load, names

from lmms_awares.pruning import cdpruner, divprune, fastv
from lmms_awares.pruning.base import Pruner, PruningError
from lmms_awares.pruning.schedule import Stage

METHODS = {"fastv": fastv, "divprune": divprune, "cdpruner": cdpruner}
UNTIED = {method: [name for name in names(method) if not CASES[method][name]["tie"]] for method in METHODS}


@pytest.mark.parametrize("method", METHODS)
def test_budgets_are_the_official_ones(method):
    """round(ratio * N), half to even; the ratio as it was written, not as binary floating point rounds it."""
    for case in CASES[method].values():
        assert Pruner(case["ratio"]).budget(case["N"]) == case["K"]
        assert Stage(1, case["ratio"]).target(case["N"]) == case["K"]
    assert Pruner(0.3).budget(1296) == 389
    assert Pruner(0.01).budget(1) == 1


# FastV ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", names("fastv"))
def test_fastv_select(name):
    data = load("fastv", name)
    index = fastv.select(data["scores"], int(data["K"]))
    assert index.tolist() == sorted(set(index.tolist()))
    close(data["scores"][index].sort().values, data["scores"][data["kept_index"]].sort().values, rtol=0, atol=0)
    if name in UNTIED["fastv"]:
        assert index.tolist() == data["kept_index"].tolist()
    kept = set(index.tolist())
    for token in range(len(data["scores"])):  # of equals, the first
        if token not in kept:
            assert all(other < token for other in kept if data["scores"][other] == data["scores"][token])


@pytest.mark.parametrize("name", names("fastv"))
def test_fastv_keeps_the_columns_and_positions_that_the_release_keeps(name):
    """Text around the image stays, and every column keeps the position that it had, gaps and all."""
    data = load("fastv", name)
    start, length = int(data["image_start"]), int(data["image_length"])
    close(data["last_row"][:, start : start + length].mean(0), data["scores"], rtol=1e-5, atol=0)
    stays = torch.ones(data["last_row"].shape[1], dtype=torch.bool)
    stays[start : start + length] = False
    stays[start + fastv.select(data["scores"], int(data["K"]))] = True
    if name in UNTIED["fastv"]:
        assert stays.nonzero().flatten().tolist() == data["keep_abs"].tolist() == data["position_ids_after"].tolist()
    assert stays.sum() == len(data["keep_abs"])


def test_fastv_reads_the_last_row_of_layer_k_less_one():
    """`fastv_k` counts the layers that run whole, so the stage is the layer before the k-th, counted from 0."""
    for k in (2, 3):
        assert fastv.FastV(0.5, whole_layers=k, schedule="single").stages(32) == (Stage(k - 1, 0.5),)


# DivPrune -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", names("divprune"))
def test_divprune_select(name):
    data = load("divprune", name)
    index = divprune.select(data["embeds"], int(data["K"]))
    assert len(set(index.tolist())) == len(index)
    close(data["embeds"][index], data["embeds"][data["select_order"]], rtol=0, atol=0)
    if name in UNTIED["divprune"]:
        assert index.tolist() == data["select_order"].tolist()


@pytest.mark.parametrize("name", ["random_n117_r50", "spread_n576_r50"])
def test_divprune_in_blocks_is_the_same(name, monkeypatch):
    data = load("divprune", name)
    monkeypatch.setattr(divprune, "BLOCK", 10)
    assert divprune.select(data["embeds"], int(data["K"])).tolist() == data["select_order"].tolist()


def test_divprune_is_nested():
    embeds = load("divprune", "random_n117_r70")["embeds"]
    order = divprune.select(embeds, 117).tolist()
    assert sorted(order) == list(range(117))
    assert all(divprune.select(embeds, keep).tolist() == order[:keep] for keep in (1, 2, 35, 116))


def test_divprune_where_the_release_fails():
    """One token; more tokens than distinct rows, where it repeats some; a zero row, whose NaN wins every time."""
    assert divprune.select(torch.randn(1, 4), 1).tolist() == [0]
    six = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    twice = divprune.select(torch.cat([six, six]), 10).tolist()
    assert len(set(twice)) == 10
    assert {token % 6 for token in twice[:6]} == set(range(6))
    six[3] = 0
    assert sorted(divprune.select(six, 6).tolist()) == list(range(6))


# CDPruner -------------------------------------------------------------------------------------------------------------


def finite(relevance):
    """One token has no range: the release divides by zero."""
    return torch.where(relevance.isfinite(), relevance, 1.0)


@pytest.mark.parametrize("name", UNTIED["cdpruner"])
def test_cdpruner_select(name):
    data = load("cdpruner", name)
    index = cdpruner.select(data["image_features"], finite(data["relevance"]), int(data["K"]))
    assert index.tolist() == data["select_order"].tolist()
    assert index.sort().values.tolist() == data["kept_index"].tolist()


@pytest.mark.parametrize("name", [name for name in names("cdpruner") if name not in UNTIED["cdpruner"]])
def test_cdpruner_ties_go_to_the_first_token(name):
    """All relevances equal: every token has the variance 1 at first, so that the first one starts."""
    data = load("cdpruner", name)
    assert data["relevance"].unique().numel() == 1
    index = cdpruner.select(data["image_features"], data["relevance"], int(data["K"])).tolist()
    assert len(set(index)) == int(data["K"])
    assert index[0] == 0


@pytest.mark.parametrize("name", names("cdpruner"))
def test_cdpruner_relevance(name):
    """With the release's sign, and its normalisation over both images where there are two."""
    data = load("cdpruner", name)
    cosines = torch.stack([cdpruner.mean_cosine(image, data["text_embeds"]) for image in data["image_embeds"]])
    if CASES["cdpruner"][name]["N"] > 1:
        close(cdpruner.normalised(-cosines)[0], data["relevance"], rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", names("cdpruner", "batch", "equalbutone"))
def test_cdpruner_chooses_the_same_where_each_image_is_normalised_for_itself(name):
    data = load("cdpruner", name)
    relevance = cdpruner.normalised(data["relevance"])
    index = cdpruner.select(data["image_features"], relevance, int(data["K"]))
    assert index.sort().values.tolist() == data["kept_index"].tolist()


def test_cdpruner_is_the_greedy_maximum_of_the_determinant():
    """Against the determinants themselves, in float64: each step takes the token that makes the product largest."""
    generator = torch.Generator().manual_seed(1)
    embeds, relevance = torch.randn(12, 9, generator=generator), torch.rand(12, generator=generator)
    rows = torch.nn.functional.normalize(embeds.double(), dim=1) * relevance.double()[:, None]
    kernel, chosen = rows @ rows.T, []
    for _ in range(8):
        rest = [token for token in range(12) if token not in chosen]
        chosen.append(max(rest, key=lambda token: torch.linalg.det(kernel[[*chosen, token]][:, [*chosen, token]])))
    assert cdpruner.select(embeds, relevance, 8).tolist() == chosen


def test_cdpruner_where_the_release_fails():
    """Equal relevance; more tokens than dimensions, where it alternates between 0 and 1; rows of zeros."""
    assert cdpruner.normalised(torch.full((16,), 0.3)).tolist() == [1.0] * 16
    generator = torch.Generator().manual_seed(0)
    embeds, relevance = torch.randn(64, 8, generator=generator), torch.rand(64, generator=generator)
    order = cdpruner.select(embeds, relevance, 32).tolist()
    assert len(set(order)) == 32
    assert order[:8] == cdpruner.select(embeds, relevance, 8).tolist()
    rest = [token for token in relevance.argsort(descending=True).tolist() if token not in order[:8]]
    assert order[8:] == rest[:24]  # nothing new is left to see, so the most relevant
    embeds[5] = 0
    assert sorted(cdpruner.select(embeds, relevance, 64).tolist()) == list(range(64))
    assert sorted(cdpruner.select(torch.zeros(4, 8), relevance[:4], 4).tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_selection_is_in_float32(dtype):
    """Half precision is what the embeddings come in, not what distances are computed in."""
    embeds = load("cdpruner", "neardup_n117_r30")["image_features"].to(dtype)
    relevance = load("cdpruner", "neardup_n117_r30")["relevance"]
    assert divprune.select(embeds, 60).tolist() == divprune.select(embeds.float(), 60).tolist()
    assert cdpruner.select(embeds, relevance, 60).tolist() == cdpruner.select(embeds.float(), relevance, 60).tolist()


@pytest.mark.parametrize("keep", [0, 17])
def test_impossible_counts(keep):
    rows, scores = torch.randn(16, 4), torch.rand(16)
    for choose in (
        lambda: fastv.select(scores, keep),
        lambda: divprune.select(rows, keep),
        lambda: cdpruner.select(rows, scores, keep),
    ):
        with pytest.raises(PruningError, match=f"{keep} tokens cannot be kept of 16"):
            choose()
