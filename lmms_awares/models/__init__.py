"""lmms-eval models. The registry maps each model id to its class, as an import path, so that it loads nothing."""

MODELS: dict[str, str] = {
    "awares": "lmms_awares.models.awares.Awares",
    "qwen2_5_vl_full": "lmms_awares.models.resolution.FullResolution",
    "qwen2_5_vl_lowres": "lmms_awares.models.resolution.LowResolution",
    "qwen3_vl_full": "lmms_awares.models.resolution.Qwen3FullResolution",
    "qwen3_vl_lowres": "lmms_awares.models.resolution.Qwen3LowResolution",
    "visionzip": "lmms_awares.models.pruned.VisionZip",
    "holov": "lmms_awares.models.pruned.HoloV",
    "sparsevlm": "lmms_awares.models.pruned.SparseVLM",
    "pruned": "lmms_awares.models.pruned.Pruned",
    "visionthink": "lmms_awares.models.visionthink.VisionThink",
    "adaptvision": "lmms_awares.models.adaptvision.AdaptVision",
    "ergo": "lmms_awares.models.ergo.Ergo",
}
