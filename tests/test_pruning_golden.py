"""The pruners' pure functions against vectors that the official code produced (tests/data/golden, fp32, CPU).

Not reproduced, of the vectors that the manifest lists: `heads_0`, the choice of 14 heads in SparseVLM+ (v2.0). That
variant is not implemented, so nothing of ours could be compared with it; its arrays are not in the folder. Compared but
not followed: position ids of SparseVLM v1.x, which the release renumbers and M-RoPE cannot; ours are those of the
survivors, as in v2.0 (`stage_3`).

Left to noise by the official code: which token is a cluster's centre where
there is one cluster, and the partition where two clusters tie; with the recorded noise those are exact too.
"""

from fractions import Fraction

import pytest
import torch
from golden import CASES, GOLDEN, close, load, names
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel

from lmms_awares.families import QWEN2_5_VL, window_order
from lmms_awares.pruning import holov, sparsevlm, visionzip
from lmms_awares.pruning.base import EncodedImage
from lmms_awares.pruning.prefill import without_pruned
from lmms_awares.pruning.tower import capture


def test_every_golden_is_used():
    files = {str(file.relative_to(GOLDEN).with_suffix("")) for file in GOLDEN.glob("*/*.npz")}
    used = {f"{method}/{name}" for method, cases in CASES.items() for name in cases} - {"sparsevlm/heads_0"}
    assert files == used
    assert len(files) == 81


# VisionZip ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", names("visionzip", "select"))
def test_visionzip_select(name):
    case, data = CASES["visionzip"][name], load("visionzip", name)
    counts = visionzip.budget(case["N"], visionzip.VisionZip(case["ratio"]).exact_ratio)
    assert counts == (int(data["n_dominant"]), int(data["n_contextual"]))
    index, embeds = visionzip.select(data["scores"], data["keys"], data["image_embeds"], *counts)
    assert index.tolist() == data["kept_visual_index"].tolist()
    close(embeds, data["kept_visual_embeds"], atol=1e-5, rtol=0)
    close(embeds[data["is_dominant"]], data["image_embeds"][index][data["is_dominant"]], atol=0, rtol=0)


def test_visionzip_keeps_at_most_the_ratio_and_two_tokens_less_at_least():
    """As docs/methods/visionzip.md states it: from 5 % and 20 tokens on."""
    for percent in range(5, 100):
        ratio = Fraction(percent, 100)
        assert all(0 <= ratio * n - sum(visionzip.budget(n, ratio)) < 2 for n in range(20, 1200))


def encode(method, name):
    """An image through a tiny tower with the golden's weights; (embeds, received, arrays)."""
    case, data = CASES[method][name], load(method, name)
    tower = Qwen2_5_VisionTransformerPretrainedModel(Qwen2_5_VLVisionConfig(**case["vision_config"])).eval()
    tower.load_state_dict({key[2:]: value for key, value in data.items() if key.startswith("w.")})
    received = []
    handles = list(capture(QWEN2_5_VL, tower, received))
    with torch.no_grad():
        rows, columns = case["merged_grid_hw"]
        embeds = tower(data["pixel_values"], grid_thw=torch.tensor([[1, 2 * rows, 2 * columns]])).pooler_output
    for handle in handles:
        handle.remove()
    before = data["embed_tokens"][58]
    return data, EncodedImage(embeds, data["pixel_values"], before, (rows, columns), received[0])


def language_inputs(data, image, kept):
    """Embeddings and positions that the language model gets for `kept`, spliced as the engine splices them."""
    ids = data["input_ids"][0]
    columns = torch.arange(len(ids))
    full = data["embed_tokens"][ids].clone()
    source = without_pruned(columns, [(columns[ids == 60], kept)])
    embeds = full[source]
    embeds[ids[source] == 60] = kept.embeds
    return embeds, data["position_ids_full"][:, 0, source]


@pytest.mark.parametrize("name", names("visionzip", "e2e"))
def test_visionzip_from_pixels_to_the_language_model(name):
    data, image = encode("visionzip", name)
    assert image.received.order.tolist() == data["window_index"].tolist()
    close(image.embeds, data["image_embeds"], atol=1e-4, rtol=1e-4)
    close(image.received.scores, data["scores"], atol=1e-5, rtol=0)
    close(image.received.keys, data["keys"], atol=1e-5, rtol=0)
    kept = visionzip.VisionZip(CASES["visionzip"][name]["ratio"]).keep(image)
    assert kept.index.tolist() == data["kept_visual_index"].tolist()
    embeds, positions = language_inputs(data, image, kept)
    close(embeds, data["out_inputs_embeds"], atol=1e-4, rtol=1e-4)
    assert positions.tolist() == data["out_position_ids"].tolist()


