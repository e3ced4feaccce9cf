"""Every family's counts against the real image processor, and its checkpoints through the whole adapter."""

import json
import random

import pytest
from harness import CONDITIONS, answers, document, picture
from transformers import AutoProcessor

from lmms_awares.engine.checkpoint import check_checkpoint, load
from lmms_awares.errors import ConfigError
from lmms_awares.families import FAMILIES, family_of
from lmms_awares.models.awares import Awares
from lmms_awares.models.config import CommonArgs
from lmms_awares.models.pruned import Pruned
from lmms_awares.models.resolution import FullResolution, Qwen3FullResolution
from lmms_awares.models.visionthink import VisionThink
from lmms_awares.protocol import ToolCall, get_crops, visionthink
from lmms_awares.pruning import PRUNERS
from lmms_awares.report.explorer.pictures import Gallery, limits_of
from lmms_awares.tokens import count_visual_tokens
from lmms_awares.views import plan_views, render_crop, render_full, render_lowres

# Of the published Qwen2.5-VL checkpoints: (hidden, intermediate, heads, key-value heads).
SHAPES = {
    "3B": (2048, 11008, 16, 2, True),
    "7B": (3584, 18944, 28, 4, False),
    "32B": (5120, 27648, 40, 8, False),
    "72B": (8192, 29568, 64, 8, False),
}


def sizes(count, longest):
    draw = random.Random(0)
    return [(draw.randint(20, longest), draw.randint(20, longest)) for _ in range(count)]


@pytest.fixture(scope="module", params=FAMILIES)
def of_a_family(request, small_checkpoints):
    return small_checkpoints[request.param]


def test_counts_equal_the_real_processors(of_a_family):
    """200 sizes; three pixel limits."""
    processor = AutoProcessor.from_pretrained(of_a_family).image_processor
    family = FAMILIES[json.loads((of_a_family / "config.json").read_text())["model_type"]]
    area = family.token_side**2
    for low, high in ((4 * area, 16384 * area), (64 * area, 600 * area), (4 * area, 100 * area)):
        processor.size = {"shortest_edge": low, "longest_edge": high}
        for width, height in sizes(200, 2500):
            patches = processor.get_number_of_image_patches(height, width, {})
            counted = count_visual_tokens(width, height, low, high, token_side=family.token_side)
            assert counted == patches // family.merge**2, (width, height)


def test_rendered_views_cost_what_was_planned(of_a_family):
    processor = AutoProcessor.from_pretrained(of_a_family).image_processor
    side = processor.patch_size * processor.merge_size
    for number, size in enumerate(sizes(20, 900)):
        image, plan = picture(size, number), plan_views(*size, token_side=side)
        views = {plan.full_tokens: render_full(image, plan), plan.lowres_tokens: render_lowres(image, plan)}
        views |= {plan.crop_tokens(id): render_crop(image, plan, id) for id in ("0", "4", "6", "all")}
        for planned, view in views.items():
            grid = processor(images=[view], return_tensors="pt")["image_grid_thw"]
            assert int(grid.prod()) // processor.merge_size**2 == planned, size


def test_every_pruner_serves_it(of_a_family):
    docs = [document((640, 480), seed) for seed in range(3)]
    for name in PRUNERS:
        model = Pruned(
            pretrained=str(of_a_family), device="cpu", dtype="float32", pruner=name, retain_ratio=0.7, batch_size=3
        )
        for _, trace in answers(model, docs, max_new_tokens=3):
            assert trace.failed is None
            assert abs(trace.rtr - 0.7) < 0.05, name
            assert trace.conditions.family == model.engine.family.model_type


def test_both_protocols_serve_it(of_a_family, monkeypatch):
    monkeypatch.setattr(get_crops, "parse_reply", lambda text: ToolCall(("0", "5"), "valid", text))
    monkeypatch.setattr(visionthink, "parse_reply", lambda text: visionthink.ToolCall(text, None))
    monkeypatch.setattr(visionthink, "ROUND_TOKENS", 6)
    for kind, shown in ((Awares, ["0", "5"]), (VisionThink, ["all"])):
        model = kind(pretrained=str(of_a_family), device="cpu", dtype="float32", batch_size=2)
        for _, trace in answers(model, [document((640, 480), seed) for seed in range(2)]):
            plan = plan_views(640, 480, token_side=model.engine.family.token_side)
            assert [crop.id for crop in trace.crops] == shown
            assert trace.visual_tokens == plan.lowres_tokens + sum(plan.crop_tokens(id) for id in shown)


def test_a_baseline_refuses_the_other_family(small_checkpoints):
    for kind, other in ((FullResolution, "qwen3_vl"), (Qwen3FullResolution, "qwen2_5_vl")):
        with pytest.raises(ConfigError, match=f"is a '{other}' model; what is asked for runs qwen.* only"):
            kind(pretrained=str(small_checkpoints[other]), device="cpu")


def test_an_unknown_architecture_is_refused(small_checkpoint, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(ConfigError, match="is a 'llama' model; what is asked for runs qwen2_5_vl or qwen3_vl only"):
        check_checkpoint(str(tmp_path))


@pytest.mark.parametrize("name", SHAPES)
def test_published_shapes_build(name):
    """The language model's and the tower's widths of each size, on the meta device: what `load` would make."""
    import torch
    from transformers import Qwen2_5_VLConfig

    hidden, intermediate, heads, key_value, tied = SHAPES[name]
    text = {"hidden_size": hidden, "intermediate_size": intermediate, "num_hidden_layers": 2}
    text |= {"num_attention_heads": heads, "num_key_value_heads": key_value, "vocab_size": 512}
    text |= {"rope_parameters": {"rope_type": "default", "mrope_section": [16, 24, 24], "rope_theta": 1e6}}
    vision = {"depth": 2, "fullatt_block_indexes": [1], "out_hidden_size": hidden}
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=tied)
    with torch.device("meta"):
        model = family_of(config).model_class()(config)
    assert model.lm_head.weight.shape == (512, hidden)
    for kind in PRUNERS.values():
        if kind.name not in ("fastv", "sparsevlm"):  # two layers leave no room for their stages
            kind(0.5).check(model)


def test_loading_gives_the_familys_class(of_a_family):
    model, _ = load(CommonArgs(pretrained=str(of_a_family)), "cpu")
    assert type(model) is family_of(model.config).model_class()


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.model_type)
def test_the_explorer_draws_the_familys_views(family, tmp_path):
    conditions = CONDITIONS.model_copy(update={"family": family.model_type, "max_pixels": 16384 * 1024})
    drawn = Gallery(tmp_path, images=1).add("one", picture((640, 480)), limits_of(conditions))
    plan = plan_views(640, 480, min_pixels=3136, max_pixels=16384 * 1024, token_side=family.token_side)
    assert (drawn.full_size, drawn.lowres_size) == (plan.full_size, plan.grid_of(plan.lowres_size))
    assert drawn.full_size[0] % family.token_side == 0
