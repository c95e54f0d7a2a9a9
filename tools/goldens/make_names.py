"""names/*.json: every tensor name and shape of the full-size models' files, from the public classes on the meta device.

Each: `configuration`, `tensorCount`, `parameterCount` (buffers not counted), `tensors` {name: shape}. transformers renames modules in
memory; the names here are those its save_pretrained writes, which are the published files'. Counts known from elsewhere are asserted.
"""
import shutil

import timm
import torch
from diffusers import AutoencoderKL, SD3Transformer2DModel
from peft import LoraConfig, get_peft_model
from peft.utils import get_peft_model_state_dict
from transformers import (CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModelWithProjection, Dinov2Config, Dinov2Model, Dinov2WithRegistersConfig,
                          Dinov2WithRegistersModel, DINOv3ViTConfig, DINOv3ViTModel, SiglipConfig, SiglipModel, T5Config, T5EncoderModel)
from transformers.core_model_loading import revert_weight_conversion

from common import FIXTURES, save_json
from make_clip_model import aesthetic_head
from make_mmdit import TARGETS

FOLDER = FIXTURES / "names"


def record(name, state, count, configuration, **expected):
    tensors = {key: list(value.shape) for key, value in state.items()}
    found = {"tensors": len(tensors), "parameters": count}
    assert all(found[key] == value for key, value in expected.items()), (name, found, expected)
    save_json(FOLDER / f"{name}.json", {"configuration": configuration, "tensorCount": len(tensors), "parameterCount": count,
                                        "tensors": dict(sorted(tensors.items()))}, indent=None, separators=(",", ":"))


def parameter_count(model):
    return sum(p.numel() for p in model.parameters())


def diffusers_model(name, make, configuration, **expected):
    with torch.device("meta"):
        model = make(**configuration)
    record(name, model.state_dict(), parameter_count(model), configuration, **expected)
    return model


def huggingface_model(name, make, configuration, **expected):
    with torch.device("meta"):
        model = make(configuration)
    state = revert_weight_conversion(model, {key: value for key, value in model.state_dict().items()})
    state.pop("encoder.embed_tokens.weight", None)  # T5: tied to shared.weight; files hold one of the two
    record(name, state, parameter_count(model), configuration.to_diff_dict(), **expected)


def timm_model(name, architecture, **expected):
    with torch.device("meta"):
        model = timm.create_model(architecture, pretrained=False, num_classes=0)
    record(name, model.state_dict(), parameter_count(model), {"architecture": architecture, "num_classes": 0}, **expected)


def transformers_and_vae():
    medium = dict(sample_size=128, patch_size=2, in_channels=16, out_channels=16, num_layers=24, attention_head_dim=64, num_attention_heads=24,
                  joint_attention_dim=4096, caption_projection_dim=1536, pooled_projection_dim=2048, pos_embed_max_size=192)
    diffusers_model("sd3-medium-transformer", SD3Transformer2DModel, medium)
    model = diffusers_model("sd3.5-medium-transformer", SD3Transformer2DModel,
                            {**medium, "pos_embed_max_size": 384, "dual_attention_layers": tuple(range(13)), "qk_norm": "rms_norm"},
                            tensors=909, parameters=2_243_171_520)
    adapted = get_peft_model(model, LoraConfig(r=32, lora_alpha=64, target_modules=TARGETS))
    state = get_peft_model_state_dict(adapted)
    record("sd3.5-medium-lora", state, sum(value.numel() for value in state.values()), {"r": 32, "lora_alpha": 64, "target_modules": TARGETS},
           tensors=382, parameters=18_776_064)
    diffusers_model("sd3.5-large-transformer", SD3Transformer2DModel,
                    {**medium, "num_layers": 38, "num_attention_heads": 38, "caption_projection_dim": 2432, "qk_norm": "rms_norm"})
    diffusers_model("sd3-vae", AutoencoderKL, dict(
        in_channels=3, out_channels=3, latent_channels=16, block_out_channels=(128, 256, 512, 512), layers_per_block=2, norm_num_groups=32, sample_size=1024,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, use_quant_conv=False, use_post_quant_conv=False,
        scaling_factor=1.5305, shift_factor=0.0609), tensors=244, parameters=83_819_683)


def text_encoders():
    shared = dict(vocab_size=49408, max_position_embeddings=77)
    huggingface_model("clip-l-text", CLIPTextModelWithProjection, CLIPTextConfig(
        **shared, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, projection_dim=768, hidden_act="quick_gelu"), tensors=197)
    huggingface_model("clip-bigg-text", CLIPTextModelWithProjection, CLIPTextConfig(
        **shared, hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=20, projection_dim=1280, hidden_act="gelu"), tensors=517)
    huggingface_model("t5-xxl-encoder", T5EncoderModel, T5Config(
        vocab_size=32128, d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64, feed_forward_proj="gated-gelu", tie_word_embeddings=False))


def backbones():
    for letter, size in (("s", "small"), ("b", "base"), ("l", "large"), ("g", "giant")):
        timm_model(f"dinov2-{letter}-timm", f"vit_{size}_patch14_dinov2")
        timm_model(f"dinov2-{letter}-reg4-timm", f"vit_{size}_patch14_reg4_dinov2")
    for letter, width, layers, heads, extra in (("s", 384, 12, 6, {}), ("b", 768, 12, 12, {}), ("l", 1024, 24, 16, {}), ("g", 1536, 40, 24, {"use_swiglu_ffn": True})):
        sizes = dict(hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, image_size=518, patch_size=14, **extra)
        huggingface_model(f"dinov2-{letter}-hf", Dinov2Model, Dinov2Config(**sizes))
        huggingface_model(f"dinov2-{letter}-reg4-hf", Dinov2WithRegistersModel, Dinov2WithRegistersConfig(**sizes, num_register_tokens=4))
    for letter, size in (("s", "small"), ("b", "base"), ("l", "large")):
        timm_model(f"dinov3-{letter}-timm", f"vit_{size}_patch16_dinov3")
    for letter, width, layers, heads in (("s", 384, 12, 6), ("b", 768, 12, 12), ("l", 1024, 24, 16)):
        huggingface_model(f"dinov3-{letter}-hf", DINOv3ViTModel, DINOv3ViTConfig(
            hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers, num_attention_heads=heads, num_register_tokens=4))
    timm_model("dinov3-l-qkvb-timm", "vit_large_patch16_dinov3_qkvb")
    huggingface_model("pickscore-clip-h", CLIPModel, CLIPConfig(
        projection_dim=1024,
        text_config=dict(hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, projection_dim=1024, hidden_act="gelu"),
        vision_config=dict(hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=16, projection_dim=1024, patch_size=14,
                           image_size=224, hidden_act="gelu")), tensors=910, parameters=986_109_441)
    huggingface_model("clip-l", CLIPModel, CLIPConfig(
        projection_dim=768, text_config=dict(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, projection_dim=768),
        vision_config=dict(hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, projection_dim=768, patch_size=14,
                           image_size=224)), parameters=427_616_513)
    with torch.device("meta"):
        head = aesthetic_head(768, 1024, 128, 64, 16, 1)
    record("aesthetic-head", head.state_dict(), parameter_count(head), {"widths": [768, 1024, 128, 64, 16, 1]}, tensors=10)
    huggingface_model("siglip-base-patch16-512", SiglipModel, SiglipConfig(vision_config=dict(image_size=512, patch_size=16)))


if __name__ == "__main__":
    shutil.rmtree(FOLDER, ignore_errors=True)
    transformers_and_vae()
    text_encoders()
    backbones()