# HoloV ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", names("holov", "function"))
def test_holov_select(name):
    case, data = CASES["holov"][name], load("holov", name)
    index = holov.select(data["scores"], data["tokens"], case["keep_num"])
    assert index.tolist() == data["kept_index"].tolist()
    rows = torch.where(index[:, None] == holov.PAD, torch.zeros(1), data["tokens"][index])
    close(rows, data["kept_tokens"], atol=1e-6, rtol=0)
    assert (index == holov.PAD).sum() == case["n_zero_padded"]


def test_holov_variance_matters_only_near_epsilon(monkeypatch):
    """Without its variance term the official choice changes for nearly orthogonal tokens, and for nothing else here."""
    monkeypatch.setattr(holov, "BETA", 0.0)
    changed = []
    for name in names("holov", "function"):
        data = load("holov", name)
        index = holov.select(data["scores"], data["tokens"], CASES["holov"][name]["keep_num"])
        if index.tolist() != data["kept_index"].tolist():
            changed.append(name)
    assert changed == ["func_orth_7x9_r50"]


@pytest.mark.parametrize("name", names("holov", "e2e"))
def test_holov_from_pixels_to_the_language_model(name):
    """Aligned by default; with `official_wiring`, what the release gives its language model, row by row."""
    case = CASES["holov"][name]
    data, image = encode("holov", name)
    scores = image.received.scores / (4 * case["N"])
    close(scores, data["scores_raster"], atol=1e-7, rtol=0)
    close(scores[image.received.order], data["scores_window_order"], atol=1e-7, rtol=0)
    assert holov.select(scores, image.embeds, case["keep_num"]).tolist() == data["aligned_kept_index"].tolist()
    aligned = holov.HoloV(case["ratio"]).keep(image)
    assert aligned.index.tolist() == sorted(data["aligned_kept_index"].tolist())
    official = holov.HoloV(case["ratio"], official_wiring=True).keep(image)
    assert (official.index[:-1] + 1).tolist() == data["official_kept_index_in_region"].tolist()
    embeds, positions = language_inputs(data, image, official)
    close(embeds, data["official_out_inputs_embeds"], atol=1e-4, rtol=1e-4)
    assert positions.tolist() == data["official_out_position_ids"].tolist()


@pytest.mark.parametrize("name", [n for n in names("holov", "function") if CASES["holov"][n]["n_zero_padded"]])
def test_holov_fills_padding_with_the_best_of_the_rest(name):
    data = load("holov", name)
    official = data["kept_index"]
    filled = holov._filled(official, data["scores"]).tolist()
    real = set(official[official != holov.PAD].tolist())
    added = set(filled) - real
    assert filled == sorted(set(filled))
    assert len(filled) == len(official)
    rest = sorted(set(range(len(data["scores"]))) - real, key=lambda token: -data["scores"][token])
    assert added == set(rest[: len(added)])


# SparseVLM ------------------------------------------------------------------------------------------------------------


def spans(data):
    start, tokens = int(data["v_token_start"]), int(data["v_token_num"])
    return slice(start, start + tokens), slice(start + tokens, None)


def rater_scores(attention, raters, visual):
    return attention[0][:, visual.stop + raters][:, :, visual].mean((0, 1))


@pytest.mark.parametrize("name", names("sparsevlm", "raters"))
def test_sparsevlm_raters(name):
    data = load("sparsevlm", name)
    assert sparsevlm.text_raters(data["hidden"][0], *spans(data)).tolist() == data["rater_idx"].tolist()


@pytest.mark.parametrize("name", names("sparsevlm", "select", "rank"))
def test_sparsevlm_select(name):
    """`rank` (the video branch) chooses another number of tokens; which ones is the same rule."""
    data = load("sparsevlm", name)
    keep = int(data["keep"] if "keep" in data else data["rank"])
    close(rater_scores(data["attn"], data["rater_idx"], spans(data)[0]), data["score"], rtol=1e-5, atol=1e-6)
    assert sparsevlm.select(data["score"], keep).tolist() == data["keep_mask"].nonzero().flatten().tolist()


@pytest.mark.parametrize("name", names("sparsevlm", "rank"))
def test_sparsevlm_rank_is_that_of_the_raters_rows(name):
    """Only the video branch budgets by it; the score's rows and columns are the matrix whose rank is recorded."""
    data = load("sparsevlm", name)
    visual, _ = spans(data)
    matrix = data["attn"][0].mean(0)[visual.stop + data["rater_idx"]][:, visual]
    assert torch.linalg.matrix_rank(matrix) == data["rank"] == data["keep_mask"].sum()


@pytest.mark.parametrize("name", names("sparsevlm", "cluster"))
def test_sparsevlm_merge(name):
    data = load("sparsevlm", name)
    clusters = int(data["cluster_num"])
    centers, merged = sparsevlm.merge(data["x"][0], clusters, data["noise_uniform"][0])
    assert centers.tolist() == data["centers"].tolist()
    close(merged, data["merged"][0], rtol=1e-5, atol=1e-6)
    if not CASES["sparsevlm"][name]["noise"]["merged_depends_on_noise"]:
        close(sparsevlm.merge(data["x"][0], clusters, None)[1], data["merged"][0], rtol=1e-5, atol=1e-6)


def stage(hidden, scores, keep, start, noise):
    """A whole stage on [T, d] hidden states with the visual tokens from `start`.

    Returns:
        (kept, hidden behind the stage, centres, the column that each row's position comes from)
    """
    tokens = len(scores)
    kept, columns = sparsevlm.select(scores, keep), torch.arange(len(hidden))
    before, after = torch.cat([columns[:start], start + kept]), columns[start + tokens :]
    if noise is None:
        source = torch.cat([before, after])
        return kept, hidden[source], None, source
    worth = sparsevlm.recycled(scores, kept)
    centers, merged = sparsevlm.merge(hidden[start + worth], sparsevlm.recycle_counts(tokens - len(kept))[1], noise)
    source = torch.cat([before, start + worth[centers], after])
    return kept, torch.cat([hidden[before], merged, hidden[after]]), centers, source


@pytest.mark.parametrize("name", names("sparsevlm", "stage"))
def test_sparsevlm_stage(name):
    data = load("sparsevlm", name)
    visual, _ = spans(data)
    noise = data["noise_uniform"][0] if "noise_uniform" in data else None  # v2.0 does not recycle
    kept, hidden, centers, source = stage(
        data["layer_output"][0], data["score"], int(data["keep"]), visual.start, noise
    )
    assert kept.tolist() == data["keep_mask"].nonzero().flatten().tolist()
    close(hidden, data["hidden_out"][0], rtol=1e-5, atol=1e-6)
    renumbered = torch.arange(len(hidden))  # v1.x
    assert data["position_ids_out"][0].tolist() == (source if noise is None else renumbered).tolist()
    if noise is not None:
        close(rater_scores(data["attn"], data["rater_idx"], visual), data["score"], rtol=1e-5, atol=1e-6)
        assert centers.tolist() == data["centers"].tolist()
        assert len(sparsevlm.recycled(data["score"], kept)) == data["recycle_input"].shape[1]
        left = sparsevlm.left_after(len(data["score"]), int(data["keep"]))
        assert left == int(data["v_token_num_out"]) == len(hidden) - (data["attn"].shape[-1] - len(data["score"]))


@pytest.mark.parametrize("name", names("sparsevlm", "pipeline"))
def test_sparsevlm_pipeline(name):
    data = load("sparsevlm", name)
    visual, text = spans(data)
    raters = sparsevlm.text_raters(data["embeds"][0], visual, text)
    assert raters.tolist() == data["rater_idx"].tolist()
    counts = [visual.stop - visual.start]
    for number, keep in enumerate(data["keeps"].tolist()):
        now = {key[3:]: value for key, value in data.items() if key.startswith(f"s{number}_")}
        visual = slice(visual.start, visual.start + counts[-1])
        scores = rater_scores(now["attn"], raters, visual)
        kept, hidden, centers, _ = stage(now["layer_output"][0], scores, keep, visual.start, now["noise_uniform"][0])
        assert kept.tolist() == now["keep_mask"].nonzero().flatten().tolist()
        assert centers.tolist() == now["centers"].tolist()
        close(hidden, now["hidden_out"][0], rtol=1e-5, atol=1e-6)
        assert now["position_ids_out"][0].tolist() == list(range(len(hidden)))  # renumbered, as v1.x does
        counts.append(counts[-1] + len(hidden) - len(now["layer_output"][0]))
    assert counts == data["v_counts"].tolist()


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (4, 4), (9, 3), (13, 11)])
def test_window_order_is_transformers_own(rows, columns):
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import get_vision_window_index

    grid = torch.tensor([[1, 2 * rows, 2 * columns]])
    wanted, _ = get_vision_window_index(grid, spatial_merge_size=2, window_size=112, patch_size=14)
    assert window_order(rows, columns, 4).tolist() == wanted.tolist()
    if columns <= 4:
        assert wanted.tolist() == list(range(rows * columns))
